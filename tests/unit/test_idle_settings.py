"""A setting that changes nothing within the epochs of a request is refused, and the least that does is not."""

import pytest

from tests.helpers.tiny import SMALL
from tfser.planning import search_space_file
from tfser.planning.request import Request, problems
from tfser.planning.settings import hyperparameters
from tfser.sweep import command as sweep_command

MODEL = "time_frequency_transformer"


def said(epochs, space=None, **settings):
    fixed = tuple((name, str(value)) for name, value in settings.items())
    request = Request(models=(MODEL,), epochs=epochs, fixed=fixed, trials=2 if space else 0)
    return problems(request, {MODEL: space} if space else {})


@pytest.mark.parametrize(
    ("epochs", "settings", "message"),
    [
        (
            2,
            {"swa_from": 10},
            "swa_from: of {}, 2 epochs are trained, and the average begins after them; legal: at most 2",
        ),
        (
            2,
            {"schedule": "warmup", "warmup_epochs": 50},
            "warmup_epochs: of {}, 2 epochs are trained, and the warm-up does not end within them; legal: at most 2",
        ),
        (
            9,
            {"schedule": "warmup_cosine", "warmup_epochs": 5, "schedule_epochs": 4},
            "warmup_epochs: of {}, schedule_epochs is 4, and the warm-up does not end within them; legal: at most 4",
        ),
        (
            5,
            {"schedule": "plateau", "inner_speakers": 1, "plateau_patience": 3},
            "plateau_patience: of {}, 5 epochs are trained, and the rate never falls within them; legal: at most 2",
        ),
        (
            2,
            {"schedule": "plateau", "inner_speakers": 1, "plateau_patience": 0},
            "plateau_patience: of {}, 2 epochs are trained, and the rate never falls within them; legal: none, as 0 "
            "needs 3 epochs; use another schedule",
        ),
    ],
)
def test_a_setting_that_never_acts_within_the_epochs_is_refused_with_what_is_legal(epochs, settings, message):
    assert said(epochs, **settings) == [f"--set {message.format(MODEL)}, or more --epochs"]


@pytest.mark.parametrize(
    ("epochs", "settings"),
    [
        (2, {"swa_from": 2}),
        (2, {"schedule": "warmup", "warmup_epochs": 2}),
        (2, {"schedule": "warmup"}),
        (2, {"schedule": "warmup_cosine", "warmup_epochs": 5, "schedule_epochs": 60}),
        (5, {"schedule": "plateau", "inner_speakers": 1, "plateau_patience": 2}),
        (2, {"warmup_epochs": 50}),
    ],
)
def test_a_setting_that_can_act_and_one_that_was_not_given_are_accepted(epochs, settings):
    assert said(epochs, **settings) == []


def test_what_a_search_space_holds_fixed_is_compared_with_the_most_epochs_of_the_search(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(f"model: {MODEL}\nfixed: {{swa_from: 10}}\nsearch:\n  dropout: {{choice: [0.1, 0.2]}}\n")
    space = search_space_file.read(file, {MODEL: hyperparameters(MODEL)})
    (problem,) = said(9, space)
    assert problem == (
        f"{file}: swa_from: of {MODEL}, 9 epochs are trained, and the average begins after them; legal: at most 9, "
        "or more --epochs"
    )
    assert said(10, space) == []


def test_nothing_is_started_with_a_setting_that_never_acts(tiny_manifest, tmp_path, capsys):
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--model", MODEL, "--epochs", "2", "--in-process"]
    small = [f"{name}={value}" for name, value in SMALL.items()]
    assert sweep_command.main([*words, "--set", *small, f"{MODEL}.swa_from=10"]) == 2
    assert "--set swa_from: of time_frequency_transformer, 2 epochs are trained" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
