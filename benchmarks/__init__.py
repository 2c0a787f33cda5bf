"""What the README's figures are taken from; each is run by hand: ``python -m benchmarks.outage``."""
