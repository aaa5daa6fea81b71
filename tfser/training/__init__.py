"""Train and score one network, from arrays; imports neither Ray, Optuna, MLflow nor files."""
