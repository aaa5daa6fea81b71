"""What is printed counts with the right noun, names a model once, and gives long times in days."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.helpers.results import configuration, failure, record
from tests.helpers.results import spec as trial_spec
from tests.helpers.runs import row as tracked_row
from tfser.errors import RequestError
from tfser.execution.on_ray import open_doors
from tfser.leaks import command as leaks_command
from tfser.models import DEFAULT, MODELS
from tfser.search.history import History, Tried
from tfser.sweep import command as sweep_command
from tfser.sweep import hours, wrap_up
from tfser.sweep.demo import demo_space
from tfser.sweep.options import parse
from tfser.sweep.printer import Printer
from tfser.sweep.progress import View, duration
from tfser.sweep.request import check
from tfser.tracking import content, names

ROOT = Path(__file__).parents[2]
TFT, ATFNN = "time_frequency_transformer", "atfnn"


@pytest.fixture(autouse=True)
def no_step_is_timed(monkeypatch):
    """A plan says what it costs; measuring that takes seconds, and here nobody reads it."""
    monkeypatch.setattr(hours, "_timed", lambda *settings: 1e-3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89.4, "89 s"),
        (3500, "58 min"),
        (2996 * 3600 + 56 * 60, "124 days"),
        (47 * 3600, "47 h 0 min"),
        (48 * 3600, "2 days"),
        (53.4 * 3600, "2 days 5 h"),
        (240 * 3600, "10 days"),
        (1e9, "11574 days"),
    ],
)
def test_a_time_of_two_days_and_more_is_given_in_days(seconds, words):
    assert duration(seconds) == words


def lines(rows, *ended):
    """What the view prints of trials that ended, in a sweep of these rows."""
    plan = SimpleNamespace(configurations=rows, studies=(), search_trials=0, final_trials=12)
    console = Console(file=io.StringIO(), width=200)
    view = View(plan, console)
    for c, outcome in ended:
        view.ended(SimpleNamespace(spec=outcome.spec, outcome=outcome, configuration=c, trained=True))
    return console.file.getvalue().splitlines()


def test_the_line_of_a_trial_names_its_model_where_the_sweep_has_several_and_once():
    one, other = configuration(), configuration(model=ATFNN, ablation="ATFNN")
    svm = configuration(model="svm", ablation="full")
    said = lines([one, other, svm], (one, record(one, "03", 0)), (other, record(other, "03", 0)))
    said += lines([one, other, svm], (svm, failure(svm, "08", 0, "no")))
    assert said[0].startswith(f"[1/12] final  emodb 03 {TFT} T+F+TF seed 0: test UAR")
    assert said[1].startswith("[2/12] final  emodb 03 ATFNN seed 0: test UAR")
    assert said[2] == "[1/12] final  emodb 08 svm full seed 0: failed: no"
    assert lines([one], (one, record(one, "03", 0)))[0].startswith("[1/12] final  emodb 03 T+F+TF seed 0: test UAR")


def test_the_line_of_a_trial_that_took_hours_says_hours():
    one = configuration()
    said = lines([one], *((one, dataclasses.replace(record(one, "03", 0), seconds=s)) for s in (12.34, 14400.0)))
    assert [line.rpartition(", ")[2] for line in said] == ["12.3 s", "4 h 0 min"]


def test_the_choice_of_a_search_names_its_model_where_several_chose():
    tried = (Tried(state="finished", validation_uar=0.5, epochs=2, hyperparameters={"dropout": 0.1}),)
    rows = [configuration(), configuration(model=ATFNN, ablation="ATFNN")]
    console = Console(file=io.StringIO(), width=200)
    studies = [History(configuration=c, folds=("03",), tried=tried, importances={}) for c in rows]
    wrap_up.say_chosen(Printer(console), studies)
    assert re.findall(r"chosen for emodb 03 (.*): dropout", console.file.getvalue()) == [f"{TFT} T+F+TF", "ATFNN"]


def test_a_model_that_its_full_form_is_named_after_is_named_once(capsys, tmp_path):
    words = ["synthetic", "--model", ATFNN, "--out", str(tmp_path), "--plan"]
    assert sweep_command.main([*words, "--epochs", "1"]) == 0
    assert leaks_command.main([*words, "--leak", "epoch", "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "ATFNN ATFNN" not in said
    assert re.findall(r"^  (ATFNN.*?leave-one-speaker-out): 4 folds, 1 seed, 1 epoch", said, re.MULTILINE) == [
        "ATFNN on synthetic, leave-one-speaker-out",
        "ATFNN, leave-one-speaker-out",
    ]


def test_mlflow_names_such_a_model_once_and_knows_the_doubled_name_for_an_earlier_one():
    c = dataclasses.replace(tracked_row("ATFNN"), model=ATFNN)
    (fold, *_), sweep = c.folds, "s"
    trial = dataclasses.replace(trial_spec(configuration(model=ATFNN, ablation="ATFNN"), fold, 0, {}))
    now = names.configuration_run(c, sweep), names.trial_run(c, trial, sweep)
    assert all(name.startswith("ATFNN ") for name in now)
    assert content.configuration_note(c).startswith(f"ATFNN on {c.database}, ")
    assert now[0].replace("ATFNN", "atfnn ATFNN", 1) in names.earlier_runs(c, None, sweep)
    assert now[1].replace("ATFNN", "atfnn ATFNN", 1) in names.earlier_runs(c, trial, sweep)
    other = dataclasses.replace(c, model=TFT, ablation="T+F")
    assert names.configuration_run(other, sweep) not in names.earlier_runs(other, None, sweep)


def test_a_confusion_matrix_of_one_seed_says_one_seed(monkeypatch):
    headings = []

    def kept(emotions, counts, heading):
        headings.append(heading)
        return {}

    monkeypatch.setattr(content, "_confusion", kept)
    for seeds in ((0,), (0, 1)):
        content.configuration_artifacts(dataclasses.replace(tracked_row(), seeds=seeds), {}, 2.0, [[1, 0], [0, 1]], "")
    assert [heading[1].rpartition(", ")[2] for heading in headings] == ["1 seed", "2 seeds"]


def test_no_text_of_the_package_leaves_the_number_of_a_noun_open():
    nouns = r"(seed|worker|fold|trial|file|model|epoch|setting|utterance|speaker|node)\(s\)"
    files = [path for path in (ROOT / "tfser").rglob("*.py") if re.search(nouns, path.read_text(encoding="utf-8"))]
    assert files == []


# What a command takes where nothing is typed


@pytest.fixture
def planned(capsys, tmp_path):
    def plan(main, *words):
        code = main([*words, "--plan", "--out", str(tmp_path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return plan


def test_leaks_without_a_model_takes_the_default_that_its_help_states(tiny_manifest, planned, capsys):
    with pytest.raises(SystemExit):
        leaks_command.main(["--help"])
    assert f"(default: {DEFAULT[0]})" in " ".join(capsys.readouterr().out.split())
    code, said = planned(leaks_command.main, str(tiny_manifest), "--epochs", "2", "--leak", "epoch")
    assert code == 0
    assert f"{MODELS[DEFAULT[0]].title} T+F+TF, leave-one-speaker-out: 4 folds, 1 seed, 2 epochs" in said


def test_leaks_on_the_built_in_database_trains_the_demos_small_model_and_says_so(planned):
    code, said = planned(leaks_command.main, "synthetic", "--leak", "epoch")
    assert code == 0
    assert "16 epochs" in said
    assert "small, as the built-in database is for trying things out (channels 8," in said


@pytest.mark.parametrize(
    ("more", "trials", "epochs"),
    [
        (["--trials", "8"], 8, 16),
        (["--epochs", "5"], 3, 5),
        (["--trials", "2", "--epochs", "4"], 2, 4),
        (["--trials", "0", "--epochs", "5"], 0, 5),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_demo_stays_small_with_other_trials_or_epochs_and_says_so(planned, tmp_path, more, trials, epochs):
    code, said = planned(sweep_command.main, "synthetic", *more)
    assert code == 0
    assert said.count("small, as the built-in database is for trying things out (channels 8, feed_forward 128,") == 1
    assert f"--model {TFT} trains it whole" in said
    (study,) = {(s.trials, s.epochs, s.configuration.model) for s in check(parse(["synthetic", *more])).plan.studies}
    assert study == (trials, epochs, TFT)
    for one in check(parse(["synthetic", *more])).plan.studies:
        narrow = one.base if one.space is None else one.space.fixed
        assert (narrow["channels"], narrow["feed_forward"]) == (8, 128)


def test_a_model_that_is_typed_is_trained_whole_on_the_built_in_database(planned):
    code, said = planned(sweep_command.main, "synthetic", "--model", TFT, "--epochs", "5")
    assert code == 0
    assert "for trying things out" not in said
    (study, *_) = check(parse(["synthetic", "--model", TFT, "--epochs", "5"])).plan.studies
    assert study.base["channels"] == MODELS[TFT].hyperparameters["channels"].default != 8
    with pytest.raises(RequestError, match="--epochs: 0 is below 1"):
        check(parse(["synthetic", "--epochs", "0"]))
    assert check(parse(["synthetic"])).options.space == [demo_space()]


# The token


def test_no_instruction_lets_the_token_be_printed():
    told = [*(ROOT / "docs").glob("*.md"), *(ROOT / "cluster").iterdir(), *(ROOT / "tfser").rglob("*.py")]
    told += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    commands = [
        line.strip()
        for path in told
        if path.is_file()
        for line in path.read_text(encoding="utf-8").splitlines()
        if "get-auth-token" in line
    ]
    assert len(commands) >= 5
    assert [line for line in commands if "--generate > /dev/null" not in line] == []


@pytest.mark.full
def test_the_instruction_writes_a_file_for_its_owner_alone_and_prints_no_token(tmp_path):
    command = re.search(r"\(umask 077; .*?\)", open_doors.ADVICE)[0]
    folder = Path(sys.executable).parent
    env = {"HOME": str(tmp_path), "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    file = tmp_path / ".ray" / "auth_token"
    token = file.read_text(encoding="utf-8").strip()
    assert len(token) >= 32
    assert token not in done.stdout + done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
