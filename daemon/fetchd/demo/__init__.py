"""A tour of the daemon beside upstreams that misbehave; all on this machine."""
