"""No help on small corpora sees the test speaker: each is trained with the labels of that speaker permuted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.ingredients import ALL, INGREDIENTS
from tests.helpers.tiny import SMALL, write_tiny
from tfser.databases import load
from tfser.execution import run_network
from tfser.features.pack import Pack
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS
from tfser.planning import plan
from tfser.planning.request import Request
from tfser.trial import TrialSpec

MODEL = "time_frequency_transformer"
EVERY = {**INGREDIENTS, "all at once": ALL}
EPOCHS = 3


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The tiny database, the digests of its audio, and a store of its features."""
    folder = tmp_path_factory.mktemp("stored")
    tiny = load(str(write_tiny(folder)), None)
    return tiny, audio_digests(tiny), FeatureStore(folder / "features")


def specs(stored, settings) -> tuple[TrialSpec, TrialSpec, Pack]:
    """The final trial of fold carl, a search trial of it, and the features, extracted with their copies."""
    tiny, digests, store = stored
    words = {**SMALL, "learning_rate": 0.02, **settings}
    fixed = tuple((name, str(value)) for name, value in words.items())
    asked = Request(models=(MODEL,), ablations=("T+F",), epochs=EPOCHS, folds=("carl",), fixed=fixed)
    made = plan.make(asked, [tiny], lambda database: database.digest(digests), {})
    pack, *_ = [store.ensure(tiny, digests, each) for each in made.features["tiny"]]
    (study,) = made.studies
    (final,) = study.final_specs(study.base, EPOCHS).values()
    return final, replace(final, purpose="search", validation=("dora",)), pack


def permuted(pack: Pack, speaker: str) -> Pack:
    """Shift the emotions of a speaker by three utterances; the number of each stays the same."""
    own = [u.emotion for u in pack.utterances if u.speaker == speaker]
    new = iter(own[3:] + own[:3])
    return replace(
        pack,
        utterances=tuple(replace(u, emotion=next(new)) if u.speaker == speaker else u for u in pack.utterances),
    )


def trained(pack: Pack, spec: TrialSpec) -> tuple[dict[str, np.ndarray], dict[str, list[float]], np.ndarray]:
    """Weights, curves and confusion of a trial that sees what ``trial_data`` gives it."""
    data = run_network.trial_data(pack, pack.frames(), spec)
    model = MODELS[MODEL]
    settings = run_network.build_settings(model, spec.settings)
    one = run_network.Training(
        lambda: model.build(spec.ablation, settings, 3), data, settings, 0, spec.epochs, torch.device("cpu")
    )
    while one.epoch < spec.epochs and not (spec.purpose == "final" and one.is_past_its_best):
        one.run_epoch()
        if spec.purpose == "search":
            one.validate()
    if spec.purpose == "final":
        one.take_best()
    confusion = one.score().confusion
    curves = {name: list(getattr(one.curves, name)) for name in type(one.curves).__slots__}
    return {name: value.numpy() for name, value in one.weights().items()}, curves, confusion


@pytest.mark.parametrize("name", EVERY)
def test_the_labels_of_the_test_speaker_change_no_weight_and_no_curve(stored, name):
    final, search, pack = specs(stored, EVERY[name])
    other = permuted(pack, "carl")
    for spec in (final, search):
        (weights, curves, _), (again, also, _) = trained(pack, spec), trained(other, spec)
        assert curves == also
        for each, value in weights.items():
            np.testing.assert_array_equal(value, again[each], err_msg=each)


def test_the_permuted_labels_would_show_in_what_is_trained_on_them(stored):
    final, _, pack = specs(stored, INGREDIENTS["early end"])
    for speaker in ("anna", "dora"):  # dora is the inner speaker, whose curve they change
        (weights, curves, _), (again, also, _) = trained(pack, final), trained(permuted(pack, speaker), final)
        changed = any(not np.array_equal(value, again[each]) for each, value in weights.items())
        assert changed or curves != also
