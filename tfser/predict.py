"""``python -m tfser.predict RUN file.wav ...``: emotions and their probabilities, from the model of a final trial.

Audio is read, cut and scored as the trial's own test utterances were. With --log-model the model is logged to MLflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from tfser.databases.folders import show
from tfser.errors import RequestError, TfserError
from tfser.features.log_mel import FrontEnd
from tfser.final_models import find
from tfser.final_models.estimator import FinalEstimator, scored
from tfser.final_models.model import FinalModel, Scored, read
from tfser.models import isolated
from tfser.record import Record
from tfser.text.ending import ended
from tfser.text.parser import Parser
from tfser.text.row_names import with_ablation
from tfser.text.streams import take_any_text, takes
from tfser.text.typed import typed_path


@dataclass(frozen=True, slots=True)
class Answer:
    """A file and its scores."""

    path: Path
    scored: Scored


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser predict",
        description="Emotion and probabilities of audio files, from the model of a final trial.",
        epilog="Exit codes: 0 done, 2 the request is wrong and nothing was scored or written.",
    )
    find.add_options(p)
    p.add_argument(
        "files", nargs="*", type=typed_path, metavar="FILE", help="audio: wav, flac, aiff; another rate is resampled"
    )
    p.add_argument(
        "--one-speaker",
        action="store_true",
        help="the files are all utterances of one speaker; for a model that standardises per speaker",
    )
    p.add_argument("--segments", action="store_true", help="print the probabilities of every segment too")
    p.add_argument(
        "--json", action="store_true", help="print one JSON object with every digit instead of a table in percent"
    )
    p.add_argument(
        "--export",
        type=typed_path,
        metavar="FILE.onnx",
        help="write the model, a network, as ONNX; beside it a JSON file says how to run it, and its model card lies",
    )
    p.add_argument(
        "--log-model", action="store_true", help="log the model to the trial's MLflow run, and say how to serve it"
    )
    return p


def to_dict(
    record: Record, model: FinalModel | FinalEstimator, answers: Sequence[Answer], segments: bool
) -> dict[str, Any]:
    """Return what ``--json`` prints: the trial, and the emotion and unrounded probabilities of each file."""
    spec = model.spec
    named = {
        name: getattr(spec, name) for name in ("database", "protocol", "fold", "model", "ablation", "seed", "purpose")
    }
    scores = {name: getattr(record.scores, name) if record.scores.utterances else None for name in ("uar", "war")}
    trial = {"trial_id": model.trial_id, **named, **scores}
    return {
        "trial": trial,
        "emotions": list(model.emotions),
        "files": [_file(model, answer, segments) for answer in answers],
    }


def _file(model: FinalModel | FinalEstimator, answer: Answer, segments: bool) -> dict[str, Any]:
    value = {"path": show(answer.path), **_verdict(model, answer.scored.probabilities)}
    if segments and isinstance(model, FinalModel):
        value["segments"] = [
            {"start_s": start, "end_s": end, **_verdict(model, p)}
            for (start, end), p in zip(map(model.span_s, answer.scored.frames), answer.scored.segments, strict=True)
        ]
    return value


def _verdict(model: FinalModel | FinalEstimator, probabilities: Any) -> dict[str, Any]:
    return {
        "emotion": model.emotions[int(probabilities.argmax())],  # a tie goes to the first, as in the tables
        "p": dict(zip(model.emotions, probabilities.tolist(), strict=True)),
    }


def to_text(values: dict[str, Any]) -> str:
    """Format what ``to_dict`` returned as a table, with probabilities in percent."""
    trial, emotions = values["trial"], values["emotions"]
    oracle = ", its epoch chosen on that fold" if trial["purpose"] == "oracle" else ""
    data, score = f"all of {trial['database']}", "without a test score"
    if trial["fold"]:
        data = f"{trial['database']} without {trial['protocol']} {trial['fold']}"
        score = f"on that fold UAR {100 * trial['uar']:.2f} %{oracle}"
    head = (
        f"{with_ablation(trial['model'], trial['ablation'])}, trained on {data}, seed {trial['seed']} "
        f"(trial {trial['trial_id']}; {score})"
    )
    rows = [["file", "emotion", *(f"{emotion} %" for emotion in emotions)]]
    for file in values["files"]:
        rows.append([file["path"], *_cells(file)])
        for segment in file.get("segments", ()):
            rows.append([f"  {segment['start_s']:.3f} to {segment['end_s']:.3f} s", *_cells(segment)])
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell + " " * (w - cell_len(cell)) if i < 2 else " " * (w - cell_len(cell)) + cell
            for i, (cell, w) in _columns(row, widths)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join([head, "", *lines])


def _columns(row: list[str], widths: list[int]) -> Any:
    return enumerate(zip(row, widths, strict=True))


def _cells(verdict: dict[str, Any]) -> list[str]:
    return [verdict["emotion"], *(f"{100 * p:.2f}" for p in verdict["p"].values())]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    take_any_text()
    arguments = parser().parse_intermixed_args(argv)
    try:
        return _run(arguments)
    except TfserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except Exception as error:
        if (said := isolated.said(error)) is None:
            raise
        print(f"{said}: the model cannot be run here", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    asked = arguments.files or arguments.log_model or arguments.export
    problems = [] if asked else ["no FILE; name one audio file or more"]
    place = find.source(arguments)
    model = None
    try:
        own = find.own_model(arguments)
        record = find.find(arguments.run, place, find.narrowed(arguments, own))
        find.check_source(record, own)
        model = find.load(record, place.ledger)
        if arguments.log_model and record.spec.source:
            why = "a server would have to run the code of a model that is not built in, and MLflow keeps none"
            problems.append(f"--log-model: {why}; use tfser predict with --model FILE.py:{record.spec.model}")
    except RequestError as error:
        problems += _flat(error)
    if arguments.export:
        from tfser.final_models import onnx_export

        problems += onnx_export.problems(arguments.export, model)
    if isinstance(model, FinalEstimator) and arguments.segments:
        problems.append(f"--segments: {model.spec.model} scores whole utterances and has none; leave it out")
    try:
        utterances = read(arguments.files, model.extractor if model else FrontEnd())
    except RequestError as error:
        problems += error.problems
    if model is not None and arguments.files:
        problems += _speaker_problems(model, arguments.one_speaker)
    if problems or model is None:
        raise RequestError("tfser predict", problems)
    if isinstance(model, FinalEstimator) and model.transductive and len(utterances) > 1:
        print(
            f"trial {model.trial_id} is transductive: the scores of these files depend on each other", file=sys.stderr
        )
    if arguments.export:
        assert isinstance(model, FinalModel)
        card = place.ledger.card(record.trial_id)
        for line in onnx_export.export(model, record, arguments.export, card):
            print(line, file=sys.stderr if arguments.json else sys.stdout)
    answers = list(map(Answer, arguments.files, scored(model, utterances, arguments.one_speaker)))
    if answers:
        values = to_dict(record, model, answers, arguments.segments)
        text = json.dumps(values, ensure_ascii=False, indent=1)
        if arguments.json:  # JSON escapes what the output's encoding lacks
            print(text if takes(text) else json.dumps(values, ensure_ascii=True, indent=1))
        else:
            print(to_text(values))
    if arguments.log_model:
        from tfser.final_models import log

        print(log.log(arguments.run, record, place))
    return 0


def _speaker_problems(model: FinalModel | FinalEstimator, one_speaker: bool) -> list[str]:
    """Return why the files cannot be scored by a model that needs to know their speaker, or needs not to."""
    if model.per_speaker == one_speaker:
        return []
    return [
        f"trial {model.trial_id} standardises each speaker with all of that speaker's utterances; give all files of "
        "one speaker, and --one-speaker to say so"
        if model.per_speaker
        else f"--one-speaker: trial {model.trial_id} does not standardise per speaker; leave it out"
    ]


def _flat(error: RequestError) -> list[str]:
    """Return the error's problems, each with its source, for a list of others."""
    return [f"{error.source}: {problem}" for problem in error.problems]


if __name__ == "__main__":
    sys.exit(ended(main))
