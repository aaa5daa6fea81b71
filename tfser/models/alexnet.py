"""The convolutions of AlexNet (Krizhevsky et al. 2012) at any width: what two of the compared networks are made of.

Axes: B batch, S channels of the input, F bands, T frames, C channels.

    convolution 1   kernel and stride of the model, no padding, C of width 96
    convolution 2   5 x 5, padding 2, 256
    convolution 3   3 x 3, padding 1, 384
    convolution 4   3 x 3, padding 1, 384
    convolution 5   3 x 3, padding 1, 256

After each a ReLU, and after the first, second and fifth max-pooling over 3 x 3 cells with stride 2. With
``normalisation`` ``response``, local response normalisation stands before the first two poolings, as in the paper. With
``batch``, batch normalisation stands before each ReLU instead. The other widths keep the paper's proportions to the
first. Ours: one group per convolution; the paper had two in some, for its two GPUs.

Local response normalisation is written out, because torch's own has no deterministic gradient on a GPU. Knows nothing
of emotions or settings.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad, relu

NORMALISATIONS = ("response", "batch")
"""What can stand between the convolutions."""

WIDTHS = (96, 256, 384, 384, 256)
"""Channels after each convolution, of the published width."""

KERNELS = (None, 5, 3, 3, 3)
"""Of each convolution; the model's own for the first."""

POOLED = (0, 1, 4)
"""Convolutions after which the positions are pooled."""


def smallest(kernel: int, stride: int) -> int:
    """Return the fewest bands or frames of which one position is left.

    Args:
        kernel: of the first convolution.
        stride: of the first convolution.
    """
    return 14 * stride + kernel  # 15 positions, pooled to 7, 3 and 1


def positions(size: int, kernel: int, stride: int) -> int:
    """Return how many positions are left of ``size`` bands or frames; 0 or less if there are too few."""
    left = (size - kernel) // stride + 1
    for _ in POOLED:
        left = (left - 3) // 2 + 1
    return left


def widths(channels: int) -> tuple[int, ...]:
    """Return the channels after each convolution, in the published proportions to those after the first."""
    return tuple(max(1, round(channels * width / WIDTHS[0])) for width in WIDTHS)


class ResponseNormalisation(nn.Module):
    """x / (2 + 1e-4 * sum of x^2 over five neighbouring channels)^0.75, (B, C, F, T) -> (B, C, F, T).

    Krizhevsky et al. 2012, section 3.3.
    """

    def forward(self, x_BCFT: Tensor) -> Tensor:
        """Normalise every cell over its channels."""
        channels = x_BCFT.shape[1]
        squares = pad(x_BCFT.square(), (0, 0, 0, 0, 2, 2))
        energy = sum((squares[:, i : i + channels] for i in range(1, 5)), start=squares[:, :channels])
        root = (2 + 1e-4 * energy).rsqrt()
        return x_BCFT * root * root.sqrt()


class AlexNetConvolutions(nn.Module):
    """x (B, S, F, T) -> (B, C, F', T'), where F' and T' are the ``positions`` of F and T.

    Args:
        inputs: S.
        channels: after the first convolution; 96 is the published width.
        kernel: of the first convolution.
        stride: of the first convolution.
        normalisation: one of ``NORMALISATIONS``.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int, normalisation: str) -> None:
        super().__init__()
        every = widths(channels)
        self.out_channels = every[-1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, size or kernel, 1 if size else stride, (size or 1) // 2)
            for before, after, size in zip((inputs, *every[:-1]), every, KERNELS, strict=True)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) if normalisation == "batch" else nn.Identity() for width in every
        )
        self.response = nn.Identity() if normalisation == "batch" else ResponseNormalisation()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise and pool."""
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = relu(norm(convolution(x)))
            if number < 2:
                x = self.response(x)
            if number in POOLED:
                x = max_pool2d(x, 3, 2)
        return x
