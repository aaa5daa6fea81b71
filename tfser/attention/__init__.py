"""What a finished model attends to in an utterance: the command, the maps and their figure."""
