"""From a finished sweep to the emotions of files: finding the trial, the same scores to the bit, and every refusal."""

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from mlflow import MlflowClient

from tests.helpers.tiny import SMALL
from tfser import __version__, predict
from tfser.attention import command as attention
from tfser.errors import RequestError
from tfser.features import log_mel
from tfser.features.log_mel import FrontEnd
from tfser.final_models import find, mlflow_model
from tfser.final_models.model import Blueprint, FinalModel, read
from tfser.models import MODELS, atfnn, time_frequency_transformer
from tfser.record import Failure
from tfser.storage.ledger import Ledger
from tfser.storage.places import place
from tfser.sweep import command as sweep_command
from tfser.tracking import connection

pytestmark = pytest.mark.usefixtures("blank_figures")

ROOT = Path(__file__).parents[2]
SIZES = ["band_group=4", "frame_group=8", "lstm_hidden=4", "lstm_layers=1", "encoder_channels=4"]


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    """Results of two sweeps: every ablation of both models, and one whose epoch was chosen on the test fold."""
    out = tmp_path_factory.mktemp("results")
    settings = [f"{name}={value}" for name, value in {**SMALL, "channels": 4}.items()]
    common = [
        str(tiny_manifest),
        "--out",
        str(out),
        "--in-process",
        "--fold",
        "anna",
        "--epochs",
        "2",
        "--set",
        *settings,
    ]
    assert sweep_command.main([*common, *SIZES, "--name", "both", "--ablation", "all"]) == 0
    oracle = ["--name", "chosen-on-test", "--model", "time_frequency_transformer", "--selection", "oracle"]
    assert sweep_command.main([*common, *oracle]) == 0
    return out


def rows(out, name="both"):
    with open(out / name / "folds.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def entry(out, trial):
    """The ledger's entry, read without any code of ours."""
    return json.loads((out / ".tfser" / "ledger" / trial[:2] / f"{trial}.json").read_text())


def record_of(out, trial):
    return Ledger(out / ".tfser" / "ledger").get(trial)


def trial_of(out, name="both", ablation="T+F+TF"):
    return next(row["trial_id"] for row in rows(out, name) if row["ablation"] == ablation)


def asked(capsys, *words):
    code = predict.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def copied(out, folder, trial):
    """A storage of its own that holds one trial, to be damaged."""
    ledger = folder / ".tfser" / "ledger" / trial[:2]
    ledger.mkdir(parents=True)
    for ending in (".json", ".pt"):
        (ledger / f"{trial}{ending}").write_bytes(
            (out / ".tfser" / "ledger" / trial[:2] / f"{trial}{ending}").read_bytes()
        )
    return ledger / trial


# ------------------------------------------------------------------ the scores


@pytest.mark.parametrize("name", ["both", "chosen-on-test"])
def test_every_test_utterance_gets_the_recorded_scores_to_the_bit(done, tiny_manifest, capsys, name):
    for row in rows(done, name):
        recorded = entry(done, row["trial_id"])["utterances"]
        files = [tiny_manifest.parent / u["id"] for u in recorded]
        assert files[0].is_file()
        code, out, _ = asked(capsys, row["trial_id"], *files, "--json", "--results", done)
        assert code == 0
        answered = json.loads(out)
        assert [list(file["p"].values()) for file in answered["files"]] == [u["p"] for u in recorded]
        assert answered["trial"]["fold"] == "anna"
        for file in answered["files"]:
            assert file["emotion"] == max(file["p"], key=file["p"].get)
    assert len(rows(done)) == 8


def test_segments_are_averaged_to_the_file_and_say_when_they_are(done, tiny_manifest, capsys):
    file = tiny_manifest.parent / "anna" / "calm0.wav"
    _, out, _ = asked(capsys, "both", "--ablation", "ATFNN", file, "--segments", "--json", "--results", done)
    (answer,) = json.loads(out)["files"]
    mean = np.mean([list(s["p"].values()) for s in answer["segments"]], axis=0)
    np.testing.assert_allclose(mean, list(answer["p"].values()), rtol=1e-12)
    samples = soundfile.info(file).frames
    frames = (samples - 512) // 160 + 1
    # A window of 320 samples in the middle of 512, every 160; a segment has 16 frames, the last ends with the file.
    starts = [*range(0, frames - 16 + 1, 16)]
    starts += [frames - 16] if starts[-1] + 16 < frames else []
    assert [s["start_s"] for s in answer["segments"]] == pytest.approx([(160 * first + 96) / 16000 for first in starts])
    assert [s["end_s"] for s in answer["segments"]] == pytest.approx(
        [(160 * (first + 15) + 96 + 320) / 16000 for first in starts]
    )
    assert answer["segments"][-1]["end_s"] <= samples / 16000


def test_the_table_shows_the_same_in_percent(done, tiny_manifest, capsys):
    files = [tiny_manifest.parent / "anna" / name for name in ("calm0.wav", "tense1.wav")]
    trial = trial_of(done)
    code, out, _ = asked(capsys, trial, *files, "--results", done)
    assert code == 0
    assert out.startswith(
        "time_frequency_transformer T+F+TF, trained on tiny without speaker anna, seed 0 "
        f"(trial {trial}; on that fold UAR "
    )
    _, answered, _ = asked(capsys, trial, *files, "--json", "--results", done)
    for line, file in zip(out.splitlines()[3:], json.loads(answered)["files"], strict=True):
        assert line.split() == [file["path"], file["emotion"], *(f"{100 * p:.2f}" for p in file["p"].values())]
    assert len({len(line) for line in out.splitlines()[2:]}) == 1


def test_a_trial_whose_epoch_was_chosen_on_its_fold_says_so(done, tiny_manifest, capsys):
    _, out, _ = asked(capsys, "chosen-on-test", tiny_manifest.parent / "anna" / "calm0.wav", "--results", done)
    assert "its epoch chosen on that fold" in out


def test_scoring_leaves_the_callers_random_state_alone(done, tiny_manifest):
    record = record_of(done, trial_of(done))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = find.load(record, Ledger(done / ".tfser" / "ledger"))
    (frames,) = read([tiny_manifest.parent / "anna" / "calm0.wav"], model.extractor)
    model.score(frames)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.full
def test_predicting_needs_neither_ray_nor_optuna_nor_mlflow(done, tiny_manifest):
    file = tiny_manifest.parent / "anna" / "calm0.wav"
    code = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'mlflow', 'sklearn', 'matplotlib', 'pandas'): sys.modules[name] = None\n"
        "from tfser import predict\n"
        f"sys.exit(predict.main(['both', '--ablation', 'ATNN', {str(file)!r}, '--results', {str(done)!r}]))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert str(file) in found.stdout


# ------------------------------------------------------------------ which trial


def test_a_trial_is_found_by_its_id_a_prefix_its_sweep_and_its_mlflow_runs(done, tiny_manifest, capsys):
    trial, file = trial_of(done), tiny_manifest.parent / "anna" / "calm0.wav"
    client = MlflowClient(tracking_uri=connection.default_uri(done / ".tfser"))
    experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'tfser/%'")]
    wanted = f"tags.`tfser.trial_id` = '{trial}' and tags.`tfser.sweep` = 'both'"
    (run,) = connection.search_runs(client, experiments, wanted)
    ways = [[trial], [trial.upper()], [trial[:8]], [run.info.run_id], [run.data.tags["mlflow.parentRunId"]]]
    ways += [
        ["both", "--ablation", "T+F+TF"],
        ["both", "--model", "time_frequency_transformer", "--ablation", "T+F+TF", "--seed", "0"],
    ]
    for words in ways:
        code, out, err = asked(capsys, *words, file, "--json", "--results", done)
        assert code == 0, err
        assert json.loads(out)["trial"]["trial_id"] == trial
    assert asked(capsys, trial, file, "--storage", done / ".tfser")[0] == 0


def test_several_trials_are_listed_with_what_tells_them_apart(done, tiny_manifest, capsys):
    code, out, err = asked(capsys, "both", tiny_manifest.parent / "anna" / "calm0.wav", "--results", done)
    assert (code, out) == (2, "")
    assert "it is 8 trials; name one by its id, or pick one with --model, --ablation:" in err
    for row in rows(done):
        assert f"{row['trial_id']}  tiny fold anna, {row['model']} {row['ablation']}, seed 0" in err


def test_a_long_list_of_choices_is_cut(done, tmp_path, capsys):
    folder = tmp_path / "many"
    folder.mkdir()
    lines = ["trial_id,database,model,ablation,fold,seed", *(f"{i:016x},d,m,a,{i},0" for i in range(30))]
    (folder / "folds.csv").write_text("\n".join(lines) + "\n")
    _, _, err = asked(capsys, "many", "x.wav", "--results", tmp_path)
    assert "it is 30 trials" in err
    assert "... and 18 more" in err
    assert err.count("m a, seed 0") == find.SHOWN


def test_a_choice_that_no_trial_fits_names_those_there_are(done, capsys):
    code, _, err = asked(capsys, "both", "--fold", "zoe", "--model", "atfnn", "--log-model", "--results", done)
    assert code == 2
    assert (
        "none of its 8 trials fits --model atfnn --fold zoe; "
        "there are models atfnn, time_frequency_transformer; folds anna"
    ) in err


@pytest.mark.parametrize("more", [["--results", "x" * 300], ["--storage", "x" * 300]], ids=lambda more: more[0])
def test_a_place_that_no_file_system_takes_is_refused_in_words(done, capsys, more):
    code, _, err = asked(capsys, "0123456789abcdef", "--log-model", *more)
    assert code == 2
    assert "File name too long" in err


@pytest.mark.parametrize("more", [["--results", ""], ["--storage", "a\0b"], ["--tracking-uri", " "], [""]], ids=repr)
def test_a_place_or_file_that_is_empty_is_refused(done, capsys, more):
    with pytest.raises(SystemExit) as ended:
        asked(capsys, "both", *more)
    assert ended.value.code == 2


@pytest.mark.parametrize("run", ["bath", "0123456789abcdef", "012345", "results/both", "..", "x" * 300, ""])
def test_a_run_that_there_is_not_is_refused_with_what_there_is(done, capsys, run):
    code, _, err = asked(capsys, run, "--log-model", "--results", done)
    assert code == 2
    assert "there are both, chosen-on-test" in err


def test_an_mlflow_run_that_there_is_not_is_refused(done, tmp_path, capsys):
    code, _, err = asked(capsys, "0" * 32, "--log-model", "--results", done)
    assert code == 2
    assert f"run {'0' * 32}: MlflowException" in err
    code, _, err = asked(capsys, "0" * 32, "--log-model", "--results", tmp_path)
    assert code == 2
    assert "it holds no mlflow.db; name MLflow with --tracking-uri" in err
    assert not (tmp_path / ".tfser").exists()


def test_the_ledger_may_lie_behind_a_uri(done, tiny_manifest, capsys):
    trial = trial_of(done)
    far = place("memory://predict/storage")
    for path in (done / ".tfser" / "ledger" / trial[:2]).glob(f"{trial}.*"):
        target = far / "ledger" / trial[:2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    file = tiny_manifest.parent / "anna" / "calm0.wav"
    code, out, err = asked(capsys, trial[:6], file, "--json", "--storage", "memory://predict/storage")
    assert code == 0, err
    assert list(json.loads(out)["files"][0]["p"].values()) == next(
        u["p"] for u in entry(done, trial)["utterances"] if u["id"] == "anna/calm0.wav"
    )


# ------------------------------------------------------------------ refusals


def test_everything_wrong_is_said_at_once(done, tmp_path, capsys):
    (tmp_path / "text.wav").write_text("not audio")
    soundfile.write(tmp_path / "short.wav", 0.1 * np.cos(np.arange(100)), 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    files = [tmp_path / name for name in ("text.wav", "short.wav", "silent.wav", "gone.wav")]
    for run, count in (("nothing-like-it", 5), (trial_of(done), 4)):
        code, out, err = asked(capsys, run, *files, tmp_path, "--results", done)
        assert (code, out) == (2, "")
        assert f"tfser predict: {count + 1} problems, nothing was started" in err
        assert f"{files[0]}: unreadable: cannot be decoded" in err
        assert f"{files[1]}: too short: 100 samples at 16000 Hz are 6.2 ms" in err
        assert f"{files[2]}: silent" in err
        assert f"{files[3]}: missing: no such file" in err
        assert f"{tmp_path}: unreadable: a folder with the name of an audio file" in err
        assert "Traceback" not in err


def test_a_request_without_files_is_refused(done, capsys):
    code, _, err = asked(capsys, trial_of(done), "--results", done)
    assert code == 2
    assert "no FILE; name one audio file or more" in err


def test_a_search_trial_is_refused_because_it_keeps_no_weights(done, tmp_path, capsys):
    record = record_of(done, trial_of(done))
    record = dataclasses.replace(record, spec=dataclasses.replace(record.spec, purpose="search", validation=("bert",)))
    Ledger(tmp_path / ".tfser" / "ledger").commit(record)
    for run in (record.trial_id, record.trial_id[:6]):
        code, _, err = asked(capsys, run, "--log-model", "--results", tmp_path)
        assert code == 2
        assert "it is a search trial, trained without bert to choose a setting; only final trials keep weights" in err


def test_a_failed_trial_is_refused_with_its_reason(done, tmp_path, capsys):
    record = record_of(done, trial_of(done))
    failed = Failure(trial_id=record.trial_id, spec=record.spec, reason="the loss was nan", seconds=1.0)
    Ledger(tmp_path / ".tfser" / "ledger").commit(failed)
    code, _, err = asked(capsys, record.trial_id, "--log-model", "--results", tmp_path)
    assert code == 2
    assert "it failed (the loss was nan); the sweep trains it again with --retry-failed" in err


def test_weights_that_are_gone_cut_or_of_another_trial_are_refused(done, tmp_path, capsys):
    trial = trial_of(done)
    weights = copied(done, tmp_path, trial).with_suffix(".pt")
    whole = weights.read_bytes()
    other = trial_of(done, ablation="T+TF")
    state = torch.load(weights, weights_only=True)
    state["classifier.bias"][0] += 1e-7
    torch.save(state, tmp_path / "changed.pt")
    contents = {
        "are damaged": [whole[: len(whole) // 2], whole[:-1], b"", b"\0" * 5000],
        "checksum is not the one in the entry": [
            (tmp_path / "changed.pt").read_bytes(),
            (done / ".tfser" / "ledger" / other[:2] / f"{other}.pt").read_bytes(),
        ],
    }
    for expected, damaged in contents.items():
        for content in damaged:
            weights.write_bytes(content)
            code, _, err = asked(capsys, trial, "--log-model", "--results", tmp_path)
            assert code == 2
            assert expected in err
            assert f"remove {weights.with_suffix('.json')}, and the command of its sweep trains it again" in err
            assert "Traceback" not in err
    weights.unlink()
    code, _, err = asked(capsys, trial, "--log-model", "--results", tmp_path)
    assert code == 2
    assert f"its weights {weights} are not there" in err


def test_weights_that_would_run_code_are_not_read(done, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    trial = trial_of(done)
    torch.save({"classifier.bias": Evil()}, copied(done, tmp_path, trial).with_suffix(".pt"))
    code, _, err = asked(capsys, trial, "--log-model", "--results", tmp_path)
    assert code == 2
    assert "are damaged" in err
    assert not (tmp_path / "ran").exists()


def test_a_damaged_entry_is_set_aside_and_said(done, tmp_path, capsys):
    trial = trial_of(done)
    path = copied(done, tmp_path, trial).with_suffix(".json")
    path.write_text(path.read_text().replace('"uar": ', '"uar": 1'))
    code, _, err = asked(capsys, trial[:10], "--log-model", "--results", tmp_path)
    assert code == 2
    assert f"{path.with_suffix('.damaged')}: the entry was damaged and has been set aside" in err


def test_a_table_without_trials_is_refused(tmp_path, capsys):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "folds.csv").write_text("a,b\n1,2\n")
    code, _, err = asked(capsys, "old", "--log-model", "--results", tmp_path)
    assert code == 2
    assert "it has no column 'trial_id'; make it again with tfser collect" in err


def test_a_trial_of_another_numerics_version_or_an_unknown_model_is_refused(done):
    blueprint = Blueprint.of(dataclasses.replace(record_of(done, trial_of(done)), versions={"tfser": "9.0"}))
    with pytest.raises(
        RequestError,
        match=r"tfser 9.0 trained it with numerics 99, this one computes numerics \d+: its scores would differ",
    ):
        FinalModel(dataclasses.replace(blueprint, spec=dataclasses.replace(blueprint.spec, numerics=99)), {})
    with pytest.raises(RequestError, match=r"model: no 'crnn'; there are .*; use tfser 9.0, which trained it"):
        FinalModel(dataclasses.replace(blueprint, spec=dataclasses.replace(blueprint.spec, model="crnn")), {})


def without_known_sound(done, folder, trial):
    """A storage that holds one trial as it was written before entries held the scores of a known sound."""
    record = dataclasses.replace(record_of(done, trial), known_sound=())
    weights = torch.load(done / ".tfser" / "ledger" / trial[:2] / f"{trial}.pt", weights_only=True)
    Ledger(folder / ".tfser" / "ledger").commit(record, weights)
    shutil.copytree(done / ".tfser" / "features", folder / ".tfser" / "features")


@pytest.fixture(params=["with the scores of a known sound", "written before there were any"])
def stored_trials(request, done, tmp_path):
    """A trial of each model, with the results that it lies in."""
    trials = [trial_of(done), trial_of(done, ablation="AFNN")]
    if request.param.startswith("with "):
        return [(trial, done) for trial in trials]
    for trial in trials:
        without_known_sound(done, tmp_path / trial, trial)
    return [(trial, tmp_path / trial) for trial in trials]


@pytest.mark.parametrize("command", [predict, attention], ids=["predict", "attention"])
def test_a_model_whose_code_was_edited_is_refused(stored_trials, tiny_manifest, capsys, monkeypatch, command):
    """The weights fit and their checksum is right, so that nothing but the scores tells."""
    file = tiny_manifest.parent / "anna" / "calm0.wav"
    monkeypatch.setattr(time_frequency_transformer, "relu", lambda x, inplace: torch.tanh(x))
    monkeypatch.setattr(atfnn.Convolutions, "forward", lambda self, x: x)
    for trial, results in stored_trials:
        words = [trial, file] if command is predict else [trial, "--file", file]
        code = command.main([str(w) for w in (*words, "--results", results)])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert re.search(
            r"it gives (a made-up sound|the test utterance anna/\S+) [\d.]+ % for \w+, where [\d.]+ % was recorded", err
        )
        assert f"use tfser {__version__}, torch 2" in err
        assert "type its sweep's command again" in err


def test_a_front_end_that_was_edited_is_refused(done, tiny_manifest, capsys, monkeypatch):
    made = log_mel._mel_spectrogram

    def edited(wanted):
        return torch.nn.Sequential(made(wanted), torch.nn.Threshold(1e-3, 1e-3))

    monkeypatch.setattr(log_mel, "_mel_spectrogram", edited)
    code, out, err = asked(capsys, trial_of(done), tiny_manifest.parent / "anna" / "calm0.wav", "--results", done)
    assert (code, out) == (2, "")
    assert "it gives a made-up sound" in err


def test_a_model_that_gives_the_recorded_scores_is_used_and_one_that_cannot_be_compared_says_so(
    stored_trials, tiny_manifest, capsys
):
    file = tiny_manifest.parent / "anna" / "calm0.wav"
    for trial, results in stored_trials:
        code, out, err = asked(capsys, trial, file, "--results", results)
        assert (code, err) == (0, "")
        if "known_sound" in entry(results, trial):
            continue
        shutil.rmtree(results / ".tfser" / "features")
        code, again, err = asked(capsys, trial, file, "--results", results)
        assert (code, again) == (0, out)
        assert "so that its scores were not compared with the recorded ones; it was made with tfser" in err


def test_whole_weights_that_do_not_fit_the_network_are_not_called_damaged(done, capsys, monkeypatch):
    """The code changed, so that putting a copy of the weights back would not help."""
    build = MODELS["atfnn"].build
    wider = dataclasses.replace(
        MODELS["atfnn"], build=lambda ablation, settings, n: build(ablation, {**settings, "channels": 8}, n)
    )
    monkeypatch.setitem(MODELS, "atfnn", wider)
    code, _, err = asked(capsys, trial_of(done, ablation="AFNN"), "--log-model", "--results", done)
    assert code == 2
    assert re.search(
        r"its weights are whole but do not fit the network of this tfser \(.*size mismatch.*\); use tfser", err
    )
    assert "damaged" not in err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ablation": "T"}, "cannot be built: ablation: no 'T'; there are"),
        ({"hyperparameters": {"n_mels": 16}}, "its settings are not those of this tfser ('preemphasis')"),
        ({"dropped": 1}, "its settings are not those of this tfser"),
    ],
)
def test_an_entry_that_this_tfser_cannot_rebuild_is_refused_with_the_versions_that_can(done, change, expected):
    kept = json.loads(Blueprint.of(record_of(done, trial_of(done))).to_json())
    with pytest.raises(RequestError) as raised:
        FinalModel(Blueprint.read(json.dumps({**kept, "spec": {**kept["spec"], **change}})), {})
    (problem,) = raised.value.problems
    assert expected in problem
    versions = kept["versions"]
    assert problem.endswith(
        f"; use tfser {__version__}, torch {versions['torch']}, torchaudio {versions['torchaudio']}, which trained it"
    )


def test_files_are_read_as_the_corpus_is(tiny, tiny_manifest):
    """Another rate and several channels are dealt with; what comes out are frames of one front end."""
    wave, _ = soundfile.read(tiny_manifest.parent / "anna" / "calm0.wav")
    path = tiny_manifest.parent.parent / "stereo.wav"
    soundfile.write(path, np.stack([wave, wave], axis=1), 44100)
    (frames,) = read([path], FrontEnd(n_mels=16))
    assert frames.dtype == np.float32
    assert frames.shape == ((len(wave) * 16000 // 44100 + 1 - 512) // 160 + 1, 16)


# ------------------------------------------------------------------ the MLflow model


@pytest.fixture(scope="module")
def bare(done, tmp_path_factory):
    """An MLflow whose runs of two trials have no model yet."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("tfser/tiny/speaker", artifact_location=(folder / "artifacts").as_uri())
    for ablation in ("ATFNN", "AFNN"):
        client.create_run(experiment, tags={"tfser.kind": "fold", "tfser.trial_id": trial_of(done, ablation=ablation)})
    return uri


def logged_models(uri, trial):
    client = MlflowClient(tracking_uri=uri)
    experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'tfser/%'")]
    return client, [m for m in client.search_logged_models(experiments) if m.tags["tfser.trial_id"] == trial]


def test_the_logged_model_has_a_signature_and_answers_with_the_same_scores(done, bare, tiny_manifest, capsys):
    import mlflow

    trial = trial_of(done, ablation="ATFNN")
    before = mlflow.get_tracking_uri(), mlflow.active_run()
    words = [trial, "--log-model", "--results", done, "--tracking-uri", bare]
    code, out, err = asked(capsys, *words)
    assert code == 0, err
    assert (mlflow.get_tracking_uri(), mlflow.active_run()) == before
    (model_id,) = set(re.findall(r"models:/(m-[0-9a-f]+)", out))
    assert f"MLFLOW_TRACKING_URI={bare} mlflow models serve -m models:/{model_id} --env-manager local" in out
    assert asked(capsys, *words)[1] == out, "a model that is logged is not logged again"

    client, (logged,) = logged_models(bare, trial)
    run = client.get_run(logged.source_run_id)
    assert (logged.model_id, logged.status.value, run.data.tags["tfser.trial_id"]) == (model_id, "READY", trial)
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    folder = Path(logged.artifact_location.removeprefix("file://"))
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".pkl", ".pyc"))]
    assert "anna/calm0.wav" not in files["artifacts/trial.json"].read_text()
    assert "tfser" not in files["requirements.txt"].read_text(), (
        "no index carries it, and another's package of that name is not it"
    )

    model = mlflow.pyfunc.load_model(str(folder))
    emotions = entry(done, trial)["emotions"]
    signature = model.metadata.signature
    assert [(c.name, c.type.name) for c in signature.inputs] == [("audio", "binary")]
    assert [(c.name, c.type.name) for c in signature.outputs] == [
        ("emotion", "string"),
        *((f"p_{e}", "double") for e in emotions),
    ]
    recorded = entry(done, trial)["utterances"]
    contents = [(tiny_manifest.parent / u["id"]).read_bytes() for u in recorded]
    answered = model.predict({"audio": contents})
    assert answered[[f"p_{e}" for e in emotions]].to_numpy().tolist() == [u["p"] for u in recorded]
    assert answered["emotion"].tolist() == [emotions[int(np.argmax(u["p"]))] for u in recorded]
    with pytest.raises(
        mlflow.exceptions.MlflowException, match=r"row 1: unreadable: cannot be decoded: .*; row 2: empty"
    ):
        model.predict({"audio": [contents[0], b"no audio at all", b""]})


def test_a_model_of_a_trial_without_a_run_is_not_logged(done, bare, capsys):
    trial = trial_of(done)
    code, out, err = asked(capsys, trial, "--log-model", "--results", done, "--tracking-uri", bare)
    assert (code, out) == (2, "")
    assert f"it has no run of trial {trial}; the command of its sweep logs what is missing" in err


def test_a_model_that_could_not_be_written_is_marked_and_logged_anew(done, bare, capsys, monkeypatch):
    trial = trial_of(done, ablation="AFNN")
    words = [trial, "--log-model", "--results", done, "--tracking-uri", bare]
    with monkeypatch.context() as broken:
        broken.setattr(
            mlflow_model, "save", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        code, out, err = asked(capsys, *words)
    assert (code, out) == (2, "")
    assert "No space left on device" in err
    assert asked(capsys, *words)[0] == 0
    assert sorted(m.status.value for m in logged_models(bare, trial)[1]) == ["FAILED", "READY"]


def test_a_password_in_the_address_of_mlflow_is_not_printed(done, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://anna:secret@127.0.0.1:9"
    code, out, err = asked(capsys, trial_of(done), "--log-model", "--results", done, "--tracking-uri", uri)
    assert (code, out) == (2, "")
    assert "MLflow at http://anna:***@127.0.0.1:9" in err
    assert "secret" not in err


def test_what_rebuilds_a_model_names_no_speaker_utterance_or_machine(done):
    record = record_of(done, trial_of(done))
    text = Blueprint.of(record).to_json()
    kept = json.loads(text)
    assert set(kept) == {
        "trial_id",
        "spec",
        "emotions",
        "standardisation",
        "weights_sha256",
        "known_sound",
        "versions",
        "machine",
    }
    assert set(kept["machine"]) == {"device"}
    assert record.machine.host not in text.replace(record.trial_id, "")
