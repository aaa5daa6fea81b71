"""What a database cannot be used for is said before anything starts, however little is wrong with its files."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.corpora import COMMON, SPEAKERS, write_corpora
from tfser.databases import emotion_map, load
from tfser.databases.combined import combined
from tfser.errors import RequestError, TrialError
from tfser.models import BUILT_IN, Estimator
from tfser.planning import fold_checks
from tfser.planning.request import Request
from tfser.planning.search_space import Space
from tfser.planning.settings import complete, extractor, settings_of
from tfser.sweep import command as sweep_command
from tfser.sweep.options import parse
from tfser.sweep.request import check
from tfser.training import estimators
from tfser.training.estimators import FitData


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora"), ("north", "south"), takes=1)


def kept(tiny, *, speakers=("anna", "bert", "carl", "dora"), emotions=("calm", "glad", "tense")):
    utterances = tuple(u for u in tiny.utterances if u.speaker in speakers and u.emotion in emotions)
    return replace(tiny, info=replace(tiny.info, emotions=emotions), utterances=utterances)


@pytest.mark.parametrize("protocol", ["speaker", "session"])
def test_a_database_of_one_emotion_is_refused_beside_what_else_is_wrong_with_it(tiny, protocol):
    said = fold_checks.problems(Request(protocol=protocol, folds=("annA",)), kept(tiny, emotions=("glad",)), {})
    assert said[0] == (
        "tiny: all of its utterances are glad; telling emotions apart needs two or more; add utterances of another, "
        "or correct their labels"
    )
    assert "--fold: no 'annA'" in said[1]
    assert fold_checks.problems(Request(protocol=protocol), kept(tiny, emotions=("calm", "glad")), {}) == []


def test_nothing_is_started_on_a_manifest_of_one_emotion(tiny_manifest, tmp_path, capsys):
    lines = tiny_manifest.read_text(encoding="utf-8").splitlines()
    rows = [line.replace(",calm,", ",glad,").replace(",tense,", ",glad,") for line in lines]
    alike = tiny_manifest.with_name("alike.csv")
    alike.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert sweep_command.main([str(alike), "--model", "svm", "--in-process", "--out", str(tmp_path / "out")]) == 2
    assert "alike: all of its utterances are glad" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ models that choose a setting on training speakers

SPACES = {"svm": Space(source="here", model="svm", fixed={}, dimensions=())}


@pytest.mark.parametrize(
    ("speakers", "asked", "said"),
    [
        (
            ("anna", "bert"),
            {},
            "without anna, it has 1: add speakers, or leave the model out",
        ),
        (("anna", "bert"), {"purpose": "deploy"}, ""),
        (("anna", "bert", "carl"), {}, ""),
        (
            ("anna", "bert", "carl"),
            {"trials": 2},
            "without anna and bert, it has 1: use --trials 0, add speakers, or leave the model out",
        ),
        (("anna", "bert", "carl"), {"trials": 2, "purpose": "deploy"}, ""),
        (
            ("anna", "bert", "carl"),
            {"trials": 2, "purpose": "deploy", "selection": "global"},
            "without anna and bert, it has 1: use --trials 0, add speakers, or leave the model out",
        ),
        (("anna", "bert", "carl"), {"protocol": "session", "folds": ("s2",)}, ""),
        (
            ("anna", "bert", "carl"),
            {"protocol": "session"},
            "without s1, it has 1: add speakers, or leave the model out",
        ),
        (("anna", "bert", "carl", "dora"), {"trials": 2}, ""),
    ],
)
def test_a_model_that_chooses_on_training_speakers_is_refused_where_there_are_too_few(tiny, speakers, asked, said):
    request = Request(models=("svm", "gerda", "time_frequency_transformer"), **asked)
    found = fold_checks.problems(request, kept(tiny, speakers=speakers), SPACES if request.trials else {})
    whole = "tiny: svm: it chooses a setting on held-out training speakers and needs 2; "
    assert found == ([whole + said] if said else [])


@pytest.mark.parametrize("model", [model for model in BUILT_IN if isinstance(model, Estimator)], ids=lambda m: m.name)
def test_a_built_in_estimator_says_how_few_training_speakers_its_fit_takes(model):
    random = np.random.default_rng(0)
    settings = complete(model, {name: known.default for name, known in settings_of(model).items()})
    reads = extractor(model, settings)
    length = 1 if reads.vector else 40
    rows = tuple((length * i, length, i % 2) for i in range(24))
    data = FitData(
        features=random.normal(size=(24 * length, reads.channels * reads.bands)).astype(np.float32),
        vector=reads.vector,
        emotions=("calm", "glad"),
        train=rows,
        speakers=("anna",) * 24,
        scored=rows[:2],
    )

    def fit():
        estimators.fit(lambda: model.build(model.ablations[0], settings, 0), data, 0)

    if model.least_speakers == 1:
        fit()
    else:
        with pytest.raises(TrialError, match="there is only one"):
            fit()


# ------------------------------------------------------------------ corpora that share their speakers


def shared(manifests, folder, model, *more):
    """What a sweep of two corpora of the same three persons says."""
    common = folder / "common.yaml"
    same = ", ".join(f"[north/{name}, south/{name}]" for name in SPEAKERS)
    common.write_text("\n".join([*COMMON.splitlines()[:3], f"same_speakers: [{same}]", ""]), encoding="utf-8")
    typed = [*map(str, manifests[:2]), "--protocol", "corpus", "--emotions", str(common), "--out", str(folder / "out")]
    with pytest.raises(RequestError) as refused:
        check(parse([*typed, "--model", model, *more]))
    return refused.value.problems


@pytest.mark.parametrize("more", [(), ("--trials", "2")])
def test_corpora_whose_speakers_are_all_the_same_are_refused_beside_every_other_problem(manifests, tmp_path, more):
    said = shared(manifests, tmp_path, "svm", "--fold", "north", "souht", *more)
    assert (
        "north+south: where north is held out, nobody is left to train on, because every speaker of the other corpora "
        "is one of north too; correct same_speakers of --emotions, add a database, or leave the fold out with --fold"
    ) in said
    assert any("--fold: no 'souht'" in line for line in said)


def test_a_model_that_chooses_on_training_speakers_needs_two_in_the_other_corpora_too(manifests, tmp_path):
    two = combined(
        [load(str(path), None) for path in manifests[:2]],
        emotion_map.usual([load(str(path), None) for path in manifests[:2]]),
    )
    lonely = replace(
        two, utterances=tuple(u for u in two.utterances if u.speaker in ("north/anna", "south/anna", "south/bert"))
    )
    said = fold_checks.problems(Request(models=("svm",), protocol="corpus"), lonely, {})
    assert said == [
        "north+south: svm: it chooses a setting on held-out training speakers and needs 2; without south, it has 1: "
        "add speakers, or leave the model out"
    ]
