"""How a running daemon takes over another configuration: compared, put in force as a whole, or not at all."""
