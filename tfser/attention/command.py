"""The command ``python -m tfser.attention``: finds the trial and the utterances, and writes their attention maps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tfser.attention import figure
from tfser.attention.maps import SAME, Chosen, look, together
from tfser.databases import KNOWN
from tfser.databases import load as load_database
from tfser.databases.folders import show
from tfser.databases.reader import lines
from tfser.errors import RequestError, TfserError
from tfser.evaluation import folds
from tfser.features.pack import Pack
from tfser.features.store import extract
from tfser.features.threads import one_thread
from tfser.final_models import find
from tfser.final_models.choices import Source
from tfser.final_models.model import FinalModel, read
from tfser.models import isolated
from tfser.record import Record
from tfser.storage.places import Place, typed_place
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_path, typed_whole
from tfser.training.determinism import settled


def utterances(
    model: FinalModel, record: Record, wanted: Sequence[str], place: Source, data: Place | None
) -> list[Chosen]:
    """Find utterances of the trial's database by id: in the stored features, else in the corpus.

    Raises:
        RequestError: an id does not exist, or neither features nor corpus can be read.
    """
    path = model.pack(place.storage / "features")
    try:
        pack = Pack.open(path)
        frames = pack.frames()
        found = {u.id: (frames[u.start : u.start + u.frames], u, u.emotion) for u in pack.utterances}
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        found = _from_corpus(model, wanted, data, f"its features {path} cannot be read ({type(error).__name__})")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise RequestError(
            "--utterance", [f"{model.spec.database} has no {show(name)}; {_suggested(record)}" for name in missing]
        )
    chosen = []
    for name in wanted:
        own, labels, emotion = found[name]
        held_out = model.spec.fold == folds.group(labels, model.spec.protocol)
        seen = "held out" if held_out else "among the training speakers"
        about = f"{emotion}, speaker {labels.speaker} ({seen})"
        chosen.append(Chosen(name=name, frames=np.array(own), about=about, label=emotion))
    recorded = {u.id: np.array(u.p) for u in record.scores.utterances}
    other = [
        c
        for c in chosen
        if c.name in recorded and np.abs(model.score(c.frames).probabilities - recorded[c.name]).max() > SAME
    ]
    if other:
        why = "its scores are not the recorded ones: this is not the audio that the trial was tested on"
        raise RequestError(f"database {model.spec.database}", [f"{show(c.name)}: {why}" for c in other])
    return chosen


def _from_corpus(model: FinalModel, wanted: Sequence[str], data: Place | None, why: str) -> dict[str, Any]:
    name = model.spec.database
    if name not in KNOWN:
        raise RequestError(
            f"database {name}", [f"{why}, and it is not known by name; name audio with --file instead of --utterance"]
        )
    try:
        database = load_database(name, data, allow_incomplete=True)
    except RequestError as error:
        raise RequestError(
            error.source, [f"{why}, and the corpus neither: {problem}" for problem in error.problems], error.more
        ) from None
    found, problems = {}, []
    with settled(torch.device("cpu")), one_thread():
        for u in database.utterances:
            if u.id in wanted:
                frames, wrong = extract(database, u, model.extractor)
                problems += wrong
                found[u.id] = (frames, u, u.emotion)
    if problems:
        raise RequestError(f"database {name}", lines(problems))
    return found


def _surest(record: Record) -> dict[str, str]:
    """Return, for every emotion, the recognised test utterance with the highest probability, where there is one."""
    best: dict[str, tuple[float, str]] = {}
    for u in record.scores.utterances:
        p = u.p[record.scores.emotions.index(u.truth)]
        if p == max(u.p):
            best[u.truth] = max(best.get(u.truth, (0.0, "")), (p, u.id))
    return {emotion: name for emotion, (_, name) in sorted(best.items())}


def of_emotions(record: Record, emotions: Sequence[str]) -> list[str]:
    """Return the utterance that the trial is surest of, for each of some emotions.

    Raises:
        RequestError: the database has no such emotion, or the trial recognised no test utterance of it.
    """
    known, surest = record.scores.emotions, _surest(record)
    problems = [
        f"{record.spec.database} has no emotion {show(emotion)}; it has {', '.join(known)}"
        if emotion not in known
        else f"no test utterance with {show(emotion)} was recognised; name one with --utterance ID"
        for emotion in emotions
        if emotion not in surest
    ]
    if problems:
        raise RequestError("--emotion", problems)
    return [surest[emotion] for emotion in emotions]


def _suggested(record: Record) -> str:
    """Name, for every emotion, the recognised test utterance with the highest probability."""
    if not record.scores.utterances:
        return "it was trained on every utterance and tested on none"
    words = ", ".join(f"{show(name)} ({emotion})" for emotion, name in _surest(record).items())
    return (
        f"of the test utterances it is surest of {words}"
        if words
        else f"it was tested on {show(record.scores.utterances[0].id)} and others"
    )


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser attention",
        description="Draw an utterance's features beside the attention maps of a final trial's model.",
        epilog="Writes a PNG, a PDF, a CSV and an NPZ per utterance; for two to "
        f"{figure.MOST_ROWS} utterances also one PNG and PDF of all, with one colour scale. "
        "Exit codes: 0 done, 2 the request is wrong and nothing was written.",
    )
    find.add_options(p)
    what = p.add_argument_group("what to look at")
    what.add_argument(
        "--utterance", nargs="+", action="extend", default=[], metavar="ID", help="of the trial's database"
    )
    what.add_argument(
        "--emotion",
        nargs="+",
        action="extend",
        default=[],
        metavar="EMOTION",
        help="the test utterance of each emotion that the model is surest of",
    )
    what.add_argument(
        "--file", nargs="+", action="extend", type=typed_path, default=[], metavar="FILE", help="any audio file"
    )
    what.add_argument(
        "--segment",
        type=typed_whole,
        default=None,
        metavar="N",
        help="one segment, counted from 1 (default: the whole utterance)",
    )
    what.add_argument(
        "--data",
        type=typed_place,
        default=None,
        metavar="PATH",
        help="the corpora; needed only if the storage has lost the features",
    )
    p.add_argument(
        "--out", type=typed_place, default=None, metavar="DIR", help="where the figures go (default: RESULTS/attention)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    take_any_text()
    arguments = parser().parse_args(argv)
    try:
        return _run(arguments)
    except TfserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except OSError as error:
        print(f"{error}: the figures could not be written; name another folder with --out", file=sys.stderr)
        return 1
    except Exception as error:
        if (said := isolated.said(error)) is None:
            raise
        print(f"{said}: the model cannot be run here", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    place = find.source(arguments)
    own = find.own_model(arguments)
    record = find.find(arguments.run, place, find.narrowed(arguments, own))
    if record.fitted is not None:
        raise RequestError(
            f"trial {record.trial_id}", [f"{record.spec.model} is an estimator and has no attention maps"]
        )
    find.check_source(record, own)
    model = find.load(record, place.ledger)
    assert isinstance(model, FinalModel)
    if not arguments.utterance and not arguments.file and not arguments.emotion:
        raise RequestError(
            "tfser attention", [f"nothing to look at; name --utterance ID or --file FILE ({_suggested(record)})"]
        )
    named = list(dict.fromkeys([*of_emotions(record, arguments.emotion), *arguments.utterance]))
    chosen = utterances(model, record, named, place, arguments.data) if named else []
    for path, frames in zip(arguments.file, read(arguments.file, model.extractor), strict=True):
        chosen.append(Chosen(name=path.name, frames=frames, about="a file"))
    looked = [look(model, one, arguments.segment) for one in chosen]
    out = place.results / "attention" if arguments.out is None else arguments.out
    for attention in looked:
        for path in figure.write(attention, out):
            print(path)
    if 2 <= len(looked) <= figure.MOST_ROWS:
        for path in figure.write_together(looked, together(model, chosen, arguments.segment), out):
            print(path)
    return 0
