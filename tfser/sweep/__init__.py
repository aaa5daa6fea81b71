"""``python -m tfser.sweep``: plan, train what is missing, collect."""
