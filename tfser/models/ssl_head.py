"""A small head on the frames of a frozen network that learned from speech without labels, after EmoBox (2024).

Ma et al., "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark", Interspeech 2024; read
in its public recipe. The features are a layer of wav2vec 2.0, HuBERT or WavLM, by default the last one. They are
extracted once, and only the head is trained, which takes seconds.

Axes: B batch, D values of a frame (768), T frames of 20 ms (150 in training, any number at test), H hidden units
(256), K emotions.

    x   = frames of the layer                B 1 D T
    h   = ReLU(FC(x))                        B T H
    logits = FC(mean of h over the frames)   B K

For 768 values and four emotions it has 197,892 parameters.

Gaps and readings:
    - The recipe trains on whole utterances, padded within a batch, and leaves the padding out of the mean. Here
      training sees segments of 3 s without padding, and the whole utterance is one pass at test (utterance rule
      ``whole``). An utterance shorter than a segment is repeated to that length, and its beginning may count once more
      than its end.
    - The recipe's learning rate grows for the first 10 steps or epochs; here it is constant.
    - The recipe scores the test set after every epoch and takes the best. Here nothing is chosen on it.
    - Learned weights of all layers (SUPERB) are not built. Which layer is a setting, ``layer``.
    - ``standardisation`` ``training`` standardises each value over the training utterances; the recipe takes the
      features as they are, as ``none`` does.

The weights of the frozen network are never downloaded. Where they are missing, a request for this model is refused with
the name of the file and its place. Every setting is fixed or searched by Optuna; nothing is chosen in the training.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tfser.models.base import Network, builder
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("full",)

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "hidden": Hyperparameter(default=256, low=1, high=4096, help="units of the hidden layer"),
    "dropout": Hyperparameter(default=0.0, low=0.0, high=0.9, help="probability, before the classifier"),
}


class Head(nn.Module):
    """The head: x (B, 1, D, T) -> logits (B, emotions).

    Args:
        ablation: ``full``.
        emotions: number of classes.
        input_bands: D.
        hidden: H.
        dropout: probability, 0 to below 1.
    """

    def __init__(self, *, ablation: str, emotions: int, input_bands: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_bands, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, emotions)

    def forward(self, x_B1DT: Tensor) -> Tensor:
        """Compute the logits of segments or whole utterances."""
        h_BTH = self.hidden(x_B1DT[:, 0].mT).relu()
        logits: Tensor = self.classifier(self.dropout(h_BTH.mean(dim=1)))
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why ``settings`` cannot be built, in words."""
    return range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, sizes=("segment_frames",))


MODEL = Network(
    name="ssl_head",
    title="SSL features + head (EmoBox)",
    features="ssl",
    ablations=ABLATIONS,
    cost={"full": 0.1},
    hyperparameters=HYPERPARAMETERS,
    published={
        "segment_frames": 150,
        "utterance_rule": "whole",
        "standardisation": "none",
        "learning_rate": 0.0001,
        "batch_size": 32,
    },
    ours={"segment_frames": "the recipe trains on whole utterances; 3 s without padding", "dropout": "it has none"},
    problems=problems,
    published_epochs=20,
    build=builder("ssl_head", Head, HYPERPARAMETERS, problems, sizes=("input_bands",)),
    any_length=True,
)
"""What tfser has to know of it."""
