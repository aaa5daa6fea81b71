"""Files that show a model's attention beside an utterance's features: a picture, and the same as numbers.

This module knows no model and computes no attention. Equal values give equal bytes in all three files.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from tfser.report.figures.drawing import families
from tfser.report.tables.formats import csv_text
from tfser.storage.places import Place, commit, make_folder
from tfser.text.fonts import drawable
from tfser.text.streams import one_line

ROW_UP_TO = 100
"""Most frames for panels side by side; those of longer utterances stand one below the other, on one time axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """The attention of one part of a model, on the cells of the features."""

    name: str
    """Short, for columns: ``f``, ``t`` or ``tf``."""
    title: str
    unit: str
    """Meaning of its values, in words."""
    values: np.ndarray
    """float64, shape (bands, frames)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Everything that the files show of one utterance."""

    features: np.ndarray
    """float64, shape (bands, frames): what the model reads, such as the natural logarithm of power; not standardised.
    """
    features_name: str
    """Name of the feature set."""
    column: str
    """Its name as a column and as an array: one that no other has."""
    unit: str
    """Meaning of a value, in words."""
    time_s: np.ndarray
    """float64, shape (frames,): the centre of each frame's window."""
    frequency_hz: np.ndarray
    """float64, shape (bands,): the centre of each band."""
    hop_s: float
    maps: tuple[Map, ...]
    """In the papers' order."""
    weights: Mapping[str, np.ndarray]
    """What the layers computed, by the name of the model's part."""
    taken: np.ndarray
    """int64, shape (segments, length): the utterance's frames in each segment."""
    line_hz: float | None
    """Frequency of a dashed line that divides high from middle and low frequencies."""
    heading: str
    """Title of the figure; its lines are wrapped."""
    name: str
    """Name of the files, without ending."""


def file_name(text: str) -> str:
    """Return a file name of ``[A-Za-z0-9_+-]`` only, with a short hash if that left something out."""
    clean = re.sub(r"[^A-Za-z0-9_+-]+", "-", text)[:120]
    return (
        clean if clean == text else f"{clean}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    )


def write(attention: Attention, folder: Place) -> list[Place]:
    """Write PNG, CSV and NPZ, and return their places.

    Raises:
        OSError: the files cannot be written.
    """
    contents = {".png": to_png(attention), ".csv": to_csv(attention).encode("utf-8"), ".npz": to_npz(attention)}
    make_folder(folder)
    for ending, content in contents.items():
        commit(folder / f"{attention.name}{ending}", partial(_put, content))
    return [folder / f"{attention.name}{ending}" for ending in contents]


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def to_csv(attention: Attention) -> str:
    """Return a row per cell, frame after frame: ``time_s, frequency_hz``, the features, ``<map>_attention`` per map."""
    header = ["time_s", "frequency_hz", attention.column, *(f"{m.name}_attention" for m in attention.maps)]
    columns = [attention.features, *(m.values for m in attention.maps)]
    rows = (
        [round(float(time), 6), round(float(hz), 3), *(float(values[band, frame]) for values in columns)]
        for frame, time in enumerate(attention.time_s)
        for band, hz in enumerate(attention.frequency_hz)
    )
    return csv_text(header, rows)


def to_npz(attention: Attention) -> bytes:
    """Pack the arrays; ``numpy.load(path, allow_pickle=False)`` reads them.

    They are the features and ``<map>_attention`` (bands, frames), ``time_s``, ``frequency_hz``, ``segment_frames``
    (segments, length), the layers' own ``weights_<part>``, and ``about``, a JSON text.
    """
    about = {
        "heading": attention.heading,
        "features": attention.features_name,
        "units": {m.name: m.unit for m in attention.maps},
        "line_hz": attention.line_hz,
    }
    out = io.BytesIO()
    np.savez(
        out,
        allow_pickle=False,
        about=np.array(json.dumps(about, sort_keys=True, ensure_ascii=True)),
        time_s=attention.time_s,
        frequency_hz=attention.frequency_hz,
        segment_frames=attention.taken,
        **{attention.column: attention.features},
        **{f"{m.name}_attention": m.values for m in attention.maps},
        **{f"weights_{name}": values for name, values in attention.weights.items()},
    )
    return out.getvalue()


def to_png(attention: Attention) -> bytes:
    """Draw the picture: grey for the features, viridis for attention; lightness alone tells values apart.

    It uses matplotlib's own defaults and font, whatever the user's settings, and holds no date and no version.
    """
    # Late: matplotlib takes a second to import, and the numbers do not need it.
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frames, panels = len(attention.time_s), 1 + len(attention.maps)
    side_by_side = frames <= ROW_UP_TO
    across, up = (2.3, 2.6) if side_by_side else (min(0.018 * frames + 2.0, 14.0), 1.7)
    left, right, above, below, wide, high = 0.85, 0.9, 0.3, 0.55, 1.35, 0.25  # inches
    columns, rows = (panels, 1) if side_by_side else (1, panels)
    width = left + columns * across + (columns - 1) * wide + right
    lines = [
        part
        for line in attention.heading.split("\n")
        for part in textwrap.wrap(drawable(one_line(line)), int(width * 13))
    ]
    top = 0.2 * len(lines) + 0.12
    height = top + rows * (above + up) + (rows - 1) * high + below

    settings: Any = {"text.parse_math": False, "font.family": families(lines)}
    with matplotlib.style.context("default"), matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), dpi=150)
        FigureCanvasAgg(figure)
        figure.text(0.5, 1 - 0.08 / height, "\n".join(lines), ha="center", va="top", fontsize=9, linespacing=1.3)
        shown = [
            (attention.features_name.replace("_", "-"), attention.unit, attention.features, "Greys"),
            *((m.title, m.unit, m.values, "viridis") for m in attention.maps),
        ]
        for i, (title, unit, values, colours) in enumerate(shown):
            x = left + i * (across + wide) if side_by_side else left
            y = height - top - above - up - (0 if side_by_side else i * (above + up + high))
            axes = figure.add_axes((x / width, y / height, across / width, up / height))
            bar = figure.add_axes(((x + across + 0.08) / width, y / height, 0.1 / width, up / height))
            _panel(figure, axes, bar, attention, f"({'abcd'[i]}) {title}", unit, values, colours)
            if i == 0 or not side_by_side:
                axes.set_ylabel("frequency (Hz)", fontsize=8)
            if side_by_side or i == panels - 1:
                axes.set_xlabel("time (s)", fontsize=8)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _panel(
    figure: Any, axes: Any, bar: Any, attention: Attention, title: str, unit: str, values: np.ndarray, colours: str
) -> None:
    import matplotlib.patheffects as effects

    bands, half = len(attention.frequency_hz), attention.hop_s / 2
    extent = (attention.time_s[0] - half, attention.time_s[-1] + half, -0.5, bands - 0.5)
    picture = axes.imshow(values, origin="lower", aspect="auto", extent=extent, cmap=colours, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    ticks = [
        hz
        for hz in (100, 300, 700, 1500, 3000, 5000, 7000)
        if attention.frequency_hz[0] <= hz <= attention.frequency_hz[-1]
    ]
    axes.set_yticks(_band(attention.frequency_hz, ticks), [str(hz) for hz in ticks])
    axes.tick_params(labelsize=7, length=2)
    if attention.line_hz is not None:
        line = axes.axhline(
            _band(attention.frequency_hz, [attention.line_hz])[0], color="black", linestyle=(0, (4, 3)), linewidth=1.1
        )
        line.set_path_effects([effects.Stroke(linewidth=2.6, foreground="white"), effects.Normal()])
        place = {
            "xy": (1, _band(attention.frequency_hz, [attention.line_hz])[0]),
            "xycoords": ("axes fraction", "data"),
        }
        text = axes.annotate(
            f"{attention.line_hz / 1000:g} kHz",
            **place,
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7,
        )
        text.set_path_effects([effects.Stroke(linewidth=2, foreground="white"), effects.Normal()])
    scale = figure.colorbar(picture, cax=bar)
    scale.set_label(unit, fontsize=7)
    scale.ax.tick_params(labelsize=6, length=2)
    scale.outline.set_visible(False)


def _band(frequency_hz: np.ndarray, hz: list[Any]) -> list[float]:
    """Place frequencies on the axis of bands; a frequency may lie between two bands."""
    return [float(place) for place in np.interp(hz, frequency_hz, np.arange(len(frequency_hz)))]
