"""What runs inside the machine, as root, by the Python of Debian alone: no network but loopback, no package."""
