"""Fixtures of several test modules; what else they share is in ``tests/helpers``."""

import functools
import os
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import SMALL, write_tiny
from tfser.databases import load
from tfser.evaluation import significance, uncertainty
from tfser.execution import known_sound
from tfser.features import log_mel
from tfser.features.log_mel import FrontEnd
from tfser.features.segments import as_tensor
from tfser.features.store import FeatureStore, audio_digests
from tfser.final_models import model
from tfser.models import MODELS, built_in
from tfser.report.figures import drawing
from tfser.training import training

pytest_plugins = ["tests.helpers.s3", "tests.helpers.tiers"]

# Tests start Ray and MLflow in processes of their own, which must not send usage data.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def tiny_manifest(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_manifest):
    return load(str(tiny_manifest), None)


@pytest.fixture(scope="module")
def pack(tiny, tmp_path_factory):
    """The features of the small database."""
    return FeatureStore(tmp_path_factory.mktemp("features")).ensure(
        tiny, audio_digests(tiny), FrontEnd(n_mels=SMALL["n_mels"])
    )


@pytest.fixture(scope="module")
def few_draws():
    """Make the bootstrap draw little: its draws are tested elsewhere, and tables only have to show the result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty, "intervals", functools.partial(uncertainty.intervals, draws=200))
        patch.setattr(significance, "compare", functools.partial(significance.compare, draws=200))
        yield


@pytest.fixture(scope="module")
def blank_figures():
    """Make every figure an empty one: tables are written with them, and what they show is tested elsewhere."""
    blank = drawing.render((1.0, 1.0), lambda figure: None, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "render", lambda *size_and_content: blank)
        yield


@pytest.fixture(autouse=True)
def models_as_before():
    """Forget the models that a test, or what it needs, named."""
    yield
    for name in MODELS.keys() - {*built_in()}:
        del MODELS[name]


@pytest.fixture
def in_float64(monkeypatch):
    """Build, read and train everything in float64, where the order of a sum makes no difference that a test can see.

    In float32 it does: Adam makes steps of full size out of gradients that are only rounding, and processors round
    differently.
    """
    made, before = (log_mel._mel_spectrogram, log_mel._resampler), torch.get_default_dtype()
    for module in (training, known_sound, model):
        monkeypatch.setattr(module, "as_tensor", lambda frames: as_tensor(frames).double())
    for each in made:
        each.cache_clear()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
    for each in made:
        each.cache_clear()


@pytest.fixture(scope="session")
def real_speech():
    """The folder of real corpora, or a skip that says what is missing."""
    folder = Path(os.environ.get("TFSER_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "emodb").is_dir():
        pytest.skip(f"no real speech: {folder}/emodb is not there (name another folder with TFSER_DATA)")
    return folder
