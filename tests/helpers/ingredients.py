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
}
"""Settings by the name of what they switch on."""

ALL: dict[str, Any] = {
    **{name: value for settings in INGREDIENTS.values() for name, value in settings.items()},
    "schedule": "warmup_cosine",
    "schedule_epochs": 8,
    "sampling": "emotions_and_speakers",
    "swa_from": 0,
}
"""All of it at once; of two averages the moving one."""
