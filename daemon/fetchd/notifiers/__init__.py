"""Where messages to people go. A new kind is its module, a line in the map of ``kinds``, and its test."""
