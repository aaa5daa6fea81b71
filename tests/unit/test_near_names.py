"""A name that does not exist is answered with those near to it; a long list is named by the command that prints it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tfser.databases import command as databases
from tfser.databases import load
from tfser.errors import MOST_LISTED, near_names, unknown
from tfser.leaks import command as leaks
from tfser.models import BUILT_IN, MODELS
from tfser.models_command import command as models
from tfser.planning import fold_checks
from tfser.planning.request import Request
from tfser.planning.settings import hyperparameters
from tfser.sweep import command as sweep


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(main, *words):
        assert main([str(word) for word in words]) == 2
        return capsys.readouterr().err

    return run


def test_of_a_short_list_every_name_is_given_and_of_a_long_one_the_near_ones_first():
    long = [f"speaker{number:02d}" for number in range(30)]
    assert unknown("--x", "b", ["a", "c"]) == "--x: no 'b'; there are a, c"
    said = unknown("--x", "speaker3", long, every="tfser x list")
    assert said.startswith("--x: no 'speaker3' (did you mean 'speaker")
    assert said.endswith("; tfser x list names all 30")
    assert said.count("speaker") == 4
    assert unknown("--x", "anna", long) == f"--x: no 'anna'; there are {', '.join(long)}"
    assert unknown("--x", "anna", long, every="tfser x list") == "--x: no 'anna'; tfser x list names all 30"
    assert len(MODELS) <= MOST_LISTED


def test_names_that_differ_in_case_alone_are_the_nearest():
    assert near_names("ATFNN", ["atfnn", "ATFN"], most=1) == " (did you mean 'atfnn'?)"


@pytest.mark.parametrize("main", [sweep.main, leaks.main])
def test_a_mistyped_model_gets_the_near_ones_and_the_command_that_lists_all(refused, main):
    said = refused(main, "synthetic", "--model", "atfn")
    assert "--model: no 'atfn' (did you mean 'atfnn'?" in said
    assert f"; tfser models list names all {len(BUILT_IN)}" in said
    assert "time_frequency_transformer" not in said.partition("tfser models list")[0]


def test_a_mistyped_setting_gets_the_near_ones_and_the_command_that_describes_all(refused, tmp_path):
    near, all_of = "--set: no 'dropuot' (did you mean 'dropout'", set(hyperparameters("atfnn"))
    for models_typed, tell in ((["atfnn"], "atfnn"), (["atfnn", "time_frequency_transformer"], "MODEL")):
        said = refused(sweep.main, "synthetic", "--model", *models_typed, "--set", "dropuot=0.1")
        assert near in said
        assert f"tfser models describe {tell} lists them all" in said
        assert sum(name in said for name in all_of) <= 4
    one = refused(sweep.main, "synthetic", "--model", "atfnn", "svm", "--set", "atfnn.dropuot=0.1", "atfn.dropout=1")
    assert "no 'dropuot' (did you mean 'dropout'" in one
    assert "tfser models describe atfnn lists them all" in one
    assert "model: no 'atfn'; there are atfnn, svm (did you mean 'atfnn'?)" in one
    space = tmp_path / "s.yaml"
    space.write_text("model: atfnn\nfixed: {dropuot: 0.1}\nsearch:\n  batchsize: {choice: [8, 16]}\n", encoding="utf-8")
    said = refused(sweep.main, "synthetic", "--model", "atfnn", "--trials", "1", "--space", space)
    for name in ("dropout", "batch_size"):
        assert f"(did you mean '{name}'" in said
    assert said.count("tfser models describe atfnn lists them all") == 2


def test_a_mistyped_database_model_fold_ablation_protocol_and_leak_are_answered_so(refused, tmp_path):
    assert "DATABASE: no 'emobd'; there are abc" in refused(sweep.main, "emobd")
    assert "(did you mean 'emodb'?)" in refused(databases.main, "describe", "emobd")
    assert "(did you mean 'atfnn'?" in refused(models.main, "describe", "atfn")
    assert "--ablation: no 'TFN'; there are " in refused(
        sweep.main, "synthetic", "--model", "atfnn", "--ablation", "TFN"
    )
    assert "--protocol: no 'speakers'; there are " in refused(sweep.main, "synthetic", "--protocol", "speakers")
    assert "(did you mean 'epoch'?)" in refused(leaks.main, "synthetic", "--leak", "epochs")


def test_of_many_folds_the_near_ones_are_named_and_what_lists_all():
    database = load("synthetic", None)
    renamed = [replace(u, speaker=f"speaker{i % 24:02d}") for i, u in enumerate(database.utterances)]
    many = replace(database, utterances=tuple(renamed))
    (said,) = fold_checks.problems(Request(folds=("speaker2",)), many, {})
    assert said.startswith("synthetic: --fold: no 'speaker2' (did you mean 'speaker")
    assert said.endswith("; tfser databases check synthetic names all 24")
