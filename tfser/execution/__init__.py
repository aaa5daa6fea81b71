"""Schedule trials and run them, in this process or on Ray. Knows nothing of MLflow and tables."""
