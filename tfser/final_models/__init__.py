"""Final trials as models that score audio files."""
