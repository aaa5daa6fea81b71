"""DNN-ELM: its features, the loud segments that it reads, its layers, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.small_trainings import (
    built,
    eight,
    noise,
    overfitted,
    parameters,
    settings_of,
    synthetic_uar,
    trained,
    training,
)
from tfser.audio.files import Waveform
from tfser.features.base import loudness_of
from tfser.features.log_mel import FrontEnd
from tfser.features.mfcc import Mfcc
from tfser.features.segments import Cut, segment_frames
from tfser.features.spectrogram import Spectrogram
from tfser.features.ssl import Layer
from tfser.models import MODELS
from tfser.planning.settings import extractor, hashed, published_settings, setting_problems
from tfser.training.scoring import UtteranceScorer


def wave(samples):
    return Waveform(np.asarray(samples, dtype=np.float32)[None], 16000)


def voice(seconds=1.0, hz=125.0, noisy=0.01, loud=0.2):
    time_s = np.arange(int(16000 * seconds)) / 16000
    tone = sum(np.sin(2 * np.pi * hz * k * time_s) / k for k in range(1, 9))
    return loud * tone + noisy * np.random.default_rng(1).normal(size=len(time_s))


# ------------------------------------------------------------------ features


def test_a_frame_of_dnn_elm_is_30_values_and_a_segment_750():
    values = settings_of("dnn_elm", "full")
    assert values["input_bands"] * values["segment_frames"] == 750
    assert parameters("dnn_elm", "full") == 324_868
    assert (values["segment_hop"], values["segment_share"], values["utterance_rule"]) == (1, 0.1, "statistics")
    assert (values["statistics_units"], values["window_ms"], values["hop_ms"]) == (120, 25.0, 10.0)


def test_pitch_period_and_harmonicity_follow_the_energy_and_come_before_the_deltas():
    plain, pitched = Mfcc(deltas=1), Mfcc(deltas=1, pitch=True)
    for samples in (voice(), voice(0.033)):
        one, other = plain(wave(samples)), pitched(wave(samples))
        assert (one.shape[1], other.shape) == (26, (len(one), 30))
        np.testing.assert_array_equal(other[:, [*range(13), *range(15, 28)]], one)
    period, ratio = pitched(wave(voice(hz=125)))[10:-10, 13:15].T
    np.testing.assert_allclose(period, 8, atol=0.05)  # 1 / 125 Hz
    # Tone and noise have a ratio of energies of 10^(HNR / 10).
    tone = 0.2**2 * sum(0.5 / k**2 for k in range(1, 9))
    for noisy in (0.05, 0.2):
        expected = 10 * np.log10(tone / noisy**2)
        found = pitched(wave(voice(noisy=noisy)))[10:-10, 14]
        assert abs(np.median(found) - expected) < 1.5
    np.testing.assert_allclose(pitched(wave(np.zeros(8000)))[:, 14], -40, atol=0.01)
    assert ratio.max() <= 40


def test_pitch_changes_no_id_of_features_without_it():
    assert Mfcc().id == Mfcc(pitch=False).id != Mfcc(pitch=True).id
    values = {**published_settings("dnn_elm"), "pitch": False}
    assert "pitch" not in hashed(MODELS["dnn_elm"], values)


@pytest.mark.parametrize(
    "reads",
    [Mfcc(), Mfcc(pitch=True, mean_normalised=True), FrontEnd(), FrontEnd(deltas=2), Spectrogram()]
    + [Spectrogram(magnitudes="linear")],
    ids=["mfcc", "pitch", "log_mel", "deltas", "spectrogram", "linear"],
)
def test_every_frame_tells_its_energy_which_is_the_square_of_its_loudness(reads):
    told = loudness_of(reads)
    quiet, loud = (told(reads(wave(voice(loud=0.1 * gain, noisy=0.001 * gain)))) for gain in (1, 3))
    assert quiet.shape == (len(reads(wave(voice()))),)
    np.testing.assert_allclose(loud / quiet, 9, rtol=0.05)


# ------------------------------------------------------------------ loud segments


@pytest.mark.parametrize(("frames", "length", "hop", "share"), [(60, 25, 1, 0.1), (97, 8, 8, 0.5), (9, 25, 1, 0.1)])
def test_the_segments_with_the_highest_energy_are_kept_in_their_order(frames, length, hop, share):
    energy = np.random.default_rng(frames).random(frames)
    rows = np.stack([np.zeros(frames), energy], axis=1)
    every = segment_frames(0, frames, length, hop)
    wanted = max(1, int(np.ceil(share * len(every))))
    sums = [sum(energy[frame] for frame in segment) for segment in every]
    best = sorted(sorted(range(len(every)), key=lambda i: -sums[i])[:wanted])
    found = Cut(length, hop, share, lambda rows: rows[:, 1])(rows)
    np.testing.assert_array_equal(found, every[best])


def test_a_tenth_of_ten_twenty_and_thirty_segments_is_one_two_and_three():
    for frames, count in ((10, 1), (20, 2), (30, 3), (31, 4)):
        assert len(Cut(1, 1, 0.1, lambda rows: rows[:, 0])(np.ones((frames, 1)))) == count


def test_the_share_is_taken_in_training_in_test_and_for_a_single_file():
    data = replace(eight("dnn_elm", segment_frames=25), loudness=lambda rows: np.exp(rows[:, 12]))
    one = training("dnn_elm", "full", data, 1, segment_hop=2, hidden=8)
    start, length, _ = data.train[1]
    own = data.frames[start : start + length]
    every = segment_frames(0, length, 25, 2)
    loudest = every[[np.exp(own[:, 12])[segment].sum() for segment in every].index(
        max(np.exp(own[:, 12])[segment].sum() for segment in every)
    )]  # fmt: skip
    for side in (one._train, one._scored):
        assert np.bincount(side.of_utterance).tolist() == [1] * 8
        np.testing.assert_array_equal(side.frames[1], start + loudest)
    trained(one)
    scores = one.score().probabilities
    single = UtteranceScorer(scorer=one.scorer, settings=one.settings, rule=one.rule, loudness=data.loudness)
    np.testing.assert_array_equal(single(torch.from_numpy(own.copy()))[0], scores[1])


def test_all_segments_are_the_default_and_stay_out_of_a_trials_id():
    for name in ("atfnn", "time_frequency_transformer", "acrnn"):
        values = published_settings(name)
        assert values["segment_share"] == 1
        assert "segment_share" not in hashed(MODELS[name], values)
    assert hashed(MODELS["dnn_elm"], published_settings("dnn_elm"))["segment_share"] == 0.1


def test_a_share_without_energy_is_refused_before_anything_starts():
    values = {**published_settings("dnn_elm"), "energy": False}
    assert setting_problems(MODELS["dnn_elm"], "full", values) == [
        "segment_share: 0.1 needs features that tell their energy, and these mfcc do not; legal: 1"
    ]
    assert setting_problems(MODELS["dnn_elm"], "full", {**values, "segment_share": 1.0}) == []
    assert loudness_of(Layer(bundle="WAV2VEC2_BASE", layer=1)) is None
    with pytest.raises(ValueError, match=r"segment_share: 0\.1 of the segments, and nothing tells their energy"):
        training("dnn_elm", "full", eight("dnn_elm"), 1)


# ------------------------------------------------------------------ the network


@pytest.mark.usefixtures("in_float64")
def test_dnn_elm_is_three_products_of_matrices_with_relu():
    sizes = {"hidden": 9, "segment_frames": 10}
    net, x = built("dnn_elm", "full", **sizes), noise("dnn_elm", "full", **sizes).double()
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    h = x.numpy().reshape(3, 300)
    for number in range(3):
        h = np.maximum(h @ p[f"layers.{number}.weight"].T + p[f"layers.{number}.bias"], 0)
    expected = h @ p["classifier.weight"].T + p["classifier.bias"]
    np.testing.assert_allclose(net(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


NARROW = {"hidden": 32, "learning_rate": 0.003}


@pytest.mark.full
def test_dnn_elm_learns_eight_utterances_by_heart():
    assert overfitted("dnn_elm", "full", 30, **NARROW, batch_size=8) == 1


@pytest.mark.full
def test_dnn_elm_is_clearly_better_than_chance_on_a_held_out_speaker():
    assert synthetic_uar("dnn_elm", "full", 10, **NARROW) > 0.5


def test_dnn_elm_reads_what_its_settings_say():
    assert extractor(MODELS["dnn_elm"], published_settings("dnn_elm")) == Mfcc(deltas=1, pitch=True)
