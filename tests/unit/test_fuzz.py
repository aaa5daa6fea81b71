"""Random damage to valid files and command lines is read or clearly refused, without a crash, a hang or much memory."""

from __future__ import annotations

import io
import re
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.trees import wav_bytes
from tfser.audio import files
from tfser.databases import examine, load
from tfser.databases.base import PROBLEM_KINDS
from tfser.databases.checks import waveform_problems
from tfser.databases.corpora import iemocap
from tfser.databases.corpora.emodb import INFO
from tfser.databases.formats import manifest
from tfser.errors import AudioError, RequestError
from tfser.features.store import audio_digests
from tfser.leaks import command
from tfser.models import MODELS
from tfser.planning import search_space, search_space_file
from tfser.planning import settings as planning_settings
from tfser.storage import packaged_files
from tfser.sweep import options as sweep_options
from tfser.sweep import request

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
        at = (
            int(random.integers(0, len(data))) if random.random() < 0.5 else int(random.integers(0, min(len(data), 64)))
        )
        match int(random.integers(0, 7)):
            case 0:
                data[at] ^= 1 << int(random.integers(0, 8))
            case 1:
                data[at] = int(random.choice([0, 1, 10, 34, 44, 127, 128, 255]))
            case 2:
                data[at : at + 4] = random.choice(
                    [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80", b"data", b"fmt "]
                )
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
        waveform = files.read(path)
    except AudioError as error:
        refusal = error
    if refusal is not None:
        assert refusal.kind in PROBLEM_KINDS
        assert len(refusal.detail) > 5
        return refusal.kind
    assert waveform.samples.ndim == 2
    assert waveform.samples.dtype == np.float32
    assert np.isfinite(waveform.samples).all()
    assert 0 < waveform.samples.shape[1] <= files.LONGEST_S * waveform.rate_hz
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
            raise AssertionError(
                f"{name}: mutation {number} of seed {seed} raised {type(error).__name__}: {error}"
            ) from error
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


NUMBERS = [
    "0",
    "1",
    "2",
    "8",
    "0.1",
    "0.5",
    "1e-4",
    "1E5",
    ".5",
    "1_000",
    "010",
    "0o17",
    "1:30",
    ".inf",
    ".nan",
    "1e400",
    "5e-324",
]
NUMBERS += [
    "-1",
    "9007199254740992",
    "9" * 50,
    "1.7e308",
    "yes",
    "~",
    "2020-01-01",
    "''",
    "[1]",
    "{a: 1}",
    "*a",
    "&a 4",
    "!!int x",
    "none",
]
MARKS = [
    "",
    ":",
    "-",
    "[",
    "]",
    "{",
    "}",
    "!",
    "|",
    "'",
    '"',
    "#",
    "\n",
    "  ",
    "\t",
    "%",
    "?",
    "<<: ",
    ",",
    "\0",
    "\x85",
    "---\n",
]


def one(words: Sequence[str], random: np.random.Generator) -> str:
    """One of them; numpy's own choice would drop zero bytes."""
    return words[int(random.integers(0, len(words)))]


def searched(random: np.random.Generator) -> str:
    """A search space made of parts that are often wrong, or one that travels with tfser with a few changes."""
    if random.random() < 0.4:
        text = one(
            [p.read_text(encoding="utf-8") for p in sorted(packaged_files.data_folder("search_spaces").glob("*.yaml"))],
            random,
        )
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(0, len(text)))
            text = text[:at] + one(MARKS + NUMBERS, random) + text[at + int(random.integers(0, 6)) :]
        return text
    settings = [*planning_settings.hyperparameters("atfnn"), "[a]", "~"]
    lines = [f"  {one(settings, random)}: {one(NUMBERS, random)}" for _ in range(int(random.integers(0, 2)))]
    text = "model: atfnn\nfixed:\n" + "\n".join(lines) + "\nsearch:\n"
    for _ in range(int(random.integers(1, 4))):
        kind = one(["choice", "int", "float"], random)
        values = ", ".join(one(NUMBERS[: 7 if random.random() < 0.8 else None], random) for _ in range(2))
        more = [
            "",
            "",
            ", scale: log",
            ", divides: n_mels / 4",
            ", when: {heads: [1]}",
            f", step: {one(NUMBERS, random)}",
        ]
        text += f"  {one(settings, random)}: {{{kind}: [{values}]{one(more, random)}}}\n"
    return text


def test_a_search_space_is_read_or_refused_in_words_whatever_a_person_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_space, "COMBINATIONS", 20)
    known = {model: planning_settings.hyperparameters(model) for model in MODELS}
    outcomes: Counter[str] = Counter()
    for number in range(600):
        text = searched(np.random.default_rng([3, number]))
        (tmp_path / "space.yaml").write_bytes(text.encode("utf-8"))
        try:
            found = search_space_file.read(tmp_path / "space.yaml", known)
            base = planning_settings.published_settings(found.model)
            search_space.refusals(found, base, lambda settings: [])
            found.first(base)
            outcomes["read"] += 1
        except RequestError as error:
            outcomes[
                "refused" if all(0 < len(problem) < 1000 for problem in error.problems) else "refused at length"
            ] += 1
        except Exception as error:
            raise AssertionError(f"space {number} raised {type(error).__name__}: {error}\n{text}") from error
    assert set(outcomes) == {"read", "refused"}
    assert min(outcomes.values()) > 20, outcomes


WORDS = [
    "",
    " ",
    "0",
    "1",
    "3",
    "-1",
    "1_0",
    "１０",
    "1e3",
    "nan",
    "inf",
    "True",
    "9" * 30,
    "9" * 5000,
    "a=1",
    "channels=8",
    "channels=4",
]
WORDS += [
    "=",
    "dropout=nan",
    "dropout=0.1",
    "batch_size=1_0",
    "learning_rate=1e-3",
    "all",
    "T+F",
    "atfnn",
    "session",
    "oracle",
    "anna",
]
WORDS += [
    "../x",
    "/",
    "con",
    "हिन्दी",
    "\udcff",
    "\0",
    "-",
    "--",
    "~",
    "%",
    "s3://",
    "memory://x",
    "nonsense://x",
    "x" * 300,
    "\n",
    "auto",
]


def test_a_command_line_is_understood_or_refused_in_words_whatever_a_person_types(
    tiny_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_space, "COMBINATIONS", 20)
    digests = audio_digests(load(str(tiny_manifest), None))
    monkeypatch.setattr(request, "audio_digests", lambda database: digests)  # the only database that can be read here
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # takes bytes that are no text, as a terminal's does
    helps = sweep_options.parser().format_help() + command.parser().format_help()
    options = sorted(set(re.findall(r"--[a-z][a-z-]+", helps)) - {"--help"})
    outcomes: Counter[str] = Counter()
    for number in range(400):
        random = np.random.default_rng([4, number])
        argv = [str(tiny_manifest) if random.random() < 0.9 else one(WORDS, random)]
        for _ in range(int(random.integers(0, 4))):
            argv += [one(options, random), *(one(WORDS, random) for _ in range(int(random.choice([0, 1, 1, 1, 2]))))]
        try:
            if number % 2:
                command.checked(command.parse(argv))
            else:
                request.check(sweep_options.parse(argv))
            outcomes["understood"] += 1
        except SystemExit as end:
            outcomes[f"ended with {end.code}"] += 1
        except RequestError as error:
            outcomes["refused" if error.problems and str(error) else "refused without a reason"] += 1
        except Exception as error:
            raise AssertionError(f"{argv} raised {type(error).__name__}: {error}") from error
    assert set(outcomes) == {"understood", "ended with 2", "refused"}
    assert outcomes["understood"] > 5
