"""Copies of the audio are what their settings say, and only training utterances are read from them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve

from tests.helpers.tiny import SMALL, write_tiny
from tfser.audio.files import Waveform
from tfser.databases import load
from tfser.execution import run_network
from tfser.execution.task import beside
from tfser.features import augmentation
from tfser.features.augmentation import Augmented, Change, copies
from tfser.features.log_mel import FrontEnd
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS
from tfser.planning import plan
from tfser.planning.request import Request
from tfser.planning.search_space_file import read
from tfser.planning.settings import extractors, hyperparameters, published_settings, setting_problems
from tfser.training.variation import Copy, Variation, bands_read, places_in

MODEL = "time_frequency_transformer"
COPIES = {"augmented_copies": 2, "speed": 0.1, "added_noise": "white", "noise_snr_db": 10.0, "gain_db": 6.0}


def tone(hz: float, seconds: float = 1.0, rate: int = 16000) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * rate)) / rate)


def peak_hz(samples: torch.Tensor) -> float:
    windowed = np.abs(np.fft.rfft(samples.numpy() * np.hanning(len(samples))))
    return float(windowed.argmax() * 16000 / len(samples))


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------------ each change


def test_another_speed_changes_length_and_pitch_by_its_factor():
    for factor in (Fraction(9, 10), Fraction(11, 10)):
        found = augmentation.resped(tone(500), factor)
        assert len(found) == pytest.approx(16000 / factor, abs=2)
        assert peak_hz(found) == pytest.approx(500 * float(factor), abs=2)
    change, lengths = Change(speed=0.1), set()
    for seed in range(20):
        lengths.add(len(change(tone(500), draws(seed))))
    assert lengths == {len(augmentation.resped(tone(500), Fraction(n, 10))) for n in (9, 10, 11)}


@pytest.mark.parametrize("semitones", [-4.0, -0.5, 2.0])
def test_another_pitch_changes_the_frequency_by_semitones_and_not_the_length(semitones):
    found = augmentation.shifted(tone(800), semitones)
    assert len(found) == 16000
    assert peak_hz(found[2000:14000]) == pytest.approx(800 * 2 ** (semitones / 12), rel=0.004)
    assert torch.equal(augmentation.shifted(tone(800), 0.0), tone(800))


@pytest.mark.parametrize("kind", ["white", "pink"])
def test_noise_has_exactly_the_stated_level_and_its_colour(kind):
    clean = tone(500)
    noise = (augmentation.noisy(clean, kind, 12.5, draws()) - clean).double().numpy()
    ratio = 10 * np.log10(float(clean.double().square().sum()) / np.square(noise).sum())
    assert ratio == pytest.approx(12.5, abs=0.01)
    power = np.square(np.abs(np.fft.rfft(noise)))
    low, high = power[100:1000].mean(), power[4000:8000].mean()
    assert low / high == pytest.approx(1.0 if kind == "white" else 15.3, rel=0.2)
    assert not augmentation.noisy(torch.zeros(100), kind, 10.0, draws()).any()


def test_reverberation_decays_by_sixty_decibels_in_its_time_and_keeps_length_and_energy():
    click = torch.zeros(16000)
    click[0] = 1.0
    response = augmentation.reverberated(click, 0.4, draws()).double().numpy()
    assert np.square(response).sum() == pytest.approx(1.0, rel=1e-4)
    tail = np.square(response[1:])
    assert tail.sum() / response[0] ** 2 == pytest.approx(augmentation.REVERBERANT, rel=1e-3)
    left = 10 * np.log10(np.cumsum(tail[::-1])[::-1][:3200])  # Schroeder's integral
    slope = np.polyfit(np.arange(3200) / 16000, left, 1)[0]
    assert -60 / slope == pytest.approx(0.4, rel=0.1)
    samples = tone(300, 0.5) * torch.linspace(1, 0.2, 8000)
    wanted = fftconvolve(samples.numpy(), response[:6400])[:8000]
    wanted *= np.sqrt(float(samples.square().sum()) / np.square(wanted).sum())
    np.testing.assert_allclose(augmentation.reverberated(samples, 0.4, draws()).numpy(), wanted, atol=1e-4)


def test_a_gain_is_within_its_range_both_ways():
    change = Change(gain_db=6.0)
    found = [float(20 * torch.log10(change(torch.ones(4), draws(seed))[0])) for seed in range(200)]
    assert -6 <= min(found) < -5
    assert 5 < max(found) <= 6


# ------------------------------------------------------------------ copies


def test_a_copy_follows_from_samples_settings_and_number_alone():
    reads = FrontEnd(n_mels=16)
    first, second = copies(reads, COPIES)
    one, other = (Waveform(tone(hz, 0.5)[None].numpy(), 16000) for hz in (300, 700))
    np.testing.assert_array_equal(first(one), first(one))
    before = first(one)
    torch.manual_seed(3)
    np.random.default_rng(1).random()
    first(other)
    np.testing.assert_array_equal(first(one), before)
    assert first(one).shape[1] == 16
    assert first(one).shape != second(one).shape or not np.array_equal(first(one), second(one))
    ids = {each.id for each in (*copies(reads, COPIES), *copies(FrontEnd(n_mels=20), COPIES), reads)}
    ids |= {each.id for each in copies(reads, {**COPIES, "gain_db": 7.0})}
    assert len(ids) == 7
    assert copies(reads, {**COPIES, "augmented_copies": 4})[:2] == (first, second), "more copies keep the first ones"
    assert copies(reads, {}) == ()


def test_audio_of_another_rate_is_resampled_before_it_is_changed():
    waveform = Waveform(tone(300, 0.5, rate=8000)[None].numpy(), 8000)
    (copy,) = copies(FrontEnd(n_mels=16), {"augmented_copies": 1, "gain_db": 1.0})
    assert len(copy(waveform)) == len(FrontEnd(n_mels=16)(waveform))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augmented_copies": 3}, "augmented_copies: 3 copies would be the original; set one of speed, "),
        ({"speed": 0.1, "gain_db": 3.0}, "speed, gain_db: without copies nothing is changed; set augmented_copies"),
    ],
)
def test_copies_without_a_change_and_changes_without_a_copy_are_refused(settings, said):
    found = setting_problems(MODELS[MODEL], "T+F", {**published_settings(MODEL), **settings})
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_search_extracts_the_copies_of_every_setting_that_it_can_sample(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(
        f"model: {MODEL}\nsearch:\n  augmented_copies: {{choice: [0, 2]}}\n"
        "  speed: {choice: [0.05, 0.1], when: {augmented_copies: [2]}}\n"
    )
    tiny = load(str(write_tiny(tmp_path)), None)
    asked = Request(models=(MODEL,), trials=2, epochs=1)
    spaces = {MODEL: read(space, {MODEL: hyperparameters(MODEL)})}
    made = plan.make(asked, [tiny], lambda database: "digest", spaces).features["tiny"]
    found = sorted((each.change.speed, each.copy) for each in made if isinstance(each, Augmented))
    assert found == [(0.05, 1), (0.05, 2), (0.1, 1), (0.1, 2)]
    assert len(made) == 5
    space.write_text(f"model: {MODEL}\nsearch:\n  gain_db: {{float: [1.0, 6.0]}}\n")
    with pytest.raises(Exception, match="every value needs features of its own, so list the values with choice"):
        read(space, {MODEL: hyperparameters(MODEL)})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The tiny database's features, of the original and of two copies, and the specs of its plan."""
    folder = tmp_path_factory.mktemp("stored")
    tiny = load(str(write_tiny(folder)), None)
    digests = audio_digests(tiny)
    fixed = tuple((name, str(value)) for name, value in {**SMALL, **COPIES, "inner_speakers": 1}.items())
    asked = Request(models=(MODEL,), epochs=2, fixed=fixed)
    made = plan.make(asked, [tiny], lambda database: database.digest(digests), {})
    store = FeatureStore(folder / "features")
    packs = [store.ensure(tiny, digests, each) for each in made.features["tiny"]]
    (study, *_) = (s for s in made.studies if s.folds == ("carl",))
    (final,) = study.final_specs(study.base, 2).values()
    search = replace(final, purpose="search", validation=("dora",))
    return packs, final, search


@pytest.mark.parametrize("purpose", ["final", "search"])
def test_augmented_copies_never_cross_a_fold(stored, purpose):
    packs, final, search = stored
    spec = final if purpose == "final" else search
    pack = packs[0]
    assert [each.path for each in packs[1:]] == [
        beside(pack, each) for each in extractors(MODELS[MODEL], spec.settings)[1:]
    ]
    held_out = {"final": {"carl", "dora"}, "search": {"carl", "dora", "anna"}}[purpose]  # with the inner speaker
    data = run_network.trial_data(pack, pack.frames(), spec)
    assert len(data.copies) == 2
    for copy, own in zip(data.copies, packs[1:], strict=True):
        by_start = {u.start: u for u in own.utterances}
        assert {by_start[start].speaker for start, _, _ in copy.rows} == {"anna", "bert", "carl", "dora"} - held_out
        original = {u.start: u.id for u in pack.utterances}
        told = [(original[start], emotion) for start, _, emotion in data.train]
        assert [(by_start[start].id, emotion) for start, _, emotion in copy.rows] == told


def test_what_is_trained_is_the_same_whatever_the_copies_hold_of_other_speakers(stored, monkeypatch):
    packs, final, _ = stored
    opened = run_network.open_pack

    def trained(spoil: bool) -> list[np.ndarray]:
        def spoilt(path, digest):
            pack, frames = opened(path, digest)
            other = np.array(frames)
            for u in pack.utterances:
                if u.speaker in ("carl", "dora") and "copy" in str(path):
                    other[u.start : u.start + u.frames] = np.nan
            return pack, other if spoil else frames

        monkeypatch.setattr(run_network, "open_pack", spoilt)
        data = run_network.trial_data(packs[0], packs[0].frames(), final)
        model = MODELS[MODEL]
        settings = run_network.build_settings(model, final.settings)
        one = run_network.Training(
            lambda: model.build(final.ablation, settings, 3), data, settings, 0, 3, torch.device("cpu")
        )
        for _ in range(3):
            one.run_epoch()
        return [value.numpy() for value in one.weights().values()]

    for clean, dirty in zip(trained(False), trained(True), strict=True):
        np.testing.assert_array_equal(clean, dirty)


def test_copies_that_are_gone_lose_the_trial_and_are_named(stored):
    packs, final, _ = stored
    spec = replace(final, hyperparameters=tuple(sorted({**final.settings, "gain_db": 1.5}.items())))
    with pytest.raises(run_network.task_module.FeaturesError, match="copy1-.*cannot be read"):
        run_network.trial_data(packs[0], packs[0].frames(), spec)


# ------------------------------------------------------------------ what an epoch reads


def variation(seed: int = 0, order: slice = slice(None), **settings: object) -> Variation:
    rows = tuple((i * 20, 20, 0) for i in range(6))[order]
    taken = torch.tensor([[start + s + i for i in range(8)] for start, _, _ in rows for s in (0, 12)])
    utterances = torch.arange(len(rows)).repeat_interleave(2)
    frames = torch.zeros(120, 4)
    made = tuple(
        Copy(
            np.repeat(100 * k + np.arange(60, dtype=np.float32), 2)[:, None].repeat(4, axis=1).astype(np.float32),
            tuple((start, 10 + 8 * (k == 2), 0) for start, _, _ in rows),
        )
        for k in (1, 2)
    )
    centres = np.array([500.0, 1000.0, 2000.0, 6000.0])
    return Variation({**settings}, seed, frames, rows, taken, utterances, made, centres)


def test_the_copy_that_is_read_follows_from_seed_epoch_and_utterance_alone():
    one, fewer, other = variation(), variation(order=slice(2, 5)), variation(seed=1)
    read, others = [], []
    for epoch in range(60):
        for each in (one, fewer, other):
            each.begin(epoch)
        every = one.read(torch.arange(12)).numpy()
        np.testing.assert_array_equal(every[4:10], fewer.read(torch.arange(6)).numpy())
        assert (every[::2] == every[1::2]).all(), "an utterance is read from two copies in one epoch"
        read.append(every[::2])
        others.append(other.read(torch.arange(0, 12, 2)).numpy())
    assert not np.array_equal(read, others)
    np.testing.assert_allclose(np.bincount(np.concatenate(read)) / 360, 1 / 3, atol=0.08)
    again = variation()
    again.begin(59)
    np.testing.assert_array_equal(again.read(torch.arange(0, 12, 2)).numpy(), read[59])


def test_a_segment_is_read_at_the_same_share_of_the_copy_and_a_short_copy_is_repeated():
    one = variation()
    first, second = one._places[1].numpy(), one._places[2].numpy()
    np.testing.assert_array_equal(first[0], np.arange(8))
    np.testing.assert_array_equal(first[1], np.arange(2, 10), err_msg="12 of 12 frames become 2 of 2")
    np.testing.assert_array_equal(second[1], np.arange(10, 18))
    rows, copied = ((0, 20, 0),), ((0, 5, 0),)
    places = places_in(torch.arange(8)[None], torch.zeros(1, dtype=torch.int64), rows, copied)
    assert places.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]


def test_a_longer_vocal_tract_reads_the_bands_along_the_published_line():
    centres = np.linspace(100, 8000, 80)
    np.testing.assert_allclose(bands_read(centres, 1.0), np.arange(80))
    for slope in (0.9, 1.1):
        hz = np.interp(bands_read(centres, slope), np.arange(80), centres)
        knee = 4800 * min(slope, 1) / slope
        low = centres <= knee
        np.testing.assert_allclose(hz[low], np.maximum(slope * centres[low], 100), rtol=1e-9)
        line = 8000 - (8000 - 4800 * min(slope, 1)) / (8000 - knee) * (8000 - centres)
        np.testing.assert_allclose(hz[~low], line[~low], rtol=1e-9)
    one = variation(vtlp=0.3)
    one._read *= 0
    one.frames = one.frames[:1]
    one.frames[0] = torch.tensor([500.0, 1000.0, 2000.0, 6000.0]).expand(120, 4)
    one.begin(0)
    found = one.gathered(torch.arange(12)).numpy()
    slopes = found[:, 0, 1] / 1000
    assert (found == found[:, :1]).all()
    assert (slopes[::2] == slopes[1::2]).all()
    assert 0.7 <= slopes.min() < 0.95 < 1.05 < slopes.max() <= 1.3
    np.testing.assert_allclose(found[:, 0, 3], 6000)


def test_frequencies_are_not_moved_where_bands_are_none():
    found = setting_problems(MODELS["dnn_elm"], "full", {**published_settings("dnn_elm"), "vtlp": 0.1})
    assert found == ["vtlp: 0.1 moves frequencies, and the bands of mfcc are none; legal: 0"]
