"""The runner on Ray Tune."""
