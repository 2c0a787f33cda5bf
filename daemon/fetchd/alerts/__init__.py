"""Changes of state, told to people: once each, together with what happens beside them, and when they are over."""
