"""Attention maps of a finished model for an utterance: the command, the maps and their figure."""
