"""Kinds of standardisation for estimators: against NumPy and scikit-learn by hand, and from the command to predict."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from tests.helpers.estimators import COST, FRAMES, MOMENTS, known, own, task
from tests.helpers.results import details
from tests.helpers.sweeps import read, runs_of
from tests.helpers.tiny import write_tiny
from tfser import predict
from tfser.errors import RequestError
from tfser.execution import run_estimator, run_trial
from tfser.features.pack import Pack
from tfser.final_models import find
from tfser.final_models.mlflow_model import save
from tfser.leaks import command as leaks_command
from tfser.models import Estimator
from tfser.record import Failure
from tfser.storage.ledger import Ledger
from tfser.sweep import command
from tfser.sweep.options import parse
from tfser.sweep.request import check

pytestmark = pytest.mark.usefixtures("blank_figures")

PLAIN = Estimator(
    name="plain_svm",
    title="Plain SVM",
    features=MOMENTS,
    hyperparameters=COST,
    build=lambda ablation, settings, seed: SVC(C=settings["c"], random_state=seed),
)
CURVED = replace(
    PLAIN,
    name="plain_regression",
    title="Plain regression",
    build=lambda ablation, settings, seed: LogisticRegression(C=settings["c"], random_state=seed),
)


class Averaged:
    """A regression over the mean and deviation of each utterance's frames."""

    def fit(self, X: Any, y: Any) -> Averaged:  # noqa: N803
        self.inner = LogisticRegression().fit(self._vectors(X), y)
        self.classes_ = self.inner.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        found: np.ndarray = self.inner.predict_proba(self._vectors(X))
        return found

    @staticmethod
    def _vectors(X: Any) -> np.ndarray:  # noqa: N803
        return np.stack([np.concatenate([x.mean(axis=0), x[:3].mean(axis=0), x.std(axis=0)]) for x in X])


FRAMED = Estimator(
    name="framed", title="Framed", features=FRAMES, build=lambda ablation, settings, seed: Averaged()
)  # its fitted state is none of scikit-learn's, so that predict fits it again

MADE = {
    "training": (CURVED, "standardisation=training"),
    "speaker": (PLAIN, "standardisation=speaker"),
    "utterance": (FRAMED, "standardisation=utterance"),
    "frames": (FRAMED, "standardisation=speaker"),
    "refitted": (FRAMED, "standardisation=training"),
}
ONE_SPEAKER = ("speaker", "frames")


@pytest.fixture(autouse=True)
def models():
    with known(PLAIN, CURVED, FRAMED):
        yield


def by_hand(pack, fold, kind):
    """Frames of each utterance by id, standardised in NumPy alone, without those of ``fold`` for kind training."""
    frames = np.array(pack.frames(), dtype=np.float64)
    own_frames = {u.id: frames[u.start : u.start + u.frames] for u in pack.utterances}

    def used(utterance):
        return {
            "training": [u.id for u in pack.utterances if u.speaker != fold],
            "speaker": [u.id for u in pack.utterances if u.speaker == utterance.speaker],
            "utterance": [utterance.id],
        }[kind]

    made = {}
    for u in pack.utterances:
        those = np.concatenate([own_frames[name] for name in used(u)])
        made[u.id] = (own_frames[u.id] - those.mean(axis=0)) / those.std(axis=0)
    return made


def expected(asked, kind, model):
    """The test speaker's probabilities, from the features, NumPy and scikit-learn alone."""
    pack = Pack.open(asked.pack)
    values = by_hand(pack, asked.spec.fold, kind)
    train = [u for u in pack.utterances if u.speaker != asked.spec.fold]
    test = [u for u in pack.utterances if u.speaker == asked.spec.fold]
    vector = pack.frames().shape[0] == len(pack.utterances)
    x, scored = ([values[u.id][0] if vector else values[u.id] for u in side] for side in (train, test))
    model.fit(np.array(x) if vector else x, [u.emotion for u in train])
    if hasattr(model, "predict_proba"):
        return model.predict_proba(scored)
    return softmax(model.decision_function(scored), axis=1)


@pytest.mark.parametrize("kind", ["training", "speaker"])
@pytest.mark.parametrize(
    ("model", "inner"),
    [(PLAIN, lambda: SVC(C=0.7, random_state=3)), (CURVED, lambda: LogisticRegression(C=0.7, random_state=3))],
)
def test_scores_over_standardised_vectors_are_those_of_numpy_and_scikit_learn(tmp_path, kind, model, inner):
    asked = task(tmp_path, model, seed=3, c=0.7, standardisation=kind)
    record = run_trial.run(asked)
    found = [u.p for u in record.scores.utterances]
    np.testing.assert_allclose(found, expected(asked, kind, inner()), rtol=0, atol=1e-9)
    plain = run_trial.run(task(tmp_path, model, seed=3, c=0.7))
    assert np.abs(np.array(found) - [u.p for u in plain.scores.utterances]).max() > 1e-3  # else this says nothing


@pytest.mark.parametrize("kind", ["training", "utterance", "speaker"])
def test_scores_over_standardised_frames_are_those_of_numpy_and_scikit_learn(tmp_path, kind):
    asked = task(tmp_path, FRAMED, standardisation=kind)
    record = run_trial.run(asked)
    found = [u.p for u in record.scores.utterances]
    np.testing.assert_allclose(found, expected(asked, kind, Averaged()), rtol=0, atol=1e-9)


def test_without_standardisation_an_estimator_gets_the_very_bits_of_the_features_and_its_trial_keeps_its_id(tmp_path):
    seen = []
    spy = own("spy", fit=lambda x, y: seen.append(np.array(x)))
    with known(spy):
        asked = task(tmp_path, spy)
        typed = [str(tmp_path / "tiny" / "tiny.csv"), "--model", "spy", "--in-process"]
        plans = [check(parse([*typed, *more])).plan for more in ([], ["--set", "standardisation=none"])]
        studies = [study for plan in plans for study in plan.studies]
        specs = [spec for study in studies for spec in study.final_specs(study.base, study.epochs).values()]
        record = run_trial.run(asked)
    pack = Pack.open(asked.pack)
    rows = [u.start for u in pack.utterances if u.speaker != "anna"]
    assert seen[0].dtype == np.float32
    assert seen[0].tobytes() == np.array(pack.frames())[rows].tobytes()
    assert record.standardisation is None
    assert not any("standardisation" in spec.settings for spec in specs)
    assert len({spec.trial_id for spec in specs}) == 4
    assert [c.settings for c in plans[0].configurations] == [c.settings for c in plans[1].configurations]


def scored_with(monkeypatch, folder, change, **more):
    """Scores of a trial by utterance whose pack was changed: ``change(pack, frames)`` returns both."""
    asked = task(folder, more.pop("model", PLAIN), **more)
    spec = replace(asked.spec, protocol="session", fold="s1")
    pack = Pack.open(asked.pack)
    changed = change(pack, np.array(pack.frames()))
    monkeypatch.setattr(run_estimator, "open_pack", lambda path, digest: changed)
    record = run_trial.run(replace(asked, spec=spec, storage=folder / str(np.random.default_rng().integers(1 << 60))))
    assert not isinstance(record, Failure), record.reason
    return {u.id: u.p for u in record.scores.utterances}


def of(speaker, scores):
    return {name: p for name, p in scores.items() if name.startswith(speaker)}


@pytest.mark.parametrize("kind", ["training", "speaker"])
def test_the_audio_of_another_test_speaker_changes_no_score(tmp_path, monkeypatch, kind):
    def louder(pack, frames):
        for u in pack.utterances:
            if u.speaker == "bert":
                frames[u.start : u.start + u.frames] *= 3.0
        return pack, frames

    before = scored_with(monkeypatch, tmp_path, lambda pack, frames: (pack, frames), standardisation=kind)
    after = scored_with(monkeypatch, tmp_path, louder, standardisation=kind)
    np.testing.assert_allclose(list(of("anna", after).values()), list(of("anna", before).values()), rtol=0, atol=1e-12)
    if kind == "training":
        assert of("bert", after) != of("bert", before)


@pytest.mark.parametrize("kind", ["training", "speaker"])
def test_permuting_the_labels_of_test_speakers_changes_no_score(tmp_path, monkeypatch, kind):
    def permuted(pack, frames):
        turned = {e: pack.emotions[(i + 1) % 3] for i, e in enumerate(pack.emotions)}
        there = tuple(replace(u, emotion=turned[u.emotion]) if u.session == "s1" else u for u in pack.utterances)
        return replace(pack, utterances=there), frames

    before = scored_with(monkeypatch, tmp_path, lambda pack, frames: (pack, frames), standardisation=kind)
    assert scored_with(monkeypatch, tmp_path, permuted, standardisation=kind) == before


def test_statistics_of_the_training_hold_no_scored_utterance_and_are_kept_for_predict(tmp_path):
    asked = task(tmp_path, PLAIN, standardisation="training")
    record, pack = run_trial.run(asked), Pack.open(asked.pack)
    used = np.array(pack.frames(), dtype=np.float64)[[u.start for u in pack.utterances if u.speaker != "anna"]]
    np.testing.assert_allclose(record.standardisation.mean, used.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(record.standardisation.std, used.std(axis=0), rtol=1e-9)
    searched = run_trial.run(task(tmp_path, PLAIN, purpose="search", standardisation="training"))
    assert searched.standardisation is None  # nothing is predicted with it


def test_scores_one_by_one_use_the_statistics_of_all_of_a_speakers_utterances(tmp_path):
    record = run_trial.run(task(tmp_path, CURVED, standardisation="speaker"))
    assert not isinstance(record, Failure)
    assert record.fitted.transductive
    beside = own("beside", proba=lambda p, x: 0.9 * p + 0.1 * np.mean(p, axis=0))
    with known(beside):
        failed = run_trial.run(task(tmp_path, beside, standardisation="speaker"))
    assert isinstance(failed, Failure)
    assert "depend on what is scored beside it" in failed.reason


def test_an_estimator_may_change_what_it_gets_and_does_not_meet_its_changes_again(tmp_path):
    def spoils(p, x):
        x *= 0
        return p

    spoiling, tidy = own("spoiling", proba=spoils), own("tidy")
    with known(spoiling, tidy):
        one, other = (run_trial.run(task(tmp_path, m, standardisation="speaker")) for m in (spoiling, tidy))
    assert [u.p for u in one.scores.utterances] == [u.p for u in other.scores.utterances]


# Requests


def refused(*words):
    with pytest.raises(RequestError) as error:
        check(parse([*words, "--in-process"]))
    return "\n".join(error.value.problems)


def test_one_row_per_utterance_cannot_be_standardised_by_itself_and_the_refusal_says_so(tiny_manifest, tmp_path):
    base = [str(tiny_manifest), "--out", str(tmp_path)]
    said = refused(*base, "--model", "plain_svm", "--set", "standardisation=utterance")
    assert said == (
        "plain_svm full: standardisation: utterance leaves nothing of moments, which is one row per utterance: its own "
        "mean would make every value 0; legal: training, speaker, none"
    )
    path = space(tmp_path, "[training, utterance]")
    said = refused(*base, "--model", "plain_svm", "--trials", "2", "--space", str(path))
    assert "it can sample what the model refuses: standardisation: utterance leaves nothing of moments" in said
    check(parse([*base, "--model", "framed", "--set", "standardisation=utterance", "--in-process"]))


def space(folder, kinds):
    path = folder / "kinds.yaml"
    path.write_text(
        f"model: plain_svm\nsearch:\n  c: {{float: [0.1, 10.0], scale: log}}\n  standardisation: {{choice: {kinds}}}\n"
    )
    return path


# From the command to tables, MLflow and predict


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep per entry of ``MADE``, in one storage, and one without standardisation beside one per speaker."""
    out = tmp_path_factory.mktemp("standardised")
    manifest = write_tiny(out / "tiny")
    with known(PLAIN, CURVED, FRAMED):
        words = [str(manifest), "--out", str(out), "--in-process"]
        for name, (model, chosen) in MADE.items():
            more = ["--fold", "anna", "--model", model.name, "--name", name, "--set", chosen]
            assert command.main([*words, *more]) == 0
        both = ["--model", "plain_regression", "plain_svm", "--set", "plain_svm.standardisation=speaker"]
        assert command.main([*words, *both, "--name", "both"]) == 0
    return out


def record_of(out, name):
    return Ledger(out / ".tfser" / "ledger").get(read(out / name, "folds.csv").trial_id[0])


def asked_of_predict(out, record, *more):
    files = [str(out / "tiny" / u.id) for u in record.scores.utterances]
    return [record.trial_id, "--storage", str(out / ".tfser"), "--json", *more, *files]


@pytest.mark.full
@pytest.mark.parametrize("name", MADE)
def test_predict_gives_the_recorded_scores_of_every_kind(done, capsys, name):
    record = record_of(done, name)
    capsys.readouterr()
    assert predict.main(asked_of_predict(done, record, *(["--one-speaker"] if name in ONE_SPEAKER else []))) == 0
    said = capsys.readouterr()
    found = [list(file["p"].values()) for file in json.loads(said.out)["files"]]
    np.testing.assert_allclose(found, [u.p for u in record.scores.utterances], rtol=0, atol=1e-9)
    assert ("it is fitted again on the features" in said.err) == (MADE[name][0] is FRAMED)


@pytest.mark.full
@pytest.mark.parametrize("name", ONE_SPEAKER)
def test_files_of_an_unknown_speaker_are_refused_in_words(done, capsys, name):
    assert predict.main(asked_of_predict(done, record_of(done, name))) == 2
    assert "give all files of one speaker, and --one-speaker to say so" in capsys.readouterr().err


@pytest.mark.full
def test_one_speaker_is_refused_where_nothing_is_standardised_per_speaker(done, capsys):
    assert predict.main(asked_of_predict(done, record_of(done, "training"), "--one-speaker")) == 2
    assert "does not standardise per speaker; leave it out" in capsys.readouterr().err


def served(done, name, folder):
    from mlflow.pyfunc import load_model

    record = record_of(done, name)
    save(folder / "served", record, Ledger(done / ".tfser" / "ledger").state(record.trial_id))
    return record, load_model(str(folder / "served"))


@pytest.mark.full
def test_a_served_estimator_scores_with_the_trainings_statistics(done, tmp_path):
    import pandas as pd

    record, model = served(done, "training", tmp_path)
    sounds = [(done / "tiny" / u.id).read_bytes() for u in record.scores.utterances]
    answer = model.predict(pd.DataFrame({"audio": sounds}))
    found = answer[[f"p_{e}" for e in record.scores.emotions]].to_numpy()
    np.testing.assert_allclose(found, [u.p for u in record.scores.utterances], rtol=0, atol=1e-9)


@pytest.mark.full
def test_a_served_estimator_that_is_standardised_per_speaker_answers_in_words(done, tmp_path):
    import pandas as pd
    from mlflow.exceptions import MlflowException

    record, model = served(done, "speaker", tmp_path)
    sound = (done / "tiny" / record.scores.utterances[0].id).read_bytes()
    with pytest.raises(MlflowException, match="give every file of one speaker to tfser predict with --one-speaker"):
        model.predict(pd.DataFrame({"audio": [sound]}))


@pytest.mark.full
@pytest.mark.parametrize("name", MADE)
def test_the_known_sound_tells_an_estimator_that_now_scores_otherwise(done, name):
    record, ledger = record_of(done, name), Ledger(done / ".tfser" / "ledger")
    assert len(record.known_sound) == 3
    other = replace(record, known_sound=tuple(reversed(record.known_sound)))
    with pytest.raises(RequestError, match="it gives a made-up sound other scores than were recorded"):
        find.load(other, ledger)
    if name == "training":
        moved = replace(record.standardisation, mean=tuple(m + 5 for m in record.standardisation.mean))
        with pytest.raises(RequestError, match="it gives a made-up sound other scores"):
            find.load(replace(record, standardisation=moved), ledger)
        with pytest.raises(RequestError, match="its entry has no standardisation"):
            find.load(replace(record, standardisation=None), ledger)


@pytest.mark.full
def test_a_row_standardised_per_speaker_has_one_mark_in_every_table_is_never_bold_and_tagged(done):
    for name in ("comparison.md", "comparison.tex", "details.md", "details.csv", "report.html"):
        text = (done / "both" / name).read_text(encoding="utf-8")
        assert "§" in text, name
        assert "fixed, transductive" not in text, name
    lines = details(done / "both").splitlines()
    rows = [line for line in lines if line.startswith("| Plain SVM§ (ours)")]
    assert len(rows) == 2
    assert not any("**" in line for line in rows)
    assert any(line.startswith("| Plain regression (ours)") for line in lines)
    settings = read(done / "both", "summary.csv").set_index("model").settings
    assert json.loads(settings["plain_svm"])["standardisation"] == "speaker"
    assert "standardisation" not in json.loads(settings["plain_regression"])
    tagged = {r.data.tags["tfser.sweep"] for r in runs_of(done)[1] if r.data.tags.get("tfser.transductive") == "true"}
    assert tagged == {"speaker", "frames", "both"}


@pytest.mark.full
def test_a_nested_search_chooses_among_kinds_for_each_fold(tmp_path):
    words = [str(write_tiny(tmp_path / "tiny")), "--out", str(tmp_path), "--in-process", "--model", "plain_svm"]
    more = ["--trials", "4", "--space", str(space(tmp_path, "[training, speaker]")), "--sampler", "random"]
    assert command.main([*words, *more, "--name", "n"]) == 0
    tried = read(tmp_path / "n", "search.csv")
    kinds = [json.loads(text).get("standardisation") for text in tried.hyperparameters]
    assert set(kinds) == {"training", "speaker"}
    finals = read(tmp_path / "n", "folds.csv").set_index("fold").hyperparameters
    for fold, rows in tried.groupby("folds"):
        (best,) = rows[rows.chosen].hyperparameters
        assert json.loads(finals[fold])["standardisation"] == json.loads(best)["standardisation"]
    assert "Plain SVM§ (ours)" in (tmp_path / "n" / "comparison.md").read_text(encoding="utf-8")


# Leaks


def leaks(out, *more):
    words = [str(write_tiny(out / "tiny")), "--out", str(out), "--in-process", "--model", "plain_svm", "--name", "x"]
    return leaks_command.main([*words, *more])


def test_the_leak_of_statistics_applies_to_an_estimator_that_uses_those_of_the_training(tmp_path):
    assert leaks(tmp_path, "--set", "standardisation=training") == 0
    rows = read(tmp_path / "leaks-x", "leaks.csv").set_index("row")
    assert list(rows.index) == ["honest", "standardisation", "standardisation_per_speaker", "random_split"]
    assert rows.loc["standardisation_per_speaker"].leaked == "standardisation per speaker§"
    assert rows.loc["honest"].leaked == "nothing (honest, leave-one-speaker-out)"
    text = (tmp_path / "leaks-x" / "leaks.md").read_text(encoding="utf-8")
    assert "mean and deviation of each value are those of every utterance" in text
    ledger = Ledger(tmp_path / ".tfser" / "ledger")
    (path,) = (tmp_path / ".tfser" / "features").rglob("tiny-*.npy")
    frames = np.load(path).astype(np.float64)
    seen = 0
    for record in map(ledger.get, ledger.ids()):
        if record.spec.settings["standardisation"] == "training" and "random_split" not in record.spec.leaks:
            everything = np.allclose(record.standardisation.mean, frames.mean(axis=0), rtol=1e-9)
            assert everything == (record.spec.leaks == ("standardisation",))
            seen += everything
    assert seen == 4


def test_leaks_that_have_no_effect_on_an_estimator_are_left_out_with_true_reasons(tmp_path):
    assert leaks(tmp_path, "--set", "standardisation=speaker") == 0
    rows = read(tmp_path / "leaks-x", "leaks.csv").set_index("row")
    assert list(rows.index) == ["honest", "random_split"]
    assert set(rows.leaked) == {"nothing (honest, leave-one-speaker-out)§", "random split over utterances§"}
    text = (tmp_path / "leaks-x" / "leaks.md").read_text(encoding="utf-8")
    assert "Without a row for standardisation over all speakers: standardisation is speaker in the first row" in text
    assert "Without a row for standardisation per speaker§: the first row has it already." in text
    assert "§ Transductive" in text
