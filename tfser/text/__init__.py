"""Typed values, terminal output, and fonts for names in any script."""
