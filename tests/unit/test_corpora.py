"""Cross-corpus: labels in common words, speakers apart, folds that are corpora, and rows of one test corpus each."""

from __future__ import annotations

import json
import pickle
from collections import Counter, namedtuple
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import LeaveOneGroupOut

from tests.helpers.corpora import COMMON, CORPORA, SPEAKERS, write_corpora
from tests.helpers.estimators import LOGISTIC, SVM, Moments, known
from tests.helpers.tiny import SET_SMALL
from tfser import collect, predict
from tfser.databases import KNOWN, emotion_map, load
from tfser.databases.combined import combined, name_of, row_name
from tfser.errors import RequestError
from tfser.evaluation import folds
from tfser.features.store import FeatureStore, audio_digests
from tfser.planning import fold_checks, plan
from tfser.planning.request import Request
from tfser.planning.search_space import Dimension, Space
from tfser.sweep import command as sweep_command
from tfser.sweep import request
from tfser.sweep.options import parse
from tfser.trial import TrialSpec

U = namedtuple("U", "speaker session corpus")


def words(manifests, out, *more):
    return [*map(str, manifests), "--out", str(out), "--in-process", "--protocol", "corpus", *more]


def refused(*typed):
    with pytest.raises(RequestError) as found:
        request.check(parse([str(word) for word in typed]))
    return str(found.value)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def databases(manifests):
    return [load(str(path), None) for path in manifests]


@pytest.fixture
def common(tmp_path):
    path = tmp_path / "common.yaml"
    path.write_text(COMMON, encoding="utf-8")
    return path


@pytest.fixture
def whole(databases, common):
    return combined(databases, emotion_map.read(common, databases))


def people(corpora="aabbcc", speakers="uvwxyz"):
    return [U(f"{c}/{s}", None, c) for c, s in zip(corpora, speakers, strict=True) for _ in range(2)]


def test_folds_of_corpora_are_those_of_scikit_learn():
    utterances = people()
    groups = [u.corpus for u in utterances]
    ours = {tuple(map(tuple, folds.split(utterances, "corpus", fold))) for fold in folds.folds(utterances, "corpus")}
    theirs = {(tuple(train), tuple(test)) for train, test in LeaveOneGroupOut().split(groups, groups=groups)}
    assert ours == theirs


def test_a_person_of_the_test_corpus_is_trained_on_and_validates_in_no_corpus():
    utterances = [*people(), U("a/u", None, "b"), U("a/u", None, "c")]
    train, scored = folds.split(utterances, "corpus", "a")
    assert {utterances[i].corpus for i in scored} == {"a"}
    assert "a/u" not in {utterances[i].speaker for i in train}
    train, scored = folds.split(utterances, "corpus", "a", ("b",))
    assert {utterances[i].speaker for i in scored} == {"b/w", "b/x"}
    assert {utterances[i].speaker for i in train} == {"c/y", "c/z"}


def test_a_person_who_validates_is_trained_on_in_no_corpus():
    utterances = [*people(), U("b/w", None, "c")]
    train, scored = folds.split(utterances, "corpus", "a", ("b",))
    assert {utterances[i].speaker for i in scored} == {"b/w", "b/x"}
    assert {utterances[i].speaker for i in train} == {"c/y", "c/z"}


def test_a_corpus_validates_where_two_are_trained_on_and_a_speaker_where_there_is_one():
    assert folds.validators(people(), "b") == ("c", "a")
    two = people("aabb", "uvwx")
    assert folds.validators(two, "a") == ("b/w", "b/x")
    train, scored = folds.split(two, "corpus", "a", ("b/w",))
    assert {two[i].speaker for i in train} == {"b/x"}
    assert {two[i].speaker for i in scored} == {"b/w"}
    shared = [*two, U("a/u", None, "b")]
    assert folds.validators(shared, "a") == ("b/w", "b/x")


def test_a_single_corpus_and_unknown_or_testing_validators_are_refused():
    with pytest.raises(RequestError, match="single corpus"):
        folds.folds([U("a", None, None), U("b", None, None)], "corpus")
    for validation in (("d",), ("a",), ("b/nobody",)):
        with pytest.raises(ValueError, match="no corpus named|cannot validate"):
            folds.split(people(), "corpus", "a", validation)


def test_labels_become_common_emotions_and_speakers_of_one_name_stay_two_persons(whole):
    assert whole.name == "north+south+west"
    assert whole.emotions == ("hot", "warm", "cold")
    assert Counter(u.emotion for u in whole.utterances) == dict.fromkeys(whole.emotions, 27)
    assert whole.speakers == tuple(f"{c}/{s}" for c in CORPORA for s in SPEAKERS)
    assert all(u.id.startswith(f"{u.corpus}/") and u.speaker.startswith(f"{u.corpus}/") for u in whole.utterances)
    assert whole.left_out == {"north": {"fear": 9}, "south": {"neutral": 9}, "west": {"bored": 9}}
    said = whole.remark_of("south")
    for text in (
        "trained on north (language: not stated), west (language: not stated), tested on south (language: not stated)",
        "north: Anger as hot, joy as warm, sad as cold, left out 9 utterances (fear 9)",
        "whether corpora share sentences is not known",
    ):
        assert text in said


def test_the_audio_is_that_of_the_corpora_also_after_a_journey_to_a_worker(databases, whole):
    there = pickle.loads(pickle.dumps(whole))
    for u in there.utterances[::17]:
        (own,) = (d for d in databases if d.name == u.corpus)
        (original,) = (o for o in own.utterances if f"{own.name}/{o.id}" == u.id)
        np.testing.assert_array_equal(there.read(u).samples, own.read(original).samples)
        assert there.audio_digest(u) == own.audio_digest(original)


def test_generated_audio_is_read_too(databases):
    both = [databases[1], load("synthetic", None)]
    whole = combined(both, emotion_map.usual(both))
    u = next(u for u in whole.utterances if u.corpus == "synthetic")
    assert u.emotion in ("anger", "happiness", "sadness", "neutral")
    assert whole.read(u).samples.shape[1] > 16000


def test_a_digest_tells_maps_apart_and_does_not_depend_on_the_order(databases, common, whole):
    digest = whole.digest(audio_digests(whole))
    again = combined(databases[::-1], emotion_map.read(common, databases))
    assert again.digest(audio_digests(again)) == digest
    common.write_text(COMMON.replace("joy: warm", "joy: cold"), encoding="utf-8")
    other = combined(databases, emotion_map.read(common, databases))
    assert other.digest(audio_digests(other)) != digest


def test_features_that_one_corpus_has_are_not_made_again(databases, whole, tmp_path, monkeypatch):
    store, asked = FeatureStore(tmp_path), Moments(8)
    for database in databases[:2]:
        store.ensure(database, audio_digests(database), asked)
    made = []
    monkeypatch.setattr(Moments, "__call__", lambda self, waveform: made.append(1) or np.zeros((1, 16), np.float32))
    pack = store.ensure(whole, audio_digests(whole), asked)
    assert len(made) == 27  # of the third alone, without what is left out
    assert {u.corpus for u in pack.utterances} == set(CORPORA)
    assert {u.speaker for u in pack.utterances} == set(whole.speakers)


def test_without_a_file_the_four_shared_emotions_are_common(databases):
    found = emotion_map.usual(databases)
    assert found.emotions == ("anger", "happiness", "sadness", "neutral")
    assert found.labels["north"] == {"Anger": "anger", "joy": "happiness", "sad": "sadness"}
    assert found.labels["south"] == {"angry": "anger", "happy": "happiness", "sadness": "sadness", "neutral": "neutral"}
    whole = combined(databases, found)
    assert "west: anger, happiness, sadness, no neutral, left out 9 utterances (bored 9)" in whole.remark_of("west")
    assert set(emotion_map.USUAL) <= {e for reader in KNOWN.values() for e in reader.info.emotions}


WRONG = """
nroth: {Anger: hot}
south: {angry: hot, hapy: warm, sadness: [cold], angry: warm}
west: hot
same_speakers: [[south/anna, west/ana], [south/bert]]
"""


def test_everything_that_is_wrong_with_a_map_is_said_at_once_with_its_line(databases, common):
    common.write_text(WRONG, encoding="utf-8")
    with pytest.raises(RequestError) as found:
        emotion_map.read(common, databases, list(KNOWN))
    said = str(found.value)
    for text in (
        "line 2: database: no 'nroth'; there are north, same_speakers, south, west (did you mean 'north'?)",
        "line 3: label of south: no 'hapy'; there are angry, happy, neutral, sadness (did you mean 'happy'?)",
        "line 3: south: sadness: it has to be one common emotion, or null to leave it out",
        "line 3: south: 'angry' stands twice",
        "line 4: west: it has to be a mapping of labels to common emotions",
        "line 5: same_speakers: speaker: no 'west/ana'; there are",
        "line 5: same_speakers: it has to be lists of two or more",
        "it says nothing of north, whose labels are",
    ):
        assert text in said, text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- north", "it has to be a mapping for each database"),
        ("north: {", "line 2: while parsing"),
        (
            "north: {Anger: hot, joy: hot}\nsouth: {angry: hot, happy: warm}\nwest: {anger: hot, sadness: warm}",
            "north: it",
        ),
        ("north: {Anger: a, joy: ' '}", "joy: '' names no emotion; null leaves"),
    ],
)
def test_a_map_that_cannot_be_is_refused(databases, common, text, problem):
    common.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=problem):
        emotion_map.read(common, databases)


@pytest.mark.parametrize("text", ["None", "NaN", "'NULL'", "n/a", "no", "NA", "-", "'~'"])
def test_a_text_that_stands_for_nothing_is_no_common_emotion(databases, common, text):
    common.write_text(COMMON.replace("joy: warm", f"joy: {text}"), encoding="utf-8")
    with pytest.raises(RequestError, match=r"line \d+: north: joy: '.*' names no emotion; null leaves the label out"):
        emotion_map.read(common, databases)


@pytest.mark.parametrize("text", ['"wa\\nrm"', "../../warm", "w" * 300, '"\\u202Ewarm"', "con", "=1+1"])
def test_a_common_emotion_is_refused_where_a_manifest_would_refuse_it(databases, common, text):
    common.write_text(COMMON.replace("joy: warm", f"joy: {text}"), encoding="utf-8")
    with pytest.raises(RequestError, match=r"line \d+: north: joy: the common emotion '"):
        emotion_map.read(common, databases)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("warm", "Warm", "line {}: common emotions Warm, warm differ by case only; write them the same"),
        ("warmth", "warmht", "line {}: common emotion warmth has 9 utterances of 3 speakers and is near warmht (18)"),
        ("warm", "w\u0430rm", "has letters of Cyrillic and Latin in one word"),
    ],
)
def test_a_common_emotion_in_two_spellings_is_refused(databases, common, one, other, said):
    text = COMMON.replace("warm", other).replace(f"joy: {other}", f"joy: {one}")
    common.write_text(text, encoding="utf-8")
    line = 1 + next(n for n, line in enumerate(text.split("\n")) if one in line)
    with pytest.raises(RequestError) as found:
        emotion_map.read(common, databases)
    assert said.format(line) in str(found.value)
    assert "--allow-incomplete" not in str(found.value)


def test_accents_of_a_common_emotion_in_two_unicode_forms_are_one(databases, common):
    decomposed = COMMON.replace("warm", "ha\u0308rm").replace("joy: ha\u0308rm", "joy: h\xe4rm")
    common.write_text(decomposed, encoding="utf-8")
    assert emotion_map.read(common, databases).emotions == ("hot", "h\xe4rm", "cold")


def test_a_map_may_speak_of_known_databases_that_are_not_asked_for(databases, common):
    common.write_text(COMMON + "emodb: {anger: hot}\n", encoding="utf-8")
    assert set(emotion_map.read(common, databases, list(KNOWN)).labels) == set(CORPORA)


def test_speakers_whom_the_file_says_to_be_one_person_are_one(databases, common):
    common.write_text(COMMON + "same_speakers: [[north/anna, west/bert]]\n", encoding="utf-8")
    whole = combined(databases, emotion_map.read(common, databases))
    assert {u.speaker for u in whole.utterances if u.id.startswith("west/west/bert")} == {"north/anna"}
    assert "one person: north/anna = west/bert" in whole.remark_of("south")
    for fold in CORPORA:
        train, scored = folds.split(whole.utterances, "corpus", fold)
        sides = [{whole.utterances[i].speaker for i in side} for side in (train, scored)]
        assert not sides[0] & sides[1]


def test_what_makes_no_sense_is_refused_in_words(manifests, common, tmp_path):
    north, south, west = manifests
    one = refused(north, "--protocol", "corpus", "--out", tmp_path)
    assert "--protocol corpus: it trains on all databases but one, and tests on that one; name two or more" in one
    assert "add --protocol corpus, or leave it out" in refused(north, south, "--emotions", common, "--out", tmp_path)
    gone = refused(*words([north, south], tmp_path, "--emotions", tmp_path / "no.yaml"))
    assert "no.yaml: no such file; write one: a mapping for each database" in gone
    fold = refused(*words([north, south], tmp_path, "--fold", "nort"))
    assert "--fold: no 'nort'; there are north, south (did you mean 'north'?)" in fold
    common.with_name("twice.yaml").write_text(
        f"{COMMON.splitlines()[1]}\ncopy: {{Anger: hot, joy: warm, sad: cold}}\n", encoding="utf-8"
    )
    twice = refused(*words([north, f"copy={north}"], tmp_path, "--emotions", common.with_name("twice.yaml")))
    assert "are the same audio: it would be trained on and tested on" in twice


def space():
    drawn = Dimension(name="c", kind="float", values=(0.001, 1000.0), log=True)
    return Space(source="here", model=SVM.name, fixed={}, dimensions=(drawn,))


@pytest.fixture
def svm():
    """This process knows a small estimator."""
    with known(SVM):
        yield


def planned(whole, **asked):
    wanted = Request(models=(SVM.name,), protocol="corpus", **asked)
    return plan.make(wanted, [whole], lambda d: d.digest(audio_digests(d)), {SVM.name: space()})


def test_a_search_validates_on_corpora_of_the_training_side(whole, svm):
    made = planned(whole, trials=2)
    assert [(s.folds, s.search_specs(s.base)[0].validation) for s in made.studies] == [
        (("north",), ("south",)),
        (("south",), ("west",)),
        (("west",), ("north",)),
    ]
    assert [s.search_specs(s.base)[1].validation for s in planned(whole, trials=2, validation_folds=2).studies] == [
        ("west",),
        ("north",),
        ("south",),
    ]


def test_a_search_of_two_corpora_validates_on_speakers_of_the_one_it_trains_on(databases, svm):
    two = combined(databases[:2], emotion_map.usual(databases[:2]))
    (first, second) = planned(two, trials=2, validation_folds=2).studies
    assert [s.validation for s in first.search_specs(first.base)] == [("south/anna",), ("south/bert",)]
    assert [s.validation for s in second.search_specs(second.base)] == [("north/anna",), ("north/bert",)]


def test_a_row_is_one_test_corpus_with_its_own_final_trials(whole, svm):
    made = planned(whole, seeds=2, folds=("south", "west"))
    assert [c.database for c in made.configurations] == [row_name(tuple(CORPORA), c) for c in ("south", "west")]
    assert [(c.folds, c.folds_total, c.data, c.unit) for c in made.configurations] == [
        (("south",), 1, "north+south+west", "speaker"),
        (("west",), 1, "north+south+west", "speaker"),
    ]
    specs = [spec for s in made.studies for spec in s.final_specs(s.base, 1).values()]
    assert {(s.database, s.protocol, s.fold, s.seed) for s in specs} == {
        ("north+south+west", "corpus", fold, seed) for fold in ("south", "west") for seed in (0, 1)
    }
    assert len({TrialSpec.from_dict(s.to_dict()).trial_id for s in specs}) == 4


def test_what_a_search_cannot_do_is_refused_in_words(whole, databases):
    with known(SVM):

        def problems(database, **asked):
            return fold_checks.problems(Request(models=(SVM.name,), protocol="corpus", **asked), database, {})

        assert problems(whole, trials=1, validation_folds=2) == []
        (said,) = problems(whole, trials=1, validation_folds=3, folds=("north",))
        assert said.endswith("where north is held out, 2 corpora can validate, not 3; use fewer")
        (said,) = problems(whole, trials=1, selection="global")
        assert "it would choose on corpora that other rows of the table test on" in said
        lonely = combined(
            [replace(d, utterances=tuple(u for u in d.utterances if u.speaker == "anna")) for d in databases[:2]],
            emotion_map.usual(databases[:2]),
        )
        assert "1 speakers are left: a search needs one to validate" in problems(lonely, trials=1)[0]
        assert problems(lonely) == []


def test_inner_speakers_are_speakers_of_the_training_side(whole):
    two = combined(
        [load_part(whole, name) for name in ("north", "south")],
        emotion_map.EmotionMap(
            emotions=("hot", "warm", "cold"), labels={n: {e: e for e in whole.emotions} for n in ("north", "south")}
        ),
    )
    asked = Request(models=("time_frequency_transformer",), protocol="corpus", fixed=(("inner_speakers", "2"),))
    assert fold_checks.problems(asked, two, {}) == []
    more = Request(models=("time_frequency_transformer",), protocol="corpus", fixed=(("inner_speakers", "3"),))
    assert "inner_speakers 3 leave nobody to train on of the 3 speakers" in fold_checks.problems(more, two, {})[0]


def load_part(whole, name):
    part = whole.parts[name]
    own = tuple(replace(whole.originals[u.id], emotion=u.emotion) for u in whole.utterances if u.corpus == name)
    return replace(part, utterances=own)


def test_long_names_are_cut_to_what_a_file_system_takes():
    names = [f"corpus{n:02}" * 4 for n in range(20)]
    assert len(name_of(names)) <= 100
    assert name_of(names) != name_of([*names[:-1], "other"])


def test_leaks_are_not_measured_between_corpora(tmp_path, capsys):
    from tfser.leaks import command

    assert command.main(["synthetic", "--model", "lda", "--protocol", "corpus", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--protocol corpus: the table is about one database" in said
    assert "tfser sweep --protocol corpus" in said


@pytest.fixture(scope="module")
def swept(manifests, tmp_path_factory, blank_figures):
    """The folder of the tables of two estimators over three corpora, without a search."""
    out = tmp_path_factory.mktemp("swept")
    (out / "common.yaml").write_text(COMMON, encoding="utf-8")
    more = ("--emotions", str(out / "common.yaml"), "--model", SVM.name, LOGISTIC.name, "--name", "s")
    with known(SVM), known(LOGISTIC):
        assert sweep_command.main(words(manifests, out, *more)) == 0
    return out / "s"


def frame(folder, name):
    return pd.read_csv(folder / name, dtype={"trial_id": str, "fold": str})


def test_the_tables_have_a_row_per_test_corpus_whose_figures_are_those_of_its_utterances(swept):
    rows, guesses = frame(swept, "summary.csv"), frame(swept, "predictions.csv")
    trials = frame(swept, "folds.csv").set_index(["model", "fold"]).trial_id
    assert list(rows.database) == sorted(row_name(tuple(CORPORA), c) for c in CORPORA for _ in range(2))
    for row in rows.itertuples():
        mine = guesses[guesses.trial_id == trials[row.model, row.database.split()[0]]]
        assert set(mine.utterance.str.split("/").str[0]) == {row.database.split()[0]}
        assert row.uar_pooled == pytest.approx(recall_score(mine.truth, mine.predicted, average="macro"), abs=1e-9)
        assert row.war_pooled == pytest.approx(accuracy_score(mine.truth, mine.predicted), abs=1e-9)
        each = [recall_score(o.truth, o.predicted, average="macro") for _, o in mine.groupby("speaker")]
        assert (row.uar_mean, row.uar_sd) == pytest.approx((np.mean(each), np.std(each, ddof=1)), abs=1e-9)
    assert set(rows.folds_total) == {1}


def test_pairs_are_over_the_speakers_of_one_test_corpus(swept):
    pairs = frame(swept, "paired.csv")
    assert set(pairs.folds) == {len(SPEAKERS)}
    assert set(pairs.database) == {row_name(tuple(CORPORA), c) for c in CORPORA}
    assert set(pairs.p_smallest) == {0.25}


def test_every_table_says_what_was_trained_on_and_what_its_intervals_are_about(swept):
    for name in ("comparison.md", "details.md", "report.html"):
        said = " ".join((swept / name).read_text(encoding="utf-8").split())
        for text in ("trained on north (language: not stated), west", "left out 9 utterances (fear 9)"):
            assert text in said, (name, text)
    said = " ".join((swept / "details.md").read_text(encoding="utf-8").split())
    for text in (
        "No figure mixes test corpora",
        "about other corpora no significance is claimable",
        "mean ± sample standard deviation over the speakers of the test corpus",
    ):
        assert text in said, text


@pytest.mark.full
def test_the_tables_are_made_again_from_the_ledger_by_the_name_of_all_corpora(swept, tmp_path, capsys):
    storage = ["--storage", str(swept.parent / ".tfser"), "--out", str(tmp_path)]
    with known(SVM), known(LOGISTIC):
        assert collect.main(["north+south+west", *storage]) == 0
        capsys.readouterr()
        trial = frame(swept, "folds.csv").trial_id[0]
        assert collect.main(["s", *storage, "--repeat", trial]) == 0
    again = capsys.readouterr().out
    assert "--protocol corpus --fold north" in again
    assert f"--emotions {swept.parent / 'common.yaml'}" in again
    assert again.count(".csv ") == 3
    for name in ("summary.csv", "folds.csv", "comparison.md", "details.md"):
        (made,) = tmp_path.glob(f"*/{name}")
        assert made.read_bytes() == (swept / name).read_bytes()


def test_an_experiment_is_one_of_a_set_of_corpora(swept):
    client = MlflowClient(tracking_uri=f"sqlite:///{swept.parent / '.tfser' / 'mlflow.db'}")
    (found,) = client.search_experiments(filter_string="name LIKE 'tfser/%'")
    assert found.name == "tfser/north+south+west/corpus"


@pytest.mark.full
def test_emodb_and_the_built_in_voice_end_with_a_table_figures_and_predictions(real_speech, tmp_path, capsys):
    common = tmp_path / "common.yaml"
    common.write_text(
        "emodb: {anger: hot, happiness: warm, sadness: cold, boredom: null}\n"
        "synthetic: {angry: hot, happy: warm, sad: cold}\n",
        encoding="utf-8",
    )
    more = ("--emotions", str(common), "--data", str(real_speech), "--model", "lda", "time_frequency_transformer")
    assert sweep_command.main(words(["emodb", "synthetic"], tmp_path, *more, "--epochs", "1", "--name", "s")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "emodb: anger as hot, happiness as warm, sadness as cold, left out 275 utterances (boredom 81," in said
    rows = frame(tmp_path / "s", "summary.csv")
    assert Counter(rows.database) == {"emodb from synthetic": 2, "synthetic from emodb": 2}
    assert rows.uar_pooled.between(0, 1).all()
    assert list((tmp_path / "s").glob("confusion_emodb-from-synthetic_*.png"))
    assert "EmoDB (from synthetic)" in (tmp_path / "s" / "comparison.md").read_text(encoding="utf-8")
    trials = frame(tmp_path / "s", "folds.csv").set_index(["model", "fold"]).trial_id
    audio = next(path for path in (real_speech / "emodb").rglob("*.*") if path.suffix in (".wav", ".flac"))
    for model in ("lda", "time_frequency_transformer"):
        trial = trials[model, "synthetic"]
        places = ["--results", str(tmp_path), "--storage", str(tmp_path / ".tfser")]
        assert predict.main([trial, str(audio), *places]) == 0
        said = capsys.readouterr().out
        assert "emodb+synthetic without corpus synthetic" in said
        assert all(emotion in said for emotion in ("hot", "warm", "cold"))


@pytest.mark.parametrize("model", [SVM.name, "time_frequency_transformer"])
def test_a_plan_counts_the_trials_of_every_test_corpus_and_what_they_take(manifests, tmp_path, svm, model, capsys):
    small = ["--epochs", "1", "--set", *SET_SMALL] if model != SVM.name else []
    typed = words(manifests, tmp_path / "out", "--model", model, *small, "--plan")
    assert sweep_command.main(typed) == 0
    assert "0 done, 3 to train" in capsys.readouterr().out
    assert sweep_command.main([*typed, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [(row["database"], row["final"]["to_train"]) for row in made["configurations"]] == [
        (row_name(tuple(CORPORA), corpus), 1) for corpus in CORPORA
    ]
    assert made["memory"]["of_a_trial"].keys() == {model}
    assert made["disk"]["ledger"] > 0
    assert not (tmp_path / "out").exists()
