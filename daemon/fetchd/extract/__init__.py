"""From a body to what is delivered of it: read, queried, split into records, each record once."""
