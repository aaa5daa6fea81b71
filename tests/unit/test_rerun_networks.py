"""What holds of every network that runs a cited method again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.small_trainings import CPU, eight, settings_of, trained
from tfser.models import MODELS
from tfser.report import published
from tfser.training.together import FusedTraining
from tfser.training.training import Training

SMALL = {
    "dnn_elm": {"hidden": 6, "segment_share": 1.0, "segment_hop": 5},
    "acrnn": {
        "conv_layers": 2,
        "first_maps": 3,
        "maps": 4,
        "linear": 6,
        "lstm_hidden": 3,
        "hidden": 5,
        "n_mels": 8,
        "optimizer": "adam",
    },
    "cnn_lstm": {"maps_1": 2, "maps_2": 3, "maps_3": 3, "lstm_hidden": 3, "hidden": 4, "fft": 800, "top_hz": 400.0},
    "seqcap": {"first_maps": 2, "maps": 8, "window_capsule": 3, "capsule": 4, "gru_hidden": 3, "hidden": 4}
    | {"top_hz": 400.0, "segment_hop": 0},
}
EVERY = [(name, ablation) for name in SMALL for ablation in MODELS[name].ablations]
every_ablation = pytest.mark.parametrize(("name", "ablation"), EVERY, ids=["-".join(each) for each in EVERY])


@every_ablation
@pytest.mark.usefixtures("in_float64")
def test_several_trained_as_one_are_what_each_is_alone(name, ablation):
    """On a GPU, trials of one shape share their steps; whatever has parameters has to be a layer of its own."""
    changes = {**SMALL[name], "segment_frames": 25 if name == "dnn_elm" else 24, "batch_size": 3}
    values, data = settings_of(name, ablation, **changes), eight(name, **changes)

    def members():
        return [
            Training(lambda: MODELS[name].build(ablation, values, 4), data, values, seed, 2, CPU) for seed in (0, 1, 2)
        ]

    alone, together = [trained(one) for one in members()], members()
    fused = FusedTraining(together)
    while fused.members:
        fused.until_an_epoch_ends()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.curves.train_loss, other.curves.train_loss, rtol=1e-7)
        for (key, a), b in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=key)


@pytest.mark.parametrize("name", SMALL)
def test_a_title_says_that_it_is_run_again_and_what_it_runs_again_is_cited(name):
    cited = {row.method for row in published.load().comparison}
    assert "(re-run" in MODELS[name].title
    assert {*MODELS[name].reruns} <= cited
    assert bool(MODELS[name].reruns) == (name != "acrnn"), "no table of the two papers has ACRNN"


@pytest.mark.parametrize("name", SMALL)
def test_nothing_leaves_the_device_within_a_network(name):
    """A forward pass that asks for numbers on the CPU would wait for the GPU at every step."""
    text = Path(f"tfser/models/{name}.py").resolve().read_text(encoding="utf-8")
    assert not [word for word in (".cpu(", ".item(", ".numpy(", ".tolist(", "import numpy") if word in text]
