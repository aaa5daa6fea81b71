"""Tables from the ledger and from MLflow: nothing that is finished is mixed, replaced or lost."""

import dataclasses
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.helpers.results import configuration, sweep
from tests.helpers.sweeps import MODEL, SPACE, arguments, read, runs_of, tables_of
from tests.helpers.tiny import write_tiny
from tfser import collect
from tfser.errors import RequestError
from tfser.execution import rows, run_trial
from tfser.record import Failure
from tfser.storage.ledger import Ledger
from tfser.sweep import command
from tfser.trial import NUMERICS_VERSION

pytestmark = pytest.mark.usefixtures("blank_figures")

OLD_STORE = Path(__file__).parents[1] / "helpers" / "old_store.tar.xz"
"""What a version whose rows had neither digest nor settings left of two sweeps, ``fixed`` and ``search``.

They were made of ``write_tiny`` with ``--epochs 2`` and ``SET_SMALL``, the second with ``--trials 2`` and
tiny_space.yaml. Features, weights and pictures are left out."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Sweep three manifests called labels.csv in one storage, two of them equal, and return the folder."""
    folder = tmp_path_factory.mktemp("collect")
    for name in ("a", "b"):
        manifest = write_tiny(folder / name)
        text = manifest.read_text()
        manifest.with_name("labels.csv").write_text(
            text if name == "a" else text.replace(",carl,glad,", ",carl,tense,", 1)
        )
    for name, labels, epochs, more in (
        ("long", "a", "2", ("--ablation", "T+F+TF", "T+F")),
        ("short", "a", "1", ()),
        ("other", "b", "2", ()),
    ):
        assert (
            command.main(
                arguments(folder / labels / "labels.csv", folder / "out", "--name", name, *more, epochs=epochs)
            )
            == 0
        )
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A copy of its results under another name, as a person renames or copies them."""
    return Path(shutil.copytree(made / "out", tmp_path / "copied"))


def run(*words):
    return collect.main([str(word) for word in words])


def only_mlflow(out):
    """Take away everything but MLflow's database and artifacts."""
    for name in ("ledger", "rows"):
        shutil.rmtree(out / ".tfser" / name)


def test_two_states_of_a_database_have_tables_of_their_own_and_no_row_takes_the_place_of_another(copied, capsys):
    assert run("labels", "--out", copied) == 0
    folders = sorted(copied.glob("labels-*"), key=lambda folder: -len(read(folder, "summary.csv")))
    first, second = (read(folder, "summary.csv") for folder in folders)
    assert [folder.name.removeprefix("labels-") for folder in folders] == [
        s.database_digest[0][:8] for s in (first, second)
    ]
    assert first.database_digest.nunique() == second.database_digest.nunique() == 1
    settings = [json.loads(text)["epochs"] for text in first.settings]
    assert sorted(zip(first.ablation, settings, strict=True)) == [("T+F", 2), ("T+F+TF", 1), ("T+F+TF", 2)]
    assert (first.folds_done == 4).all()
    assert len(second) == 1
    numbers = pd.concat([read(copied / name, "folds.csv") for name in ("long", "short")])
    assert sorted(read(folders[0], "folds.csv").trial_id) == sorted(numbers.trial_id)
    assert read(folders[1], "folds.csv").equals(read(copied / "other", "folds.csv"))
    pairs = read(folders[0], "paired.csv")
    assert len(pairs) == 3 * 2
    assert (folders[1] / "paired.csv").read_text().count("\n") == 1
    text = (folders[0] / "details.md").read_text()
    assert "fixed, epochs 1 |" in text
    assert "fixed, epochs 2 |" in text
    assert "fixed, epochs 1: 1 epoch (published: 1000), batch_size 8 (published: 64)" in text
    capsys.readouterr()


@pytest.mark.full
def test_several_names_make_one_set_of_tables_in_one_folder(copied, capsys):
    assert run("long", "short", "other", "--out", copied) == 0
    folder = copied / "long+short+other"
    assert f"Tables and figures: {folder}" in capsys.readouterr().out
    summary = read(folder, "summary.csv")
    apart = pd.concat([read(copied / name, "summary.csv") for name in ("long", "short", "other")])
    order = ["database_digest", "ablation", "settings"]
    assert summary.sort_values(order).reset_index(drop=True).equals(apart.sort_values(order).reset_index(drop=True))
    assert len(list(copied.glob("*+*"))) == 1
    states = set(re.findall(r"labels \\\(([0-9a-f]+)\)|labels \(([0-9a-f]+)\)", (folder / "comparison.md").read_text()))
    assert {a or b for a, b in states} == set(summary.database_digest)


@pytest.mark.full
def test_the_newest_whole_row_of_a_key_stands_in_the_set_and_the_others_are_named(copied, made, capsys):
    again = arguments(made / "a" / "labels.csv", copied, "--name", "again", "--fold", "anna", epochs="1")
    assert command.main(again) == 0
    capsys.readouterr()
    assert run("again", "short", "--out", copied) == 0
    said = capsys.readouterr().out
    row = f"labels / speaker / {MODEL[1]} / T+F+TF / fixed of sweep again (1 of 4 folds, 1 seed)"
    assert f"Left out: {row}: sweep short has the newest whole row of it" in said
    folder = copied / "again+short"
    assert read(folder, "summary.csv").equals(read(copied / "short", "summary.csv"))
    assert read(folder, "predictions.csv").equals(read(copied / "short", "predictions.csv"))


def test_a_name_that_cannot_be_read_keeps_the_set_from_being_written(copied, made, capsys):
    only_mlflow(copied)
    shutil.move(copied / ".tfser" / "mlartifacts", copied / "elsewhere")
    hidden = made / "out" / ".tfser" / "mlartifacts"
    hidden.rename(hidden.with_name("hidden"))
    try:
        assert run("long", "short", "--out", copied) == 1
    finally:
        hidden.with_name("hidden").rename(hidden)
    error = capsys.readouterr().err
    assert all(f"{name}: its tables are left as they are" in error for name in ("long", "short"))
    assert not (copied / "long+short").exists()


def test_six_digits_of_a_trial_id_repeat_and_trace_it(copied, capsys):
    trial = read(copied / "short", "folds.csv").trial_id[0]
    assert run("short", "--out", copied, "--repeat", trial) == 0
    wanted = capsys.readouterr().out
    for word in (trial[:6], trial[:9].upper()):
        assert run("short", "--out", copied, "--repeat", word) == 0
        assert capsys.readouterr().out == wanted
    assert run("short", "--out", copied, "--repeat", trial[:5]) == 2
    assert f"no final trial or run {trial[:5]}" in capsys.readouterr().err
    assert run("short", "--out", copied, "--trace", trial) == 0
    whole = capsys.readouterr().out
    assert trial in whole
    assert run("short", "--out", copied, "--trace", trial[:6]) == 0
    assert capsys.readouterr().out == whole


def test_digits_that_begin_several_trial_ids_are_refused_with_what_tells_those_apart():
    results = sweep(configuration())
    for number, (key, entry) in enumerate(list(results.entries.items())):
        spec = dataclasses.replace(entry.spec, hyperparameters=())
        results.entries[key] = Failure(trial_id=f"abcdef{number:010d}", spec=spec, reason="no")
    with pytest.raises(RequestError, match=r"abcdef begins 3 trial ids; name one: abcdef0000000000 \(emodb T\+F\+TF"):
        collect._repeated([results], "abcdef")
    assert collect._repeated([results], "abcdef0000000001").startswith("python -m tfser.sweep emodb")


@pytest.mark.full
def test_from_mlflow_alone_the_same_rows_come(copied):
    assert run("labels", "--out", copied) == 0
    wanted = {folder.name: tables_of(folder) for folder in copied.glob("labels-*")}
    shutil.move(copied, copied.with_name("renamed"))
    out = copied.with_name("renamed")
    only_mlflow(out)
    for folder in out.glob("labels-*"):
        shutil.rmtree(folder)
    assert run("labels", "--out", out) == 0
    assert {folder.name: tables_of(folder) for folder in out.glob("labels-*")} == wanted


@pytest.mark.parametrize("without", ["mlflow.db", "mlartifacts"])
def test_a_renamed_folder_gives_the_same_tables_whatever_mlflow_has_lost(copied, made, without):
    path = copied / ".tfser" / without
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert run("long", "--out", copied) == 0
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")


def test_artifacts_that_are_nowhere_are_named_and_the_tables_stay(copied, made, capsys, monkeypatch):
    only_mlflow(copied)
    shutil.move(copied / ".tfser" / "mlartifacts", copied / "elsewhere")
    hidden = made / "out" / ".tfser" / "mlartifacts"
    hidden.rename(hidden.with_name("hidden"))
    try:
        assert run("long", "short", "--out", copied) == 1
    finally:
        hidden.with_name("hidden").rename(hidden)
    error = capsys.readouterr().err
    assert "long: its tables are left as they are" in error
    assert "2 x configuration.json of a row" in error
    assert str(copied / ".tfser" / "mlartifacts") in error
    assert str(hidden) in error
    assert "Traceback" not in error
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")


@pytest.mark.parametrize("text", ["[]", '{"configuration": [], "finals": {}}', "{"])
def test_a_configuration_in_mlflow_that_is_none_is_called_damaged_and_the_tables_stay(copied, made, capsys, text):
    only_mlflow(copied)
    for path in (copied / ".tfser" / "mlartifacts").rglob("configuration.json"):
        path.write_text(text)
    assert run("long", "--out", copied) == 1
    error = capsys.readouterr().err
    assert "long: its tables are left as they are" in error
    assert "2 x configuration.json or search.json that is damaged" in error
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")


def test_a_run_in_mlflow_that_lacks_its_recalls_is_named(copied, capsys):
    only_mlflow(copied)
    with sqlite3.connect(copied / ".tfser" / "mlflow.db") as connection:
        connection.execute("DELETE FROM latest_metrics WHERE key = 'test/uar'")
    connection.close()
    assert run("long", "--out", copied) == 1
    assert re.search(r"run [0-9a-f]{32} says test/uar None, its trial.json 0\.\d+", capsys.readouterr().err)


def test_trials_that_are_nowhere_are_counted_and_the_tables_stay(copied, made, capsys):
    only_mlflow(copied)
    for path in (copied / ".tfser" / "mlartifacts").rglob("trial.json"):
        path.unlink()
    hidden = made / "out" / ".tfser" / "mlartifacts"
    hidden.rename(hidden.with_name("hidden"))
    try:
        assert run("long", "--out", copied) == 1
    finally:
        hidden.with_name("hidden").rename(hidden)
    assert "8 x trial.json of a final trial" in capsys.readouterr().err
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")


def test_a_table_is_never_replaced_by_one_that_knows_less(copied, made, capsys):
    ledger = Ledger(copied / ".tfser" / "ledger")
    lost = read(copied / "long", "folds.csv").trial_id[0]
    ledger.path(lost).unlink()
    (copied / ".tfser" / "mlflow.db").unlink()
    assert run("long", "--out", copied) == 1
    error = capsys.readouterr().err
    assert "left as they are, because they hold folds that these would lack" in error
    assert "4 folds there, 3 here" in error
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")
    assert run("long", "--storage", copied / ".tfser", "--out", copied / "new") == 0
    assert sorted(read(copied / "new" / "long", "summary.csv").folds_done) == [3, 4]


def test_a_sweep_that_would_replace_tables_of_other_settings_is_refused_before_it_trains(
    copied, made, capsys, monkeypatch
):
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("it trained"))
    call = arguments(made / "a" / "labels.csv", copied, "--name", "long", "--storage", copied / "fresh", epochs="1")
    assert command.main([str(word) for word in call]) == 2
    error = capsys.readouterr().err
    assert "4 folds there, no such row here; name another sweep with --name" in error
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")


@pytest.mark.full
def test_a_deleted_run_of_a_row_loses_no_fold_and_is_made_again_with_its_children(copied, made, monkeypatch):
    uri = f"sqlite:///{copied / '.tfser' / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    _, runs = runs_of(copied)
    mine = [r for r in runs if r.data.tags["tfser.sweep"] == "long"]
    parents = [r.info.run_id for r in mine if r.data.tags["tfser.kind"] == "configuration"]
    child = next(r.info.run_id for r in mine if r.data.tags["tfser.kind"] == "fold")
    for run_id in (*parents, child):
        client.delete_run(run_id)
    assert run("long", "--out", copied) == 0
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was trained again"))
    call = arguments(made / "a" / "labels.csv", copied, "--name", "long", "--ablation", "T+F+TF", "T+F")
    assert command.main(call) == 0
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")
    now = [r for r in runs_of(copied)[1] if r.data.tags["tfser.sweep"] == "long"]
    repaired = {r.info.run_id: r for r in now if r.data.tags["tfser.kind"] == "configuration"}
    folds = [r for r in now if r.data.tags["tfser.kind"] == "fold"]
    assert len(repaired) == 2
    assert len(folds) == len({r.data.tags["tfser.trial_id"] for r in folds}) == 8
    for fold in folds:
        assert (
            repaired[fold.data.tags["mlflow.parentRunId"]].data.tags["tfser.ablation"]
            == fold.data.tags["tfser.ablation"]
        )
    only_mlflow(copied)
    assert run("long", "--out", copied) == 0
    assert tables_of(copied / "long") == tables_of(made / "out" / "long")


@pytest.mark.full
def test_a_copy_goes_on_in_its_own_folder(copied, made):
    """MLflow keeps absolute paths; what a copy writes must not end in the original."""
    before = {p: p.stat().st_mtime_ns for p in (made / "out").rglob("*") if p.is_file()}
    call = arguments(made / "a" / "labels.csv", copied, "--name", "short", "--ablation", "F+TF", "T+F+TF", epochs="1")
    # In a process of its own, because MLflow remembers for a process's life where a run's artifacts went.
    subprocess.run(
        [sys.executable, "-m", "tfser.sweep", *call], cwd=Path(__file__).parents[2], capture_output=True, check=True
    )
    assert {p: p.stat().st_mtime_ns for p in (made / "out").rglob("*") if p.is_file()} == before
    with sqlite3.connect(copied / ".tfser" / "mlflow.db") as connection:
        places = [place for (place,) in connection.execute("SELECT artifact_uri FROM runs")]
    connection.close()
    assert all(place.startswith(f"file://{copied}/") for place in places)


@pytest.mark.full
def test_folds_and_models_that_an_earlier_start_asked_for_stay_in_the_table(made, tmp_path):
    for fold, ablation in (("anna", "T+F"), ("bert", "T+F"), ("bert", "T+F+TF")):
        more = ("--name", "grow", "--fold", fold, "--ablation", ablation)
        assert command.main(arguments(made / "a" / "labels.csv", tmp_path, *more, epochs="1")) == 0
    folds = read(tmp_path / "grow", "folds.csv")
    assert sorted(zip(folds.ablation, folds.fold, strict=True)) == [
        ("T+F", "anna"),
        ("T+F", "bert"),
        ("T+F+TF", "bert"),
    ]
    before = tables_of(tmp_path / "grow")
    assert run("grow", "--out", tmp_path) == 0
    assert tables_of(tmp_path / "grow") == before


def test_what_was_finished_before_an_interruption_can_be_collected(made, tmp_path, monkeypatch, capsys):
    train, left = run_trial.run, [2]

    def interrupted(task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return train(task)

    monkeypatch.setattr(run_trial, "run", interrupted)
    assert command.main(arguments(made / "a" / "labels.csv", tmp_path, "--name", "cut", epochs="1")) == 130
    assert run("cut", "--out", tmp_path) == 0
    assert read(tmp_path / "cut", "summary.csv").folds_done.tolist() == [2]
    assert "not finished" in capsys.readouterr().out


# A store of an earlier version.


@pytest.fixture
def old(tmp_path):
    """Its folder, and the manifest that it was made of."""
    if NUMERICS_VERSION != 2:
        pytest.skip("the store holds trials of numerics version 2")
    with tarfile.open(OLD_STORE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old", write_tiny(tmp_path / "tiny")


NUMBERS = ["folds_done", "folds_total", "seeds", "war_pooled", "uar_pooled", "war_mean", "war_sd", "uar_mean", "uar_sd"]


@pytest.mark.full
def test_a_store_of_an_earlier_version_is_read_with_the_same_numbers(old, capsys):
    out, _ = old
    before = {name: read(out / name, "summary.csv")[NUMBERS] for name in ("fixed", "search")}
    assert run("--out", out) == 0
    for name, numbers in before.items():
        pd.testing.assert_frame_equal(read(out / name, "summary.csv")[NUMBERS], numbers)
    fixed = read(out / "fixed", "summary.csv").iloc[0]
    assert fixed.database_digest == read(out / "search", "summary.csv").database_digest[0]
    assert {"epochs": 2, "channels": 2}.items() <= json.loads(fixed.settings).items()
    assert run("tiny", "--out", out) == 0
    assert len(read(out / "tiny", "summary.csv")) == 2
    capsys.readouterr()


@pytest.mark.full
def test_a_sweep_of_an_earlier_version_goes_on_without_a_second_run_of_anything(old, monkeypatch, capsys):
    out, manifest = old
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was trained again"))
    before = {name: read(out / name, "folds.csv") for name in ("fixed", "search")}
    keys = sorted(r.data.tags["tfser.trial_id"] for r in runs_of(out)[1] if "tfser.trial_id" in r.data.tags)
    ids = {r.info.run_id for r in runs_of(out)[1]}
    assert command.main(arguments(manifest, out, "--name", "fixed")) == 0
    search = ("--name", "search", "--trials", "2", "--space", str(SPACE))
    assert command.main(arguments(manifest, out, *search)) == 0
    runs = runs_of(out)[1]
    assert {r.info.run_id for r in runs} == ids, "a run was made although there was one"
    assert sorted(r.data.tags["tfser.trial_id"] for r in runs if "tfser.trial_id" in r.data.tags) == keys
    parents = [r for r in runs if r.data.tags["tfser.kind"] == "configuration"]
    assert all(
        json.loads(r.data.tags["tfser.settings"])["epochs"] == 2 and r.data.tags["tfser.database_digest"]
        for r in parents
    )
    for name, folds in before.items():
        now = read(out / name, "folds.csv")
        pd.testing.assert_frame_equal(now[folds.columns.drop("hyperparameters")], folds.drop(columns="hyperparameters"))
    assert {row.sweep for row in rows.every(out / ".tfser")} == {"fixed", "search"}
    only_mlflow(out)
    assert run("tiny", "--out", out) == 0
    assert read(out / "tiny", "summary.csv").folds_done.tolist() == [4, 4]
    capsys.readouterr()


def test_an_old_table_is_not_replaced_by_one_that_lacks_its_rows(old, capsys):
    out, manifest = old
    text = (out / "fixed" / "summary.csv").read_text()
    (out / "fixed" / "summary.csv").write_text(text + text.splitlines()[1].replace("T+F+TF", "F+TF") + "\n")
    assert command.main(arguments(manifest, out, "--name", "fixed")) == 2
    assert (
        "tiny / speaker / time_frequency_transformer / F+TF / fixed: 4 folds there, no such row here"
        in capsys.readouterr().err
    )
    assert run("fixed", "--out", out) == 1
    assert "F+TF / fixed: 4 folds there, no such row here" in capsys.readouterr().err
