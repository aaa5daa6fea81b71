"""The functions for notebooks, against the command that does the same."""

import pickle

import numpy as np
import pytest

import tfser
from tests.helpers.sweeps import SPACE, arguments, tables_of
from tests.helpers.tiny import SMALL
from tfser import interface
from tfser.errors import RequestError
from tfser.sweep import command as sweep_command
from tfser.sweep.options import parse, parser
from tfser.sweep.trainer import Trainer

pytestmark = pytest.mark.usefixtures("blank_figures")

ONE = {"model": "time_frequency_transformer", "epochs": 2, "set": SMALL, "in_process": True}
"""The same as ``arguments``."""


def test_every_option_of_the_command_is_a_keyword_but_the_one_that_describe_stands_for():
    options = {action.option_strings[-1] for action in parser()._actions if action.option_strings}
    keywords = {f"--{name.replace('_', '-')}" for name in interface.SweepOptions.__annotations__}
    assert keywords == options - {"--help", "--plan", "--json"}


def test_keywords_become_what_a_person_types():
    made = interface._arguments(
        "tfser.run",
        ["casia", "emodb"],
        {
            "data": "corpora",
            "model": ["atfnn"],
            "ablation": "all",
            "fold": ["-3", "03", "-a"],
            "set": {"channels": 8, "learning_rate": 1e-4, "class_weights": "balanced"},
            "space": [SPACE],
            "trials": np.int64(3),
            "checkpoint": 0.5,
            "trial_gpus": "auto",
            "name": "-x",
            "no_pruning": True,
            "in_process": False,
            "out": None,
        },
    )
    typed = ["casia", "emodb", "--data", "corpora", "--model", "atfnn", "--ablation", "all", "--fold=-3", "--fold=03"]
    typed += ["--fold=-a", "--set", "channels=8", "learning_rate=0.0001", "class_weights=balanced"]
    typed += ["--space", str(SPACE), "--trials", "3", "--checkpoint", "0.5", "--trial-gpus", "auto", "--name=-x"]
    typed += ["--no-pruning"]
    assert made == parse(typed)


def test_no_settings_are_the_published_ones():
    assert interface._arguments("tfser.run", ["casia"], {"set": {}, "fold": None}).typed == ("casia",)


@pytest.mark.parametrize(
    ("databases", "options", "problems"),
    [
        ((), {}, ["the following arguments are required: DATABASE"]),
        (
            ("synthetic",),
            {"epoch": 3, "trials": "many", "seeds": [1, 2], "in_process": "no", "name": True},
            [
                "option: no 'epoch'; there are .* (did you mean 'epochs'?)",
                "--trials: 'many' is not a whole number",
                "seeds: [1, 2] is too much; it takes one value, or True or False where it is a switch",
                "in_process: 'no' is too much; it takes one value, or True or False where it is a switch",
                "--name: expected one argument",
            ],
        ),
        (
            ("synthetic",),
            {"model": [], "fold": (), "epochs": False, "seeds": False},
            [
                "model: [] names nothing; give a value, or leave model out",
                "fold: () names nothing; give a value, or leave fold out",
                "epochs: False names nothing; give a value, or leave epochs out",
                "seeds: False names nothing; give a value, or leave seeds out",
            ],
        ),
        (("synthetic",), {"plan": True}, ["option: no 'plan'; there are "]),
        (("--plan",), {}, ["DATABASE: '--plan' begins with '-'"]),
        ((None,), {"epochs": "x"}, ["DATABASE: None is no text", "--epochs: 'x' is not a whole number"]),
    ],
)
def test_everything_that_has_not_the_form_of_an_option_is_said_at_once(databases, options, problems):
    with pytest.raises(RequestError) as caught:
        tfser.describe(*databases, **options)
    assert caught.value.source == "tfser.describe"
    assert len(caught.value.problems) == len(problems)
    for said, expected in zip(caught.value.problems, problems, strict=True):
        for part in expected.split(".*"):
            assert part in said
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_loaded_database_cannot_be_run_and_the_error_says_what_can():
    with pytest.raises(RequestError, match=r"is no text; give a known name, a path, or audformat:PATH"):
        tfser.run(tfser.load_database("synthetic"))


def test_a_wrong_variable_of_the_environment_is_named_once(monkeypatch):
    monkeypatch.setenv("TFSER_TRIAL_CPUS", "two")
    with pytest.raises(RequestError) as caught:
        tfser.describe("synthetic", epochs=1, seeds=2)
    assert caught.value.problems == ["--trial-cpus: 'two' is not a number (typed, or from TFSER_TRIAL_CPUS)"]


def test_describe_refuses_what_the_command_refuses_in_the_same_words(capsys, tmp_path):
    wrong = {"model": "atfn", "fold": "zoe", "set": {"channel": 8}, "seeds": 0, "name": "A B", "out": tmp_path}
    with pytest.raises(RequestError) as caught:
        tfser.describe("synthetic", "casia", data=tmp_path / "none", **wrong)
    typed = ["synthetic", "casia", "--data", str(tmp_path / "none"), "--model", "atfn", "--fold", "zoe"]
    typed += ["--set", "channel=8", "--seeds", "0", "--name", "A B", "--out", str(tmp_path)]
    assert sweep_command.main(typed) == 2
    assert capsys.readouterr().err == f"{caught.value}\n"
    assert len(caught.value.problems) >= 5


def test_describe_says_what_the_command_plans_and_writes_nothing(tiny_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = tfser.describe(tiny_manifest, trials=2, space=SPACE, **ONE)
    assert (said.search_trials, said.final_trials) == (8, 4)
    assert repr(said) == str(said) == said.text
    assert not list(tmp_path.iterdir())
    typed = arguments(tiny_manifest, tmp_path, "--trials", "2", "--space", str(SPACE), "--plan")
    assert sweep_command.main(typed) == 0
    planned = capsys.readouterr().out
    assert planned.startswith(f"{said}\n")
    assert f"Sweep {said.name}\n" in planned


def test_the_built_in_database_alone_is_the_demonstration():
    said = tfser.describe("synthetic")
    assert (said.name, said.search_trials, said.final_trials) == ("synthetic", 12, 4)


@pytest.fixture(scope="module")
def ran(tiny_manifest, tmp_path_factory):
    """The folder of a sweep that the function ran, and what it gave."""
    out = tmp_path_factory.mktemp("function")
    return out, tfser.run(tiny_manifest, out=out, name="n", **ONE)


def test_run_gives_the_tables_that_it_wrote(ran, tiny_manifest):
    out, found = ran
    assert found.folder == out / "n"
    assert found.folds.fold.tolist() == ["anna", "bert", "carl", "dora"]
    assert found.summary.folds_done.tolist() == found.summary.folds_total.tolist() == [4]
    assert len(found.predictions) == len(tfser.load_database(tiny_manifest).utterances) == 36
    right = found.predictions.truth == found.predictions.predicted
    assert found.summary.war_pooled[0] == pytest.approx(right.mean(), abs=1e-12)
    assert repr(found) == f"<results in {out / 'n'}: 1 row, 4 final trials>"


def test_the_command_resumes_a_sweep_of_the_function(ran, tiny_manifest, capsys):
    out, _ = ran
    assert sweep_command.main(arguments(tiny_manifest, out, "--name", "n")) == 0
    assert "4 were there already" in capsys.readouterr().out


@pytest.mark.full
def test_run_writes_the_tables_of_the_command_to_the_byte_and_resumes_its_sweep(ran, tiny_manifest, tmp_path, capsys):
    out, _ = ran
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "n")) == 0
    assert tables_of(out / "n") == tables_of(tmp_path / "n")
    capsys.readouterr()
    tfser.run(tiny_manifest, out=tmp_path, name="n", **ONE)
    said = capsys.readouterr().out
    assert said.startswith("Sweep n\n  tiny: 36 utterances")
    assert "4 were there already" in said


def test_an_interrupted_run_interrupts_the_notebook(tiny_manifest, tmp_path, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tfser.run(tiny_manifest, out=tmp_path, name="n", **ONE)
    assert "the same command goes on from there (sweep n)" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path):
    """Tables whose names look like numbers, or like none."""
    place = tmp_path / "s"
    place.mkdir()
    key = "database,database_digest,protocol,model,ablation,selection,settings"
    row = "d,12345678e1234567,speaker,atfnn,ATFNN,fixed,{}"
    (place / "summary.csv").write_text(
        f"{key},folds_done,folds_total,seeds,war_pooled,uar_pooled,war_mean,war_sd,uar_mean,uar_sd\n"
        f"{row},1,2,1,0.5,0.25,0.5,,0.25,\n"
    )
    (place / "folds.csv").write_text(
        f"{key},fold,seed,war,uar,recall_1,recall_NA,utterances,epochs,hyperparameters,trial_id\n"
        f"{row},03,0,0.5,0.25,0.25,,2,7,{{}},1234567890123456\n"
    )
    (place / "predictions.csv").write_text(
        "trial_id,utterance,speaker,truth,predicted,p_1,p_NA\n"
        "1234567890123456,001,03,1,NA,0.1,0.30000000000000004\n"
        "1234567890123456,002,03,NA,null,0.9,\n"
    )
    return place


def test_results_keep_names_that_look_like_numbers_and_numbers_to_the_last_digit(folder):
    found = tfser.results(str(folder))
    assert found.summary.database_digest.tolist() == ["12345678e1234567"]
    assert (found.folds.fold[0], found.folds.trial_id[0]) == ("03", "1234567890123456")
    assert found.predictions.utterance.tolist() == ["001", "002"]
    assert found.predictions.speaker.tolist() == ["03", "03"]
    assert found.predictions.truth.tolist() == ["1", "NA"]
    assert found.predictions.predicted.tolist() == ["NA", "null"]
    assert found.predictions["p_NA"].tolist()[0] == 0.30000000000000004
    assert np.isnan([found.predictions["p_NA"][1], found.folds["recall_NA"][0], found.summary.war_sd[0]]).all()
    kinds = {c: found.folds[c].dtype.kind for c in ("seed", "utterances", "epochs", "war", "recall_1", "recall_NA")}
    assert kinds == {"seed": "i", "utterances": "i", "epochs": "i", "war": "f", "recall_1": "f", "recall_NA": "f"}


@pytest.mark.parametrize("name", ["", "t", "s/summary.csv"])
def test_a_folder_without_tables_is_refused_with_those_that_have_some(folder, name):
    with pytest.raises(RequestError) as caught:
        tfser.results(folder.parent / name)
    (problem,) = caught.value.problems
    assert problem.startswith("it holds no summary.csv, folds.csv, predictions.csv; name the folder of one sweep")
    assert (f"; there are {folder}" in problem) == (name != "s/summary.csv")


def test_tables_that_cannot_be_read_are_named_all_at_once(folder):
    (folder / "summary.csv").write_bytes(b"\xff")
    (folder / "folds.csv").write_text("fold,seed\n03,two\n")
    (folder / "predictions.csv").write_text("")
    with pytest.raises(RequestError) as caught:
        tfser.results(folder)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        f"{name}.csv cannot be read" for name in ("summary", "folds", "predictions")
    ]


def test_load_database_reads_the_corpora_where_the_command_does(tmp_path, monkeypatch):
    monkeypatch.setenv("TFSER_DATA", str(tmp_path))
    with pytest.raises(RequestError, match=str(tmp_path)):
        tfser.load_database("casia")
    with pytest.raises(RequestError, match=str(tmp_path / "other")):
        tfser.load_database("casia", tmp_path / "other")
    assert tfser.load_database("synthetic").speakers == ("ada", "ben", "cleo", "dan")
