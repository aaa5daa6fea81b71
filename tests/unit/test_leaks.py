"""What leaks are worth: each row leaks what it says, its numbers are right, and no such trial gets anywhere else."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from tests.helpers.leaks import FAST, arguments, check, written
from tests.helpers.runs import record, row
from tests.helpers.sweeps import SPACE, tables_of
from tests.helpers.sweeps import arguments as sweep_arguments
from tests.helpers.tiny import SET_SMALL
from tfser import collect, predict
from tfser.databases import load
from tfser.errors import RequestError, TfserError
from tfser.evaluation import leaky_protocols
from tfser.evaluation.folds import folds
from tfser.execution import run_trial
from tfser.execution.results import Results
from tfser.features.log_mel import FrontEnd
from tfser.features.store import FeatureStore, audio_digests
from tfser.final_models import find
from tfser.leaks import command
from tfser.leaks import table as report
from tfser.leaks.plan import ROWS, make
from tfser.models import MODELS
from tfser.planning import plan
from tfser.planning import request as planning_request
from tfser.report.repeat_command import repeat
from tfser.storage.ledger import Ledger
from tfser.sweep import command as sweep_command
from tfser.sweep.trainer import Trainer
from tfser.tracking import runs
from tfser.training.training import Training
from tfser.trial import LEAKS

pytestmark = pytest.mark.usefixtures("blank_figures")

FIGURES = ("war_pooled", "uar_pooled", "war_mean", "uar_mean")


def read(out, name):
    return pd.read_csv(out / "leaks-x" / name, dtype={"trial_id": str, "fold": str}, keep_default_na=True)


def ledger_of(out):
    ledger = Ledger(out / ".tfser" / "ledger")
    return {trial: ledger.get(trial) for trial in ledger.ids()}


def collected(out, folder):
    """What ``collect`` makes of everything in MLflow, as bytes."""
    assert collect.main(["--storage", str(out / ".tfser"), "--out", str(folder)]) == 0
    return {
        p.relative_to(folder): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "report.html"
    }


@pytest.fixture(scope="module")
def made(tiny_manifest, tmp_path_factory):
    """A sweep and then the leaks of the same setting, in one storage: (folder, what was collected before the leaks)."""
    out = tmp_path_factory.mktemp("leaks")
    assert sweep_command.main([*sweep_arguments(tiny_manifest, out, "--name", "honest"), "--set", *FAST]) == 0
    before = collected(out, tmp_path_factory.mktemp("before"))
    assert command.main(arguments(tiny_manifest, out)) == 0
    return out, before


@pytest.mark.full
def test_every_number_of_a_run_follows_from_the_scores_in_its_ledger(made, tiny):
    names = ("leaks.csv", "leaks.md", "leaks.tex", "leaks_trials.csv")
    texts = [(made[0] / "leaks-x" / name).read_text(encoding="utf-8") for name in names]
    table = check(*texts, ledger_of(made[0]), list(tiny.emotions))
    assert tuple(table.index) == ROWS
    assert table.uar_mean.nunique() > 2  # else the rest says little
    assert table.loc["epoch"].uar_mean >= table.loc["honest"].uar_mean
    assert table.loc["hyperparameters"].uar_mean >= table.loc["honest"].uar_mean
    for words in (
        "Only the first row is a result",
        "one shuffle",
        "no interval over speakers can be",
        "One seed",
        "learning_rate 0.009",
    ):
        assert words in texts[1]


# --- each leak leaks what it says -------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_statistics_hold_the_frames_of_the_test_fold_in_the_rows_that_leak_them_and_in_no_other(made, tiny):
    out, _ = made
    pack = FeatureStore(out / ".tfser" / "features").ensure(
        tiny, audio_digests(tiny), FrontEnd(n_mels=16, preemphasis=0.97)
    )
    frames, seen = pack.frames(), set()
    for entry in ledger_of(out).values():
        spec = entry.spec
        scored = {u.id for u in entry.scores.utterances}
        if spec.settings.get("standardisation") == "speaker":  # each speaker has statistics of its own
            assert set(entry.standardisation.mean) == {0.0}
            assert set(entry.standardisation.std) == {1.0}
            continue
        leaky = "standardisation" in spec.leaks
        used = np.concatenate(
            [frames[u.start : u.start + u.frames] for u in pack.utterances if leaky or u.id not in scored]
        )
        assert entry.standardisation.mean == pytest.approx(used.mean(axis=0, dtype=np.float64), abs=1e-6)
        assert entry.standardisation.std == pytest.approx(used.std(axis=0, dtype=np.float64), abs=1e-5)
        seen.add((*spec.leaks, spec.purpose))
    assert seen == {
        ("final",),
        ("oracle",),
        ("standardisation", "final"),
        ("random_split", "final"),
        (*LEAKS, "oracle"),
    }


@pytest.mark.full
def test_a_random_split_has_its_test_speakers_in_training_and_an_honest_fold_has_not(made, tiny):
    out, _ = made
    pack = FeatureStore(out / ".tfser" / "features").ensure(
        tiny, audio_digests(tiny), FrontEnd(n_mels=16, preemphasis=0.97)
    )
    speaker = {(u.start, u.frames): u.speaker for u in pack.utterances}
    for entry in ledger_of(out).values():
        spec = entry.spec
        data = run_trial.trial_data(pack, pack.frames(), spec)
        trained, tested = ({speaker[start, length] for start, length, _ in side} for side in (data.train, data.scored))
        assert len(data.train) + len(data.scored) == 36
        assert set(data.train).isdisjoint(data.scored)
        if "random_split" in spec.leaks:
            assert tested & trained
        else:
            assert tested == {spec.fold}
            assert not tested & trained


@given(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=60), st.randoms())
def test_the_shares_of_a_random_split_hold_every_utterance_once_whatever_their_order(speakers, dice):
    utterances = [_Utterance(f"u{i}", speaker) for i, speaker in enumerate(["F", *speakers])]
    names = leaky_protocols.parts(len(folds(utterances, "speaker")))
    shares = {}
    for name in names:
        train, held_out = leaky_protocols.random_split(utterances, "speaker", name)
        assert sorted(train + held_out) == list(range(len(utterances)))
        shares[name] = {utterances[i].id for i in held_out}
    assert sorted(i for share in shares.values() for i in share) == sorted(u.id for u in utterances)
    assert max(map(len, shares.values())) - min(map(len, shares.values())) <= 1
    turned = list(utterances)
    dice.shuffle(turned)
    for name in names:
        assert {turned[i].id for i in leaky_protocols.random_split(turned, "speaker", name)[1]} == shares[name]


class _Utterance:
    session = None

    def __init__(self, name, speaker):
        self.id, self.speaker = name, speaker


def test_a_share_or_leak_that_does_not_exist_is_refused(tiny):
    with pytest.raises(ValueError, match="no share named part05; there are part01 to part04"):
        leaky_protocols.random_split(tiny.utterances, "speaker", "part05")
    with pytest.raises(ValueError, match=r"leaks \('telepathy',\) are not of random_split, standardisation"):
        replace(record(row(), "anna", 0).spec, leaks=("telepathy",))


@pytest.mark.full
def test_where_the_speaker_tells_the_emotion_a_random_split_is_far_above_the_honest_row(tmp_path):
    rng, rows = np.random.default_rng(3), ["path,speaker,emotion"]
    for number, (speaker, emotion) in enumerate(
        zip(("a", "b", "c", "d"), ("calm", "glad", "calm", "glad"), strict=True)
    ):
        for take in range(8):
            time_s = np.arange(5000) / 16000
            wave = 0.2 * np.sin(2 * np.pi * (400 + 1500 * number) * time_s) + 0.02 * rng.standard_normal(5000)
            soundfile.write(tmp_path / f"{speaker}{take}.wav", wave.astype(np.float32), 16000)
            rows.append(f"{speaker}{take}.wav,{speaker},{emotion}")
    (tmp_path / "voices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert command.main(arguments(tmp_path / "voices.csv", tmp_path, "--leak", "random_split", epochs="10")) == 0
    table = read(tmp_path, "leaks.csv").set_index("row")
    assert list(table.index) == ["honest", "random_split"]
    assert table.loc["honest"].uar_pooled < 0.6
    assert table.loc["random_split"].uar_pooled > 0.9


# --- such a trial gets nowhere else -----------------------------------------------------------------------------------


@pytest.mark.full
def test_collecting_after_a_leaks_run_gives_the_same_bytes_as_before_it(made, tmp_path):
    out, before = made
    assert collected(out, tmp_path) == before
    client = MlflowClient(tracking_uri=f"sqlite:///{out / '.tfser' / 'mlflow.db'}")
    assert {e.name for e in client.search_experiments()} == {"Default", "tfser/tiny/speaker"}


@pytest.mark.full
def test_a_sweep_after_a_leaks_run_trains_and_writes_nothing_new(made, tiny_manifest, monkeypatch):
    out, _ = made
    before = tables_of(out / "honest")
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was trained again"))
    assert sweep_command.main([*sweep_arguments(tiny_manifest, out, "--name", "honest"), "--set", *FAST]) == 0
    assert tables_of(out / "honest") == before


@pytest.mark.full
def test_honest_trials_are_shared_with_the_sweep_and_leaking_ones_keep_no_weights(made):
    out, _ = made
    said = json.loads((out / "leaks-x" / "leaks.json").read_text())
    folds_csv = pd.read_csv(out / "honest" / "folds.csv", dtype={"trial_id": str})
    trials = read(out, "leaks_trials.csv")
    assert set(trials[trials["row"] == "honest"].trial_id) == set(folds_csv.trial_id)
    assert said["trained"] == 4 * (10 - 1)  # those of the sweep are there already
    ledger = Ledger(out / ".tfser" / "ledger")
    for trial_id, entry in ledger_of(out).items():
        assert ledger.weights_path(trial_id).exists() == (not entry.spec.leaks)


def leaking_record(leak="standardisation"):
    entry = record(row(), "anna", 0)
    return replace(entry, spec=replace(entry.spec, leaks=(leak,)))


@pytest.mark.parametrize("leak", LEAKS)
def test_results_mlflow_and_repeat_refuse_a_leaking_trial(leak):
    entry = leaking_record(leak)
    with pytest.raises(TfserError, match=f"trial {entry.trial_id} was shown its test utterances on purpose .{leak}."):
        Results(sweep="s", configurations=(row(),), entries={(row(), "anna", 0): entry})
    with pytest.raises(TfserError, match="only the table of tfser leaks can contain it"):
        runs.Tracker.trial(None, row(), entry)  # before it looks at anything of its own
    with pytest.raises(
        RequestError, match=r"it leaks on purpose; the command in the leaks\.json of its table repeats it"
    ):
        repeat(entry.spec)


def test_predict_does_not_take_a_leaking_trial_for_a_model(tmp_path, capsys):
    entry = leaking_record()
    Ledger(tmp_path / ".tfser" / "ledger").commit(entry)
    assert predict.main([entry.trial_id, "x.wav", "--results", str(tmp_path)]) == 2
    assert (
        f"trial {entry.trial_id}: it was shown its test utterances on purpose (standardisation)"
        in capsys.readouterr().err
    )


@pytest.mark.full
def test_predict_does_not_take_a_leaks_run_for_a_sweep(made):
    out, _ = made
    place = find.Source(storage=out / ".tfser", results=out)
    with pytest.raises(RequestError, match="no sweep with tables"):
        find.find("leaks-x", place, {})


def test_no_plan_of_a_sweep_asks_for_a_leak(tiny):
    for selection in planning_request.SELECTIONS:
        request = planning_request.Request(selection=selection, ablations=("all",), seeds=2)
        planned = plan.make(request, [tiny], lambda d: "digest", {})
        specs = [spec for study in planned.studies for spec in study.final_specs(study.base, study.epochs).values()]
        assert specs
        assert not any(spec.leaks or spec.fold.startswith("part") for spec in specs)


def test_no_leaking_trial_has_the_id_of_an_honest_one(tiny):
    asked = plan.make(planning_request.Request(models=("atfnn",), seeds=2), [tiny], lambda d: "digest", {})
    specs = {
        (study.configuration.label, *key): spec
        for study in make(asked, ROWS).plan.studies
        for key, spec in study.final_specs(study.base, study.epochs).items()
    }
    assert len({spec.trial_id for spec in specs.values()}) == len(specs) == 10 * 4 * 2
    honest = {spec.trial_id for study in asked.studies for spec in study.final_specs(study.base, study.epochs).values()}
    assert {spec.trial_id for key, spec in specs.items() if key[0] == "honest"} == honest


def test_sessions_are_held_out_and_split_as_speakers_are(tiny):
    asked = plan.make(planning_request.Request(models=("atfnn",), protocol="session"), [tiny], lambda d: "digest", {})
    made_of = {row.name: row for row in make(asked, ROWS).rows}
    assert made_of["honest"].folds == ("s1", "s2")
    assert made_of["random_split"].folds == made_of["together"].folds == ("part01", "part02")
    assert [row.paired for row in made_of.values()] == [True] * 5 + [False] * 2


def test_standardisation_per_speaker_is_the_honest_setting_but_for_it_and_marked_as_transductive(tiny):
    asked = plan.make(planning_request.Request(models=("atfnn",)), [tiny], lambda d: "digest", {})
    leaks = make(asked, ["standardisation_per_speaker"])
    honest, speaker = leaks.rows
    own = speaker.studies[0]
    assert own.base == {**honest.studies[0].base, "standardisation": "speaker"}
    specs = own.final_specs(own.base, own.epochs)
    assert {(spec.leaks, spec.purpose, spec.settings["standardisation"]) for spec in specs.values()} == {
        ((), "final", "speaker")
    }
    titles = report.titles(leaks)
    assert titles["standardisation_per_speaker"] == "standardisation per speaker§"
    assert [name for name, title in titles.items() if "§" in title] == ["standardisation_per_speaker"]


@pytest.mark.parametrize("kind", ["none", "utterance", "speaker"])
def test_the_statistics_of_every_utterance_are_no_leak_where_none_of_the_training_are_used(tiny, kind):
    request = planning_request.Request(models=("atfnn",), fixed=(("standardisation", kind),))
    leaks = make(plan.make(request, [tiny], lambda d: "digest", {}), ROWS)
    lacking = {"standardisation", *(["standardisation_per_speaker"] if kind == "speaker" else [])}
    assert [row.name for row in leaks.rows] == [name for name in ROWS if name not in lacking]
    assert leaks.left_out.keys() == lacking
    assert leaks.left_out["standardisation"].startswith(f"standardisation is {kind} in the first row, so that no")
    (together,) = (row for row in leaks.rows if row.name == "together")
    assert {study.leaks for study in together.studies} == {("random_split",)}
    titles = report.titles(leaks)
    assert titles["together"].rstrip("§") == "epoch, hyperparameters and split together"
    marked = {row.name for row in leaks.rows if titles[row.name].endswith("§")}
    assert marked == ({row.name for row in leaks.rows} if kind == "speaker" else {"standardisation_per_speaker"})


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_second_start_trains_nothing_and_writes_the_same_bytes(made, tiny_manifest, monkeypatch):
    out, _ = made
    before = written(out)
    assert set(before) == {"leaks.csv", "leaks.md", "leaks.tex", "leaks_trials.csv"}
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was trained again"))
    assert command.main(arguments(tiny_manifest, out)) == 0
    assert written(out) == before


@pytest.mark.full
def test_an_interrupted_run_ends_like_one_that_was_not(tiny_manifest, tmp_path, monkeypatch, capsys):
    more = ("--leak", "random_split")
    assert command.main(arguments(tiny_manifest, tmp_path / "a", *more, epochs="1")) == 0
    run, left = run_trial.run, [5]

    def interrupted(task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(task)

    monkeypatch.setattr(run_trial, "run", interrupted)
    assert command.main(arguments(tiny_manifest, tmp_path / "b", *more, epochs="1")) == 130
    assert "the same command goes on from there (sweep leaks-x)" in capsys.readouterr().out
    assert list((tmp_path / "b" / "leaks-x").iterdir()) == []
    monkeypatch.setattr(run_trial, "run", run)
    assert command.main(arguments(tiny_manifest, tmp_path / "b", *more, epochs="1")) == 0
    assert written(tmp_path / "b") == written(tmp_path / "a")
    assert json.loads((tmp_path / "b" / "leaks-x" / "leaks.json").read_text())["trained"] == 8 - 5


@pytest.mark.full
def test_a_failed_training_is_not_chosen_and_a_fold_without_one_is_marked(tiny_manifest, tmp_path, capsys):
    epoch = Training.run_epoch
    first = load(str(tiny_manifest), None).speakers[0]

    def nan(self):
        # The third setting everywhere, and the first one for the fold of the first speaker.
        rate = self.settings["learning_rate"]
        if rate > 0.05 or (rate == 0.03 and self.data.scored[0][0] == 0):
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        epoch(self)

    call = arguments(tiny_manifest, tmp_path, "--leak", "hyperparameters", epochs="1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "run_epoch", nan)
        assert command.main(call) == 1
    text, table = (
        (tmp_path / "leaks-x" / "leaks.md").read_text(encoding="utf-8"),
        read(tmp_path, "leaks.csv").set_index("row"),
    )
    assert "5 trainings failed, and another setting was chosen there" in text
    assert (table.loc["honest"].folds_done, table.loc["hyperparameters"].folds_done) == (3, 4)
    assert f"3 of 4 folds, not the whole; missing {first} (seed 0 failed: the loss was nan" in text
    assert "--retry-failed trains failed trials again" in capsys.readouterr().out
    assert command.main([*call, "--retry-failed"]) == 0
    assert read(tmp_path, "leaks.csv").folds_done.tolist() == [4, 4]


def test_a_leak_is_measured_of_a_setting_with_augmented_copies(tiny_manifest, tmp_path):
    copies = ["--leak", "standardisation", "--fold", "bert", "--set", "augmented_copies=1", "speed=0.1"]
    assert command.main(arguments(tiny_manifest, tmp_path, *copies, epochs="1")) == 0
    trials = read(tmp_path, "leaks_trials.csv")
    assert list(trials.row) == ["honest", "standardisation"]
    assert trials.uar.between(0, 1).all()


def test_some_folds_only_are_marked_and_give_no_unpaired_difference(tiny_manifest, tmp_path):
    assert command.main(arguments(tiny_manifest, tmp_path, "--leak", "random_split", "--fold", "bert", epochs="1")) == 0
    trials, table = read(tmp_path, "leaks_trials.csv"), read(tmp_path, "leaks.csv").set_index("row")
    assert list(trials.fold) == ["bert", "part02"]
    assert np.isnan(table.loc["random_split"].uar_mean_difference)
    assert "1 of 4 folds, not the whole; 3 not asked for" in (tmp_path / "leaks-x" / "leaks.md").read_text(
        encoding="utf-8"
    )


def test_settings_are_drawn_from_the_space_with_a_seed(tiny_manifest, tmp_path, capsys):
    def drawn(*more):
        words = [*arguments(tiny_manifest, tmp_path), "--trials", "3", "--space", str(SPACE), *more]
        return command.checked(replace(command.parse(words), fixed=SET_SMALL))[1]

    once, again, other = drawn(), drawn(), drawn("--search-seed", "1")
    assert once.settings == again.settings != other.settings
    assert len(once.settings) == 4
    assert once.settings[0]["learning_rate"] == MODELS["time_frequency_transformer"].published["learning_rate"]
    assert all(0.001 <= s["learning_rate"] <= 0.1 and s["dropout"] in (0.0, 0.2) for s in once.settings[1:])
    assert once.origin == "3 random draws from the search space, seed 0"
    assert command.main([*arguments(tiny_manifest, tmp_path), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "40 trials in all" in out
    assert not (tmp_path / "leaks-x").exists()


@pytest.mark.parametrize(
    ("more", "messages"),
    [
        (["--model", "crnn"], ["--model: no 'crnn'"]),
        (
            ["--model", "atfnn", "time_frequency_transformer"],
            ["--model: name one of time_frequency_transformer, atfnn"],
        ),
        (["--ablation", "all"], ["--ablation: name one, or none for the full model"]),
        (
            ["--leak", "telepathy", "--seeds", "0"],
            ["--leak: no 'telepathy'; there are all, epoch, hyperparameters", "--seeds: 0 is below 1"],
        ),
        (["--space", str(SPACE)], ["--space: without --trials nothing is drawn from it"]),
        (["--fold", "emil", "--set", "foo=1"], ["no 'emil'", "no 'foo'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_request_ends_with_2_and_every_reason_and_starts_nothing(
    tiny_manifest, tmp_path, capsys, more, messages
):
    out = tmp_path / "out"
    assert command.main(arguments(tiny_manifest, out, *more)) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert error.startswith("tfser leaks: ")
    assert not out.exists()


def test_no_name_that_is_given_begins_as_those_of_leaks_runs_do(tiny_manifest, tmp_path, capsys):
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--model", "atfnn", "--name", "leaks-x"]
    for main in (sweep_command.main, command.main):
        assert main(words) == 2
        assert "--name: names that begin with leaks- are those of tfser leaks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_an_entry_that_is_deleted_after_it_was_read_is_trained_again_in_the_same_start(
    tiny_manifest, tmp_path, monkeypatch, capsys
):
    train, gone = Trainer._train, []

    def deleted(trainer):
        train(trainer)
        if not gone:
            schedule = trainer.schedule
            gone.append(schedule.ledger.path(next(iter(schedule.ends.values())).trial_id))
            gone[0].unlink()

    monkeypatch.setattr(Trainer, "_train", deleted)
    assert command.main(arguments(tiny_manifest, tmp_path, "--leak", "random_split", epochs="1")) == 0
    assert gone[0].exists()
    assert len(read(tmp_path, "leaks_trials.csv")) == 8
    assert "Trained 9 trials" in capsys.readouterr().out
