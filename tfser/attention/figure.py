"""Files that show a model's attention beside an utterance's features: pictures for a paper, and the same as numbers.

This module knows no model and computes no attention. Equal values give equal bytes in all files. Pictures count frames
and bands; the numbers beside them have seconds and hertz.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from tfser.report.figures.drawing import POINTS, SMALL, TALLEST, TEXT, Rendered, drawn_names, render
from tfser.report.tables.formats import csv_text
from tfser.storage.places import Place, commit, make_folder
from tfser.text.streams import one_line

MOST_ROWS = 6
"""Most utterances in one figure."""


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
    """What the figure shows, for a caption; no picture holds it."""
    name: str
    """Name of the files, without ending."""
    label: str = ""
    """Word beside the utterance's panels, such as its emotion; by default what the heading begins with."""


def file_name(text: str) -> str:
    """Return a file name of ``[A-Za-z0-9_+-]`` only, with a short hash if that left something out."""
    clean = re.sub(r"[^A-Za-z0-9_+-]+", "-", text)[:120]
    return (
        clean if clean == text else f"{clean}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    )


def write(attention: Attention, folder: Place) -> list[Place]:
    """Write PNG, PDF, CSV and NPZ, and return their places.

    Raises:
        OSError: the files cannot be written.
    """
    drawn, table = draw([attention]), to_csv(attention).encode("utf-8")
    contents = {".png": drawn.png, ".pdf": drawn.pdf, ".csv": table, ".npz": to_npz(attention)}
    return _written(contents, attention.name, folder)


def write_together(utterances: Sequence[Attention], name: str, folder: Place) -> list[Place]:
    """Write PNG and PDF of several utterances in one figure, and return their places.

    Raises:
        OSError: the files cannot be written.
    """
    drawn = draw(utterances)
    return _written({".png": drawn.png, ".pdf": drawn.pdf}, name, folder)


def _written(contents: Mapping[str, bytes], name: str, folder: Place) -> list[Place]:
    make_folder(folder)
    for ending, content in contents.items():
        commit(folder / f"{name}{ending}", partial(_put, content))
    return [folder / f"{name}{ending}" for ending in contents]


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
    """Draw the picture of one utterance, each panel with a colour scale of its own."""
    return draw([attention]).png


def draw(utterances: Sequence[Attention]) -> Rendered:
    """Draw features and attention: grey for the features, viridis for attention; lightness alone tells values apart.

    One utterance is drawn as in figure 3 of the Time-Frequency Transformer's paper. Several are drawn as in figure 6 of
    ATFNN's: a row each, and one colour scale for all panels that show the same unit, so that rows can be compared.

    Args:
        utterances: of one model, so that all have the same maps.
    """
    rows, parts = len(utterances), 1 + len(utterances[0].maps)
    columns = 2 if rows == 1 and parts > 3 else parts
    lines = rows if rows > 1 else -(-parts // columns)
    labels = drawn_names([a.label or a.heading.partition(":")[0] for a in utterances], 24)
    scales = _scales(utterances) if rows > 1 else {}
    height = min(lines * (1.15 if columns > 3 else 1.35) + (0.45 if rows > 1 else 0.1), TALLEST)

    def onto(canvas: Any) -> None:
        grid = canvas.subplots(lines, columns, squeeze=False)
        images: dict[str, Any] = {}
        for row, (attention, name) in enumerate(zip(utterances, labels, strict=True)):
            for part, (title, unit, values, colours) in enumerate(_parts(attention)):
                place = divmod(part, columns) if rows == 1 else (row, part)
                axes, letter = grid[place], chr(ord("a") + (row * parts + part) % 26)
                images[unit] = _panel(
                    canvas, axes, rows == 1, attention, f"({letter}) {title}", unit, values, colours, scales.get(unit)
                )
                if place[1] == 0:
                    said = f"{name}\n{_bands(attention)}" if part == 0 else _bands(attention)
                    axes.set_ylabel(said, linespacing=0.95)
        for axes in grid.ravel()[rows * parts :]:
            axes.set_visible(False)
        if rows > 1:
            _shared_bars(canvas, grid, utterances[0], images)

    return render((TEXT, height), onto, labels, one_line("; ".join(a.heading for a in utterances)))


def _parts(attention: Attention) -> list[tuple[str, str, np.ndarray, str]]:
    """Return title, unit, values and colours of each panel."""
    features = (attention.features_name.replace("_", "-"), attention.unit, attention.features, "Greys")
    return [features, *((m.title, m.unit, m.values, "viridis") for m in attention.maps)]


def _bands(attention: Attention) -> str:
    return "mel band" if "mel" in attention.features_name else "frequency band"


def _scales(utterances: Sequence[Attention]) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value of each unit, over every panel that shows it."""
    values: dict[str, list[np.ndarray]] = {}
    for attention in utterances:
        for _, unit, cells, _ in _parts(attention):
            values.setdefault(unit, []).append(cells)
    return {unit: (min(c.min() for c in cells), max(c.max() for c in cells)) for unit, cells in values.items()}


def _shared_bars(canvas: Any, grid: Any, attention: Attention, images: Mapping[str, Any]) -> None:
    """Draw a colour scale for each unit, below the columns that show it."""
    units = [unit for _, unit, *_ in _parts(attention)]
    for unit, image in images.items():
        columns = [i for i, other in enumerate(units) if other == unit]
        _scale(canvas.colorbar(image, ax=grid[:, columns], location="bottom", aspect=15 * len(columns), pad=0.01), unit)


def _scale(bar: Any, unit: str) -> None:
    bar.set_label(unit, fontsize=SMALL, linespacing=0.95)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)


def _panel(
    canvas: Any,
    axes: Any,
    bar: bool,
    attention: Attention,
    title: str,
    unit: str,
    values: np.ndarray,
    colours: str,
    scale: tuple[float, float] | None = None,
) -> Any:
    """Draw one panel over frames and bands, both counted from 1, and return its image.

    Args:
        canvas: the matplotlib figure.
        axes: of the panel.
        bar: whether the panel has a colour scale of its own.
        attention: gives the frames and the dashed line.
        title: stands below the panel, as in a paper.
        unit: meaning of the values.
        values: shape (bands, frames).
        colours: name of a colour map.
        scale: smallest and largest value of the colour map; by default those of the values.
    """
    import matplotlib.patheffects as effects

    bands, first = len(attention.frequency_hz), int(attention.taken.min()) + 1
    extent = (first - 0.5, first - 0.5 + values.shape[1], 0.5, bands + 0.5)
    low, high = scale or (None, None)
    image = axes.imshow(
        values, origin="lower", aspect="auto", extent=extent, cmap=colours, interpolation="nearest", vmin=low, vmax=high
    )
    small = axes.get_gridspec().ncols > 3  # titles of neighbours would run into each other
    axes.set_xlabel(f"frame\n{title}", linespacing=0.95, fontsize=SMALL if small else POINTS)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, nbins=5)
    axes.tick_params(labelsize=SMALL)
    if attention.line_hz is not None:
        place = _band(attention.frequency_hz, [attention.line_hz])[0] + 1
        line = axes.axhline(place, color="black", linestyle=(0, (4, 3)), linewidth=0.8)
        line.set_path_effects([effects.Stroke(linewidth=2.0, foreground="white"), effects.Normal()])
    if bar:
        _scale(canvas.colorbar(image, ax=axes, aspect=12, pad=0.02), textwrap.fill(unit, 24))
    return image


def _band(frequency_hz: np.ndarray, hz: list[Any]) -> list[float]:
    """Place frequencies on the axis of bands; a frequency may lie between two bands."""
    return [float(place) for place in np.interp(hz, frequency_hz, np.arange(len(frequency_hz)))]
