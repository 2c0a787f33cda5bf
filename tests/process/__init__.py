"""The daemon as its users have it: a process, a file, signals, and what it writes."""
