"""The local control socket: what a running daemon is asked, by whom it may be, and what it answers."""
