"""Log a final trial's model as an MLflow model with a signature, at the run of its trial.

It consists of the weights, the blueprint (which names no utterance) and ``served.py``. Knows how MLflow keeps models;
scores nothing.
"""

from __future__ import annotations

import os
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tfser.final_models.model import Blueprint
from tfser.record import Record
from tfser.storage import temporary
from tfser.storage.ledger import MODEL_CARD
from tfser.tracking import connection

NEEDED = ("soundfile", "pandas", "pyyaml", "filelock", "universal-pathlib")
"""Packages that the served model imports beside torch, torchaudio, numpy and MLflow.

It needs tfser too, but no index carries that, so it is not among the model's requirements.
"""

NEEDED_BY_ESTIMATORS = ("scikit-learn", "scipy", "skops", "threadpoolctl")
"""Further packages that a served estimator imports."""


def log_model(client: Any, run_id: str, record: Record, weights: bytes, card: str = "") -> str:
    """Log a trial's model at its run unless a complete one is there; return the model's id.

    Only ``client`` is used: MLflow's global tracking URI and active run stay as they are.

    Args:
        client: an ``MlflowClient``.
        run_id: id of the trial's run.
        record: the trial's.
        weights: content of the file that holds the weights or the fitted state.
        card: the model card; empty for none.

    Raises:
        Exception: whatever MLflow raises; a half-logged model is then marked as failed.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run = client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else ():
        if client.get_logged_model(output.model_id).status == LoggedModelStatus.READY:
            return str(output.model_id)
    spec = record.spec
    named = {
        name: str(getattr(spec, name))
        for name in ("database", "protocol", "fold", "model", "ablation", "seed", "epochs", "purpose")
        if name != "fold" or spec.fold
    }
    which = f"{spec.database}-{spec.fold or spec.purpose}-{spec.ablation}-seed{spec.seed}"
    name = re.sub(r"[^A-Za-z0-9_+-]+", "-", which)
    tags = {"tfser.trial_id": record.trial_id}
    if record.scores.utterances:
        tags |= {"tfser.test_uar": repr(record.scores.uar), "tfser.test_war": repr(record.scores.war)}
    model = client.create_logged_model(run.info.experiment_id, name, run_id, tags, named, "classifier")
    try:
        with temporary.Folder("model") as folder:
            saved = folder / "model"
            save(saved, record, weights, run_id, model)
            if card:
                (saved / MODEL_CARD).write_text(card, encoding="utf-8")
            client.log_model_artifacts(model.model_id, str(saved))
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    except Exception:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    return str(model.model_id)


def save(folder: Path, record: Record, weights: bytes, run_id: str | None = None, logged: Any = None) -> None:
    """Write the model as a folder that ``mlflow models serve -m FOLDER`` serves.

    Args:
        folder: where; it must be empty or missing.
        record: the trial's.
        weights: content of the file that holds the weights or the fitted state.
        run_id: id of the run that it is logged at, if any.
        logged: MLflow's entity of the model, if any.
    """
    connection.quiet_environment()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow warns about its own type hints, and that there is no input example, which would be audio. The filters stay:
    # they belong to the process, and this may run in a thread.
    for message in (".*Any type hint is inferred as AnyType", ".*An input example was not provided"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, DataType, Schema

    with temporary.Folder("model") as beside:
        spec, versions = record.spec, record.versions
        columns = [
            ColSpec(DataType.string, "emotion"),
            *(ColSpec(DataType.double, f"p_{emotion}") for emotion in record.scores.emotions),
        ]
        used = {
            **{name: versions[name] for name in ("torch", "torchaudio", "numpy")},
            **{name: version(name) for name in NEEDED},
        }
        about = {
            "trial_id": record.trial_id,
            "trained_on": f"{spec.database} without {spec.fold}" if spec.fold else spec.database,
            "tfser": versions["tfser"],
        }
        at = (
            {"artifact_path": logged.artifact_location, "model_uuid": logged.model_id, "model_id": logged.model_id}
            if logged
            else {}
        )
        kind, file = ("weights", "weights.pt") if record.fitted is None else ("state", "state.skops")
        used |= {name: version(name) for name in (NEEDED_BY_ESTIMATORS if record.fitted else ())}
        trial, parameters = beside / "trial.json", beside / file
        trial.write_text(Blueprint.of(record).to_json(), encoding="utf-8")
        parameters.write_bytes(weights)
        save_model(
            folder,
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"trial": str(trial), kind: str(parameters)},
            signature=ModelSignature(Schema([ColSpec(DataType.binary, "audio")]), Schema(columns)),
            pip_requirements=[f"{name}=={number.partition('+')[0]}" for name, number in used.items()],
            mlflow_model=Model(run_id=run_id, metadata=about, **at),
        )
