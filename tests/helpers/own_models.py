"""Files of models that are not built in, and an installed package that holds one."""

from __future__ import annotations

from pathlib import Path

NETWORK = """
from torch import nn

from tfser.models import Hyperparameter, Network


class Layers(nn.Module):
    def __init__(self, bands, width, emotions):
        super().__init__()
        self.inner = nn.Linear(bands, width)
        self.outer = nn.Linear(width, emotions)

    def forward(self, x):
        return self.outer(self.inner(x.mean(dim=3)[:, 0]).relu())


def build(ablation, settings, emotions):
    return Layers(settings["input_bands"], settings["width"], emotions)


Mine = Network(
    name="Mine",
    title="My method",
    ablations=("full", "small"),
    parts={"full": {"large_part": True}, "small": {"large_part": False}},
    hyperparameters={"width": Hyperparameter(default=4, low=2, high=8, help="units")},
    published={"segment_frames": 16, "batch_size": 8, "n_mels": 16},
    epochs_where_silent=2,
    build=build,
)
"""
"""A network that trains an epoch of the small database in milliseconds."""


def write(folder: Path, **files: str) -> Path:
    """Write files, named without their ending, and return the folder; ``mine`` is ``NETWORK`` where it is not given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"mine": NETWORK, **files}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def install(site: Path, text: str = NETWORK, version: str = "1.0", name: str = "Mine") -> Path:
    """Write what an installer writes for a package with an entry point; put ``site`` on the path to have it there."""
    package, info = site / "their_models", site / f"their_models-{version}.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    for older in site.glob("their_models-*.dist-info"):
        for file in older.iterdir():
            file.unlink()
        older.rmdir()
    info.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "net.py").write_text(text, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-models\nVersion: {version}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[tfser.models]\n{name} = their_models.net:Mine\n", encoding="utf-8")
    return site
