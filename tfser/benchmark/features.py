"""Feature extraction beside a loop that does nothing else, on one core."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from tfser.benchmark.figures import Figure, Scale, figure, one_core, seconds
from tfser.databases import load
from tfser.features.log_mel import FrontEnd
from tfser.features.store import FeatureStore, audio_digests
from tfser.storage import temporary


def measure(scale: Scale) -> list[Figure]:
    """Measure features of utterances of 3 s, from files on disk to a finished store, and a second start that finds all.

    The baseline of both is a loop that decodes and transforms the same files, without checks, digests or a store.
    """
    utterances = 12 if scale.quick else 2000
    first: list[float] = []
    second: list[float] = []
    bare: list[float] = []
    with one_core(), temporary.Folder("benchmark") as name:
        manifest = _corpus(Path(name), utterances)
        for repeat in range(scale.repeats + 1):  # the first round warms caches and is not counted
            loop = seconds(lambda: _bare_loop(manifest.parent))
            with tempfile.TemporaryDirectory(dir=name) as store:
                both = [
                    seconds(lambda: _our_features(manifest, Path(store)))  # noqa: B023  # called at once
                    for _ in range(2)
                ]
            if repeat:
                bare.append(loop)
                first.append(both[0])
                second.append(both[1])
    what = f"features of {utterances} utterances"
    return [figure(f"{what}, first start", "s", first, bare), figure(f"{what}, second start", "s", second, bare)]


def _corpus(folder: Path, utterances: int) -> Path:
    """Write noise with a manifest, 16 kHz, 16 bit, 3 s each, and return the manifest's path."""
    random = np.random.default_rng(0)
    rows = ["path,speaker,emotion"]
    for number in range(utterances):
        soundfile.write(folder / f"{number:05d}.wav", (0.1 * random.standard_normal(48_000)).astype(np.float32), 16_000)
        rows.append(f"{number:05d}.wav,speaker{number % 10},emotion{number % 4}")
    manifest = folder / "benchmark.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def _bare_loop(folder: Path) -> int:
    """Decode and transform every wav file of the folder, and return the number of frames."""
    wanted = FrontEnd()
    mel = torchaudio.transforms.MelSpectrogram(
        wanted.rate_hz,
        wanted.n_fft,
        wanted.window,
        wanted.hop,
        n_mels=wanted.n_mels,
        window_fn=torch.hamming_window,
        center=False,
    )
    kept = []
    for path in sorted(folder.glob("*.wav")):
        samples, _ = soundfile.read(path, dtype="float32")
        kept.append(torch.log(mel(torch.from_numpy(samples)) + 1e-6).T.contiguous())
    return sum(len(frames) for frames in kept)


def _our_features(manifest: Path, store: Path) -> int:
    """Prepare a database as a sweep does before training, and return the number of frames."""
    database = load(str(manifest), None)
    return len(FeatureStore(store).ensure(database, audio_digests(database), FrontEnd()).frames())
