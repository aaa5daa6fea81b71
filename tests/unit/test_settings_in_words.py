"""What a trial leaves out of its settings is told with its own value, and never read as the published one."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from tests.helpers.printed import markdown_rows
from tests.helpers.results import configuration, spec, sweep
from tfser.models import MODELS, built_in
from tfser.planning import settings as planning_settings
from tfser.planning import settings_in_words
from tfser.planning.configuration import OwnModel
from tfser.report import write
from tfser.report.repeat_command import repeat
from tfser.sweep.options import parse
from tfser.tracking.content import trial_params

pytestmark = pytest.mark.usefixtures("few_draws")

DNN_ELM = {"model": "dnn_elm", "ablation": "full", "selection": "fixed"}


def unlike(model: str) -> dict[str, object]:
    """Settings of a model whose implied value is not the published one, at the implied one."""
    known = planning_settings.hyperparameters(model).items()
    return {name: h.implied for name, h in known if h.implied is not None and h.implied != h.default}


def held(model: str, **settings: object) -> dict[str, object]:
    """Settings as a spec holds them."""
    return planning_settings.hashed(MODELS[model], {**planning_settings.published_settings(model), **settings})


def test_some_published_values_are_not_the_implied_ones():
    assert {"utterance_rule", "segment_share"} <= unlike("dnn_elm").keys()


@pytest.mark.parametrize("model", built_in())
def test_what_is_left_out_of_what_is_told_has_its_published_value(model):
    asked = {**planning_settings.published_settings(model), **unlike(model)}
    told = settings_in_words.stated(model, None, planning_settings.hashed(MODELS[model], asked))
    assert {**planning_settings.published_settings(model), **told} == asked
    assert settings_in_words.whole(model, None, planning_settings.hashed(MODELS[model], asked)) == asked


def test_the_command_of_a_trial_types_what_its_spec_leaves_out():
    row = configuration(**DNN_ELM, database="synthetic")
    own = held("dnn_elm", utterance_rule="mean", segment_share=1.0)
    typed = dict(
        word.split("=", 1)
        for word in shlex.split(repeat(spec(row, "03", 0, own)))
        if "=" in word and not word.startswith("-")
    )
    assert typed["utterance_rule"] == "mean"
    fixed = parse(shlex.split(repeat(spec(row, "03", 0, own)))[3:]).fixed
    known = planning_settings.hyperparameters("dnn_elm")
    again = {name: known[name].parse(text) for name, text in (word.split("=", 1) for word in fixed)}
    assert held("dnn_elm", **again) == own


def test_the_table_of_settings_holds_the_values_that_specs_leave_out(tmp_path):
    row = configuration(**DNN_ELM, folds=("a", "b"))
    results = sweep(row)
    for fold, settings in (
        ("a", {"label_smoothing": 0.2, "optimizer": "nadam", "utterance_rule": "mean"}),
        ("b", {"label_smoothing": 0.0, "optimizer": "adam", "utterance_rule": "mean"}),
    ):
        one = spec(row, fold, 0, held("dnn_elm", **settings))
        results.entries[row, fold, 0] = replace(results.entries[row, fold, 0], spec=one)
    write.write(results, tmp_path, pictures=False)
    values = {row[0]: row[1] for row in markdown_rows((tmp_path / "settings.md").read_text(encoding="utf-8"))}
    assert values["label_smoothing"] == "0, 0.2"
    assert values["optimizer"] == "adam, nadam"
    assert values["utterance_rule"] == "mean"
    assert "swa_from" not in values


def test_rows_that_differ_in_what_a_spec_leaves_out_say_both_values():
    rows = [
        configuration(**DNN_ELM, settings=json.dumps({"epochs": 5, **held("dnn_elm", hidden=8, **own)}))
        for own in ({}, {"utterance_rule": "mean"})
    ]
    labels = settings_in_words.labels(rows)
    rule = planning_settings.published_settings("dnn_elm")["utterance_rule"]
    assert [labels[row.key] for row in rows] == [f"fixed, utterance_rule {rule}", "fixed, utterance_rule mean"]
    said = [settings_in_words.beside_published(row) for row in rows]
    assert "utterance_rule" not in said[0]
    assert f"utterance_rule mean (published: {rule})" in said[1]


def test_the_parameters_in_mlflow_hold_what_a_spec_leaves_out():
    row = configuration(**DNN_ELM)
    assert trial_params(row, spec(row, "03", 0, held("dnn_elm", utterance_rule="mean")))["utterance_rule"] == "mean"
    usual = trial_params(row, spec(row, "03", 0, held("dnn_elm")))
    assert usual["utterance_rule"] == planning_settings.published_settings("dnn_elm")["utterance_rule"]


def test_what_a_model_of_a_persons_own_leaves_out_follows_from_what_its_row_says():
    defaults = {"channels": 8, "utterance_rule": "majority", "standardisation": "training", "window_ms": 25.0}
    own = OwnModel(title="Mine", typed="mine.py:Mine", kind="network", parts=(), defaults=json.dumps(defaults))
    told = settings_in_words.stated("mine", own, {"channels": 4})
    assert told == {"channels": 4, "utterance_rule": "mean", "window_ms": 20.0}
    fixed = configuration(model="mine", source="0" * 8, own=own, selection="fixed", settings='{"channels": 4}')
    assert "utterance_rule mean (default: majority)" in settings_in_words.beside_published(fixed)
