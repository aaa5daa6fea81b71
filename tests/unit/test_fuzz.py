"""Random damage to valid files: an accepted reading or a clear error, never a crash, a hang or a memory blow-up."""

from __future__ import annotations

import io
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.trees import wav_bytes
from tfser import audio
from tfser.databases import examine, iemocap, manifest
from tfser.databases.base import PROBLEM_KINDS
from tfser.databases.checks import waveform_problems
from tfser.databases.emodb import INFO
from tfser.errors import AudioError, RequestError

MOST_BYTES = 64 << 20
"""Peak of one reading: files here have some kilobytes, and a header may promise anything."""


def encoded(form: str, subtype: str, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    samples = 0.2 * np.random.default_rng(3).standard_normal((1500, channels))
    soundfile.write(buffer, np.clip(samples, -1, 1), 16_000, format=form, subtype=subtype)
    return buffer.getvalue()


AUDIO = {
    "wav": [wav_bytes(1, 1500), encoded("WAV", "FLOAT"), encoded("WAV", "PCM_24", 2), encoded("WAVEX", "PCM_16")],
    "flac": [encoded("FLAC", "PCM_16"), encoded("FLAC", "PCM_24", 2)],
}

TURNS = [("F000", "neu"), ("M000", "ang"), ("F001", "fru"), ("F002", "sad"), ("M001", "xxx")]
LABELS = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "".join(
    f"[{n}.2901 - {n + 1}.2357]\tSes01F_impro01_{turn}\t{label}\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n\n"
    for n, (turn, label) in enumerate(TURNS)
)
MANIFEST = "path,speaker,emotion,session\n" + "".join(f'"wav/{n}.wav",s{n % 2},e{n % 3},x\n' for n in range(8))


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one to a few changes: bytes, lengths at a word's place, cuts, repeats, insertions."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, len(data))) if random.random() < 0.5 else int(random.integers(0, min(len(data), 64)))
        match int(random.integers(0, 7)):
            case 0:
                data[at] ^= 1 << int(random.integers(0, 8))
            case 1:
                data[at] = int(random.choice([0, 1, 10, 34, 44, 127, 128, 255]))
            case 2:
                data[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80", b"data", b"fmt "])
            case 3:
                del data[at:]
            case 4:
                del data[at : at + int(random.integers(1, 40))]
            case 5:
                data[at:at] = data[at : at + int(random.integers(1, 200))]
            case 6:
                data[at:at] = random.bytes(int(random.integers(1, 20)))
        if not data:
            break
    return bytes(data)


def read_audio(path: Path) -> str:
    refusal: AudioError | None = None
    try:
        waveform = audio.read(path)
    except AudioError as error:
        refusal = error
    if refusal is not None:
        assert refusal.kind in PROBLEM_KINDS
        assert len(refusal.detail) > 5
        return refusal.kind
    assert waveform.samples.ndim == 2
    assert waveform.samples.dtype == np.float32
    assert np.isfinite(waveform.samples).all()
    assert 0 < waveform.samples.shape[1] <= audio.LONGEST_S * waveform.rate_hz
    waveform_problems(waveform, INFO)
    return "accepted"


def read_labels(path: Path) -> str:
    root = path.parents[3]
    try:
        reading = iemocap.scan(root)
    except RequestError as error:
        return "refused" if error.problems else "refused without a reason"
    assert all(problem.kind in PROBLEM_KINDS and problem.detail for problem in reading.problems)
    assert all(u.emotion in iemocap.INFO.emotions and u.speaker[:5] == u.session for u in reading.utterances)
    return "accepted" if reading.utterances else "refused"


def read_manifest(path: Path) -> str:
    try:
        database, problems = examine(str(path), None)
    except RequestError as error:
        return "refused" if error.problems else "refused without a reason"
    assert all(problem.kind in PROBLEM_KINDS and problem.detail for problem in problems)
    for utterance in database.utterances:
        assert manifest.label_problem(utterance.speaker) is None
        assert manifest.label_problem(utterance.emotion) is None
    return "accepted"


def fuzz(folder: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """``count`` mutations over the four kinds of file, in turn; what came of them."""
    labels = folder / "tree" / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    labels.parent.mkdir(parents=True)
    turns = folder / "tree" / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    turns.mkdir(parents=True)
    (folder / "wav").mkdir()
    for turn, _ in TURNS:
        (turns / f"Ses01F_impro01_{turn}.wav").write_bytes(b"not looked into")
    for number in range(8):
        (folder / "wav" / f"{number}.wav").write_bytes(b"not looked into")
    kinds: list[tuple[str, list[bytes], Path, Callable[[Path], str]]] = [
        ("wav", AUDIO["wav"], folder / "x.wav", read_audio),
        ("flac", AUDIO["flac"], folder / "x.flac", read_audio),
        ("labels", [LABELS.encode()], labels, read_labels),
        ("manifest", [MANIFEST.encode(), MANIFEST.encode("utf-8-sig")], folder / "m.csv", read_manifest),
    ]
    outcomes: dict[str, Counter[str]] = {}
    for number in range(count):
        name, sources, path, reader = kinds[number % len(kinds)]
        random = np.random.default_rng([seed, number])
        content = mutated(sources[number // len(kinds) % len(sources)], random)
        path.write_bytes(content)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            outcome = reader(path)
        except Exception as error:
            raise AssertionError(f"{name}: mutation {number} of seed {seed} raised {type(error).__name__}: {error}") from error
        assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES, f"{name}: mutation {number} of seed {seed}"
        outcomes.setdefault(name, Counter())[outcome] += 1
    return outcomes


def peak_resident_bytes() -> int:
    """Of this process so far."""
    resource = pytest.importorskip("resource")
    kibibytes: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes << 10


@pytest.fixture
def traced() -> object:
    """Memory is traced; numpy reports its arrays."""
    tracemalloc.start(1)
    yield None
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_mutations_end_in_a_reading_or_a_clear_error(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, 600, seed=1)
    for name, counts in outcomes.items():
        assert not counts["refused without a reason"], name
        assert counts["accepted"], name  # else the mutations are too coarse to test anything
        assert len(counts) > 1, name


@pytest.mark.full
@pytest.mark.usefixtures("traced")
def test_ten_thousand_mutations_end_in_a_reading_or_a_clear_error(tmp_path: Path) -> None:
    before = peak_resident_bytes()
    outcomes = fuzz(tmp_path, 10_000, seed=2)
    grown = peak_resident_bytes() - before
    print({name: dict(counts) for name, counts in outcomes.items()}, f"resident memory grew by {grown >> 20} MiB")
    assert not any(counts["refused without a reason"] for counts in outcomes.values())
    assert grown < 256 << 20  # what libsndfile takes is not traced by Python


def test_the_unmutated_files_are_accepted(tmp_path: Path) -> None:
    for form, sources in AUDIO.items():
        for source in sources:
            (tmp_path / f"x.{form}").write_bytes(source)
            assert read_audio(tmp_path / f"x.{form}") == "accepted"
