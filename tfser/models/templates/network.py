"""Mine: a network of my own. Try it: tfser sweep synthetic --model mine.py:Mine."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tfser.models import Hyperparameter, Network, Value


class Layers(nn.Module):
    def __init__(self, inputs: int, emotions: int, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(  # change: your layers
            nn.Conv1d(inputs, width, kernel_size=5, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.classifier = nn.Linear(2 * width, emotions)

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, bands, frames) -> logits (batch, emotions)
        frames: Tensor = self.encoder(x.flatten(1, 2))
        pooled = torch.cat([frames.mean(dim=2), frames.amax(dim=2)], dim=1)  # change: how frames become one vector
        logits: Tensor = self.classifier(pooled)
        return logits


def build(ablation: str, settings: Mapping[str, Value], emotions: int) -> nn.Module:
    inputs = int(settings["input_channels"]) * int(settings["input_bands"])
    return Layers(inputs, emotions, int(settings["width"]), float(settings["dropout"]))  # change: what it is built from


Mine = Network(
    name="Mine",  # change: its name in commands and files
    title="Mine",  # change: its name in tables
    features="log_mel",  # change: what it reads of an utterance
    ablations=("full",),  # change: the full model first; build gets the name
    hyperparameters={  # change: its settings, and the ranges that a search may try
        "width": Hyperparameter(default=32, low=8, high=128, help="channels of the encoder"),
        "dropout": Hyperparameter(default=0.1, low=0.0, high=0.5, help="probability"),
    },
    published={"batch_size": 16, "segment_frames": 80},  # change: your defaults for features and training
    epochs_where_silent=20,  # change: epochs without --epochs
    build=build,
)
