"""Utterance rules against plain NumPy and scikit-learn, and that a rule's classifier sees training utterances only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.svm import SVC
from torch import nn

from tfser.execution.run_trial import trial_data
from tfser.features.pack import Pack, PackedUtterance
from tfser.models import MODELS, PROPOSED
from tfser.planning.settings import HYPERPARAMETERS, hashed, published_settings, setting_problems
from tfser.training.determinism import weights_digest
from tfser.training.scoring import UtteranceScorer
from tfser.training.training import Training, TrialData
from tfser.training.utterance_rules import PREFIX, RULES, UtteranceRule, pyramid_of, statistics_of
from tfser.trial import TrialSpec

CPU = torch.device("cpu")
EMOTIONS = 4


def outputs(utterances: int = 40, emotions: int = EMOTIONS, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors of segments that lean to their utterance's emotion: (segments, of_utterance, emotion)."""
    rng = np.random.default_rng(seed)
    emotion = np.arange(utterances) % emotions
    of_utterance = np.repeat(np.arange(utterances), rng.integers(1, 9, utterances))
    segments = rng.dirichlet(np.ones(emotions), len(of_utterance))
    segments[np.arange(len(of_utterance)), emotion[of_utterance]] += 0.25
    return segments / segments.sum(axis=1, keepdims=True), of_utterance, emotion


def each(segments: np.ndarray, of_utterance: np.ndarray) -> list[np.ndarray]:
    return [segments[of_utterance == i] for i in range(of_utterance.max() + 1)]


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


# ------------------------------------------------------------------ the rules


def test_the_maximum_is_that_of_each_emotion_divided_so_that_a_row_sums_to_one() -> None:
    segments = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]])
    found = UtteranceRule(name="maximum")(segments, np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [[0.7 / 1.6, 0.6 / 1.6, 0.3 / 1.6], [0.2, 0.3, 0.5]], rtol=1e-15)


@pytest.mark.parametrize("name", ["mean", "whole"])
def test_the_mean_is_that_of_an_utterances_segments(name: Any) -> None:
    segments, of_utterance, _ = outputs()
    found = UtteranceRule(name=name)(segments, of_utterance)
    np.testing.assert_allclose(found, [own.mean(axis=0) for own in each(segments, of_utterance)], rtol=1e-14)


def test_the_statistics_are_maximum_minimum_mean_and_share_above_a_fifth() -> None:
    own = np.array([[0.2, 0.8], [0.21, 0.79], [0.9, 0.1]])
    np.testing.assert_allclose(statistics_of(own), [0.9, 0.8, 0.2, 0.1, 1.31 / 3, 1.69 / 3, 2 / 3, 2 / 3], rtol=1e-14)


def test_the_extreme_learning_machine_is_ridge_regression_behind_its_random_units() -> None:
    segments, of_utterance, emotion = outputs()
    rule = UtteranceRule(name="statistics", units=30, ridge=0.3).fit(segments, of_utterance, emotion, EMOTIONS, seed=5)
    x = np.array([statistics_of(own) for own in each(segments, of_utterance)])
    hidden = 1 / (1 + np.exp(-(x @ rule.arrays["hidden_weight"].T + rule.arrays["hidden_bias"])))
    target = np.where(emotion[:, None] == np.arange(EMOTIONS), 1, -1)
    reference = Ridge(alpha=0.3, fit_intercept=False, solver="svd").fit(hidden, target)
    np.testing.assert_allclose(rule(segments, of_utterance), softmax(reference.predict(hidden)), rtol=1e-9)
    assert rule.arrays["hidden_weight"].shape == (30, 4 * EMOTIONS)
    assert (rule(segments, of_utterance).argmax(axis=1) == emotion).mean() > 0.6


def test_without_units_the_statistics_themselves_are_regressed() -> None:
    segments, of_utterance, emotion = outputs()
    rule = UtteranceRule(name="statistics", units=0, ridge=2.0).fit(segments, of_utterance, emotion, EMOTIONS, seed=5)
    x = np.array([statistics_of(own) for own in each(segments, of_utterance)])
    target = np.where(emotion[:, None] == np.arange(EMOTIONS), 1, -1)
    reference = Ridge(alpha=2.0, fit_intercept=False, solver="svd").fit(x, target)
    np.testing.assert_allclose(rule(segments, of_utterance), softmax(reference.predict(x)), rtol=1e-9)


def test_the_random_units_are_those_of_the_seed() -> None:
    segments, of_utterance, emotion = outputs()
    fitted = [
        UtteranceRule(name="statistics").fit(segments, of_utterance, emotion, EMOTIONS, seed) for seed in (1, 1, 2)
    ]
    weights = [rule.arrays["hidden_weight"] for rule in fitted]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_the_pyramid_pools_one_two_and_four_parts_by_the_norm() -> None:
    own = np.arange(1, 13.0).reshape(6, 2) / 20

    def norm(rows: list[int], p: float) -> np.ndarray:
        return np.mean(own[rows] ** p, axis=0) ** (1 / p)

    parts = [(range(6), 0.25), ([0, 1, 2], 0.25), ([3, 4, 5], 0.25), ([0], 0.5), ([1, 2], 0.5), ([3], 0.5)]
    for p in (1.0, 2.0, 3.5):
        expected = np.concatenate([w * norm(list(rows), p) for rows, w in [*parts, ([4, 5], 0.5)]])
        np.testing.assert_allclose(pyramid_of(own, p), expected, rtol=1e-13)
    np.testing.assert_allclose(pyramid_of(own, 1000.0)[:2], own.max(axis=0) / 4, rtol=3e-3)


def test_an_utterance_of_fewer_segments_than_parts_repeats_its_last_one() -> None:
    own = np.array([[0.2, 0.8], [0.6, 0.4]])
    np.testing.assert_array_equal(pyramid_of(own, 2.0), pyramid_of(own[[0, 1, 1, 1]], 2.0))


@pytest.mark.parametrize("emotions", [2, 3, 5])
def test_the_pyramids_classifier_is_scikit_learns_linear_svm(emotions: int) -> None:
    segments, of_utterance, emotion = outputs(45, emotions)
    rule = UtteranceRule(name="pyramid", p=3.0, c=0.7).fit(segments, of_utterance, emotion, emotions, seed=0)
    x = np.array([pyramid_of(own, 3.0) for own in each(segments, of_utterance)])
    reference = SVC(kernel="linear", C=0.7).fit(x, emotion)
    found = rule(segments, of_utterance)
    np.testing.assert_array_equal(found.argmax(axis=1), reference.predict(x))
    if emotions > 2:  # for two, scikit-learn returns one margin instead of votes
        np.testing.assert_allclose(found, softmax(reference.decision_function(x)), rtol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", ["statistics", "pyramid"])
def test_an_emotion_that_no_training_utterance_shows_gets_probability_zero(name: Any) -> None:
    segments, of_utterance, emotion = outputs()
    rule = UtteranceRule(name=name).fit(segments, of_utterance, np.where(emotion == 2, 1, emotion), EMOTIONS, seed=0)
    found = rule(segments, of_utterance)
    assert (found[:, 2] == 0).all()
    assert (found[:, [0, 1, 3]] > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", ["statistics", "pyramid"])
def test_a_single_trained_emotion_is_always_recognised(name: Any) -> None:
    segments, of_utterance, emotion = outputs()
    rule = UtteranceRule(name=name).fit(segments, of_utterance, np.ones_like(emotion), EMOTIONS, seed=0)
    np.testing.assert_array_equal(rule(segments, of_utterance), np.tile([0.0, 1, 0, 0], (len(emotion), 1)))


@pytest.mark.parametrize("name", RULES)
def test_an_utterance_alone_has_the_same_bits_as_among_others_and_its_row_sums_to_one(name: Any) -> None:
    segments, of_utterance, emotion = outputs()
    rule = UtteranceRule(name=name).fit(segments, of_utterance, emotion, EMOTIONS, seed=0)
    together = rule(segments, of_utterance)
    alone = np.concatenate([rule(own, np.zeros(len(own), dtype=np.int64)) for own in each(segments, of_utterance)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-12)


def test_a_rule_that_was_not_fitted_scores_nothing() -> None:
    with pytest.raises(ValueError, match="statistics was not fitted"):
        UtteranceRule(name="statistics")(np.ones((2, 3)) / 3, np.array([0, 1]))


# ------------------------------------------------------------------ the settings


def test_the_settings_of_rules_stay_out_of_a_trial_that_is_as_before() -> None:
    new = {"standardisation", "utterance_rule", "statistics_units", "statistics_ridge", "pyramid_p", "pyramid_c"}
    for name in new:
        assert HYPERPARAMETERS[name].implied == HYPERPARAMETERS[name].default
    declared = MODELS["atfnn"]
    assert not new & {*hashed(declared, published_settings("atfnn"))}
    assert hashed(declared, published_settings("atfnn") | {"utterance_rule": "maximum"})["utterance_rule"] == "maximum"


def test_a_whole_utterance_is_refused_for_a_network_that_wants_one_length() -> None:
    declared = MODELS["atfnn"]
    settings = published_settings("atfnn") | {"utterance_rule": "whole"}
    assert setting_problems(declared, "ATFNN", settings) == [
        "utterance_rule: whole needs a network that takes any number of frames, and atfnn does not declare any_length; "
        "legal: mean, maximum, statistics, pyramid"
    ]
    assert setting_problems(replace(declared, any_length=True), "ATFNN", settings) == []


# ------------------------------------------------------------------ in a training


class Net(nn.Module):
    """A network over any number of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.conv(x).relu().mean(dim=(2, 3)))
        return logits


LENGTHS = (20, 9, 33, 5, 24, 17, 40, 12, 26, 31, 8, 22)
STARTS = tuple(int(start) for start in np.cumsum((0, *LENGTHS[:-1])))


def data(
    frames: np.ndarray | None = None, scored: tuple[int, ...] = (8, 9, 10, 11), relabelled: bool = False
) -> TrialData:
    frames = np.random.default_rng(3).normal(2, 3, (sum(LENGTHS), 8)).astype(np.float32) if frames is None else frames
    rows = tuple((start, n, i % 3) for i, (start, n) in enumerate(zip(STARTS, LENGTHS, strict=True)))
    chosen = tuple((start, n, (emotion + relabelled) % 3) for start, n, emotion in (rows[i] for i in scored))
    speakers = tuple("anna" if i % 2 else "bert" for i in range(8)) + tuple("cora" for _ in scored)
    return TrialData(frames=frames, emotions=("a", "b", "c"), train=rows[:8], scored=chosen, speakers=speakers)


def settings(**changes: Any) -> dict[str, Any]:
    sizes = {"n_mels": 8, "segment_frames": 8, "batch_size": 4, "learning_rate": 0.01}
    return published_settings("time_frequency_transformer") | sizes | changes


def trained(d: TrialData, epochs: int = 2, build: type[nn.Module] = Net, **changes: Any) -> Training:
    training = Training(build, d, settings(**changes), 0, epochs, CPU)
    for _ in range(epochs):
        training.run_epoch()
        training.validate()
    return training


def test_a_search_trial_knows_the_speakers_of_its_own_utterances_and_not_the_test_speaker(tmp_path: Path) -> None:
    people = [("anna", "bert", "cora", "dora")[i % 4] for i in range(8)]
    utterances = tuple(
        PackedUtterance(f"u{i}", speaker, "ab"[i % 2], None, "", 10 * i, 10) for i, speaker in enumerate(people)
    )
    pack = Pack(tmp_path / "pack", "own", "digest", ("a", "b"), utterances, 4)
    common: dict[str, Any] = {"database": "own", "database_digest": "digest", "protocol": "speaker", "fold": "cora"}
    common |= {"model": "atfnn", "ablation": "ATFNN", "seed": 0, "epochs": 1, "hyperparameters": ()}
    for purpose, validation in (("search", ("dora",)), ("final", ())):
        seen = trial_data(pack, np.zeros((80, 4)), TrialSpec(**common, purpose=purpose, validation=validation))
        rows = (*seen.train, *seen.scored)
        assert seen.speakers == tuple(people[start // 10] for start, *_ in rows)
        assert ("cora" in seen.speakers) == (purpose == "final")


EVERY = [
    *({"utterance_rule": rule} for rule in RULES),
    *({"standardisation": kind} for kind in ("utterance", "speaker", "none")),
    {"utterance_rule": "pyramid", "standardisation": "utterance"},
]
every = pytest.mark.parametrize("changes", EVERY, ids=["-".join(each.values()) for each in EVERY])


@every
def test_what_is_trained_depends_on_no_scored_utterance_and_no_scored_label(changes: dict[str, Any]) -> None:
    """Other audio, other labels or other utterances to score leave weights, classifier and statistics as they were."""
    first = trained(data(), **changes)
    noise = data().frames.copy()
    noise[STARTS[8] :] = np.random.default_rng(9).normal(-7, 20, noise[STARTS[8] :].shape)
    for other in (data(noise), data(relabelled=True), data(scored=(11, 9))):
        again = trained(other, **changes)
        assert weights_digest(again.weights()) == weights_digest(first.weights())
        np.testing.assert_array_equal(again.mean, first.mean)
        np.testing.assert_array_equal(again.std, first.std)
    assert weights_digest(
        trained(replace(data(), train=data().train[1:], speakers=data().speakers[1:]), **changes).weights()
    ) != weights_digest(first.weights())


@every
def test_permuting_the_scored_utterances_permutes_their_scores_and_changes_none(changes: dict[str, Any]) -> None:
    one = trained(data(), **changes).score().probabilities
    other = trained(data(scored=(10, 8, 11, 9)), **changes).score().probabilities
    if changes.get("standardisation") == "speaker":  # the statistics are a sum in another order
        np.testing.assert_allclose(one[[2, 0, 3, 1]], other, rtol=1e-5)
    else:
        np.testing.assert_array_equal(one[[2, 0, 3, 1]], other)


def test_only_standardisation_per_speaker_lets_other_scored_utterances_change_a_score() -> None:
    for kind in ("training", "utterance", "none", "speaker"):
        one, fewer = (
            trained(data(scored=scored), standardisation=kind).score().probabilities[0] for scored in ((8, 9, 10), (8,))
        )
        assert np.array_equal(one, fewer) == (kind != "speaker"), kind


@every
def test_any_utterance_is_scored_by_the_weights_as_it_was_in_the_training(changes: dict[str, Any]) -> None:
    """As ``predict`` does: the rule comes back from the weights, and every bit of the scores with it."""
    d = data()
    training = trained(d, **changes)
    recorded = training.score().probabilities
    weights = {name: tensor.clone() for name, tensor in training.weights().items()}
    rule, own = UtteranceRule.of(training.settings).restored(weights)
    assert own.keys() == training.model.state_dict().keys()
    assert any(name.startswith(PREFIX) for name in weights) == (training.rule.name in ("statistics", "pyramid"))
    scorer = UtteranceScorer(scorer=training.scorer, settings=training.settings, rule=rule)
    frames = [torch.from_numpy(d.frames[start : start + n].copy()) for start, n, _ in d.scored]
    beside = [each.numpy() for each in frames]
    for each_frames, expected in zip(frames, recorded, strict=True):
        np.testing.assert_array_equal(scorer(each_frames, beside)[0], expected)


@every
def test_a_training_that_goes_on_from_its_state_ends_with_the_same_weights_and_curves(changes: dict[str, Any]) -> None:
    whole = trained(data(), 3, **changes)
    first = Training(Net, data(), settings(**changes), 0, 3, CPU)
    first.run_epoch()
    first.validate()
    second = Training(Net, data(), settings(**changes), 0, 3, CPU)
    second.restore(first.state())
    while second.epoch < 3:
        second.run_epoch()
        second.validate()
    assert weights_digest(second.weights()) == weights_digest(whole.weights())
    assert second.curves == whole.curves
    np.testing.assert_array_equal(second.score().probabilities, whole.score().probabilities)


@pytest.mark.parametrize("name", ["statistics", "pyramid"])
def test_a_rules_classifier_is_fitted_anew_to_the_network_of_each_epoch(name: str) -> None:
    training = Training(Net, data(), settings(utterance_rule=name), 0, 2, CPU)
    found = []
    for _ in range(2):
        training.run_epoch()
        training.score()
        found.append(training.rule.arrays["weight"])
    assert not np.array_equal(*found)


def test_a_whole_utterance_is_one_pass_over_all_of_its_frames_and_a_short_one_is_repeated() -> None:
    training = trained(data(scored=(8, 3)), utterance_rule="whole")
    (long, short), net = training.score().probabilities, training.model.eval()
    x = (training.data.frames.astype(np.float64) - training.mean) / training.std
    for found, start, n in ((long, STARTS[8], 26), (short, STARTS[3], 5)):
        frames = x[start + np.arange(max(n, 8)) % n]
        with torch.no_grad():
            expected = net(torch.from_numpy(frames.T[None, None].astype(np.float32))).softmax(dim=1)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert training.score().segment_confusion.sum() == 2


def test_no_network_of_the_two_papers_takes_any_length_since_both_fix_the_frames_of_a_segment() -> None:
    assert not any(model.any_length for model in PROPOSED.values())
