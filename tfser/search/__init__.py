"""Optuna studies that never see the test speaker."""
