"""Train and score one network. Knows arrays; imports neither Ray, Optuna, MLflow nor files."""
