"""Convolutions and a Bi-LSTM on spectrograms (CNN-LSTM), after Satt, Rozenberg and Hoory (2017).

"Efficient Emotion Recognition from Speech Using Deep Learning on Spectrograms", Interspeech 2017. Of the paper only the
abstract could be read: spectrograms as input, utterances cut into parts of at most 3 s that do not overlap,
convolutions followed by an LSTM (68 % on four emotions, 66 % without the LSTM). Layers and front end are after
implementations by others, which agree with each other where they overlap.

Axes: B batch, F DFT points from 0 to 4 kHz (400 on the 10 Hz grid, 200 on the 20 Hz grid), T frames (300), H hidden
units (128).

    x       B 1 F T          log magnitudes, 40 ms Hamming window, every 10 ms
    conv 1  B 16 F/2 T/2     12 x 16 (frequency x time), ReLU, the largest of 2 x 2
    conv 2  B 24 F/4 T/4     8 x 12, likewise
    conv 3  B 32 F/8 T/8     5 x 7, likewise
    h       B 2H             Bi-LSTM over the T/8 steps of 32 F/8 values, last states of both directions
    logits  FC(dropout(ReLU(FC(h)))), 64 units, then B emotions

The grid is a setting of the features: ``fft=1600`` (10 Hz, the default) or ``fft=800`` (20 Hz, half the cost).

Parameters with 4 emotions: 1,855,116 on the 10 Hz grid, 1,035,916 on the 20 Hz grid.

Settings are chosen by Optuna (``search_spaces/cnn_lstm.yaml``); nothing is chosen inside the training.

Ours, because the text could not be read:
    - The kernels' first number counts frequencies, the second frames. Even kernels are padded by one cell more at the
      end, so that the size stays.
    - Pooling is 2 x 2 and keeps a last patch that is not full. One of the implementations pools one axis only.
    - Both directions of the LSTM (one implementation has one), a ReLU and a dropout of 0.2 on the 64 units.
    - Adam with 0.001, batches of 32, no class weights.
    - The parts of an utterance are averaged. The last part ends with the utterance, so that it may overlap the one
      before it; an utterance shorter than a part is repeated to its length.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tfser.models.base import Network, builder
from tfser.models.layers import Recurrence, last_states, pooled, pooled_size, same_convolution
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("full",)

KERNELS = ((12, 16), (8, 12), (5, 7))
"""Frequencies and frames of the three convolutions."""

POOL = 2
"""Of both axes, after every convolution."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "maps_1": Hyperparameter(default=16, low=1, high=256, help="feature maps of the first convolution"),
    "maps_2": Hyperparameter(default=24, low=1, high=256, help="feature maps of the second convolution"),
    "maps_3": Hyperparameter(default=32, low=1, high=256, help="feature maps of the third convolution"),
    "lstm_hidden": Hyperparameter(default=128, low=1, high=1024, help="hidden units of the Bi-LSTM, each direction"),
    "hidden": Hyperparameter(default=64, low=1, high=1024, help="units of the fully connected layer"),
    "dropout": Hyperparameter(default=0.2, low=0.0, high=0.9, help="probability, on the fully connected layer's units"),
}


class CnnLstm(nn.Module):
    """The network of the module's docstring: x (B, 1, F, T) -> logits (B, emotions).

    Args:
        ablation: one of ``ABLATIONS``.
        emotions: number of logits.
        input_channels: channels of x.
        input_bands: F.
        maps_1: feature maps of the first convolution.
        maps_2: of the second.
        maps_3: of the third.
        lstm_hidden: H.
        hidden: units of the fully connected layer.
        dropout: probability, 0 to below 1.
    """

    def __init__(
        self,
        *,
        ablation: str = ABLATIONS[0],
        emotions: int,
        input_channels: int = 1,
        input_bands: int = 400,
        maps_1: int = 16,
        maps_2: int = 24,
        maps_3: int = 32,
        lstm_hidden: int = 128,
        hidden: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        widths = (input_channels, maps_1, maps_2, maps_3)
        self.convolutions = nn.ModuleList(
            same_convolution(width, wider, kernel)
            for width, wider, kernel in zip(widths[:-1], widths[1:], KERNELS, strict=True)
        )
        bands = input_bands
        for _ in KERNELS:
            bands = pooled_size(bands, POOL)
        self.recurrence = Recurrence(nn.LSTM, maps_3 * bands, lstm_hidden)
        self.hidden = nn.Linear(2 * lstm_hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, emotions)

    def forward(self, x_B1FT: Tensor) -> Tensor:
        """Compute the logits of segments."""
        x = x_B1FT
        for convolution in self.convolutions:
            x = pooled(convolution(x).relu(), POOL, POOL)
        h_BE = last_states(self.recurrence(x.permute(0, 3, 1, 2).flatten(2)))
        logits: Tensor = self.classifier(self.dropout(self.hidden(h_BE).relu()))
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings cannot be built, in words."""
    return range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, sizes=("segment_frames",))


MODEL = Network(
    name="cnn_lstm",
    title="CNN-LSTM (re-run)",
    reruns=("CNN+LSTM Model", "CNN-LSTM"),
    features="spectrogram",
    ablations=ABLATIONS,
    cost={"full": 4.0},
    hyperparameters=HYPERPARAMETERS,
    published={"fft": 1600, "segment_frames": 300, "batch_size": 32},
    ours={
        "epochs": "the paper's text could not be read",
        "batch_size": "the paper's text could not be read; what others use for this network",
        "learning_rate": "the paper's text could not be read; Adam's usual one",
        "dropout": "the paper's text could not be read; an implementation by others has 0.2",
        "fft": "the paper has a 10 Hz and a 20 Hz grid; the tables that cite it have the 10 Hz grid",
    },
    problems=problems,
    epochs_where_silent=50,
    build=builder("cnn_lstm", CnnLstm, HYPERPARAMETERS, problems, sizes=("input_channels", "input_bands")),
)
"""What tfser has to know of it."""
