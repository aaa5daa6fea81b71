from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import LeaveOneGroupOut

from tfser.errors import RequestError
from tfser.evaluation import folds

U = namedtuple("U", "speaker session")


def people(speakers):
    """Utterances whose speakers are numbered; two speakers share a session, as in IEMOCAP."""
    return [U(f"sp{s:02}", f"ses{s // 2}") for s in speakers]


@given(st.lists(st.integers(0, 9), min_size=2).filter(lambda s: len(set(s)) > 1), st.sampled_from(["speaker"]))
def test_folds_are_those_of_scikit_learn(speakers, protocol):
    utterances = people(speakers)
    ours = [folds.split(utterances, protocol, fold) for fold in folds.folds(utterances, protocol)]
    groups = [folds.group(u, protocol) for u in utterances]
    theirs = LeaveOneGroupOut().split(np.zeros(len(groups)), groups=groups)
    assert ours == [(train.tolist(), test.tolist()) for train, test in theirs]


many_sessions = st.lists(st.integers(0, 9), min_size=6).filter(lambda s: len({x // 2 for x in s}) > 2)


@given(many_sessions, st.sampled_from(["speaker", "session"]), st.data())
def test_no_speaker_or_session_is_on_two_sides_and_search_never_holds_the_test_fold(speakers, protocol, data):
    utterances = people(speakers)
    names = folds.folds(utterances, protocol)
    for fold in names:
        rotation = data.draw(st.integers(0, len(names) - 2))
        validation = folds.validation_group(names, fold, rotation)
        assert validation != fold
        train, scored = folds.split(utterances, protocol, fold, (validation,))
        held = {i for i, u in enumerate(utterances) if folds.group(u, protocol) == fold}
        assert held.isdisjoint(train)
        assert held.isdisjoint(scored)
        for attribute in ("speaker", "session") if protocol == "session" else ("speaker",):
            sides = [{getattr(utterances[i], attribute) for i in side} for side in (train, scored, held)]
            assert sides[0].isdisjoint(sides[1])
            assert sides[0].isdisjoint(sides[2])
            assert sides[1].isdisjoint(sides[2])
        assert sorted([*train, *scored, *held]) == list(range(len(utterances)))


def test_the_rotation_visits_every_training_speaker_once():
    names = ("a", "b", "c", "d")
    assert [folds.validation_group(names, "c", r) for r in range(3)] == ["d", "a", "b"]
    with pytest.raises(ValueError, match="rotation 3 of 3"):
        folds.validation_group(names, "c", 3)


def test_session_folds_need_sessions_and_keep_a_speaker_in_one():
    with pytest.raises(RequestError, match="it has no sessions"):
        folds.folds([U("a", None), U("b", None)], "session")
    with pytest.raises(RequestError, match="speaker a is in sessions s1, s2"):
        folds.folds([U("a", "s1"), U("a", "s2"), U("b", "s2")], "session")


def test_one_speaker_cannot_be_left_out():
    with pytest.raises(RequestError, match="it has 1 speaker: leave-one-out needs at least 2"):
        folds.folds([U("a", None)], "speaker")


def test_a_fold_cannot_validate_itself_or_leave_nobody_to_train_on():
    utterances = people([0, 1])
    with pytest.raises(ValueError, match="cannot validate"):
        folds.split(utterances, "speaker", "sp00", ("sp00",))
    with pytest.raises(ValueError, match="leaves no utterance to train on"):
        folds.split(utterances, "speaker", "sp00", ("sp01",))
