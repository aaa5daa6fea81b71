"""The whole path from audio to tables, on generated corpora of the published layout and counts.

The audio is an eighth of a second of noise a file and the network is narrow: what is tested here is who is
trained on, who is scored, and what the tables say, not how well.
"""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.helpers import trees
from tests.helpers.estimators import known
from tests.helpers.results import details
from tests.helpers.tiny import SMALL
from tfser.databases import KNOWN, load
from tfser.databases import command as databases_command
from tfser.models import BUILT_IN, PROPOSED
from tfser.report.published import load as published_figures
from tfser.sweep import command

ROOT = Path(__file__).parents[2]
MODEL = "time_frequency_transformer"
RUNS = {("casia", "speaker"): 4, ("iemocap", "speaker"): 10, ("iemocap", "session"): 5, ("abc", "speaker"): 8}
"""(database, protocol) to its folds."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the three corpora."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("casia", "iemocap", "abc"):
        trees.TREES[name](folder)
    return folder


def words(database, data, out, *more, name="s"):
    settings = [f"{name}={value}" for name, value in {**SMALL, "batch_size": 256}.items()]
    model = ["--model", MODEL, "--epochs", "1", "--name", name, "--set", *settings]
    return [database, "--data", str(data), "--out", str(out), *model, *more]


NARROW = {
    "time_frequency_transformer": SMALL,
    "atfnn": {"n_mels": 20, "segment_frames": 16, "channels": 4, "encoder_channels": 2, "lstm_hidden": 2},
    "hmm": {"states": 1, "gaussians": 1},
    "gerda": {"updates": 2},
    "ga_bel": {"generations": 2},
    "dnn_elm": {"hidden": 4},
    "cnn_lstm": {"fft": 800, "segment_frames": 32, "maps_1": 2, "maps_2": 2, "maps_3": 2, "lstm_hidden": 2},
    "seqcap": {"fft": 800, "segment_frames": 64, "first_maps": 2, "maps": 8, "gru_hidden": 2},
    "fcn_attention": {"fft": 800, "segment_frames": 72, "channels": 3},
    "dtpm": {"channels": 3, "hidden": 4},
    "stc_attention": {"segment_frames": 16, "n_mels": 16, "channels": 2},
}
"""Settings of the built-in methods that train on a few utterances in moments."""


@pytest.mark.full
@pytest.mark.parametrize("database", ["iemocap", "abc", "casia"])
def test_a_built_in_method_runs_every_cited_row_again_beside_it_or_a_reason_is_stated(
    database, tmp_path, capsys, few_draws
):
    """A layout test: every method is narrow and trained for one epoch on a few utterances of noise, in two folds."""
    figures = published_figures()
    theirs = [row for row in figures.comparison if row.database == database]
    cited = {name for row in theirs for name in figures.names_of(row.method)}
    able = [model for model in BUILT_IN if cited & {model.title, *model.reruns}]
    trees.few(database, tmp_path / "data")
    folds = sorted({u.speaker for u in load(database, tmp_path / "data", allow_incomplete=True).utterances})[:2]
    call = [database, "--data", str(tmp_path / "data"), "--out", str(tmp_path), "--name", "s", "--in-process"]
    call += ["--allow-incomplete", "--model", "comparison", "--epochs", "1", "--fold", *folds, "--set"]
    call += [f"{m.name}.{key}={value}" for m in able for key, value in NARROW.get(m.name, {}).items()]
    with known(beside=able):
        assert command.main(call) == 0
    out = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "s" / "comparison.csv").read_text(encoding="utf-8").splitlines()))
    said = details(tmp_path / "s").replace("\\", "")
    printed = (tmp_path / "s" / "comparison.md").read_text(encoding="utf-8")
    beside = _beside(rows)
    assert sorted(r["method"] for r in rows if r["source"] != "ours") == sorted(row.method for row in theirs)
    for row in theirs:
        names, shown = figures.names_of(row.method), beside[row.paper, row.method]
        (line,) = [r for r in rows if (r["source"], r["method"]) == (row.paper, row.method)]
        assert line["protocol"] == row.protocol, "as printed"
        if why := figures.why_only_cited(row.method):
            assert shown == set()
            assert f": {why}." in said
            continue
        own = {model.title for model in PROPOSED.values() if model.title in names}
        again = {model.name: model.title for model in able if {*names} & {*model.reruns}}
        assert all("(re-run" in title for title in again.values())
        left_out = {title for name, title in again.items() if f"left out: {title} ({name}): " in out}
        assert all(title in printed for title in shown)
        assert shown == own | {*again.values()} - left_out
        assert shown or left_out, f"{row.method} has no method, no reason why there is none, and none that was left out"


def _beside(rows):
    """Our rows that stand right below each published row, or below others of its block."""
    found, block = {}, []
    for before, row in zip([None, *rows], rows, strict=False):
        if row["source"] == "ours":
            for cited in block:
                found[cited].add(row["method"])
            continue
        if before is None or before["source"] == "ours":
            block = []
        block.append((row["source"], row["method"]))
        found[row["source"], row["method"]] = set()
        names = published_figures().names_of(row["method"])
        block = [cited for cited in block if cited[1] in names]
    return found


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """Return the results folder of (database, protocol), trained at the first call; all share one storage."""
    done: dict[tuple[str, str], Path] = {}

    def get(database, protocol):
        if (database, protocol) not in done:
            out, storage = tmp_path_factory.mktemp(f"{database}-{protocol}"), data.parent / "storage"
            more = ["--protocol", protocol, "--in-process", "--storage", str(storage)]
            assert command.main(words(database, data, out, *more, name=f"{database}-{protocol}")) == 0
            done[database, protocol] = out / f"{database}-{protocol}"
        return done[database, protocol]

    return get


def table(folder, name):
    return pd.read_csv(folder / name, dtype={"trial_id": str, "fold": str, "speaker": str, "utterance": str})


@pytest.mark.full
@pytest.mark.parametrize(("database", "protocol"), RUNS)
def test_every_utterance_is_scored_once_in_the_fold_of_its_own_speaker(database, protocol, data, finished):
    folder = finished(database, protocol)
    info, utterances = KNOWN[database].info, {u.id: u for u in load(database, data).utterances}
    summary, folds, predictions = (table(folder, f"{name}.csv") for name in ("summary", "folds", "predictions"))
    expected = RUNS[database, protocol]
    assert summary[["folds_done", "folds_total"]].to_numpy().tolist() == [[expected, expected]]
    assert summary.protocol.tolist() == folds.protocol.unique().tolist() == [protocol]
    assert len(folds) == folds.fold.nunique() == expected
    assert sorted(predictions.utterance) == sorted(utterances)
    assert len(predictions) == info.expected_utterances
    assert dict(Counter(predictions.truth)) == info.expected_emotions
    fold_of = dict(zip(folds.trial_id, folds.fold, strict=True))
    for row in predictions.itertuples():
        own = utterances[row.utterance]
        assert (row.speaker, row.truth) == (own.speaker, own.emotion)
        assert fold_of[row.trial_id] == (own.speaker if protocol == "speaker" else own.session)
    counted = dict(Counter(predictions.speaker))
    assert counted == (info.expected_speakers or counted)
    assert dict(zip(folds.fold, folds.utterances, strict=True)) == dict(
        Counter(fold_of[i] for i in predictions.trial_id)
    )


@pytest.mark.full
@pytest.mark.parametrize("protocol", ["speaker", "session"])
def test_the_speaker_of_an_iemocap_turn_is_the_letter_of_the_turn_and_not_of_the_dialog(protocol, finished):
    predictions = table(finished("iemocap", protocol), "predictions.csv")
    true = {turn: speaker for turn, _, speaker in trees.iemocap_turns()}
    assert [true[turn] for turn in predictions.utterance] == predictions.speaker.tolist()
    by_dialog = predictions.utterance.str[:6]
    assert (by_dialog != predictions.speaker).sum() == 1142


@pytest.mark.full
@pytest.mark.parametrize(("database", "protocol"), RUNS)
def test_published_rows_and_ablations_stand_beside_ours(database, protocol, finished):
    folder = finished(database, protocol)
    figures = published_figures()
    comparison = details(folder)
    rows = [line for line in comparison.splitlines() if line.startswith("|")]
    theirs = [row for row in figures.comparison if row.database == database]
    assert len(theirs) > 4
    for row in theirs:
        shown = f"{100 * (row.war if row.war is not None else row.uar):.2f}"
        assert any(shown in line for line in rows), (row.method, shown)
    assert sum("(ours)" in line for line in rows) == 2  # pooled, and mean of folds
    assert f"{RUNS[database, protocol]} of {RUNS[database, protocol]}" in comparison
    assert all(f"leave-one-{protocol}-out" in line for line in rows if "(ours)" in line)
    ablation = details(folder, "ablation")
    printed = [a for a in figures.ablations_of(MODEL) if database in a.figures]
    for row in printed:
        war, uar = row.figures[database]
        line = next(line for line in ablation.splitlines() if line.startswith("|") and f"{100 * war:.2f}" in line)
        assert f"{100 * uar:.2f}" in line
        assert row.ablation in line.replace("\\", "").replace("*", "")
        assert ("not run" in line) == (row.ablation != "T+F+TF")
    assert bool(printed) == (database != "abc")  # the first paper does not report ABC
    assert printed or "No ablation figure for abc is cited" in ablation
    assert ("text-independent" in comparison) == (database == "casia")


@pytest.mark.full
def test_a_second_start_finds_everything_and_trains_nothing(data, finished, capsys):
    folder = finished("casia", "speaker")
    before = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("sweep.json", "report.html")
    }
    storage = data.parent / "storage"
    more = ["--in-process", "--storage", str(storage)]
    assert command.main(words("casia", data, folder.parent, *more, name="casia-speaker")) == 0
    assert "Trained 0 trials" in capsys.readouterr().out
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("sweep.json", "report.html")
    } == before


@pytest.mark.full
def test_the_command_runs_with_the_local_ray_it_starts(data, finished, tmp_path):
    """A new process runs features and trials as Ray tasks, and its tables are those of one process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "PYTHONPATH": str(ROOT),
        "TFSER_DATA": str(data),
    }
    one_worker = ["--trial-cpus", str(len(os.sched_getaffinity(0)))]  # each imports PyTorch
    call = [
        w for w in words("casia", data, tmp_path, *one_worker, name="casia-speaker") if w not in ("--data", str(data))
    ]
    done = subprocess.run([sys.executable, "-m", "tfser.sweep", *call], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "casia: 1200 utterances" in done.stdout
    for name in ("summary.csv", "folds.csv", "predictions.csv", "comparison.md", "ablation.md"):
        assert (tmp_path / "casia-speaker" / name).read_bytes() == (finished("casia", "speaker") / name).read_bytes(), (
            name
        )


@pytest.mark.full
def test_a_database_that_deviates_is_refused_and_stated_where_it_is_accepted(tmp_path, capsys):
    root = trees.casia_tree(tmp_path / "data")
    (root / "wangzhe" / "fear" / "207.wav").unlink()
    (root / "wangzhe" / "fear" / "extra.wav").write_bytes(trees.wav_bytes(5000))
    call = words("casia", tmp_path / "data", tmp_path / "out", "--in-process", "--fold", "wangzhe")
    assert command.main(call) == 2
    error = capsys.readouterr().err
    assert "nothing was started" in error
    assert "expected 1200 utterances, found 1199 (-1)" in error
    assert "missing: wangzhe/fear/207 (1)" in error
    assert "extra.wav" in error
    assert "--allow-incomplete goes on with the 1199 utterances" in error
    assert not (tmp_path / "out").exists()
    assert command.main([*call, "--allow-incomplete"]) == 0
    assert "incomplete: 1199 of 1200 utterances" in capsys.readouterr().out
    for name in ("comparison.md", "comparison.tex", "details.md", "details.csv"):
        text = (tmp_path / "out" / "s" / name).read_text(encoding="utf-8")
        assert "incomplete: 1199 of 1200 utterances" in text, name
    assert len(table(tmp_path / "out" / "s", "predictions.csv")) == 299


def corrupted(source, target):
    """Link the real EmoDB with one file of every kind of damage; return the files that a sweep must name."""
    wav = target / "emodb" / "wav"
    wav.mkdir(parents=True)
    for path in (source / "emodb" / "wav").iterdir():
        (wav / path.name).symlink_to(path.resolve())
    files = iter(sorted(wav.iterdir()))

    def next_file(content):
        path = next(files)
        real = path.read_bytes()
        path.unlink()
        path.write_bytes(content(real))
        return path

    truncated, empty, text = (
        next_file(lambda b: b[: len(b) // 2]),
        next_file(lambda b: b""),
        next_file(lambda b: b"text\n" * 900),
    )
    folder, broken = next(files), next(files)
    folder.unlink()
    folder.mkdir()
    broken.unlink()
    broken.symlink_to("nowhere")
    nan = next(files)
    nan.unlink()
    nan = nan.with_suffix(".wav")
    soundfile.write(nan, np.where(np.arange(4000) == 9, np.nan, 0.1), 16000, subtype="FLOAT")
    odd = ["a b.wav", 'it\'s "a".wav', "two\nlines.wav", "语音.wav", "03a01Fa (copy).wav"]
    for number, name in enumerate(odd):
        (wav / name).write_bytes(trees.wav_bytes(number))
    return {"labels": [folder, broken, *(wav / name for name in odd)], "audio": [truncated, empty, text, nan]}


def shown(path):
    return str(path).replace("\n", "\\n")


def test_a_corrupted_copy_of_the_real_emodb_starts_nothing_and_every_reason_is_given(real_speech, tmp_path, capsys):
    damaged = corrupted(real_speech, tmp_path / "data")
    call = words("emodb", tmp_path / "data", tmp_path / "out", "--in-process")
    assert command.main(call) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert "nothing was started" in captured.err
    assert all(shown(path) in captured.err for path in damaged["labels"])
    assert "expected 535 utterances, found 533 (-2)" in captured.err
    assert not (tmp_path / "out").exists()
    assert all(shown(path) in captured.err for path in damaged["audio"])
    # What only decoding shows is left out before anything is trained, where that is asked for, and said.
    assert command.main([*call, "--allow-incomplete", "--plan"]) == 0
    planned = capsys.readouterr().out
    assert "incomplete: 529 of 535 utterances; left out: 1 empty (" in planned
    assert "1 non-finite (" in planned
    assert "2 unreadable (" in planned
    assert not list((tmp_path / "out").rglob("ledger/*/*"))
    assert databases_command.main(["check", "emodb", "--data", str(tmp_path / "data"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    named = {problem["path"] for problem in report["problems"]}
    assert {shown(path) for kind in damaged.values() for path in kind} <= named


@pytest.mark.full
def test_the_real_emodb_in_place_trains_a_fold(real_speech, tmp_path, capsys):
    call = words("emodb", real_speech, tmp_path, "--in-process", "--fold", "08")
    assert command.main(call) == 0
    out = capsys.readouterr().out
    assert "535 utterances" in out
    predictions = table(tmp_path / "s", "predictions.csv")
    assert set(predictions.speaker) == {"08"}
    assert len(predictions) == 58
    text = (tmp_path / "s" / "details.md").read_text(encoding="utf-8")
    assert "disgust" in text  # speaker 08 has none, and a note says so
