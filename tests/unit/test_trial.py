import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tasks import SPEC
from tfser.trial import Hyperparameter, TrialSpec


def test_the_id_is_the_same_in_a_new_process_with_another_hash_seed():
    spec = f"TrialSpec.from_dict(json.loads({SPEC.to_json()!r}))"
    code = f"from tfser.trial import TrialSpec; import json; print({spec}.trial_id)"
    for hash_seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed}
        )
        assert out.stdout.strip() == SPEC.trial_id


@pytest.mark.parametrize(
    "change",
    [
        {"database": "casia"},
        {"database_digest": "x"},
        {"protocol": "session"},
        {"fold": "08"},
        {"purpose": "oracle"},
        {"purpose": "search", "validation": ("08",)},
        {"model": "time_frequency_transformer"},
        {"ablation": "AFNN"},
        {"seed": 1},
        {"epochs": 21},
        {"hyperparameters": (("batch_size", 32), ("learning_rate", 0.0011))},
        {"numerics": 999},
        {"leaks": ("random_split",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_can_change_a_number_changes_the_id(change):
    assert replace(SPEC, **change).trial_id != SPEC.trial_id


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"purpose": "fnial", "epochs": -3},
            r"purpose 'fnial' is not one of .*; -3 epochs are not a whole number from 1",
        ),
        ({"protocol": "speeker"}, "protocol 'speeker' is not one of speaker, session"),
        ({"leaks": ("standardisation", "random_split")}, "leaks .* are not of random_split, standardisation, sorted"),
        ({"fold": ""}, "database, fold, model and ablation need a name"),
        ({"epochs": 2.0}, "2.0 epochs are not a whole number"),
        ({"epochs": True}, "True epochs are not a whole number"),
        ({"seed": -1}, "seed -1 is not a whole number from 0"),
        ({"purpose": "search"}, r"purpose search with validation speakers \(\)"),
        ({"validation": ("08",)}, r"purpose final with validation speakers \('08',\)"),
        ({"purpose": "search", "validation": ("03",)}, "fold 03 would be validated on"),
        ({"hyperparameters": (("learning_rate", 0.1), ("batch_size", 4))}, "are not sorted, each once"),
        ({"hyperparameters": (("batch_size", 4), ("batch_size", 8))}, "are not sorted, each once"),
        ({"hyperparameters": (("learning_rate", float("nan")),)}, "learning_rate not finite"),
    ],
)
def test_what_is_no_trial_cannot_be_made(change, why):
    with pytest.raises(ValueError, match=why):
        replace(SPEC, **change)


def test_a_spec_survives_json():
    assert TrialSpec.from_dict(json.loads(SPEC.to_json())) == SPEC
    leaking = replace(SPEC, leaks=("random_split", "standardisation"))
    assert TrialSpec.from_dict(json.loads(leaking.to_json())) == leaking


def test_an_honest_spec_says_nothing_of_leaks_so_that_entries_from_before_there_were_any_keep_their_ids():
    assert "leaks" not in SPEC.to_dict()
    assert TrialSpec.from_dict(SPEC.to_dict()).leaks == ()


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.text() | st.booleans() | st.none())
def test_a_legal_number_is_a_finite_one_within_its_range(value):
    rate = Hyperparameter(default=0.1, low=0.0, high=1.0, help="")
    legal = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    assert (rate.problem(value) is None) == legal


@pytest.mark.parametrize(
    ("default", "text", "message"),
    [
        (1, "2.5", "not a whole number"),
        (1, "x", "not a whole number"),
        (0.5, "nan", "not a finite"),
        (True, "yes", "not true or false"),
    ],
)
def test_a_typed_value_is_refused_with_the_reason(default, text, message):
    with pytest.raises(ValueError, match=message):
        Hyperparameter(default=default, help="").parse(text)


@pytest.mark.parametrize(
    "text", ["1_0", "１０", " 10", "10 ", "1e3", "0x10", "True", "nan", "inf", "", "9" * 19, "9" * 5000]
)
def test_a_whole_number_is_typed_in_its_digits_and_nothing_else_that_python_takes(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        Hyperparameter(default=5, help="").parse(text)


@pytest.mark.parametrize("text", ["1_0.5", "１.５", " 0.5", "0x1", "True", "-inf", "1e400", "", "1,5", "9" * 400])
def test_a_number_is_typed_as_a_decimal_and_nothing_else_that_python_takes(text):
    with pytest.raises(ValueError, match="is not a (finite )?number"):
        Hyperparameter(default=0.5, help="").parse(text)


def test_one_value_has_one_trial_id_however_it_is_typed():
    rate = Hyperparameter(default=0.5, help="")
    assert [rate.parse(text) for text in ("1e-4", "0.0001", ".0001", "1E-4", "+1.0e-04")] == [0.0001] * 5
    assert repr(rate.parse("-0.0")) == "0.0"


def test_a_word_that_is_no_choice_names_the_choices():
    with pytest.raises(ValueError, match="'heavy' is not one of none, balanced"):
        Hyperparameter(default="none", choices=("none", "balanced"), help="").parse("heavy")


def test_a_number_is_parsed_to_the_kind_of_its_default():
    assert Hyperparameter(default=0.5, help="").parse("1") == 1.0
    assert isinstance(Hyperparameter(default=0.5, help="").parse("1"), float)
    assert Hyperparameter(default=5, help="").parse("7") == 7
