"""What helps networks on small corpora, each by itself and all at once, at sizes of the tiny database."""

from __future__ import annotations

from typing import Any

INGREDIENTS: dict[str, dict[str, Any]] = {
    "label smoothing": {"label_smoothing": 0.1},
    "mixup": {"mixup_alpha": 0.3},
    "warm-up": {"schedule": "warmup", "warmup_epochs": 2},
    "cosine": {"schedule": "cosine"},
    "one cycle": {"schedule": "one_cycle"},
    "moving average": {"ema_decay": 0.8},
    "weight averaging": {"swa_from": 2},
    "clipping": {"clip_norm": 0.5},
    "balanced emotions": {"sampling": "emotions"},
    "balanced speakers": {"sampling": "speakers"},
    "segments together": {"segments_together": 3},
    "overlap": {"training_hop": 8},
    "shifted segments": {"scoring_hop": 5},
    "stripes per segment": {"frequency_mask": 4, "time_mask": 4, "mask_per": "segment", "mask_count": 2},
    "vocal tract": {"vtlp": 0.2},
    "adversary": {"adversary_weight": 0.5, "adversary_units": 8},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.3, "inner_speakers": 1},
    "early end": {"inner_speakers": 1, "early_end_patience": 2},
    "copies": {
        "augmented_copies": 2,
        "speed": 0.1,
        "pitch_semitones": 1.0,
        "reverberation_s": 0.2,
        "added_noise": "pink",
        "noise_snr_db": 15.0,
        "gain_db": 6.0,
    },
}
"""Settings by the name of what they switch on."""

ALL: dict[str, Any] = {
    **{name: value for settings in INGREDIENTS.values() for name, value in settings.items()},
    "schedule": "warmup_cosine",
    "schedule_epochs": 8,
    "sampling": "emotions_and_speakers",
    "swa_from": 0,
    "early_end_patience": 3,
}
"""All of it at once; of two averages the moving one."""


SPACE = """\
model: time_frequency_transformer
search:
  learning_rate: {float: [1.0e-3, 3.0e-2], scale: log}
  label_smoothing: {choice: [0.0, 0.1]}
  mixup_alpha: {float: [0.1, 0.4]}
  ema_decay: {choice: [0.5, 0.9]}
  augmented_copies: {choice: [1, 2]}
  adversary_weight: {float: [0.01, 1.0], scale: log}
"""
"""A search space among some of them."""


def set_words(settings: dict[str, Any]) -> list[str]:
    """What stands behind --set."""
    return [f"{name}={value}" for name, value in settings.items()]
