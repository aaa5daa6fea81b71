"""From any printed number to the trials and MLflow runs behind it.

Every number of the tables, the figures and the page is an entry here, with its printed text: type the number as printed
in a paper, such as 37.77, to see what it is and where it comes from. No ledger and no MLflow is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from tfser.errors import RequestError, unknown
from tfser.evaluation import metrics
from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import labels
from tfser.record import Record
from tfser.report import published
from tfser.report.figures.confusion import shares
from tfser.report.summary import Summary, summarise
from tfser.report.tables import best
from tfser.report.tables.comparison import MEAN, MEAN_ZEROS, POOLED
from tfser.report.tables.paired import Pair, Rows
from tfser.report.tables.table import TRANSDUCTIVE, known, percent, points, probability, tenths
from tfser.text.row_names import with_ablation
from tfser.trial import is_beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One printed number."""

    where: str
    """Table or figure that prints it: ``comparison and ablation``, ``folds``, ``confusion``, ``paired`` or ``against
    the best``."""
    row: tuple[str, ...]
    """Database, protocol, model, ablation, and selection, as in tables."""
    what: str
    """Its meaning in words: ``UAR, pooled``, ``recall of anger, fold 03, seed 0``."""
    words: tuple[str, ...]
    """Words that find it, beside its text."""
    value: float
    """Its value in files: a fraction, a count or a p."""
    printed: str
    """Its text in tables."""
    trials: tuple[str, ...]
    """Ids of the final trials behind it."""
    runs: tuple[str, ...]
    """Their MLflow runs in the same order; empty text for a trial without a run."""


def entries(results: Results) -> Iterator[Traced]:
    """Yield every number that is printed for these results.

    Raises:
        RecordError: a record contradicts itself or its row.
    """
    summaries = summarise(results)
    rows = Rows(summaries, published.load().of_rows(s.configuration for s in summaries))
    for summary in summaries:
        yield from _of_row(results, summary, rows)
        yield from _of_folds(results, summary)
        yield from _of_confusion(results, summary)
    yield from _of_pairs(results, rows.pairs(), "paired and ablation")
    for members in best.groups(summaries):
        if (first := best.best_of(members)) is not None:
            pairs = rows.against(first.configuration, [s.configuration for s in members], best.FIGURE)
            yield from _of_pairs(results, pairs.values(), "against the best")


def trace(results: Results, asked: Sequence[str]) -> list[Traced]:
    """Return the numbers that match every word.

    Args:
        results: the results to search.
        asked: words, each a printed number (``37.77``, ``0.413``), a database, model, ablation, fold, seed (``seed0``),
            emotion, averaging (``pooled``, ``mean``), measure (``uar``, ``war``, ``recall``), a trial id or its first
            ``SHORTEST_PREFIX`` digits or more, or a run id.

    Raises:
        RequestError: a word that matches no number at all.
    """
    every = list(entries(results))
    wanted = [word.strip().strip("%†§*") for word in asked]
    fits = [{i for i, entry in enumerate(every) if _fits(entry, word)} for word in wanted]
    problems = []
    for word, found in zip(wanted, fits, strict=True):
        if not found:
            names = {name for entry in every for name in entry.words}
            numeric = word.replace(".", "", 1).lstrip("+-−").isdigit()
            problems.append(
                f"no number of these tables is printed as {word}" if numeric else unknown("--trace", word, names)
            )
    if problems:
        raise RequestError(f"results of {results.sweep}", problems)
    return [every[i] for i in sorted(set.intersection(*fits))] if fits else every


def to_text(traced: Sequence[Traced], results: Results) -> str:
    """Write the numbers and, below those of the same trials, each trial with its ledger entry and MLflow run."""
    known_trials = {entry.trial_id: (key, entry) for key, entry in results.entries.items() if isinstance(entry, Record)}
    lines = []
    for (trials, runs), together in groupby(traced, key=lambda entry: (entry.trials, entry.runs)):
        lines += [
            f"{entry.printed}  {entry.what}; {' / '.join(entry.row)}; printed in {entry.where}" for entry in together
        ]
        for trial, run in zip(trials, runs, strict=True):
            (configuration, fold, seed), record = known_trials[trial]
            counts = record.scores.matrix
            scores = f"WAR {percent(metrics.war(counts))}, UAR {percent(metrics.uar(counts))}"
            lines.append(
                f"    {configuration.ablation}, fold {fold}, seed {seed} ({scores}): "
                f"ledger entry {trial[:2]}/{trial}.json, " + (f"MLflow run {run}" if run else "no MLflow run known")
            )
    return "\n".join(lines) + "\n" if lines else ""


def to_json(traced: Sequence[Traced]) -> str:
    """Write the same for another program: a list of objects with the fields of ``Traced``."""
    return json.dumps([asdict(entry) for entry in traced], indent=1, ensure_ascii=False) + "\n"


def _fits(entry: Traced, word: str) -> bool:
    if is_beginning(word) and any(trial.startswith(word.casefold()) for trial in entry.trials):
        return True
    names = (*entry.words, *entry.trials, *entry.runs)
    return entry.printed in (word, word.replace("-", "−")) or word.casefold() in (name.casefold() for name in names)


def _of_row(results: Results, summary: Summary, rows: Rows) -> Iterator[Traced]:
    c, figures = summary.configuration, summary.figures
    if figures is None:
        return
    trials, runs = _behind(results, c, summary.done, c.seeds)
    shown_row, names = _row_words(c, summary.selection)

    def entry(measure: str, averaging: str, value: float, what: str = "") -> Traced:
        short = (tenths(value),) if what.endswith(" interval") else ()  # so a printed table has the ends of intervals
        words = (*names, measure.lower(), averaging, averaging.split()[0], *([what] if what else []), *short)
        said = f"{measure}, {averaging}" + (f", {what}" if what else "")
        where = "comparison and ablation"
        return Traced(
            where=where,
            row=shown_row,
            what=said,
            words=words,
            value=value,
            printed=percent(value),
            trials=trials,
            runs=runs,
        )

    for measure in ("WAR", "UAR"):
        for averaging, kind in ((POOLED, "pooled"), (MEAN, "mean")):
            figure = f"{measure.lower()}_{kind}"
            interval = rows.intervals[c.key][figure]
            made = {
                "": getattr(figures, figure),
                "standard deviation over folds": getattr(figures, f"{measure.lower()}_sd") if kind == "mean" else None,
                "standard deviation over seeds": summary.seed_sd(figure),
                "low end of the 95 % interval": interval.low,
                "high end of the 95 % interval": interval.high,
            }
            yield from (
                entry(measure, averaging, value, what)
                for what, value in made.items()
                if value is not None and known(value)
            )
    if summary.zeros_differ:
        yield entry("UAR", MEAN_ZEROS, summary.uar_mean_zeros)
        if known(summary.uar_sd_zeros):
            yield entry("UAR", MEAN_ZEROS, summary.uar_sd_zeros, "standard deviation over folds")


def _row_words(c: Configuration, selection: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return how a row is printed, and the words that find it."""
    mark = TRANSDUCTIVE if c.transductive else ""
    printed = (c.database, c.protocol, c.model, f"{c.ablation}{mark}", selection)
    return printed, (*c.words, selection, c.database_digest)


def _of_folds(results: Results, summary: Summary) -> Iterator[Traced]:
    c = summary.configuration
    shown_row, names = _row_words(c, summary.selection)
    for (fold, seed), record in summary.records.items():
        counts = record.scores.matrix  # summarise() found it to be that of its utterances
        recalls = dict(zip(c.emotions, metrics.recalls(counts).tolist(), strict=True))
        numbers = {
            "WAR": metrics.war(counts),
            "UAR": metrics.uar(counts),
            **{f"recall of {e}": r for e, r in recalls.items()},
        }
        trials, runs = _behind(results, c, (fold,), (seed,))
        for measure, value in numbers.items():
            if known(value):
                yield Traced(
                    where="folds",
                    row=shown_row,
                    what=f"{measure}, fold {fold}, seed {seed}",
                    words=(*names, *measure.lower().split(" of ", 1), "fold", fold, f"seed{seed}"),
                    value=value,
                    printed=percent(value),
                    trials=trials,
                    runs=runs,
                )


def _of_confusion(results: Results, summary: Summary) -> Iterator[Traced]:
    c = summary.configuration
    shown_row, names = _row_words(c, summary.selection)
    trials, runs = _behind(results, c, summary.done, c.seeds)
    parts = shares(summary.confusion)
    for i, truth in enumerate(c.emotions if summary.done else ()):
        for j, predicted in enumerate(c.emotions):
            what = f"{truth} recognised as {predicted}"
            words = (*names, "confusion", truth, predicted)
            count = int(summary.confusion[i, j])
            yield Traced(
                where="confusion",
                row=shown_row,
                what=f"{what}, count",
                words=words,
                value=count,
                printed=str(count),
                trials=trials,
                runs=runs,
            )
            share = float(parts[i, j])
            if known(share):
                printed = percent(share)
                yield Traced(
                    where="confusion",
                    row=shown_row,
                    what=f"{what}, share",
                    words=words,
                    value=share,
                    printed=printed,
                    trials=trials,
                    runs=runs,
                )


def _of_pairs(results: Results, pairs: Iterable[Pair], where: str) -> Iterator[Traced]:
    selections = labels(results.configurations)
    for pair in pairs:
        first, second, made = pair.first, pair.second, pair.comparison
        shown_row, names = _row_words(first, selections[first.key])
        other = f"{with_ablation(second.model, second.ablation)} ({selections[second.key]})"
        folds = first.folds if first.protocol == "corpus" else pair.folds  # there a pair's are the speakers of one
        behind = [_behind(results, c, folds, pair.seeds) for c in (first, second)]
        trials, runs = behind[0][0] + behind[1][0], behind[0][1] + behind[1][1]
        measure = pair.figure.split("_")[0]
        numbers = {
            "difference": (made.difference, points(made.difference)),
            "low end of its 95 % interval": (made.interval.low, ""),
            "high end of its 95 % interval": (made.interval.high, ""),
            "p": (made.p, probability(made.p)),
            "p corrected after Holm": (pair.p_holm, ""),
        }
        for what, (value, text) in numbers.items():
            if value is None or not known(value):
                continue
            printed = text or (probability(value) if what.startswith("p ") else points(value))
            said = f"{measure.upper()}, mean of folds, minus that of {other}, {what}"
            yield Traced(
                where=where,
                row=shown_row,
                what=said,
                words=(*names, measure, "difference", second.model, second.ablation, what),
                value=value,
                printed=printed,
                trials=trials,
                runs=runs,
            )


def _behind(
    results: Results, configuration: Configuration, folds: Sequence[str], seeds: Sequence[int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return trials and runs of some folds and seeds of a row, as far as done."""
    keys = [
        (configuration, fold, seed)
        for fold in folds
        for seed in seeds
        if isinstance(results.entries.get((configuration, fold, seed)), Record)
    ]
    return tuple(results.entries[key].trial_id for key in keys), tuple(results.runs.get(key, "") for key in keys)
