import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import write_tiny
from tfser import features
from tfser.audio import Waveform
from tfser.databases import load
from tfser.errors import RequestError
from tfser.features import FeatureStore, FrontEnd, audio_digests, log_mel, segment_frames


def numpy_log_mel(samples, front_end):
    """The front end of method section 2, from its definition, in NumPy alone."""
    x = samples.astype(np.float64)
    if front_end.preemphasis:
        x = np.concatenate([x[:1], x[1:] - front_end.preemphasis * x[:-1]])
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(front_end.window) / front_end.window)
    left = (front_end.n_fft - front_end.window) // 2
    padded = np.pad(window, (left, front_end.n_fft - front_end.window - left))
    count = 1 + (len(x) - front_end.n_fft) // front_end.hop
    frames = np.stack([x[i * front_end.hop : i * front_end.hop + front_end.n_fft] for i in range(count)])
    power = np.abs(np.fft.rfft(frames * padded, axis=1)) ** 2
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    edges = 700 * (10 ** (np.linspace(mel(0), mel(front_end.rate_hz / 2), front_end.n_mels + 2) / 2595) - 1)
    hz = np.linspace(0, front_end.rate_hz / 2, front_end.n_fft // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bank = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    return np.log(power @ bank.T + features.FLOOR)


@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_log_mel_is_what_the_definition_gives(preemphasis):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
    front_end = FrontEnd(preemphasis=preemphasis)
    ours = log_mel(Waveform(samples[None], 16000), front_end)
    assert ours.shape == (1 + (4000 - 512) // 160, 80)
    np.testing.assert_allclose(ours, numpy_log_mel(samples, front_end), atol=2e-4)


def test_band_50_lies_near_2700_hz_as_figure_6_of_the_atfnn_paper_says():
    time_s = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 2720 * time_s).astype(np.float32)
    assert log_mel(Waveform(tone[None], 16000), FrontEnd()).mean(axis=0).argmax() in (49, 50)


def test_channels_are_averaged_and_other_rates_resampled():
    time_s = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 1000 * time_s).astype(np.float32)
    mono = log_mel(Waveform(tone[None], 8000), FrontEnd())
    stereo = log_mel(Waveform(np.stack([2 * tone, 0 * tone]), 8000), FrontEnd())
    np.testing.assert_array_equal(mono, stereo)
    at_16k = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    assert mono.mean(axis=0).argmax() == log_mel(Waveform(at_16k[None], 16000), FrontEnd()).mean(axis=0).argmax()


def test_audio_shorter_than_one_frame_is_refused_with_its_length():
    with pytest.raises(ValueError, match=r"lasts 25.0 ms; one frame needs 32 ms"):
        log_mel(Waveform(np.zeros((1, 400), dtype=np.float32), 16000), FrontEnd())


@given(start=st.integers(0, 1000), frames=st.integers(1, 400), segment=st.integers(1, 130), data=st.data())
def test_segments_hold_every_frame_of_their_utterance_and_no_other(start, frames, segment, data):
    hop = data.draw(st.integers(1, segment))
    taken = segment_frames(start, frames, segment, hop)
    assert taken.shape[1] == segment
    assert set(taken.ravel().tolist()) == set(range(start, start + frames))


def test_the_last_segment_is_shifted_back_and_a_short_utterance_is_repeated():
    assert segment_frames(100, 20, 8, 8)[:, 0].tolist() == [100, 108, 112]
    assert segment_frames(5, 3, 8, 8).tolist() == [[5, 6, 7, 5, 6, 7, 5, 6]]


def ensure(store, database, front_end=None, mapper=map):
    return store.ensure(database, audio_digests(database), front_end or FrontEnd(n_mels=16), mapper)


def test_a_pack_holds_each_utterances_own_frames(tiny, tmp_path):
    pack = ensure(FeatureStore(tmp_path), tiny)
    assert [u.id for u in pack.utterances] == [u.id for u in tiny.utterances]
    assert [u.speaker for u in pack.utterances] == [u.speaker for u in tiny.utterances]
    frames = pack.frames()
    for packed, utterance in zip(pack.utterances, tiny.utterances, strict=True):
        own = log_mel(tiny.read(utterance), FrontEnd(n_mels=16))
        np.testing.assert_array_equal(frames[packed.start : packed.start + packed.frames], own)
    assert not frames.flags.writeable


def test_nothing_is_extracted_twice_and_a_changed_file_is_noticed(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    store, extracted = FeatureStore(tmp_path / "store"), []

    def counting(function, chunks):
        extracted.extend(utterance.id for chunk in chunks for _, utterance in chunk[1])
        return map(function, chunks)

    first = ensure(store, database, mapper=counting)
    assert len(extracted) == 36
    extracted.clear()
    ensure(store, database, mapper=counting)
    assert extracted == []
    changed = database.utterances[5]
    soundfile.write(changed.path, np.random.default_rng(1).uniform(-0.1, 0.1, 6000), 16000)
    second = ensure(store, database, mapper=counting)
    assert extracted == [changed.id]
    assert second.database_digest != first.database_digest


def test_a_killed_extraction_goes_on_where_it_was(tiny, tmp_path):
    store, done = FeatureStore(tmp_path), []

    def dies(function, chunks):
        database, todo, front_end, entries = chunks[0]
        function((database, todo[:10], front_end, entries))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(store, tiny, mapper=dies)
    assert not list(tmp_path.rglob("*.json"))

    def counting(function, chunks):
        done.extend(u.id for chunk in chunks for _, u in chunk[1])
        return map(function, chunks)

    pack = ensure(store, tiny, mapper=counting)
    assert len(done) == len(tiny.utterances) - 10
    np.testing.assert_array_equal(pack.frames(), ensure(FeatureStore(tmp_path / "other"), tiny).frames())


def test_every_unusable_file_is_named_at_once_and_no_pack_is_left(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    database.utterances[0].path.write_bytes(b"")
    soundfile.write(database.utterances[1].path, np.zeros(100), 16000)
    with pytest.raises(RequestError) as caught:
        ensure(FeatureStore(tmp_path / "store"), database)
    assert len(caught.value.problems) == 2
    assert "calm0.wav" in caught.value.problems[0]
    assert "too short" in caught.value.problems[1]
    assert not list((tmp_path / "store").rglob("*.json"))


def test_the_same_audio_under_two_speakers_is_refused(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    a, b = database.utterances[0], database.utterances[-1]
    b.path.write_bytes(a.path.read_bytes())
    with pytest.raises(RequestError, match="are the same audio: it would be trained on and tested on"):
        audio_digests(database)


def test_a_full_disk_is_a_clear_error_and_leaves_no_entry(tiny, tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device", "features")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RequestError, match=r"No space left on device.*free space or name another folder with --storage"):
        ensure(FeatureStore(tmp_path), tiny)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_torn_pack_table_is_extracted_anew(tiny, tmp_path):
    pack = ensure(FeatureStore(tmp_path), tiny)
    table = pack.path.with_suffix(".json")
    table.write_text(table.read_text()[:100])
    np.testing.assert_array_equal(ensure(FeatureStore(tmp_path), tiny).frames(), pack.frames())


def test_front_ends_that_differ_have_different_folders():
    assert FrontEnd().id == FrontEnd().id
    assert len({FrontEnd().id, FrontEnd(n_mels=40).id, FrontEnd(preemphasis=0.97).id, replace(FrontEnd(), hop=80).id}) == 4
