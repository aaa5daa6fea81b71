"""Front end and built-in models compute the values of ``numerics_values.json`` while ``NUMERICS_VERSION`` stays."""

import pytest
import torch

from tests import numerics_values
from tfser.features import log_mel
from tfser.models import layers
from tfser.trial import NUMERICS_VERSION

CASES = numerics_values.cases()


@pytest.fixture(scope="module")
def stored():
    return numerics_values.stored()


def changed(name, stored):
    return numerics_values.differences({name: CASES[name]()}, {name: stored["cases"][name]})


@pytest.mark.parametrize("name", CASES)
def test_no_number_changes_without_another_numerics_version(name, stored):
    assert name in stored["cases"], f"{name} has no stored values: run python -m tests.numerics_values"
    problems = changed(name, stored)
    assert not problems, "\n".join([*problems, numerics_values.AGAIN])


def test_the_values_are_those_of_this_numerics_version_and_of_every_ablation(stored):
    assert stored["numerics"] == NUMERICS_VERSION, "NUMERICS_VERSION was raised: run python -m tests.numerics_values"
    ablations = ("time_frequency_transformer " + a for a in ("T+F+TF", "T+F", "T+TF", "F+TF"))
    assert {*ablations, *("atfnn " + a for a in ("ATFNN", "AFNN", "ATNN", "TFNN"))} <= stored["cases"].keys()
    assert stored["cases"].keys() == CASES.keys(), "run python -m tests.numerics_values"


def test_a_small_change_of_a_layer_or_of_the_front_end_is_noticed(stored, monkeypatch):
    monkeypatch.setattr(layers, "DEVIATION_EPSILON", 1.1 * layers.DEVIATION_EPSILON)
    assert any("logits" in line for line in changed("time_frequency_transformer T+F", stored))
    monkeypatch.setattr(log_mel, "mono", lambda waveform, rate_hz: 1.0001 * torch.from_numpy(waveform.samples[0]))
    assert any("log_mel" in line for line in changed("front end, 80 bands", stored))


def test_changed_values_are_not_stored_under_the_same_numerics_version(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(numerics_values, "STORED", tmp_path / "values.json")
    value = 1.0
    monkeypatch.setattr(numerics_values, "cases", lambda: {"a": lambda: {"logits": [value]}})
    assert numerics_values.main() == 0
    value = 1.0 + 1e-8
    assert numerics_values.main() == 1
    assert "raise NUMERICS_VERSION in tfser/trial.py" in capsys.readouterr().err
    assert numerics_values.stored() == {"numerics": NUMERICS_VERSION, "cases": {"a": {"logits": [1.0]}}}
    monkeypatch.setattr(numerics_values, "NUMERICS_VERSION", NUMERICS_VERSION + 1)
    assert numerics_values.main() == 0
    assert numerics_values.stored()["cases"] == {"a": {"logits": [1.00000001]}}
