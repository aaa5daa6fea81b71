"""Folds, recalls and their uncertainty, from arrays and names; no file is read."""
