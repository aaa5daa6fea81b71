"""The built-in database: deterministic, quick, and too hard for an average spectrum."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from tfser.databases import load
from tfser.databases.base import Database
from tfser.databases.checks import waveform_problems

HASH = """
import hashlib
import pickle
from tfser.databases import load
d = load("synthetic", None)
print(hashlib.sha256(b"".join(d.read(u).samples.tobytes() for u in d.utterances[::20])).hexdigest())
"""


@pytest.fixture(scope="module")
def database() -> Database:
    return load("synthetic", None)


@pytest.fixture(scope="module")
def samples(database: Database) -> list[np.ndarray]:
    return [database.read(u).samples[0] for u in database.utterances]


def test_it_has_four_speakers_in_two_sessions_and_four_emotions(database: Database) -> None:
    assert database.emotions == ("angry", "happy", "neutral", "sad")
    assert {u.speaker: u.session for u in database.utterances} == {"ada": "s1", "ben": "s1", "cleo": "s2", "dan": "s2"}
    cells = Counter((u.speaker, u.emotion) for u in database.utterances)
    assert len(cells) == 16
    assert set(cells.values()) <= {12, 13, 14}
    assert "say nothing about emotion" in database.remark


def test_another_process_makes_the_same_samples(database: Database) -> None:
    here = hashlib.sha256(b"".join(database.read(u).samples.tobytes() for u in database.utterances[::20])).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", HASH], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout.strip()
    assert here == there


def test_samples_are_16_bit_steps_in_a_sane_range(database: Database, samples: list[np.ndarray]) -> None:
    for utterance, wave in zip(database.utterances, samples, strict=True):
        assert wave.dtype == np.float32
        assert 1.1 * 16_000 < len(wave) < 1.9 * 16_000
        assert np.array_equal(np.round(wave * 32768), wave * 32768)
        assert not waveform_problems(database.read(utterance), database.info)


def test_every_utterance_has_its_own_digest_and_its_own_audio(database: Database, samples: list[np.ndarray]) -> None:
    assert len({database.audio_digest(u) for u in database.utterances}) == len(database.utterances)
    assert len({wave.tobytes() for wave in samples}) == len(samples)


def test_making_all_of_it_takes_seconds(database: Database) -> None:
    begun = time.process_time()
    for utterance in database.utterances:
        database.read(utterance)
    assert time.process_time() - begun < 6  # 1.2 s on one core; the rest is for slower machines


@pytest.mark.full
def test_a_nearest_centroid_of_average_spectra_stays_far_from_solving_it(
    database: Database, samples: list[np.ndarray]
) -> None:
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=512, win_length=320, hop_length=160, n_mels=80, center=False
    )
    means = np.array([torch.log(mel(torch.from_numpy(wave)) + 1e-6).mean(dim=1).numpy() for wave in samples])
    truth = np.array([u.emotion for u in database.utterances])
    speakers = np.array([u.speaker for u in database.utterances])
    guess = np.empty_like(truth)
    for speaker in database.speakers:
        train = speakers != speaker
        scaled = (means - means[train].mean(axis=0)) / means[train].std(axis=0)
        centres = np.array([scaled[train & (truth == e)].mean(axis=0) for e in database.emotions])
        nearest = ((scaled[~train][:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
        guess[~train] = np.array(database.emotions)[nearest]
    uar = np.mean([np.mean(guess[truth == e] == e) for e in database.emotions])
    assert 0.25 < uar < 0.60


def test_it_survives_the_trip_to_a_worker(database: Database) -> None:
    again = pickle.loads(pickle.dumps(database))
    assert again == database
    assert np.array_equal(again.read(again.utterances[3]).samples, database.read(database.utterances[3]).samples)
