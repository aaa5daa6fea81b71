import errno
import json
import os
import pickle
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.features import numpy_log_mel
from tests.helpers.tiny import write_tiny
from tfser.audio.files import Waveform
from tfser.databases import load
from tfser.databases.checks import check
from tfser.databases.reader import harmful
from tfser.errors import RequestError
from tfser.evaluation import folds
from tfser.features import store as features_store
from tfser.features.log_mel import LARGEST_TERM, FrontEnd, _resampler, log_mel, rate_ratio
from tfser.features.pack import Pack
from tfser.features.segments import segment_frames
from tfser.features.store import FeatureStore, audio_digests
from tfser.storage import places
from tfser.training.determinism import settled


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_log_mel_is_what_the_definition_gives(preemphasis):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    front_end = FrontEnd(preemphasis=preemphasis)
    ours = log_mel(Waveform(samples[None], 16000), front_end)
    assert ours.shape == (1 + (4000 - 512) // 160, 80)
    np.testing.assert_allclose(ours, numpy_log_mel(samples, front_end), atol=1e-10)


@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_in_float32_log_mel_is_as_near_to_its_definition_as_float32_in_numpy(preemphasis):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
    front_end = FrontEnd(preemphasis=preemphasis)
    exact, single = (numpy_log_mel(samples, front_end, dtype) for dtype in (np.float64, np.float32))
    ours = log_mel(Waveform(samples[None], 16000), front_end)
    assert ours.dtype == single.dtype == np.float32
    assert np.abs(ours - exact).max() <= 10 * np.abs(single - exact).max()


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


COMMON_RATES_HZ = (8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)


@pytest.mark.parametrize("rate_hz", COMMON_RATES_HZ)
def test_a_common_rate_is_resampled_by_torchaudio_to_the_bit(rate_hz):
    assert rate_ratio(rate_hz, 16000) == Fraction(rate_hz, 16000)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, rate_hz // 4).astype(np.float32)
    with settled(torch.device("cpu")):
        theirs = torchaudio.transforms.Resample(rate_hz, 16000)(torch.from_numpy(samples)).numpy()
        ours = log_mel(Waveform(samples[None], rate_hz), FrontEnd())
        np.testing.assert_array_equal(ours, log_mel(Waveform(theirs[None], 16000), FrontEnd()))


@given(st.integers(4_000, 384_000))
def test_every_believable_rate_is_met_within_a_twentieth_of_a_percent_by_a_small_filter_bank(rate_hz):
    ratio = rate_ratio(rate_hz, 16000)
    assert max(ratio.numerator, ratio.denominator) <= LARGEST_TERM
    assert abs(float(ratio) * 16000 / rate_hz - 1) <= 0.00051


@pytest.mark.parametrize("rate_hz", [24414, 16001, 16025, 15999, 44056, 22255, 11127, 383999])
def test_a_tone_at_an_odd_rate_keeps_its_pitch_and_its_level(rate_hz):
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate_hz) / rate_hz)
    samples = torch.from_numpy(tone.astype(np.float32))
    ratio = rate_ratio(rate_hz, 16000)
    resampled = (samples if ratio == 1 else _resampler(ratio)(samples)).numpy().astype(np.float64)[200:-200]
    assert len(resampled) + 400 == pytest.approx(16000, rel=0.0006, abs=1)
    # Compare with the same tone made at the ratio's rate, which leaves filter and interpolation but no shift in pitch.
    time_s = (np.arange(len(resampled)) + 200) * float(ratio) / rate_hz
    assert np.abs(resampled - np.sin(2 * np.pi * 1000 * time_s)).max() < 0.005
    hz = np.abs(np.fft.rfft(resampled * np.hanning(len(resampled)), 1 << 20)).argmax() * 16000 / (1 << 20)
    assert hz == pytest.approx(1000, abs=0.5)
    frames = log_mel(Waveform(tone[None].astype(np.float32), rate_hz), FrontEnd())
    at_16k = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    loud = (usual := log_mel(Waveform(at_16k[None], 16000), FrontEnd()).mean(axis=0)) > usual.max() - 6
    np.testing.assert_allclose(frames.mean(axis=0)[loud], usual[loud], atol=0.05)


def test_the_rate_of_tess_takes_neither_seconds_nor_gigabytes():
    frames = log_mel(Waveform(np.zeros((1, 3 * 24414), dtype=np.float32), 24414), FrontEnd())
    assert len(frames) == 1 + (3 * 16000 - 512) // 160
    assert _resampler(rate_ratio(24414, 16000)).kernel.nbytes < 8 << 20  # 3.6 GB with the exact fraction


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


def packs_in(folder):
    """Tables of whole packs, not of parts."""
    return [path for path in folder.rglob("*.json") if path.parent.name != "parts"]


def test_a_pack_holds_each_utterances_own_frames(tiny, tmp_path):
    pack = ensure(FeatureStore(tmp_path), tiny)
    assert [u.id for u in pack.utterances] == [u.id for u in tiny.utterances]
    assert [u.speaker for u in pack.utterances] == [u.speaker for u in tiny.utterances]
    frames = pack.frames()
    for packed, utterance in zip(pack.utterances, tiny.utterances, strict=True):
        with settled(torch.device("cpu")):
            own = log_mel(tiny.read(utterance), FrontEnd(n_mels=16))
        np.testing.assert_array_equal(frames[packed.start : packed.start + packed.frames], own)
    assert not frames.flags.writeable


def test_nothing_is_extracted_twice_and_a_changed_file_is_noticed(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    store, extracted = FeatureStore(tmp_path / "store"), []

    def counting(function, chunks):
        extracted.extend(utterance.id for chunk in chunks for utterance in chunk[0].utterances)
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
        database, *others = chunks[0]
        function((replace(database, utterances=database.utterances[:10]), *others))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(store, tiny, mapper=dies)
    assert not packs_in(tmp_path)

    def counting(function, chunks):
        done.extend(u.id for chunk in chunks for u in chunk[0].utterances)
        return map(function, chunks)

    pack = ensure(store, tiny, mapper=counting)
    assert len(done) == len(tiny.utterances) - 10
    np.testing.assert_array_equal(pack.frames(), ensure(FeatureStore(tmp_path / "other"), tiny).frames())
    assert not list(pack.path.parent.glob("parts/*"))


def test_every_unusable_file_is_named_at_once_and_no_pack_is_left(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    paths = [u.path for u in database.utterances]
    paths[0].write_bytes(b"")
    soundfile.write(paths[1], np.zeros(100), 16000)
    soundfile.write(paths[2], np.full(6000, 1e-6), 16000)
    soundfile.write(paths[3], np.full(6000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(RequestError) as caught:
        ensure(FeatureStore(tmp_path / "store"), database)
    kinds = [problem.split(": ")[1] for problem in caught.value.problems]
    assert kinds == ["empty", "too short", "silent", "non-finite"]
    assert f"(2 of this kind; also {paths[2]})" in caught.value.problems[2]  # 100 zeros are both
    assert all(str(path) in str(caught.value) for path in paths[:4])
    assert "replace these files; or take them away" in str(caught.value)
    assert not packs_in(tmp_path / "store")


def test_allow_incomplete_goes_on_without_what_the_refusal_named(tmp_path):
    database = load(str(manifest := write_tiny(tmp_path / "corpus")), None)
    paths = [u.path for u in database.utterances]
    paths[0].write_bytes(b"")
    soundfile.write(paths[2], np.full(6000, 1e-6), 16000)
    with pytest.raises(RequestError, match="--allow-incomplete goes on with the 34 utterances"):
        ensure(FeatureStore(tmp_path / "store"), database)
    kept = load(str(manifest), None, allow_incomplete=True, decode=True)
    assert not kept.complete
    assert kept.remark == "incomplete: 34 utterances; left out: 1 empty (anna/calm0.wav), 1 silent (anna/calm2.wav)"
    assert len(ensure(FeatureStore(tmp_path / "store"), kept).utterances) == 34


@given(st.sampled_from(["silent", "short", "empty", "clipped", "slow", "stereo", "fine"]))
@settings(max_examples=20, deadline=None)
def test_extraction_refuses_exactly_what_check_calls_harmful(kind):
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, 4000)
    samples, rate_hz = {
        "silent": (noise * 1e-5, 16000),
        "short": (noise[:500], 16000),
        "empty": (noise[:0], 16000),
        "clipped": (np.clip(noise * 10, -1, 1), 16000),
        "slow": (noise, 7999),
        "stereo": (np.stack([noise, noise / 2], axis=1), 16000),
        "fine": (noise, 16000),
    }[kind]
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_tiny(Path(folder) / "corpus")
        soundfile.write(Path(folder) / "corpus" / "anna" / "calm0.wav", samples, rate_hz, subtype="FLOAT")
        report = check(str(manifest), None)
        wrong = harmful(report.problems)
        assert bool(wrong) == (kind in ("silent", "short", "empty"))
        store = FeatureStore(Path(folder) / "store")
        if not wrong:
            assert len(ensure(store, report.database).utterances) == 36
            return
        with pytest.raises(RequestError) as caught:
            ensure(store, report.database)
        assert [problem.split("\n")[0] for problem in caught.value.problems] == [str(problem) for problem in wrong]


def test_the_same_audio_under_two_speakers_is_refused(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    a, b = database.utterances[0], database.utterances[-1]
    b.path.write_bytes(a.path.read_bytes())
    with pytest.raises(RequestError, match="are the same audio: it would be trained on and tested on"):
        audio_digests(database)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_the_same_recording_with_two_emotions_is_refused_where_it_is_checked_and_where_it_is_swept(form, tmp_path):
    manifest = write_tiny(tmp_path / "corpus")
    samples, rate_hz = soundfile.read(tmp_path / "corpus" / "anna" / "calm0.wav", dtype="int16")
    soundfile.write(tmp_path / "corpus" / f"copy.{form}", samples, rate_hz)
    text = manifest.read_text()
    for emotion, refused in (("calm", False), ("glad", True)):
        manifest.write_text(f"{text}copy.{form},anna,{emotion},s1\n")
        report = check(str(manifest), None)
        assert [p.kind for p in report.problems] == ["duplicate" if refused else "note"]
        database, store = load(str(manifest), None), FeatureStore(tmp_path / emotion)
        if not refused:
            assert len(ensure(store, database).utterances) == 37
            continue
        with pytest.raises(
            RequestError, match=rf"copy.{form} \(emotion glad\) and anna/calm0.wav \(emotion calm\) are the same audio"
        ):
            ensure(store, database)
        kept = load(str(manifest), None, allow_incomplete=True, decode=True)
        assert len(ensure(store, kept).utterances) == 35  # neither label is known to be right
        assert kept.remark.startswith("incomplete: 35 utterances; left out: 2 duplicate (")


def test_the_same_samples_as_wav_and_flac_under_two_speakers_are_refused_with_both_names(tmp_path):
    manifest = write_tiny(tmp_path / "corpus")
    samples, rate_hz = soundfile.read(tmp_path / "corpus" / "anna" / "calm0.wav", dtype="int16")
    soundfile.write(tmp_path / "corpus" / "copy.flac", samples, rate_hz)
    text = manifest.read_text()
    for speaker, refused in (("anna", False), ("bert", True)):
        manifest.write_text(f"{text}copy.flac,{speaker},calm,s1\n")
        database = load(str(manifest), None)
        store = FeatureStore(tmp_path / speaker)
        if not refused:
            assert len(ensure(store, database).utterances) == 37
            continue
        for _ in range(2):  # what is extracted already is compared again
            with pytest.raises(
                RequestError, match=r"copy.flac \(speaker bert\) and anna/calm0.wav \(speaker anna\) are the same audio"
            ):
                ensure(store, database)
            assert not packs_in(tmp_path / speaker)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_no_speaker_session_or_duplicate_audio_is_ever_on_both_sides_of_a_fold(data):
    """Random corpora with copies, as bytes and in another format, under the same speaker and under others."""
    owners = data.draw(
        st.lists(st.integers(0, 5), min_size=3, max_size=9).filter(lambda o: len({x // 2 for x in o}) > 1),
        label="speakers",
    )
    sounds = [data.draw(st.integers(0, 3 if data.draw(st.booleans()) else 50), label="sound") for _ in owners]
    forms = [data.draw(st.sampled_from(["wav", "flac"]), label="format") for _ in owners]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = ["path,speaker,emotion,session"]
        for number, (owner, sound, form) in enumerate(zip(owners, sounds, forms, strict=True)):
            samples = np.random.default_rng(sound).integers(-9000, 9000, 700 + sound, dtype=np.int16)
            soundfile.write(folder / f"{number}.{form}", samples, 16000)
            rows.append(f"{number}.{form},s{owner},e{number % 2},x{owner // 2}")
        (folder / "m.csv").write_text("\n".join(rows) + "\n")
        database = load(str(folder / "m.csv"), None)
        content = {f"{n}.{form}": sound for n, (sound, form) in enumerate(zip(sounds, forms, strict=True))}
        labels = [(owner, number % 2, sound) for number, (owner, sound) in enumerate(zip(owners, sounds, strict=True))]
        shared = len(set(labels)) != len(set(sounds))
        if shared:
            with pytest.raises(RequestError, match="are the same audio"):
                ensure(FeatureStore(folder / "store"), database)
            return
        pack = ensure(FeatureStore(folder / "store"), database)
        for protocol in ("speaker", "session"):
            for fold in folds.folds(pack.utterances, protocol):
                train, test = (
                    [pack.utterances[i] for i in side] for side in folds.split(pack.utterances, protocol, fold)
                )
                assert train
                assert test
                assert {u.speaker for u in train}.isdisjoint(u.speaker for u in test)
                assert {content[u.id] for u in train}.isdisjoint(content[u.id] for u in test)
                if protocol == "session":
                    assert {u.session for u in train}.isdisjoint(u.session for u in test)


def failing(function, call, code=errno.ENOSPC):
    """``function``, but its ``call``-th call fails as on a full disk."""
    calls = [0]

    def replaced(*arguments, **named):
        calls[0] += 1
        if calls[0] == call:
            raise OSError(code, os.strerror(code), "features")
        return function(*arguments, **named)

    return replaced


WRITES = [
    ("os.replace", 1),
    ("os.replace", 2),
    ("os.replace", 3),
    ("os.replace", 4),
    ("os.fsync", 1),
    ("os.fsync", 7),
    ("os.chmod", 2),
]
WRITES += [("tempfile.mkstemp", n) for n in (1, 2, 3, 4)] + [("pathlib.Path.mkdir", 1)]


@pytest.mark.parametrize(("name", "call"), WRITES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=["full", "read-only", "forbidden"])
def test_a_disk_that_fails_at_any_write_is_a_clear_error_and_the_next_start_is_whole(
    tiny, tmp_path, monkeypatch, name, call, code
):
    owner = {"os": os, "tempfile": tempfile, "pathlib.Path": Path}[name.rpartition(".")[0]]
    attribute = name.rpartition(".")[2]
    store = FeatureStore(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, failing(getattr(owner, attribute), call, code))
        with pytest.raises(RequestError) as caught:
            ensure(store, tiny)
    assert caught.value.source == f"feature store {tmp_path / 'store'}"
    assert caught.value.problems == [
        f"{os.strerror(code)} (features); free space or name another folder with --storage"
    ]
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if path.name.startswith(".")], "a half-written file"
    assert not packs_in(tmp_path)
    for path in left:
        if path.suffix == ".json":
            Pack.open(path.with_suffix(""))  # whole, and so are its frames
    pack = ensure(store, tiny)
    np.testing.assert_array_equal(pack.frames(), ensure(FeatureStore(tmp_path / "other"), tiny).frames())


def test_a_disk_that_is_full_while_frames_are_written_is_a_clear_error(tiny, tmp_path, monkeypatch):
    write = np.lib.format.write_array_header_2_0
    monkeypatch.setattr(np.lib.format, "write_array_header_2_0", failing(write, 2))
    with pytest.raises(RequestError, match="No space left on device"):
        ensure(FeatureStore(tmp_path), tiny)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_store_below_a_file_is_a_clear_error(tiny, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RequestError, match=r"Not a directory.*name another folder with --storage"):
        ensure(FeatureStore(tmp_path / "file" / "store"), tiny)


def test_a_failed_worker_disk_is_reported_as_data_so_that_a_cluster_cannot_change_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(os.replace, 1))

    def elsewhere(function, chunks):
        return [pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(chunk))))) for chunk in chunks]

    with pytest.raises(RequestError, match=r"(?s)feature store .*No space left on device"):
        ensure(FeatureStore(tmp_path), tiny, mapper=elsewhere)


def test_tasks_carry_their_own_utterances_and_no_others(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(features_store, "CHUNK", 10)
    sizes = []

    def counting(function, chunks):
        sizes.extend(len(chunk[0].utterances) for chunk in chunks)
        return map(function, chunks)

    pack = ensure(FeatureStore(tmp_path / "a"), tiny, mapper=counting)
    assert sizes == [10, 10, 10, 6]
    monkeypatch.setattr(features_store, "PART_BYTES", 5000)
    np.testing.assert_array_equal(ensure(FeatureStore(tmp_path / "b"), tiny).frames(), pack.frames())


def test_a_part_whose_frames_are_damaged_is_not_put_into_a_pack(tiny, tmp_path):
    store = FeatureStore(tmp_path)
    pack = ensure(store, tiny)
    whole = np.array(pack.frames())
    np.save(pack.path.with_suffix(".npy"), np.zeros_like(whole))
    less = replace(tiny, utterances=tiny.utterances[1:])  # another database, whose frames an older pack holds
    assert ensure(store, less).frames().any(axis=1).all()


def test_a_pack_of_an_earlier_version_has_no_digest_and_is_used(tiny, tmp_path):
    table = (pack := ensure(FeatureStore(tmp_path), tiny)).path.with_suffix(".json")
    content = json.loads(table.read_text(encoding="utf-8"))
    del content["sha256"]
    table.write_text(json.dumps(content), encoding="utf-8")
    written = pack.path.with_suffix(".npy").stat().st_mtime_ns
    assert ensure(FeatureStore(tmp_path), tiny).sha256 == ""
    assert pack.path.with_suffix(".npy").stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other", "zeros"])
def test_a_pack_whose_frames_are_damaged_is_extracted_anew(tiny, tmp_path, damage):
    whole = np.array(ensure(FeatureStore(tmp_path), tiny).frames())
    path = ensure(FeatureStore(tmp_path), tiny).path.with_suffix(".npy")
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-1000])
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "other":
            np.save(path, np.zeros((3, 16), dtype=np.float32))
        case "zeros":  # of the same form: only their digest tells
            np.save(path, np.zeros_like(whole))
    np.testing.assert_array_equal(ensure(FeatureStore(tmp_path), tiny).frames(), whole)


def test_parts_of_another_extraction_are_left_alone(tiny, tmp_path):
    other = replace(tiny, utterances=tiny.utterances[:5])
    store = FeatureStore(tmp_path)

    def dies(function, chunks):
        function(chunks[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(store, tiny, mapper=dies)
    parts = sorted(path.name for path in tmp_path.rglob("parts/*"))
    assert len(parts) == 2
    ensure(store, other)
    assert sorted(path.name for path in tmp_path.rglob("parts/*")) == parts


def test_a_torn_pack_table_is_extracted_anew(tiny, tmp_path):
    pack = ensure(FeatureStore(tmp_path), tiny)
    table = pack.path.with_suffix(".json")
    table.write_text(table.read_text()[:100])
    np.testing.assert_array_equal(ensure(FeatureStore(tmp_path), tiny).frames(), pack.frames())


def test_front_ends_that_differ_have_different_folders():
    assert FrontEnd().id == FrontEnd().id
    assert (
        len({FrontEnd().id, FrontEnd(n_mels=40).id, FrontEnd(preemphasis=0.97).id, replace(FrontEnd(), hop=80).id}) == 4
    )


def test_a_copy_of_remote_frames_that_was_cut_short_is_fetched_again(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TFSER_CACHE", str(tmp_path / "cache"))
    pack = ensure(FeatureStore(places.place(f"memory://{tmp_path.name}")), tiny)
    whole = np.array(pack.frames())
    (copy,) = (tmp_path / "cache").rglob(f"{pack.path.name}.npy")
    for content in (copy.read_bytes()[:-1000], b""):
        copy.unlink()  # another file: the first one is mapped
        copy.write_bytes(content)
        np.testing.assert_array_equal(pack.frames(), whole)
