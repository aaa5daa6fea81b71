"""Temporal pyramid over the outputs of a convolutional network, after Zhang et al. (2018), small and from scratch.

"Speech Emotion Recognition Using Deep Convolutional Neural Network and Discriminant Temporal Pyramid Matching", IEEE
Transactions on Multimedia 20(6). Of the paper only the abstract could be read; the sizes are those of a
re-implementation: 64 mel bands at 25 ms, segments of 64 frames (655 ms) that begin every 30 frames, and three channels:
static values, deltas and delta-deltas. An AlexNet that was trained on ImageNet and tuned to emotions turns each segment
into its last hidden layer, 4096 values. A pyramid of 1 + 2 + 4 parts in time pools the segments of an utterance by the
Lp norm, and a linear SVM tells its emotion.

Axes: B batch, F mel bands (64), T frames (64), H hidden units, K emotions.

    x   = static, delta, delta-delta                   B 3 F T
    h   = convolutions of AlexNet, a quarter as wide   B 64 2 2
    h'  = ReLU(FC(h))                                  B H
    logits = FC(dropout(h'))                           B K

and, as the utterance rule ``pyramid``, the segments' probabilities in 1 + 2 + 4 parts: 7 K values into linear SVMs.

The gaps that matter, and the title says so: the network is small and starts from scratch, where the paper's has 58
million parameters from ImageNet; and the pyramid pools K probabilities, where the paper's pools 4096 hidden values.

The pyramid is no part of this network. It can be put on any network of tfser: ``--set utterance_rule=pyramid``, with
the settings ``pyramid_p`` and ``pyramid_c``. In turn ``--set dtpm.utterance_rule=mean`` takes it from this one.

Ours:
    - The first convolution is 5 x 5 with stride 2 (AlexNet: 11 x 11 with stride 4, on pictures of 227 x 227, to which
      the paper enlarges its segments). Batch normalisation replaces AlexNet's local response normalisation.
    - The mel bands begin at 0 Hz and not at 20 Hz. The channels are standardised per band, not scaled to 0 to 255.
    - The paper optimises p for class separation, and the re-implementation takes the maximum. Here p is 2 unless Optuna
      searches it, as every other setting; nothing is chosen in the training. The SVMs see training utterances only.
    - Adam in place of gradient descent.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tfser.models.alexnet import NORMALISATIONS, AlexNetConvolutions, positions, smallest
from tfser.models.base import Network, builder
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("full",)

KERNEL, STRIDE = 5, 2
"""Of the first convolution, along both axes."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "channels": Hyperparameter(
        default=24, low=3, high=96, help="channels of the first convolution; the others keep AlexNet's proportions"
    ),
    "hidden": Hyperparameter(default=256, low=1, high=4096, help="units of the hidden layer before the classifier"),
    "normalisation": Hyperparameter(
        default="batch",
        choices=NORMALISATIONS,
        help="AlexNet's local response normalisation, or batch normalisation after each convolution",
    ),
    "dropout": Hyperparameter(default=0.5, low=0.0, high=0.9, help="probability, before the classifier (AlexNet)"),
}


class SegmentEncoder(nn.Module):
    """The network: x (B, channels of the input, F, T) -> logits (B, emotions); F and T at least 33.

    Args:
        ablation: ``full``.
        emotions: number of classes.
        input_channels: channels of the input.
        input_bands: F.
        segment_frames: T.
        channels: after the first convolution.
        hidden: H.
        normalisation: one of ``NORMALISATIONS``.
        dropout: probability, 0 to below 1.
    """

    def __init__(
        self,
        *,
        ablation: str,
        emotions: int,
        input_channels: int,
        input_bands: int,
        segment_frames: int,
        channels: int,
        hidden: int,
        normalisation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.encoder = AlexNetConvolutions(input_channels, channels, KERNEL, STRIDE, normalisation)
        cells = positions(input_bands, KERNEL, STRIDE) * positions(segment_frames, KERNEL, STRIDE)
        self.hidden = nn.Linear(self.encoder.out_channels * cells, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, emotions)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of segments."""
        h_BH = self.hidden(self.encoder(x).flatten(1)).relu()
        logits: Tensor = self.classifier(self.dropout(h_BH))
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why ``settings`` cannot be built, in words."""
    found = range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, any_channels=True)
    if found:
        return found
    least = smallest(KERNEL, STRIDE)
    return [
        f"{name}: {settings[name]} leaves nothing after the convolutions; legal: at least {least}"
        for name in ("n_mels", "segment_frames")
        if int(settings[name]) < least
    ]


MODEL = Network(
    name="dtpm",
    title="DTPM (re-run, small network from scratch)",
    reruns=("DCNN-DTPM", "DTPM"),
    ablations=ABLATIONS,
    cost={"full": 0.5},
    hyperparameters=HYPERPARAMETERS,
    published={
        "n_mels": 64,
        "window_ms": 25.0,
        "deltas": 2,
        "segment_frames": 64,
        "segment_hop": 30,
        "utterance_rule": "pyramid",
        "learning_rate": 0.001,
        "batch_size": 30,
    },
    ours={
        "epochs": "the paper's text could not be had, and it tunes a trained network",
        "learning_rate": "0.001 with gradient descent, from memory of the paper; here with Adam",
        "batch_size": "from memory of the paper",
        "channels": "a quarter of AlexNet's width",
        "hidden": "AlexNet has 4096, twice",
        "normalisation": "AlexNet has its own; batch normalisation lets it learn from scratch",
        "pyramid_p": "the paper optimises it in a way that could not be read",
        "pyramid_c": "the paper's text could not be had",
    },
    problems=problems,
    epochs_where_silent=60,
    build=builder(
        "dtpm",
        SegmentEncoder,
        HYPERPARAMETERS,
        problems,
        sizes=("input_channels", "input_bands", "segment_frames"),
    ),
)
"""What tfser has to know of it."""
