"""Databases that their owner describes: a CSV manifest, or audformat tables."""
