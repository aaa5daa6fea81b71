"""What a shell can complete: commands, options, and the names that they take.

A shell asks at every press of a key, so that answers may import neither torch nor Ray nor MLflow. The names of models
and settings, and the options of every command, are read from a file that another process writes (``catalogue``).
"""
