"""Fetching: the only room that knows the HTTP client."""
