"""The ledger in MLflow, for people."""
