"""``python -m tfser.benchmark``: the project's performance figures, as ratios between variants timed in turn in one run.

A machine's speed changes from minute to minute, and between machines even more, so no figure here is a time alone: what
is measured and what it is compared with take turns, and the median of the ratios counts. To add a figure, write a
function from ``Scale`` to its figures and put it into ``FIGURES``.

Everything runs on one core: the process is pinned to one where the system allows it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from rich.console import Console
from rich.table import Table

from tfser.databases import load
from tfser.errors import TfserError
from tfser.features import FeatureStore, FrontEnd, audio_digests
from tfser.files import commit_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table, and one object of ``--json``."""

    name: str
    value: float
    """Median over the repeats, in ``unit``."""
    unit: str
    baseline: float
    """Median of what it is compared with, in ``unit``."""
    ratio: float
    """Median of the repeats' ratios, value to baseline."""
    n: int
    """Repeats."""
    spread: float
    """Largest less smallest ratio of the repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much work a figure does."""

    repeats: int
    utterances: int


FULL = Scale(repeats=5, utterances=2000)
QUICK = Scale(repeats=2, utterances=12)


def figure(name: str, unit: str, values: Sequence[float], baselines: Sequence[float]) -> Figure:
    """A figure from values and baselines measured in turn."""
    ratios = [value / baseline for value, baseline in zip(values, baselines, strict=True)]
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        baseline=statistics.median(baselines),
        ratio=statistics.median(ratios),
        n=len(ratios),
        spread=max(ratios) - min(ratios),
    )


def features(scale: Scale) -> list[Figure]:
    """Features of utterances of 3 s, from files on disk to a finished store, and once more when all is there.

    The baseline of both is a loop that decodes and transforms the same files and checks, digests and stores nothing.
    """
    first: list[float] = []
    second: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tfser-benchmark-") as name:
        manifest = _corpus(Path(name), scale.utterances)
        for repeat in range(scale.repeats + 1):  # the first round warms caches and does not count
            seconds = _seconds(lambda: _bare_loop(manifest.parent))
            with tempfile.TemporaryDirectory(dir=name) as store:
                both = [_seconds(lambda: _our_features(manifest, Path(store))) for _ in range(2)]  # noqa: B023  # called at once
            if repeat:
                bare.append(seconds)
                first.append(both[0])
                second.append(both[1])
    what = f"features of {scale.utterances} utterances"
    return [figure(f"{what}, first start", "s", first, bare), figure(f"{what}, second start", "s", second, bare)]


def _corpus(folder: Path, utterances: int) -> Path:
    """A manifest of noise, 16 kHz, 16 bit, 3 s each; returns its path."""
    random = np.random.default_rng(0)
    rows = ["path,speaker,emotion"]
    for number in range(utterances):
        soundfile.write(folder / f"{number:05d}.wav", (0.1 * random.standard_normal(48_000)).astype(np.float32), 16_000)
        rows.append(f"{number:05d}.wav,speaker{number % 10},emotion{number % 4}")
    manifest = folder / "benchmark.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def _bare_loop(folder: Path) -> int:
    """Decode and transform every wav file of the folder; the number of frames kept."""
    wanted = FrontEnd()
    mel = torchaudio.transforms.MelSpectrogram(
        wanted.rate_hz, wanted.n_fft, wanted.window, wanted.hop, n_mels=wanted.n_mels, window_fn=torch.hamming_window, center=False
    )
    kept = []
    for path in sorted(folder.glob("*.wav")):
        samples, _ = soundfile.read(path, dtype="float32")
        kept.append(torch.log(mel(torch.from_numpy(samples)) + 1e-6).T.contiguous())
    return sum(len(frames) for frames in kept)


def _our_features(manifest: Path, store: Path) -> int:
    """What a sweep does with a database before it trains; the number of frames."""
    database = load(str(manifest), None)
    return len(FeatureStore(store).ensure(database, audio_digests(database), FrontEnd()).frames())


FIGURES: list[Callable[[Scale], list[Figure]]] = [features]
"""Everything that is measured, in the order of the table."""


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Pin this thread, and those it starts, to one core; PyTorch gets one thread."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="tfser benchmark", description="Performance figures, as ratios measured in turn in one run.")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="also write one object per figure")
    parser.add_argument("--quick", action="store_true", help="a little of everything: shows that it runs, measures nothing")
    arguments = parser.parse_args(argv)
    scale = QUICK if arguments.quick else FULL
    console = Console()
    figures: list[Figure] = []
    try:
        if arguments.json is not None:  # before minutes are spent
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with _one_core():
            for measure in FIGURES:
                figures += measure(scale)
        if arguments.json is not None:
            commit_text(arguments.json, json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    except KeyboardInterrupt:
        return 130
    except (TfserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    table = Table("figure", "value", "baseline", "unit", "ratio", "spread", "n", box=None, pad_edge=False)
    for column in (1, 2, 4, 5, 6):
        table.columns[column].justify = "right"
    for f in figures:
        table.add_row(f.name, f"{f.value:.3g}", f"{f.baseline:.3g}", f.unit, f"{f.ratio:.2f}", f"{f.spread:.2f}", str(f.n))
    console.print(table)
    console.print("ratio: value to baseline, median of n measured in turn; spread: largest less smallest ratio", style="dim")
    return 0


if __name__ == "__main__":
    sys.exit(main())
