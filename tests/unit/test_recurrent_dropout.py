"""Dropout between the layers of an LSTM is refused where a GPU cannot draw it as for a training alone."""

import pytest
import torch
from torch import nn

from tests.helpers.models import SMALL
from tests.helpers.small_trainings import eight
from tfser.models import MODELS
from tfser.planning.settings import published_settings
from tfser.sweep import command
from tfser.training.recurrent_dropout import has_it
from tfser.training.together import FusedTraining
from tfser.training.training import Training

pytestmark = pytest.mark.usefixtures("blank_figures")

DATA = eight("atfnn")


def training(captured=False, **changes):
    model = MODELS["atfnn"]
    values = {**published_settings("atfnn"), **SMALL["atfnn"], **changes}
    return Training(lambda: model.build("ATFNN", values, 3), DATA, values, 0, 1, torch.device("cpu"), captured=captured)


@pytest.mark.parametrize(
    ("layer", "there"),
    [
        (nn.LSTM(2, 2, 2, dropout=0.1), True),
        (nn.GRU(2, 2, 3, dropout=0.1), True),
        (nn.LSTM(2, 2, 2), False),
        (nn.Sequential(nn.LSTM(2, 2), nn.Dropout(0.5)), False),
        (nn.Sequential(nn.Sequential(nn.LSTM(2, 2, 2, dropout=0.1))), True),
    ],
)
def test_dropout_between_the_layers_of_a_recurrence_is_found_wherever_it_is(layer, there):
    assert has_it(layer) == there


def test_a_captured_training_refuses_it_and_so_do_trainings_in_one_on_a_gpu():
    with pytest.raises(ValueError, match="dropout between the layers of an LSTM.*train it without capturing"):
        training(captured=True, dropout=0.2)
    training(captured=True, dropout=0.0)
    members = [training(dropout=0.2) for _ in range(2)]
    FusedTraining(members)  # on a CPU each draws the numbers that it draws alone
    for member in members:
        member.device = torch.device("cuda")
    with pytest.raises(ValueError, match="cannot be fused: their network has dropout between the layers of an LSTM"):
        FusedTraining(members)


@pytest.mark.parametrize("how", [["--captured"], pytest.param(["--together", "2"], marks=pytest.mark.full)])
def test_a_sweep_refuses_it_before_anything_starts_and_says_what_to_do(tiny_manifest, tmp_path, capsys, how):
    def swept(*more):
        small = [f"{name}={value}" for name, value in SMALL["atfnn"].items()]
        call = [str(tiny_manifest), "--out", str(tmp_path), "--in-process", "--model", "atfnn", "--plan", *how]
        code = command.main([*call, *more, "--set", *small] if "--trials" not in more else [*call, *more])
        return code, capsys.readouterr().err

    assert swept("--set", "dropout=0.0")[0] == 0
    code, said = swept("--set", "dropout=0.3")
    assert code == 2
    option = " ".join(how)
    assert f"{option}: atfnn with dropout 0.3 has dropout between the layers of an LSTM" in said
    assert f"leave out {option}, or set it to 0" in said
    code, said = swept("--trials", "2")
    assert code == 2
    assert f"{option}: atfnn with dropout 0.5 has dropout" in said, "a search may draw it"
    assert swept("--trials", "2", "--set", "dropout=0.0")[0] == 0
    assert not (tmp_path / ".tfser").exists()
