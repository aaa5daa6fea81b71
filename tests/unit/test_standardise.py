"""Whose statistics an utterance is standardised with, against NumPy on the frames themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfser.features.standardise import KINDS, SMALLEST, standardised, statistics

LENGTHS = (7, 3, 11, 5, 4)
STARTS = tuple(int(start) for start in np.cumsum((0, *LENGTHS[:-1])))
ROWS = tuple((start, length, 0) for start, length in zip(STARTS, LENGTHS, strict=True))
SPEAKERS = ("anna", "bert", "anna", "cora", "bert")
FRAMES = np.random.default_rng(0).normal(3, 2, (sum(LENGTHS), 4)).astype(np.float32)


def own(*numbers: int) -> np.ndarray:
    return np.concatenate([FRAMES[STARTS[i] : STARTS[i] + LENGTHS[i]] for i in numbers]).astype(np.float64)


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("training", [(0, 2)] * 5),
        ("utterance", [(i,) for i in range(5)]),
        ("speaker", [(0, 2), (1, 4), (0, 2), (3,), (1, 4)]),
    ],
)
def test_each_kind_takes_the_mean_and_deviation_of_the_utterances_that_it_names(
    kind: Any, of: list[tuple[int, ...]]
) -> None:
    found = standardised(FRAMES, ROWS, kind, training=(ROWS[0], ROWS[2]), speakers=SPEAKERS)
    for i, (values, used) in enumerate(zip(found, of, strict=True)):
        expected = (own(i) - own(*used).mean(axis=0)) / own(*used).std(axis=0)
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-9)


def test_without_standardisation_frames_stay_as_they_are() -> None:
    for values, (start, length, _) in zip(standardised(FRAMES, ROWS, "none"), ROWS, strict=True):
        np.testing.assert_array_equal(values, FRAMES[start : start + length])


def test_a_value_that_never_changes_becomes_zero() -> None:
    frames = np.full((6, 2), 4.0, dtype=np.float32)
    made = statistics(frames, ((0, 6, 0),), "utterance")
    assert made.std.tolist() == [[SMALLEST, SMALLEST]]
    assert not standardised(frames, ((0, 6, 0),), "utterance")[0].any()


def test_one_row_per_utterance_cannot_be_standardised_with_itself() -> None:
    vectors = tuple((i, 1, 0) for i in range(5))
    with pytest.raises(ValueError, match="one row per utterance"):
        standardised(FRAMES, vectors, "utterance")
    by_speaker = standardised(FRAMES, vectors, "speaker", speakers=SPEAKERS)
    np.testing.assert_allclose(by_speaker[0] + by_speaker[2], 0, atol=1e-12)


def test_standardisation_per_speaker_needs_every_speaker() -> None:
    with pytest.raises(ValueError, match="2 speakers of 5 utterances"):
        statistics(FRAMES, ROWS, "speaker", speakers=("anna", "bert"))


def test_the_kinds_are_those_that_the_documentation_names() -> None:
    assert KINDS == ("training", "utterance", "speaker", "none")
