"""Decoding: everything a file can do wrong ends in one AudioError with a kind and a sentence."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.trees import wav_bytes
from tfser.audio import files
from tfser.errors import AudioError


def written(path: Path, samples: np.ndarray, rate_hz: int = 16_000, **options: str) -> Path:
    soundfile.write(path, samples, rate_hz, **options)
    return path


def refusal(path: Path) -> AudioError:
    with pytest.raises(AudioError) as error:
        files.read(path)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    return error.value


@pytest.mark.parametrize("form", ["wav", "flac", "aiff"])
def test_samples_come_back_as_channels_by_samples(form: str, tmp_path: Path) -> None:
    sent = np.round(np.random.default_rng(1).uniform(-0.5, 0.5, (3000, 2)) * 32768) / 32768
    waveform = files.read(written(tmp_path / f"x.{form}", sent, 22_050))
    assert (waveform.samples.dtype, waveform.samples.shape, waveform.rate_hz) == (np.float32, (2, 3000), 22_050)
    np.testing.assert_array_equal(waveform.samples, sent.T.astype(np.float32))


def test_a_file_longer_than_one_block_is_read_whole(tmp_path: Path) -> None:
    sent = np.random.default_rng(1).uniform(-0.5, 0.5, 700_001).astype(np.float32)
    waveform = files.read(written(tmp_path / "x.wav", sent, subtype="FLOAT"))
    np.testing.assert_array_equal(waveform.samples[0], sent)


def test_a_truncated_wav_is_unreadable_with_the_arithmetic(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(1, 16_000)[: 44 + 2 * 6000])
    error = refusal(path)
    assert error.kind == "unreadable"
    assert "promises 16000 samples (1.00 s), 6000 could be decoded (0.38 s), 10000 are missing" in error.detail


def test_a_truncated_flac_is_unreadable(tmp_path: Path) -> None:
    path = written(tmp_path / "x.flac", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000))
    path.write_bytes(path.read_bytes()[:9000])
    assert refusal(path).kind == "unreadable"


def shortened(path: Path, promise: int) -> Path:
    """The file with a smaller length in its header."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".flac":
        struct.pack_into(">I", content, 22, promise)
    else:
        struct.pack_into("<I", content, content.index(b"data") + 4, 2 * promise)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("promise", [1, 2048, 8000, 15_000])
@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_file_that_holds_more_than_its_header_promises_is_unreadable(form: str, promise: int, tmp_path: Path) -> None:
    path = written(tmp_path / f"x.{form}", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000), subtype="PCM_16")
    error = refusal(shortened(path, promise))
    assert error.kind == "unreadable"
    said = f"promises {promise} samples ({promise / 16_000:.2f} s), but it holds 16000 (1.00 s), and only a part"
    assert said in error.detail


@pytest.mark.parametrize("form", ["WAVEX", "RF64", "RIFX"])
def test_every_kind_of_wav_is_read_whole_or_not_at_all(form: str, tmp_path: Path) -> None:
    content = bytearray(with_lengths(form, b"ds64" if form == "RF64" else b"data", 8_000))
    (tmp_path / "x").write_bytes(content)
    assert "but it holds 16000" in refusal(tmp_path / "x").detail


@pytest.mark.parametrize("samples", [3999, 4000])
@pytest.mark.parametrize(
    "rest",
    [
        b"\1" * 100,
        bytes(5000),
        b"LIST" + struct.pack("<I", 2000) + bytes(range(1, 251)) * 8,
        b"\0LIST" + struct.pack("<I", 2000) + bytes(range(1, 251)) * 8,
        b"xyz " + struct.pack("<I", 2000) + bytes(range(1, 251)) * 8,
        b"LIST" + struct.pack("<I", 9000) + bytes(range(1, 251)) * 8,
        b"TAG" + b"x" * 997,
    ],
)
def test_chunks_tags_and_padding_behind_the_samples_are_no_samples(rest: bytes, samples: int, tmp_path: Path) -> None:
    path = written(tmp_path / "x.wav", np.random.default_rng(1).uniform(-0.5, 0.5, samples), subtype="PCM_U8")
    content = path.read_bytes()[: 44 + samples]
    path.write_bytes(content + rest)
    if rest[:1] != b"\0" or samples % 2 or not any(rest):
        assert files.read(path).samples.shape == (1, samples)
    else:
        assert "but it holds" in refusal(path).detail


@pytest.mark.parametrize("tag", [b"TAG" + b"x" * 125, bytes(3000)])
def test_a_tag_behind_a_flac_is_no_sample(tag: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "x.flac", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000))
    path.write_bytes(path.read_bytes() + tag)
    assert files.read(path).samples.shape == (1, 16_000)


FORMS = sorted(set(soundfile.available_formats()) - {"RAW", "SD2"})
"""Every format that libsndfile writes, but those without a header in the file."""


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_read_whole_and_refused_in_half_or_not_read_at_all(form: str, tmp_path: Path) -> None:
    path, sent = tmp_path / "x", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000)
    for subtype, endian in itertools.product(soundfile.available_subtypes(form), ("FILE", "LITTLE", "BIG")):
        if not soundfile.check_format(form, subtype, endian):
            continue
        with contextlib.suppress(soundfile.LibsndfileError):  # a coding that this libsndfile was built without
            soundfile.write(path, sent, 16_000, format=form, subtype=subtype, endian=endian)
            if soundfile.info(path).format not in files.FORMATS or subtype not in files.SUBTYPES:
                assert "convert it" in refusal(path).detail, (subtype, endian)
                continue
            assert files.read(path).samples.shape == (1, 16_000), (subtype, endian)
            content = path.read_bytes()
            for share in (4, 2):
                path.write_bytes(content[: len(content) - len(content) // share])
                assert refusal(path).kind == "unreadable", (subtype, endian)


def with_lengths(form: str, name: bytes, length: int) -> bytes:
    """A file of 1 s that was written into a pipe: ``length`` stands for what the program did not know."""
    with io.BytesIO() as file:
        endian = {"RIFX": "BIG"}.get(form, "FILE")
        sent = np.random.default_rng(1).uniform(-0.5, 0.5, 16_000)
        soundfile.write(file, sent, 16_000, format={"RIFX": "WAV"}.get(form, form), subtype="PCM_16", endian=endian)
        content = bytearray(file.getvalue())
    order = "<" if form in ("WAV", "WAVEX", "RF64") else ">"
    at = content.index(name) + 4
    match form:
        case "AIFF":
            struct.pack_into(">I", content, content.index(b"COMM") + 10, length)
            struct.pack_into(">I", content, at, min(2 * length + 8 * (length > 0), 0xFFFFFFFF))
        case "RF64":
            struct.pack_into("<QQQ", content, 20, length, length, length)
        case _:
            struct.pack_into(f"{order}I", content, at, length)
    struct.pack_into(
        f"{order}I", content, 4, 0xFFFFFFFF if form == "RF64" else min(length + 36 * (length > 0), 0xFFFFFFFF)
    )
    return bytes(content)


@pytest.mark.parametrize(
    ("form", "name", "lengths"),
    [
        ("WAV", b"data", (0, 0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFF000, 0x7FFFFFFF, 0x7FFFFF00, 0x80000000)),
        ("RIFX", b"data", (0, 0xFFFFFFFF, 0x7FFFF000)),
        ("RF64", b"ds64", (0, (1 << 63) - 1, (1 << 64) - 1)),
        ("AIFF", b"SSND", (0, 0x7F000000, 0x3F800000)),
    ],
)
def test_a_file_that_was_written_into_a_pipe_is_read_whole(
    form: str, name: bytes, lengths: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "x"
    for length in lengths:
        path.write_bytes(with_lengths(form, name, length))
        assert files.read(path).samples.shape == (1, 16_000), hex(length)


def test_a_piped_wav_that_ends_inside_a_sample_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(with_lengths("WAV", b"data", 0xFFFFFFFF)[:-3])
    assert "truncated" in refusal(path).detail


def test_a_nist_file_without_a_count_is_read_and_one_with_another_count_is_not(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.sph", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000), format="NIST", subtype="PCM_16"
    )
    content = path.read_bytes()
    for count, frames in ((b"0    ", 16_000), (b"16000", 16_000), (b"16001", None)):
        path.write_bytes(content.replace(b"-i 16000\nend", b"-i " + count + b"\nend"))
        if frames:
            assert files.read(path).samples.shape == (1, frames)
        else:
            assert "promises 16001 samples" in refusal(path).detail


def test_a_flac_without_a_length_is_refused_for_that(tmp_path: Path) -> None:
    path = written(tmp_path / "x.flac", np.zeros(4000))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert "does not say how many samples" in refusal(path).detail


def test_a_wav_without_samples_before_other_chunks_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(1, 4000)[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert refusal(path).kind == "empty"


def test_a_header_that_promises_gigabytes_costs_no_memory(tmp_path: Path) -> None:
    content = bytearray(wav_bytes(1, 4000))
    content[40:44] = struct.pack("<I", 0xFFFFFFF0)
    content[4:8] = struct.pack("<I", 0xFFFFFFFF)
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    error = refusal(path)
    assert error.kind in ("unreadable", "too long")
    assert "promises" in error.detail


def test_a_flac_that_promises_hours_is_too_long(tmp_path: Path) -> None:
    path = written(tmp_path / "x.flac", np.zeros(4000))
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the high bits of the 36-bit number of samples in STREAMINFO
    content[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert refusal(path).kind == "too long"


def test_a_file_larger_than_any_utterance_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with open(path, "wb") as file:
        file.truncate(files.LARGEST_BYTES + 1)  # sparse: takes no space
    assert refusal(path).kind == "too long"
    with pytest.raises(AudioError, match="too long"):
        files.digest(path)


@pytest.mark.parametrize(("rate", "word"), [(100, "100 Hz"), (2_000_000, "2000000 Hz")])
def test_a_sampling_rate_that_nobody_uses_is_a_broken_header(rate: int, word: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(1, 4000, rate))
    assert word in refusal(path).detail


def test_too_many_channels_are_a_broken_header(tmp_path: Path) -> None:
    assert "40 channels" in refusal(written(tmp_path / "x.wav", np.zeros((100, 40)))).detail


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM"])
def test_a_coding_whose_length_cannot_be_checked_is_refused(subtype: str, tmp_path: Path) -> None:
    assert subtype in refusal(written(tmp_path / "x.wav", np.zeros(4000), subtype=subtype)).detail


def test_lossy_files_are_named_by_their_format(tmp_path: Path) -> None:
    assert "OGG" in refusal(written(tmp_path / "x.ogg", np.zeros(4000))).detail


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_counted(value: float, tmp_path: Path) -> None:
    samples = np.zeros(4000, dtype=np.float32)
    samples[7] = value
    error = refusal(written(tmp_path / "x.wav", samples, subtype="FLOAT"))
    assert (error.kind, error.detail[:21]) == ("non-finite", "1 of 4000 samples are")


def test_integers_written_as_floats_are_refused(tmp_path: Path) -> None:
    error = refusal(written(tmp_path / "x.wav", np.full(4000, 12_000.0), subtype="FLOAT"))
    assert "1.2e+04 times full scale" in error.detail


def test_what_is_no_audio_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.flac").write_text("this is not audio\n" * 100)
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to(tmp_path / "gone.wav")
    written(tmp_path / "no samples.wav", np.zeros(0))
    kinds = {path.name: refusal(path).kind for path in sorted(tmp_path.iterdir())}
    expected = {
        "folder.wav": "unreadable",
        "link.wav": "missing",
        "no samples.wav": "empty",
        "nothing.wav": "empty",
        "text.flac": "unreadable",
    }
    assert kinds == expected
    assert refusal(tmp_path / "absent.wav").kind == "missing"
    assert refusal(tmp_path / "text.flac" / "x.wav").kind == "missing"
    assert refusal(Path("a\0b.wav")).kind == "unreadable"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.wav")
    assert "not an ordinary file" in refusal(tmp_path / "x.wav").detail
    with pytest.raises(AudioError, match="not an ordinary file"):
        files.digest(tmp_path / "x.wav")


def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(1))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user (root) may read everything")
    assert "Permission denied" in refusal(path).detail


@pytest.mark.parametrize("use", [files.read, files.digest])
def test_a_file_that_this_user_may_not_open_is_unreadable(use: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav_bytes(1))

    def refused(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied", str(arguments[0]))  # root may open anything

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(AudioError, match="unreadable: cannot be opened: Permission denied"):
            use(tmp_path / "x.wav")


@pytest.mark.parametrize("use", [files.read, files.digest])
def test_a_disk_that_fails_while_it_is_read_is_unreadable(use: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav_bytes(1))

    def broken(*arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", broken)
        patch.setattr(os, "pread", broken)
        with pytest.raises(AudioError, match="unreadable: .*Input/output error"):
            use(tmp_path / "x.wav")


@pytest.mark.parametrize(
    "name", ["a b.wav", "it's.wav", 'say "a".wav', "two\nlines.wav", "语音.wav", os.fsdecode(b"\xff\xfe.wav")]
)
def test_any_name_can_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(wav_bytes(1, 4000))
    assert files.read(path).samples.shape == (1, 4000)
    assert len(files.digest(path)) == 64


def test_the_digest_follows_the_bytes(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).write_bytes(wav_bytes(number))
    a, b, c = (files.digest(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(AudioError, match="missing"):
        files.digest(tmp_path / "absent")
