"""From a request to the trials that it needs."""
