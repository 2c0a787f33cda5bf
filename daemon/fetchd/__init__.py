"""fetchd: fetches over HTTP on a schedule and hands each result on."""

__version__ = "0.1.0"
