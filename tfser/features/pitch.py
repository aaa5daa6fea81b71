"""Pitch and voicing of frames: the highest peak of the normalised cross-correlation of a frame with what follows it.

Knows nothing of files, databases or packs.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

RANGE_HZ = (60.0, 500.0)
"""Lowest and highest pitch that is looked for."""

OCTAVE = 0.9
"""Of several peaks the shortest period is taken whose correlation is at least this share of the highest.

A period's multiples correlate as well as the period itself.
"""

VOICED = 0.5
"""Correlation from which a frame counts as voiced."""

QUIETEST = 1e-4
"""Level, of full scale, of the noise that is thought beneath every frame, so that silence is not voiced."""

FRAME = 700
"""More samples than a frame reaches at 16 kHz: 23 ms and one period of the lowest pitch."""

AT_ONCE = 4096
"""Frames of one transform, so that ten minutes of audio do not fill the memory."""


def _products(frames: torch.Tensor, compared: int, points: int) -> torch.Tensor:
    """Return the sum of products of a frame's first samples with those of every lag: shape (frames, points)."""
    spectrum = torch.fft.rfft(frames, n=points) * torch.fft.rfft(frames[:, :compared], n=points).conj()
    products: torch.Tensor = torch.fft.irfft(spectrum, n=points)
    return products


def pitch(samples: torch.Tensor, rate_hz: int, hop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pitch and voicing of every frame.

    A frame compares about 23 ms with the same length of later samples, by up to one period of the lowest pitch. A short
    utterance is padded with zeros to one frame.

    Args:
        samples: one channel, shape (samples,).
        rate_hz: its sampling rate.
        hop: shift between frames, samples.

    Returns:
        Pitch in Hz, shape (frames,), of use only where a frame is voiced; and the correlation at that period, from 0
        to 1, shape (frames,).
    """
    low, high = int(rate_hz / RANGE_HZ[1]) - 1, -int(-rate_hz // RANGE_HZ[0]) + 1  # one more lag at both ends
    compared = rate_hz * 23 // 1000
    samples = samples.double() - samples.double().mean()
    samples = pad(samples, (0, max(0, compared + high - len(samples))))
    lags = slice(low, high + 1)

    points = 1 << (compared + high - 1).bit_length()
    frames = samples.unfold(0, compared + high, hop)
    products = torch.cat([_products(part, compared, points)[:, lags] for part in torch.split(frames, AT_ONCE)])
    squares = pad(samples.square().cumsum(0), (1, 0))
    energy = (squares[compared:] - squares[:-compared]).clamp(min=0).add(compared * QUIETEST**2)
    energies = energy.unfold(0, high + 1, hop)[: len(frames)]
    correlation = products / (energies[:, :1] * energies[:, lags]).sqrt()

    before, here, after = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    peaks = torch.where((here >= before) & (here > after), here, 0.0).clamp(min=0, max=1)
    first = (peaks >= OCTAVE * peaks.amax(dim=1, keepdim=True)).to(torch.uint8).argmax(dim=1, keepdim=True)
    voicing = peaks.gather(1, first)
    left, top, right = (each.gather(1, first) for each in (before, here, after))
    bend = left - 2 * top + right
    shift = torch.where(bend < 0, (left - right) / (2 * bend).clamp(max=-1e-12), 0.0).clamp(min=-0.5, max=0.5)
    return (rate_hz / (first + low + 1 + shift))[:, 0], voicing[:, 0]
