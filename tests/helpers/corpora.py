"""Small corpora whose labels are spelt differently and whose speakers share names, as manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

CORPORA: Mapping[str, Sequence[str]] = {
    "north": ("Anger", "joy", "sad", "fear"),
    "south": ("angry", "happy", "sadness", "neutral"),
    "west": ("anger", "happiness", "sadness", "bored"),
}
"""Corpus to its labels; the first three of each mean anger, happiness and sadness."""

SPEAKERS = ("anna", "bert", "carl")

COMMON = """
north: {Anger: hot, joy: warm, sad: cold, fear: null}
south: {angry: hot, happy: warm, sadness: cold}
west: {anger: hot, happiness: warm, sadness: cold, bored: null}
"""
"""A map of the three."""


def write_corpora(folder: Path, names: Sequence[str] = tuple(CORPORA), takes: int = 3) -> list[Path]:
    """Write a manifest per corpus: 3 speakers x 4 labels x takes of tones in noise, 0.2 to 0.3 s."""
    manifests = []
    for name in names:
        number = list(CORPORA).index(name)
        rng = np.random.default_rng(number)
        rows = ["path,speaker,emotion"]
        for s, speaker in enumerate(SPEAKERS):
            for e, label in enumerate(CORPORA[name]):
                for take in range(takes):
                    time_s = np.arange(rng.integers(3200, 4800)) / 16000
                    tone = np.sin(2 * np.pi * (400 + 900 * e + 60 * s + 150 * number) * time_s)
                    wave = 0.2 * tone + 0.05 * rng.standard_normal(len(time_s))
                    path = folder / name / f"{speaker}-{label}{take}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, wave.astype(np.float32), 16000)
                    rows.append(f"{name}/{path.name},{speaker},{label}")
        manifest = folder / f"{name}.csv"
        manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
        manifests.append(manifest)
    return manifests


def permute_labels_of(manifest: Path) -> None:
    """Shift the first three labels of each speaker of a corpus by four utterances; each stays as frequent as it was."""
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    cells = [row.split(",") for row in rows]
    for speaker in SPEAKERS:
        own = [c for c in cells if c[1] == speaker and c[2] in CORPORA[manifest.stem][:3]]
        labels = [c[2] for c in own]
        for cell, label in zip(own, labels[4:] + labels[:4], strict=True):
            cell[2] = label
    manifest.write_text("\n".join([header, *(",".join(c) for c in cells)]) + "\n", encoding="utf-8")
