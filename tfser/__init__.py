"""tfser: leave-one-speaker-out speech emotion recognition on a cluster.

Importing the package loads nothing else, so that commands start fast and a machine without Ray or
MLflow can still train.
"""

__version__ = "0.1.0"
