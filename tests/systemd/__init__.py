"""The shipped units under a real systemd, which runs as process 1 of a container: ``make test-systemd``."""
