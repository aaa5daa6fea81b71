"""A database small enough to train on in a second, and settings that fit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SMALL = {
    "n_mels": 16,
    "segment_frames": 16,
    "channels": 2,
    "feed_forward": 8,
    "time_frequency_feed_forward": 8,
    "time_frequency_heads": 2,
    "batch_size": 8,
}
"""Settings of a Time-Frequency Transformer that trains an epoch of ``tiny`` in milliseconds."""

SET_SMALL = [f"{name}={value}" for name, value in SMALL.items()]


def write_tiny(folder: Path) -> Path:
    """Write a manifest of 4 speakers (2 sessions) x 3 emotions x 3 utterances of noise and tones, 0.3 to 0.5 s."""
    rng = np.random.default_rng(7)
    rows = ["path,speaker,emotion,session"]
    for speaker_index, speaker in enumerate(("anna", "bert", "carl", "dora")):
        for emotion_index, emotion in enumerate(("calm", "glad", "tense")):
            for take in range(3):
                samples = rng.integers(5000, 8000)
                time_s = np.arange(samples) / 16000
                tone = np.sin(2 * np.pi * (300 + 900 * emotion_index + 40 * speaker_index) * time_s)
                wave = 0.2 * tone + 0.05 * rng.standard_normal(samples)
                name = f"{speaker}/{emotion}{take}.wav"
                (folder / speaker).mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / name, wave.astype(np.float32), 16000)
                rows.append(f"{name},{speaker},{emotion},s{1 + speaker_index // 2}")
    manifest = folder / "tiny.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest
