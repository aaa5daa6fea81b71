"""What --plan says of a sweep that was begun: counts that the next start bears out, and no trace left behind."""

import contextlib
import hashlib
import io
import json
import re

import pytest
import torch

from tests.helpers.own_models import NETWORK, write
from tests.helpers.sweeps import MODEL, SPACE, arguments
from tests.helpers.tiny import SMALL
from tfser.execution import run_trial
from tfser.leaks import command as leaks
from tfser.storage.places import place
from tfser.storage.sweep_lock import lease
from tfser.sweep import command, planned, remaining
from tfser.sweep.options import parse
from tfser.sweep.request import check
from tfser.training.training import Training

MLFLOW = "mlflow|mlartifacts"
"""Files of MLflow; its thread outlives a driver that ends in the middle of a test."""

SEARCH = ("--trials", "3", "--space", str(SPACE), "--name", "s")


def plan_of(words, capsys):
    """The plan as JSON, of a command that prints nothing else but what it waits for, where that takes seconds."""
    capsys.readouterr()
    assert command.main([*words, "--plan", "--json"]) == 0
    printed = capsys.readouterr()
    assert all(re.fullmatch(r".+ \(\d+:\d\d\)", line) for line in printed.err.splitlines())
    return json.loads(printed.out)


def said_of(words, capsys):
    capsys.readouterr()
    assert command.main([*words, "--plan"]) == 0
    return capsys.readouterr().out


def trained(words, capsys):
    """How many trials the command says that it trained."""
    capsys.readouterr()
    command.main(words)
    return int(re.search(r"^Trained (\d+) trials? in", capsys.readouterr().out, re.MULTILINE)[1])


def killed_after(patch, trials):
    """End the process with an interrupt when so many trials have been trained."""
    run, left = run_trial.run, [trials]

    def interrupted(task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(task)

    patch.setattr(run_trial, "run", interrupted)


def content(folder, leave_out="$^"):
    """Every folder below a folder, and every file with its time and a digest of its bytes."""
    return {
        str(path.relative_to(folder)): path.is_file()
        and (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if not re.search(leave_out, str(path.relative_to(folder)))
    }


@pytest.fixture(scope="module")
def half(tiny_manifest, tmp_path_factory):
    """A search that was killed in the middle: its folder, and the words that began it."""
    out = tmp_path_factory.mktemp("half")
    words = arguments(tiny_manifest, out, *SEARCH, epochs="1")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        killed_after(patch, 6)
        assert command.main(words) == 130
    return out, words


def test_a_plan_of_a_storage_that_is_not_there_has_all_to_train_and_makes_nothing(tiny_manifest, tmp_path, capsys):
    words = arguments(tiny_manifest, tmp_path / "out", "--seeds", "2")
    made = plan_of(words, capsys)
    assert (made["done"], made["to_train"], made["failed"]) == (0, 8, 0)
    assert made["final"] == {"planned": 8, "done": 0, "failed": 0, "to_train": 8, "undecided": 0}
    assert made["search"]["planned"] == 0
    assert made["cost"]["core_hours"] > 0
    assert made["disk"]["features"] > 0
    assert made["disk"]["weights"] > 0
    assert made["places"]["tables"] == str(tmp_path / "out" / made["name"])
    assert made["places"]["ledger"] == str(tmp_path / "out" / ".tfser" / "ledger")
    assert made["places"]["mlflow"] == f"sqlite:///{tmp_path}/out/.tfser/mlflow.db"
    assert "0 done, 8 to train" in said_of(words, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_a_finished_sweep_has_nothing_to_train_and_lacks_nothing_and_a_changed_setting_has_all(
    tiny_manifest, tmp_path, capsys
):
    words = arguments(tiny_manifest, tmp_path, "--seeds", "2", epochs="1")
    fresh = plan_of(words, capsys)
    assert trained(words, capsys) == fresh["to_train"] == 8
    before = content(tmp_path)
    made, said = plan_of(words, capsys), said_of(words, capsys)
    assert content(tmp_path) == before, "a plan wrote something"
    assert (made["done"], made["to_train"]) == (8, 0)
    assert made["missing"] == {"needed": [], "gpus": []}
    assert (made["cost"]["core_hours"], made["disk"]["bytes"], made["memory"]["of_a_trial"]) == (0, 0, {})
    assert "8 done, 0 to train" in said
    assert "Every trial is finished, so that nothing is trained" in said
    assert "missing here" not in said
    changed = plan_of([*words, "--set", "dropout=0.3"], capsys)
    assert (changed["done"], changed["to_train"]) == (0, 8)
    assert changed["disk"]["features"] == 0, "the features are there"
    wider = arguments(tiny_manifest, tmp_path, "--seeds", "3", "--ablation", "T+F+TF", "T+F", epochs="1")
    more = plan_of(wider, capsys)
    assert (more["done"], more["to_train"]) == (8, 4 + 12)
    assert sorted((c["ablation"], c["final"]["done"], c["final"]["to_train"]) for c in more["configurations"]) == [
        ("T+F", 0, 12),
        ("T+F+TF", 8, 4),
    ]
    ledger = sum(f.stat().st_size for f in (tmp_path / ".tfser" / "ledger").rglob("*.json"))
    assert fresh["disk"]["ledger"] == pytest.approx(ledger, rel=0.5)
    weights = sum(f.stat().st_size for f in (tmp_path / ".tfser" / "ledger").rglob("*.pt"))
    assert fresh["disk"]["weights"] == pytest.approx(weights, rel=0.5)
    features = sum(f.stat().st_size for f in (tmp_path / ".tfser" / "features").rglob("*") if f.is_file())
    assert fresh["disk"]["features"] == pytest.approx(features, rel=0.2)
    mlflow = (tmp_path / ".tfser" / "mlflow.db").stat().st_size
    mlflow += sum(f.stat().st_size for f in (tmp_path / ".tfser" / "mlartifacts").rglob("*") if f.is_file())
    assert fresh["disk"]["mlflow"] == pytest.approx(mlflow, rel=0.5)


@pytest.mark.full
def test_the_counts_of_a_search_that_was_killed_are_those_that_the_next_start_trains(half, capsys):
    out, words = half
    before = content(out, MLFLOW)
    made = plan_of(words, capsys)
    assert content(out, MLFLOW) == before, "a plan wrote something"
    assert made["search"]["planned"] == 12
    assert made["final"]["planned"] == 4
    assert made["done"] == 6
    assert made["to_train"] == 10
    assert f"6 done, 10 to train (search trials: {made['search']['done']} done" in said_of(words, capsys)
    assert content(out, MLFLOW) == before
    assert trained(words, capsys) == made["to_train"]
    whole = plan_of(words, capsys)
    assert (whole["done"], whole["to_train"]) == (16, 0)
    assert whole["final"] == {"planned": 4, "done": 4, "failed": 0, "to_train": 0, "undecided": 0}


@pytest.mark.full
def test_final_trials_of_a_search_that_is_done_are_known(tiny_manifest, tmp_path, capsys, monkeypatch):
    words = arguments(tiny_manifest, tmp_path, *SEARCH, epochs="1")
    assert command.main(words) == 0
    sweep = check(parse(words))
    finals = json.loads((tmp_path / ".tfser" / "rows" / "s.json").read_text())["rows"][0]["finals"]
    gone = finals["anna"]["0"]
    (tmp_path / ".tfser" / "ledger" / gone[:2] / f"{gone}.json").unlink()
    left = remaining.look(sweep)
    assert (left.search.to_train, left.final.to_train, left.final.done) == (0, 1, 3)
    (tmp_path / ".tfser" / "search" / "s.journal").unlink()
    assert plan_of(words, capsys)["to_train"] == 1, "a search that is made again finds its trials in the ledger"
    assert not (tmp_path / ".tfser" / "search" / "s.journal").exists()
    assert trained(words, capsys) == 1


@pytest.mark.full
def test_studies_in_a_database_are_counted_and_a_database_that_is_not_there_is_not_made(
    tiny_manifest, tmp_path, capsys, monkeypatch
):
    url = f"sqlite:///{tmp_path}/studies.db"
    words = arguments(tiny_manifest, tmp_path / "out", *SEARCH, "--optuna-storage", url, epochs="1")
    assert plan_of(words, capsys)["to_train"] == 16
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        killed_after(patch, 6)
        assert command.main(words) == 130
    before = content(tmp_path, MLFLOW)
    made = plan_of(words, capsys)
    assert content(tmp_path, MLFLOW) == before
    assert (made["done"], made["to_train"]) == (6, 10)
    assert made["places"]["studies"] == url
    assert trained(words, capsys) == 10


@pytest.mark.parametrize(("search", "searched"), [((), 0), (SEARCH, 3), ((*SEARCH, "--selection", "global"), 12)])
def test_a_plan_of_a_model_for_use_counts_its_search_and_one_final_trial(
    tiny_manifest, tmp_path, capsys, search, searched
):
    words = arguments(tiny_manifest, tmp_path / "out", *search, "--seeds", "2", "--purpose", "deploy")
    made, said = plan_of(words, capsys), said_of(words, capsys)
    assert (made["search"]["planned"], made["search"]["to_train"]) == (searched, searched)
    assert made["final"] == {"planned": 1, "done": 0, "failed": 0, "to_train": 1, "undecided": 0}
    assert f"0 done, {searched + 1} to train" in said
    assert "Every trial is finished" not in said
    assert made["cost"]["core_hours"] > 0


@pytest.mark.full
@pytest.mark.parametrize("search", [(), SEARCH, (*SEARCH, "--selection", "global")])
def test_a_model_for_use_that_is_there_leaves_nothing_to_train(tiny_manifest, tmp_path, capsys, search):
    words = arguments(tiny_manifest, tmp_path, *search, "--purpose", "deploy", epochs="1")
    planned = plan_of(words, capsys)["to_train"]
    assert command.main(words) == 0
    made = plan_of(words, capsys)
    assert (made["done"], made["to_train"]) == (planned, 0)
    assert "Every trial is finished" in said_of(words, capsys)


@pytest.mark.full
def test_trials_that_failed_are_said_apart_and_counted_where_they_are_to_be_trained_again(
    tiny_manifest, tmp_path, capsys, monkeypatch
):
    words, epoch, begun = arguments(tiny_manifest, tmp_path, "--name", "f", epochs="1"), Training.run_epoch, []

    def nan_at_first(self):
        begun.append(self)
        if len(begun) <= 2:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", nan_at_first)
        assert command.main(words) == 1
    made, said = plan_of(words, capsys), said_of(words, capsys)
    assert made["final"] == {"planned": 4, "done": 2, "failed": 2, "to_train": 0, "undecided": 0}
    assert "2 done, 2 failed, 0 to train" in said
    assert "2 failed; --retry-failed trains them again" in said
    assert "Nothing is left to train" in said
    assert "Every trial is finished" not in said
    again = plan_of([*words, "--retry-failed"], capsys)
    assert again["final"] == {"planned": 4, "done": 2, "failed": 0, "to_train": 2, "undecided": 0}
    assert trained([*words, "--retry-failed"], capsys) == 2


@pytest.mark.full
def test_a_damaged_entry_counts_as_left_and_stays_where_it_is(tiny_manifest, tmp_path, capsys):
    words = arguments(tiny_manifest, tmp_path, "--fold", "anna", "bert", epochs="1")
    assert command.main(words) == 0
    (entry, _) = (tmp_path / ".tfser" / "ledger").glob("*/*.json")
    entry.write_text("{")
    assert plan_of(words, capsys)["final"]["to_train"] == 1
    assert entry.read_text() == "{"
    assert trained(words, capsys) == 1


def test_a_plan_is_made_while_another_driver_holds_the_sweep(half, capsys):
    out, words = half
    with lease(out / ".tfser", "s", print):
        journal = out / ".tfser" / "search" / "s.journal"
        lines = journal.read_bytes()
        assert plan_of(words, capsys)["done"] >= 6
        try:
            journal.write_bytes(lines + b'{"op_code": 4, "work')  # a line that is being written
            assert plan_of(words, capsys)["done"] >= 6
        finally:
            journal.write_bytes(lines)


@pytest.mark.full
def test_a_plan_of_a_storage_behind_a_uri_counts_and_writes_nothing(tiny_manifest, tmp_path, capsys, monkeypatch):
    storage = "memory://plan/store"
    more = ["--storage", storage, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    words = arguments(tiny_manifest, tmp_path / "out", *SEARCH, *more, epochs="1")
    fs = place(storage).fs
    assert plan_of(words, capsys)["to_train"] == 16
    assert fs.find("/plan") == []
    with monkeypatch.context() as patch:
        killed_after(patch, 6)
        assert command.main(words) == 130
    before = {name: fs.cat_file(name) for name in fs.find("/plan")}
    made = plan_of(words, capsys)
    assert {name: fs.cat_file(name) for name in fs.find("/plan")} == before
    assert (made["done"], made["to_train"], made["disk"]["free"]) == (6, 10, None)
    assert made["places"]["storage"] == storage
    assert trained(words, capsys) == 10


def test_what_this_machine_lacks_is_in_the_plan_and_refused_after_it(tiny_manifest, tmp_path, capsys, monkeypatch):
    words = arguments(tiny_manifest, tmp_path / "out", "--plan")
    monkeypatch.setattr("tfser.planning.plan.missing_here", lambda model, settings: ["it needs 'tfser[own]'"])
    assert command.main(words) == 2
    printed = capsys.readouterr()
    assert "missing here: time_frequency_transformer: it needs 'tfser[own]'" in printed.out
    assert "0 done, 4 to train" in printed.out
    assert "it needs 'tfser[own]'" in printed.err
    assert command.main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["missing"]["needed"] == [
        "time_frequency_transformer: it needs 'tfser[own]'"
    ]
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_asked_for_and_not_there_is_missing_and_one_that_nobody_needs_is_not(
    tiny_manifest, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = arguments(tiny_manifest, tmp_path / "out")
    assert plan_of(words, capsys)["missing"]["gpus"] == ["a GPU that torch can use; networks train on CPUs"]
    assert plan_of([*words, "--trial-gpus", "0.5"], capsys)["missing"]["gpus"] == [
        "a GPU that torch can use, for --trial-gpus 0.5"
    ]
    assert plan_of([*words, "--trial-gpus", "0"], capsys)["missing"]["gpus"] == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert plan_of(words, capsys)["missing"]["gpus"] == []


def test_json_without_a_plan_is_refused(tiny_manifest, tmp_path, capsys):
    assert command.main(arguments(tiny_manifest, tmp_path / "out", "--json")) == 2
    assert "--json: it is for --plan; add that, or leave it out" in capsys.readouterr().err


@pytest.mark.full
def test_the_plan_of_leaks_subtracts_too(tiny_manifest, tmp_path, capsys):
    words = [w for w in arguments(tiny_manifest, tmp_path, "--leak", "epoch", epochs="1")]
    assert leaks.main([*words, "--plan", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["kind"], made["done"]) == ("leaks", 0)
    assert leaks.main(words) == 0
    assert f"Trained {made['to_train']} trials" in capsys.readouterr().out
    assert leaks.main([*words, "--plan"]) == 0
    assert f"{made['to_train']} done, 0 to train" in capsys.readouterr().out


def test_the_memory_of_a_trial_grows_with_its_batch_and_its_width(tiny_manifest, tmp_path):
    def memory(**more):
        own = [f"{name}={value}" for name, value in {**SMALL, **more}.items()]
        words = [str(tiny_manifest), "--out", str(tmp_path), *MODEL, "--epochs", "1", "--set", *own]
        return planned.plan(check(parse(words))).need.memory["time_frequency_transformer"]

    small, batch, wide = memory(), memory(batch_size=4096), memory(channels=64)
    assert 2**29 < small < batch
    assert small < wide


def test_what_a_model_prints_is_not_among_the_json(tiny_manifest, tmp_path, capsys):
    loud = NETWORK.replace("def forward(self, x):", 'def forward(self, x):\n        print("hello")')
    loud = loud.replace(
        "def build(ablation, settings, emotions):", 'def build(ablation, settings, emotions):\n    print("hello")'
    )
    file = write(tmp_path, mine=loud) / "mine.py"
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--model", f"{file}:Mine", "--plan", "--json"]
    assert command.main(words) == 0
    printed = capsys.readouterr()
    made = json.loads(printed.out)
    assert "hello" in printed.err
    assert made["memory"]["of_a_trial"].keys() == made["cost"]["models"].keys() == {"Mine"}


def test_little_disk_is_said(tiny_manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(planned, "free_disk", lambda place: 1000)
    said = said_of(arguments(tiny_manifest, tmp_path / "out"), capsys)
    assert "that is more than is free: name another folder with --storage, or free space" in said
