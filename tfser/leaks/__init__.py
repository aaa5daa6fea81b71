"""What leaks are worth: the command, its plan and its table."""
