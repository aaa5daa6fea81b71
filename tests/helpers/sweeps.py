"""Calls of the sweep on the small database, and what it left: tables as bytes or as frames, runs in MLflow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

from tests.helpers.tiny import SET_SMALL

MODEL = ["--model", "time_frequency_transformer"]
SPACE = Path(__file__).with_name("tiny_space.yaml")


def arguments(manifest, out, *more, epochs="2"):
    return [str(manifest), "--out", str(out), "--in-process", "--epochs", epochs, *MODEL, "--set", *SET_SMALL, *more]


def tables_of(folder):
    """Every file that the numbers fill, as bytes."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name not in ("sweep.json", "report.html")}


def read(folder, name):
    return pd.read_csv(folder / name, dtype={"trial_id": str, "fold": str, "speaker": str})


def runs_of(out):
    client = MlflowClient(tracking_uri=f"sqlite:///{out / '.tfser' / 'mlflow.db'}")
    experiments = client.search_experiments(filter_string="name LIKE 'tfser/%'")
    return experiments, client.search_runs([e.experiment_id for e in experiments], max_results=1000)


def search_arguments(manifest, out, *more, trials="2", epochs="2"):
    """Of a small search, with whatever runner ``more`` names."""
    model = ["--model", "time_frequency_transformer", "--ablation", "T+F+TF", "T+F"]
    search = ["--trials", trials, "--space", str(SPACE), "--epochs", epochs, "--name", "s"]
    return [str(manifest), "--out", str(out), *model, *search, "--set", *SET_SMALL, *more]
