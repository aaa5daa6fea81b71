"""The adversary and the inner speakers: what they see, what they change, and what a record says of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.sweeps import MODEL, arguments
from tests.helpers.tiny import write_tiny
from tfser.errors import TrialError
from tfser.evaluation import folds, metrics
from tfser.models import MODELS
from tfser.planning.settings import published_settings, setting_problems
from tfser.record import Record, from_dict, to_dict
from tfser.storage.ledger import Ledger
from tfser.sweep import command
from tfser.training.adversary import Adversary, last_linear
from tfser.training.inner import EarlyEnd
from tfser.training.training import Training, TrialData

pytestmark = pytest.mark.usefixtures("blank_figures")

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    **published_settings("time_frequency_transformer"),
    "n_mels": 8,
    "segment_frames": 8,
    "batch_size": 6,
    "learning_rate": 0.01,
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.hidden(x.flatten(1)).tanh())
        return logits


def data() -> TrialData:
    """Two training speakers that differ in level, a scored one and an inner one; two emotions."""
    random = np.random.default_rng(0)
    frames = random.normal(size=(16 * 8, 8)).astype(np.float32)
    frames[32:64] += 2.0
    rows = tuple((i * 8, 8, i % 2) for i in range(16))
    speakers = ("a",) * 4 + ("b",) * 4 + ("c",) * 4 + ("d",) * 4
    return TrialData(
        frames=frames, emotions=("x", "y"), train=rows[:8], scored=rows[8:12], inner=rows[12:], speakers=speakers
    )


def training(epochs: int = 3, **settings: Any) -> Training:
    made = data()
    if not settings.get("inner_speakers"):
        made = replace(made, inner=(), speakers=made.speakers[:12])
    return Training(Net, made, {**SETTINGS, **settings}, 0, epochs, CPU)


# ------------------------------------------------------------------ the adversary


@pytest.mark.usefixtures("in_float64")
def test_the_network_gets_the_reversed_gradient_of_the_head_and_the_head_its_own():
    torch.manual_seed(0)
    model = Net()
    settings = {"adversary_weight": 0.7, "adversary_units": 3}
    adversary = Adversary(model, settings, ("a", "b", "b"), 2, 10, CPU)
    adversary._taken = 4
    weight = 0.7 * (2 / (1 + math.exp(-4)) - 1)
    assert adversary.weight == pytest.approx(weight)
    x, labels, speaker = torch.randn(3, 8, 8), torch.tensor([0, 1, 0]), adversary.speaker
    assert speaker.tolist() == [0, 1, 1]
    emotions = nn.functional.cross_entropy(model(x), labels)
    (emotions + nn.functional.cross_entropy(adversary.logits(), speaker)).backward()
    found = [p.grad.clone() for p in (model.hidden.weight, *adversary.head.parameters())]
    model.zero_grad()
    adversary.head.zero_grad()
    hidden = model.hidden(x.flatten(1)).tanh()
    told = nn.functional.cross_entropy(adversary.head(hidden), speaker)
    of_emotion = torch.autograd.grad(
        nn.functional.cross_entropy(model.out(hidden), labels), model.hidden.weight, retain_graph=True
    )[0]
    of_speaker = torch.autograd.grad(told, [model.hidden.weight, *adversary.head.parameters()])
    torch.testing.assert_close(found[0], of_emotion - weight * of_speaker[0])
    for one, other in zip(found[1:], of_speaker[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_the_head_is_no_part_of_the_trained_state_and_knows_training_speakers_alone():
    one, plain = training(adversary_weight=1.0), training()
    assert one.weights().keys() == plain.weights().keys()
    assert one._adversary is not None
    assert one._adversary.head[2].out_features == 2
    one.run_epoch()
    loss = one.curves.train_loss[0]
    plain.run_epoch()
    assert loss == pytest.approx(plain.curves.train_loss[0], rel=0.2), "the recorded loss is of the emotions alone"


def test_a_network_without_a_linear_layer_onto_the_emotions_is_refused_before_and_fails_in_words():
    class Without(nn.Module):
        def __init__(self, *_: Any) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(x).flatten(1)
            return out

    declared = replace(MODELS["atfnn"], build=lambda ablation, settings, emotions: Without())
    settings = {**published_settings("atfnn"), "adversary_weight": 1.0}
    assert setting_problems(declared, "ATFNN", settings) == [
        "adversary_weight: atfnn has no linear layer onto its emotions, where a head would read; legal: 0"
    ]
    with pytest.raises(TrialError, match="the network has no linear layer onto its 2 emotions"):
        Training(Without, replace(data(), inner=()), {**SETTINGS, "adversary_weight": 1.0}, 0, 1, CPU)
    with pytest.raises(TrialError, match="nothing tells the speakers"):
        Training(Net, replace(data(), inner=(), speakers=()), {**SETTINGS, "adversary_weight": 1.0}, 0, 1, CPU)
    assert last_linear(Net(), 2) is not None


# ------------------------------------------------------------------ inner speakers


def test_inner_speakers_are_the_next_ones_in_the_circle_after_those_that_are_held_out():
    names = ("a", "b", "c", "d", "e")
    assert folds.inner_groups(names, "d", (), 2) == ("e", "a")
    assert folds.inner_groups(names, "d", ("e",), 2) == ("a", "b")
    with pytest.raises(
        ValueError, match=r"inner_speakers: 3 of the 3 that fold d trains on leave none; legal: at most 2"
    ):
        folds.inner_groups(names, "d", ("e",), 3)


def test_the_curve_of_inner_speakers_is_their_uar_and_the_plateau_follows_it():
    one = training(epochs=8, inner_speakers=1, schedule="plateau", plateau_patience=1, plateau_factor=0.5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)
    for _ in range(8):
        one.run_epoch()
        own = replace(one.data, scored=one.data.inner, inner=(), speakers=())
        alone = Training(Net, own, {**SETTINGS}, 0, 8, CPU)
        alone.model.load_state_dict(one.weights())
        assert one.curves.inner_uar[-1] == pytest.approx(metrics.uar(alone.score().confusion))
        reference.step(one.curves.inner_uar[-1])
        assert one.optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert optimizer.param_groups[0]["lr"] < 0.01


def test_the_best_epoch_is_kept_and_patience_counts_from_it():
    early = EarlyEnd({"early_end_patience": 2})
    for epoch, (uar, due) in enumerate([(0.5, False), (0.7, False), (0.7, False), (0.6, True)], 1):
        early.after_epoch(epoch, uar, lambda epoch=epoch: {"w": torch.tensor(epoch)})
        assert early.is_due(epoch) == due
    assert early.best == (2, {"w": torch.tensor(2)})
    off = EarlyEnd({})
    off.after_epoch(1, 0.5, dict)
    assert off.best is None
    assert not off.is_due(100)


def swept(folder, *settings: str, epochs: str = "12") -> list[Record]:
    manifest = write_tiny(folder)
    call = arguments(manifest, folder / "out", *settings, "--fold", "carl", "--name", "e", epochs=epochs)
    assert command.main(call) == 0
    ledger = Ledger(folder / "out" / ".tfser" / "ledger")
    return [r for r in (ledger.get(i) for i in ledger.ids()) if isinstance(r, Record)]


@pytest.mark.full
def test_a_final_trial_ends_early_by_named_training_speakers_and_keeps_its_best_epoch(tmp_path):
    (record,) = swept(tmp_path, "inner_speakers=1", "early_end_patience=2", "learning_rate=0.02", epochs="40")
    assert record.inner_speakers == ("dora",)
    curve = record.curves.inner_uar
    assert len(curve) < 40
    assert record.epochs == int(np.argmax(curve)) + 1 == len(curve) - 2
    (plain,) = swept(tmp_path / "again", "inner_speakers=1", "learning_rate=0.02", epochs=str(record.epochs))
    assert plain.weights_sha256 == record.weights_sha256
    assert plain.scores == record.scores
    kept = to_dict(record)
    assert kept["inner_speakers"] == ("dora",)
    assert from_dict(json.loads(json.dumps(kept))) == record
    without = to_dict(replace(record, inner_speakers=(), curves=replace(record.curves, inner_uar=())))
    assert "inner_speakers" not in without
    assert without["curves"].keys() == {"train_loss", "validation_uar", "validation_war"}, "as before they existed"


def test_too_many_inner_speakers_are_refused_before_anything_starts(tmp_path, capsys):
    manifest = write_tiny(tmp_path)
    call = arguments(manifest, tmp_path / "out", "inner_speakers=3")
    assert command.main(call) == 2
    said = capsys.readouterr().err
    assert "inner_speakers 3 leave none of 4 speakers to train on, beside 1 held out; legal: at most 2" in said
    assert MODEL[1] in said


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("search:\n  inner_speakers: {int: [0, 2]}\n", " can sample inner_speakers 2 leave none"),
        ("search:\n  inner_speakers: {choice: [2, 0, 1]}\n", " can sample inner_speakers 2 leave none"),
        ("fixed:\n  inner_speakers: 2\nsearch:\n  dropout: {float: [0.0, 0.5]}\n", ": inner_speakers 2 leave none"),
    ],
)
def test_a_space_with_more_inner_speakers_than_a_search_can_spare_is_refused_before_anything_starts(
    tmp_path, capsys, entry, said
):
    manifest, space = write_tiny(tmp_path), tmp_path / "space.yaml"
    space.write_text(f"model: {MODEL[1]}\n{entry}", encoding="utf-8")
    call = [*arguments(manifest, tmp_path / "out"), "--trials", "2", "--space", str(space)]
    assert command.main(call) == 2
    told = capsys.readouterr().err
    assert f"{space}{said} of 4 speakers to train on, beside 2 held out; legal: at most 1" in told
    assert command.main([*call, "--set", "inner_speakers=1", "--plan"]) == 0, "which takes it out of the space"
    assert command.main([*call, "--set", "inner_speakers=2", "--plan"]) == 2
    assert f"{MODEL[1]}: inner_speakers 2 leave none" in capsys.readouterr().err
