"""``predict --export``: write a final network as an ONNX file, and beside it what a stranger has to know to run it.

The file is written only where it gives the scores of the model that it was made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tfser.errors import RequestError, in_a_line
from tfser.final_models.estimator import FinalEstimator
from tfser.final_models.model import CPU, FinalModel
from tfser.final_models.onnx_graph import Graph
from tfser.models import find
from tfser.record import Record
from tfser.storage.places import commit, commit_text
from tfser.training.scoring import Scorer

FORMAT = "tfser-onnx-1"
"""Of the JSON file: its first value, by which it is known."""

PACKAGES = ("onnx", "onnxscript")
"""What PyTorch needs to write the format; ``onnxruntime`` reads it."""

SAME = 1e-5
"""Largest difference of two probabilities between PyTorch's and ONNX's kernels, which sum float32 in other orders."""

COUNTS = (1, 2, 5, 9)
"""Segments of the utterances of noise that are compared."""


def problems(path: Path, model: FinalModel | FinalEstimator | None) -> list[str]:
    """Return why a model cannot be written to a file, in words; empty if it may be tried.

    Args:
        path: the file, as typed.
        model: the model; ``None`` where that is not known.
    """
    found = []
    if path.suffix != ".onnx":
        found.append(f"--export: {path} does not end in .onnx")
    elif path.is_dir() or not path.parent.is_dir():
        found.append(f"--export: {path} cannot be written: {'it is' if path.is_dir() else 'there is no'} such folder")
    else:
        found += [f"--export: {other} is there and not of an export; name another file" for other in _foreign(path)]
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    if lacking:
        found.append(f"--export: it needs {' and '.join(lacking)}: pip install 'tfser[onnx]'")
    if isinstance(model, FinalEstimator):
        why = "is an estimator, and only networks are written as ONNX"
        found.append(f"--export: {model.spec.model} {why}; tfser predict --log-model serves it")
    return found


def _foreign(path: Path) -> list[Path]:
    """Return the files beside an export's that another program wrote."""
    beside, card = path.with_suffix(".json"), path.with_suffix(".md")
    ours = False
    with contextlib.suppress(OSError, ValueError, AttributeError):
        ours = json.loads(beside.read_text(encoding="utf-8")).get("format") == FORMAT
    return [] if ours else [each for each in (beside, card) if each.exists()]


def export(model: FinalModel, record: Record, path: Path, card: str = "") -> list[str]:
    """Write a network: the graph, its description and, where there is one, the model card; return lines to print.

    Args:
        model: the network.
        record: its trial's.
        path: the file, of which ``problems`` has nothing to say.
        card: the model card.

    Raises:
        RequestError: its network cannot be written, or would give other scores; nothing was written.
        OSError: a file cannot be written.
    """
    graph = Graph(model)
    content = _graph_bytes(graph, model)
    difference = largest_difference(content, model) if find_spec("onnxruntime") is not None else None
    if difference is not None and not difference <= SAME:
        why = f"as ONNX it gives other scores (a probability differs by {difference:.1e}, more than {SAME:g})"
        raise RequestError(f"trial {model.trial_id}", [f"{why}; nothing was written"])
    about = description(graph, model, record, path.name, content, difference)
    commit(path, lambda file: file.write(content))
    commit_text(path.with_suffix(".json"), json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    if card:
        commit_text(path.with_suffix(".md"), card)
    compared = (
        "onnxruntime is not installed, so that its scores were not compared with PyTorch's"
        if difference is None
        else f"its probabilities differ from PyTorch's by {difference:.1e} at most"
    )
    files = [path, path.with_suffix(".json"), *([path.with_suffix(".md")] if card else [])]
    return [f"wrote {', '.join(map(str, files))}; {compared}"]


def _graph_bytes(graph: Graph, model: FinalModel) -> bytes:
    """Return the ONNX file of a graph, for any number of segments and, where one is the whole utterance, of frames.

    Raises:
        RequestError: PyTorch cannot write it.
    """
    length, _ = model.segment
    values = len(model.bands.mean)
    example = torch.zeros(3, length + 3 if model.rule.name == "whole" else length, values)
    sizes: dict[int, Any] = {0: torch.export.Dim("segments", min=1)}
    if model.rule.name == "whole":
        sizes[1] = torch.export.Dim("frames", min=length)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["features"],
                output_names=["segments", "utterance"],
                dynamic_shapes=(sizes,),
                optimize=False,  # else it leaves out an addition of 1e-8, and 0 / 0 can follow
                verbose=False,
            )
        assert program is not None
        content: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # PyTorch raises whatever its exporter meets in a network
        why = f"its network cannot be written as ONNX: {in_a_line(error.__cause__ or error)}"
        raise RequestError(f"trial {model.trial_id}", [f"{why}; nothing was written"]) from None
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own remarks from a person, who can do nothing about them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def largest_difference(content: bytes, model: FinalModel) -> float:
    """Return by how much a probability of ONNX's differs from the model's at most, on utterances of noise.

    Args:
        content: the ONNX file.
        model: what it was made from.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    mean, std = np.array(model.bands.mean), np.array(model.bands.std)
    scorer = Scorer(Graph(model).network, mean, std, CPU, model.scorer.channels)
    length, _ = model.segment
    whole = model.rule.name == "whole"
    random, most = np.random.default_rng(0), 0.0
    for count in COUNTS:
        segments, frames = (1, length + count) if whole else (count, length)
        noise = (mean + std * random.normal(size=(segments, frames, len(mean)))).astype(np.float32)
        found = session.run(None, {"features": noise})
        expected = scorer.segments([torch.from_numpy(noise)])
        of_utterance = model.rule(expected, np.zeros(len(expected), dtype=np.int64))[0]
        for one, other in zip(found, (expected, of_utterance), strict=True):
            off = np.abs(np.asarray(one, dtype=np.float64) - other).max()
            most = float(max(most, np.inf if np.isnan(off) else off))
    return most


def description(
    graph: Graph, model: FinalModel, record: Record, name: str, content: bytes, difference: float | None
) -> dict[str, Any]:
    """Return what stands in the JSON file: everything that the graph's input and outputs mean.

    Args:
        graph: the graph.
        model: what it was made from.
        record: its trial's.
        name: the ONNX file's.
        content: the ONNX file.
        difference: the largest one of a probability; ``None`` where it is not known.
    """
    spec, reads, settings = model.spec, model.extractor, model.settings
    declared = find(spec.model, spec.source)
    assert declared is not None
    length, hop = model.segment
    frames: int | str = f"frames, at least {length}" if model.rule.name == "whole" else length
    values = reads.channels * reads.bands
    return {
        "format": FORMAT,
        "file": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "emotions": list(model.emotions),
        "input": {
            "name": "features",
            "type": "float32",
            "shape": ["segments", frames, values],
            "meaning": "the segments of ONE utterance, in time's order; a frame holds all bands of the first channel, "
            f"then those of the next ({reads.channels} x {reads.bands})"
            + ("" if graph.standardises else "; standardised already, see standardisation"),
        },
        "outputs": [
            {"name": "segments", "type": "float32", "shape": ["segments", len(model.emotions)]},
            {
                "name": "utterance",
                "type": "float32",
                "shape": [len(model.emotions)],
                "meaning": f"the probabilities of the utterance, made of its segments' by rule {model.rule.name}",
            },
        ],
        "features": {
            "name": declared.feature_set.name,
            "meaning": declared.feature_set.meaning,
            "computed": reads.words,
            "id": reads.id,
            "settings": {n: settings[n] for n in declared.feature_set.hyperparameters},
            "channels": reads.channels,
            "bands": reads.bands,
            "hop_s": reads.hop_s,
            "first_frame_s": reads.first_s,
            "window_s": reads.window_s,
        },
        "segments": {
            "frames": length,
            "hop": hop,
            "share": float(settings.get("segment_share", 1.0)),
            "rule": _cut_in_words(model),
        },
        "standardisation": {
            "kind": settings.get("standardisation", "training"),
            "in_graph": graph.standardises,
            "rule": _standardised_in_words(graph, settings),
            "mean": list(model.bands.mean) if graph.standardises else None,
            "std": list(model.bands.std) if graph.standardises else None,
        },
        "utterance_rule": {"name": model.rule.name, "in_graph": True},
        "trial": {
            "id": model.trial_id,
            "purpose": spec.purpose,
            "trained_on": f"{spec.database} without {spec.protocol} {spec.fold}" if spec.fold else spec.database,
            "model": spec.model,
            "ablation": spec.ablation,
            "epochs": record.epochs,
            "settings": settings,
            "weights_sha256": record.weights_sha256,
        },
        "largest_difference_from_pytorch": difference,
        "versions": {
            **record.versions,
            **{f"export: {n}": version(n) for n in ("torch", *PACKAGES)},
            **({} if difference is None else {"export: onnxruntime": version("onnxruntime")}),
        },
    }


def _cut_in_words(model: FinalModel) -> str:
    """Return how an utterance becomes segments, in words."""
    length, hop = model.segment
    if model.rule.name == "whole":
        return f"one segment, the whole utterance; one shorter than {length} frames is repeated to that length"
    said = (
        f"{length} frames, beginning every {hop} frames while they fit; where frames are left over, one more that ends "
        f"with the utterance; an utterance shorter than {length} frames is repeated to that length"
    )
    share = float(model.settings.get("segment_share", 1.0))
    louder = f"; of these the share {share:g} with the highest energy, rounded up, in time's order"
    return said + (louder if share < 1 else "")


def _standardised_in_words(graph: Graph, settings: Mapping[str, Any]) -> str:
    """Return what has to be done to the features before the graph sees them, in words."""
    if graph.standardises:
        return "nothing: the graph subtracts mean and divides by std itself"
    whose = {"utterance": "the utterance", "speaker": "all utterances of its speaker"}[settings["standardisation"]]
    return f"from each value subtract its mean over the frames of {whose}, and divide by its deviation (at least 1e-5)"
