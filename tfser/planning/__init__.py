"""The trials that a request needs."""
