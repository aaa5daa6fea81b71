"""Databases that a person describes: a CSV manifest, or audformat tables."""
