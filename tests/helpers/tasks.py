"""A spec that is never trained, and a task of the small database that trains in a moment."""

from __future__ import annotations

from tests.helpers.tiny import SMALL
from tfser.execution import run_trial
from tfser.planning.settings import published_settings
from tfser.trial import TrialSpec

SPEC = TrialSpec(
    database="emodb",
    database_digest="0123",
    protocol="speaker",
    fold="03",
    purpose="final",
    model="atfnn",
    ablation="ATFNN",
    seed=0,
    epochs=20,
    hyperparameters=(("batch_size", 32), ("learning_rate", 0.001)),
)

EPOCHS = 4


def task(pack, storage, *, purpose="final", checkpoint_s=0.0):
    """Checkpoints after every epoch; masks and dropout make every epoch draw random numbers."""
    settings = {**published_settings("time_frequency_transformer"), **SMALL, "time_mask": 4}
    spec = TrialSpec(
        database="tiny",
        database_digest=pack.database_digest,
        protocol="speaker",
        fold="anna",
        purpose=purpose,
        validation=("bert",) if purpose == "search" else (),
        model="time_frequency_transformer",
        ablation="T+F+TF",
        seed=0,
        epochs=EPOCHS,
        hyperparameters=tuple(sorted(settings.items())),
    )
    return run_trial.Task(spec=spec, pack=pack.path, storage=storage, checkpoint_s=checkpoint_s)
