"""Folds, recalls and their uncertainty. Knows arrays and names; reads no file."""
