"""A deep network of loud segments and an extreme learning machine (DNN-ELM), after Han, Yu and Tashev (2014).

"Speech Emotion Recognition Using Deep Neural Network and Extreme Learning Machine", Interspeech 2014. Of the paper only
the abstract could be read. The network is as Chen et al. (2018) describe their run of it (read in full); features,
share of the segments, the threshold of 0.2 and the 120 units are after an implementation by others.

Axes: B batch, F values of a frame (30), T frames of a segment (25).

    frame   F                12 MFCC, log energy, pitch period, harmonics-to-noise ratio, and their deltas;
                             25 ms window, every 10 ms
    x       B 1 F T          a segment of 265 ms, beginning with every frame; of an utterance's segments only the 10 %
                             with the highest energy, in training and in test (``segment_share``)
    hidden  B 256            three times: FC, ReLU; the first reads the F T = 750 values of a segment
    logits  FC, B emotions   trained on the utterance's emotion

The utterance (``utterance_rule`` ``statistics``): of each emotion's probability the maximum, the minimum, the mean and
the share of segments above 0.2, 4 values per emotion, into 120 random sigmoid units and ridge regression onto -1 and 1.

Parameters with 4 emotions: 324,868; the machine behind them is not counted.

Settings, among them ``statistics_ridge``, are chosen by Optuna (``search_spaces/dnn_elm.yaml``); nothing is chosen
inside the training.

Ours, and gaps:
    - The energy of a segment is that of its windows' samples, before pre-emphasis.
    - Adam instead of gradient descent; 10 epochs, after which the loss of a training on EmoDB is about 0.01; ridge 1.
      The paper's least squares has no ridge as far as known. Its second machine, with a kernel, is not built.
    - The machine is fitted on the training utterances that the network was trained on, whose probabilities look surer
      than those of a new speaker. Held-out training speakers would be fairer to it; tfser does not offer that.
    - A pitch period is given in every frame, voiced or not; the ratio says how far to trust it.
    - Values are standardised with the training utterances; an implementation by others standardises each session with
      its own, which a new speaker does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tfser.models.base import Network, builder
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("full",)

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "hidden": Hyperparameter(default=256, low=1, high=4096, help="units of each hidden layer"),
    "layers": Hyperparameter(default=3, low=1, high=8, help="hidden layers"),
    "dropout": Hyperparameter(default=0.0, low=0.0, high=0.9, help="probability, on hidden units (not in the paper)"),
}


class Dnn(nn.Module):
    """The network of the module's docstring: x (B, C, F, T) -> logits (B, emotions).

    Args:
        ablation: one of ``ABLATIONS``.
        emotions: number of logits.
        input_channels: C.
        input_bands: F.
        segment_frames: T.
        hidden: units of each hidden layer.
        layers: hidden layers.
        dropout: probability, 0 to below 1.
    """

    def __init__(
        self,
        *,
        ablation: str = ABLATIONS[0],
        emotions: int,
        input_channels: int = 1,
        input_bands: int = 30,
        segment_frames: int = 25,
        hidden: int = 256,
        layers: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [input_channels * input_bands * segment_frames, *[hidden] * layers]
        self.layers = nn.ModuleList(
            nn.Linear(width, wider) for width, wider in zip(widths[:-1], widths[1:], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, emotions)

    def forward(self, x_BCFT: Tensor) -> Tensor:
        """Compute the logits of segments."""
        x_BE = x_BCFT.flatten(1)
        for layer in self.layers:
            x_BE = self.dropout(layer(x_BE).relu())
        logits: Tensor = self.classifier(x_BE)
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings cannot be built, in words."""
    return range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, sizes=("segment_frames",), any_channels=True)


MODEL = Network(
    name="dnn_elm",
    title="DNN-ELM (re-run)",
    reruns=("DNN+ELM", "ELM-DNN"),
    features="mfcc",
    ablations=ABLATIONS,
    cost={"full": 0.02},
    hyperparameters=HYPERPARAMETERS,
    published={
        "deltas": 1,
        "pitch": True,
        "segment_frames": 25,
        "segment_hop": 1,
        "segment_share": 0.1,
        "batch_size": 128,
        "utterance_rule": "statistics",
    },
    ours={
        "epochs": "the paper's text could not be had; the loss hardly falls any more, and others stop after at most 50",
        "batch_size": "the paper's text could not be had; 128 in an implementation by others",
        "learning_rate": "the paper descends the gradient; Adam's usual one",
        "statistics_ridge": "the paper's text could not be had",
        "dropout": "none is known of",
    },
    problems=problems,
    epochs_where_silent=10,
    build=builder("dnn_elm", Dnn, HYPERPARAMETERS, problems, sizes=("input_channels", "input_bands", "segment_frames")),
)
"""What tfser has to know of it."""
