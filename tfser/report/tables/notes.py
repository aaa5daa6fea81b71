"""The sentences that stand beside a table: what is missing, what a number is, what it cannot be compared with.

This module knows no format, and no number except counts of folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfser.errors import counted
from tfser.evaluation import uncertainty
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import beside_published, values
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables.paired import SPEAKERS_OF_CORPUS, Pair, Rows
from tfser.report.tables.table import DAGGER, TRANSDUCTIVE_NOTE

SELECTIONS = {
    "published": "settings and epochs as the paper prints them; nothing was chosen on data",
    "fixed": "settings or epochs were given by hand or are ours, alike for every fold; nothing was chosen on data",
    "nested": "settings and epochs were chosen for each fold on validation speakers taken from its training speakers",
    "global": "one setting for all folds, chosen on validation speakers, who are test speakers of other folds",
    "oracle": "chosen on the test speakers themselves: an upper bound, not a result",
}
"""Ways of choosing settings, and what each means."""

NESTED_ACROSS = (
    "settings and epochs were chosen for each test corpus on its training side: on another corpus where there are two "
    "or more, else on speakers of the only one; no utterance of the test corpus was seen"
)
"""The same of ``nested`` where corpora are held out."""

AVERAGING_ACROSS = (
    "Pooled: of one confusion matrix that holds every utterance of the test corpus. "
    "Mean of folds: mean ± sample standard deviation over the speakers of the test corpus, each over the emotions that "
    "occur in it. No figure mixes test corpora."
)
"""The same of ``AVERAGING`` where corpora are held out."""

AVERAGING = (
    "Pooled: of one confusion matrix that holds every test utterance. "
    "Mean of folds: mean ± sample standard deviation over the held-out folds, each over the emotions that occur in it."
)

INSIDE_FITS = (
    "Whatever the selection is called, an estimator may choose settings of its own inside its fit, which sees training "
    "utterances alone."
)

ZEROS = (
    "Absent as 0: the same mean of folds where an emotion that a fold never shows counts as a recall of 0. "
    "It is not ours, and stands here because some of the literature counts so."
)

OURS = (
    "Ours, in neither paper: features are standardised per mel band with the statistics of the training speakers; "
    "where a paper leaves a setting open, ours stands."
)

BEST = (
    f"Bold: the highest figure of its column. Rows of ours with {DAGGER}, of an incomplete database, transductive ones "
    "and those with settings chosen on the test speakers are never bold."
)


def of_database(summaries: Sequence[Summary], published: Published) -> list[str]:
    """Say what belongs beside one database, whichever of its rows are shown.

    Args:
        summaries: rows of one database.
        published: the papers' figures, to compare the emotions with theirs.
    """
    notes: list[str] = []
    for configuration in (s.configuration for s in summaries):
        name, theirs = configuration.database, published.emotions.get(configuration.database)
        if configuration.remark:
            notes.append(f"{name}: {configuration.remark}")
        if configuration.complete:
            are = "databases are" if configuration.protocol == "corpus" else "database is"
            notes.append(f"{name}: the {are} complete.")
        else:
            notes.append(f"{name}: incomplete; this copy does not have the published counts.")
        if configuration.same_texts:
            notes.append(f"{name}: speaker-independent, not text-independent; the same texts recur for every speaker.")
        if theirs is not None and theirs != set(configuration.emotions):
            ours = ", ".join(sorted(configuration.emotions))
            notes.append(
                f"{name}: another task than the published one; "
                f"emotions here: {ours}; there: {', '.join(sorted(theirs))}."
            )
    whole = max(summaries, key=lambda s: s.utterances, default=None)
    if whole is not None and whole.done:
        c, speakers = whole.configuration, len(whole.speakers)
        notes.append(
            f"{c.database}: {counted(whole.utterances, 'test utterance')} of {counted(speakers, 'speaker')} scored, "
            f"{len(c.emotions)} emotions."
        )
    return _once(notes)


def of_measurement(summaries: Sequence[Summary], published: Published, uncertain: Rows) -> list[str]:
    """Say how the numbers were made: selection, averaging, seeds, intervals, absent emotions, and all missing folds."""
    across = any(s.configuration.protocol == "corpus" for s in summaries)
    notes = [AVERAGING_ACROSS, SPEAKERS_OF_CORPUS] if across else [AVERAGING]
    if any(s.zeros_differ for s in summaries):
        notes.append(ZEROS)
    notes += _intervals(summaries, uncertain)
    for selection in _once(s.configuration.selection for s in summaries):
        known = {**SELECTIONS, "nested": NESTED_ACROSS} if across else SELECTIONS
        notes.append(f"Selection {selection}: {known[selection]}." if selection in known else f"Selection {selection}.")
    if any(record.fitted for s in summaries for record in s.records.values()):
        notes.append(INSIDE_FITS)
    if any(s.configuration.transductive for s in summaries):
        notes.append(TRANSDUCTIVE_NOTE)
    notes += _once(note for s in summaries for note in (*_settings(s, published), *_of_fits(s, published)))
    notes += _sources(summaries, published)
    rows = [s.configuration for s in summaries]
    if any(c.own is None and "standardisation" not in values(c) for c in rows):  # left out where it is the training's
        notes.append(OURS)
    for count in sorted({len(s.configuration.seeds) for s in summaries}):
        if count > 1:
            notes.append(
                f"{count} seeds: means over the seeds; a fold counts as done when every seed of it is. "
                "Seeds ±: sample standard deviation over the seeds' own values."
            )
        else:
            notes.append("One seed: how much another seed would change is not known.")
    notes += _once(note for s in summaries for note in _absent(s))
    notes += [_missing(s, published) for s in summaries if s.incomplete]
    return notes


def _intervals(summaries: Sequence[Summary], uncertain: Rows) -> list[str]:
    """Say what the intervals are, their coverage if measured, and why one is missing."""
    notes: list[str] = []
    given: list[tuple[str, uncertainty.Interval]] = []
    for summary in summaries:
        c, made = summary.configuration, uncertain.intervals[summary.configuration.key]
        for interval in made.values():
            if interval.reason:
                notes.append(f"No interval is given {interval.reason}.")
                continue
            notes.append(f"In brackets: 95 % interval ({uncertainty.METHODS[interval.method]}).")
            given.append((c.unit, interval))
    return _once(notes) + of_coverage(given)


def of_coverage(intervals: Iterable[tuple[str, uncertainty.Interval]]) -> list[str]:
    """Say how often such intervals held the truth: a sentence per number of folds, over a table's figures and rows.

    Args:
        intervals: each with the unit of a fold, ``speaker`` or ``session``.
    """
    covered: dict[tuple[str, int], list[float]] = {}
    for unit, interval in intervals:
        if interval.actual_coverage is not None:
            covered.setdefault((unit, interval.folds), []).extend(interval.actual_coverage)
    return [
        f"With {counted(folds, f'held-out {unit}')} such an interval held the truth in {100 * min(shares):.1f} to "
        f"{100 * max(shares):.1f} % of simulations."
        for (unit, folds), shares in sorted(covered.items())
    ]


def of_pairs(pairs: Sequence[Pair], whole: str) -> list[str]:
    """Say what an ablation table's paired comparisons are, and whether any significance is claimable at all.

    Args:
        pairs: the comparisons of one figure.
        whole: the ablation that the others are compared with.
    """
    if not pairs:
        return []
    unit, count = pairs[0].first.unit, len(pairs)
    corrected = f", corrected after Holm for the {count} comparisons of this table" if count > 1 else ""
    notes = [
        f"UAR − {whole}: difference of the means of folds in percentage points, "
        "paired on the same folds, seeds and utterances, with its "
        f"95 % interval; p: two-sided sign-flip permutation test over the held-out {unit}s{corrected}."
    ]
    for pair in pairs:
        if pair.no_claim:
            notes.append(pair.no_claim)
    return _once(notes)


def _absent(summary: Summary) -> list[str]:
    if not summary.absent:
        return []
    folds = "; ".join(f"{fold} ({', '.join(emotions)})" for fold, emotions in sorted(summary.absent.items()))
    protocol = summary.configuration.protocol_name
    return [f"Emotions that a held-out fold never shows, and that its UAR leaves out ({protocol}): {folds}."]


def _settings(summary: Summary, published: Published) -> list[str]:
    """Say how a row with fixed settings differs from the published ones."""
    c = summary.configuration
    said = beside_published(c) if c.selection == "fixed" else ""
    rest = "as published or ours" if c.own is None else "at its defaults"
    return [f"{published.model_title(c.model)}, {summary.selection}: {said}; all else {rest}."] if said else []


def _sources(summaries: Sequence[Summary], published: Published) -> list[str]:
    """Say where the models come from that are not built in."""
    rows = (s.configuration for s in summaries)
    return _once(of_source(c, published.model_title(c.model)) for c in rows if c.source)


def of_source(configuration: Configuration, title: str) -> str:
    """Say where a model comes from that is not built in.

    Args:
        configuration: of a row of it.
        title: the model's.
    """
    c = configuration
    return f"{title} is {c.own.typed if c.own else c.model}, source {c.source}."


def _of_fits(summary: Summary, published: Published) -> list[str]:
    """Say what the records of an estimator say beside its numbers, and of which folds if not of all."""
    folds: dict[str, dict[str, None]] = {}
    for (fold, _), record in summary.records.items():
        for note in record.fitted.notes if record.fitted else ():
            folds.setdefault(note, {})[fold] = None
    every = len({fold for fold, _ in summary.records})
    row = published.row_title(summary.configuration.model, summary.configuration.ablation)
    where = {note: "" if len(some) == every else f" (fold {', '.join(some)})" for note, some in folds.items()}
    return [f"{row}, {summary.selection}: {note}{where[note]}." for note in folds]


def _missing(summary: Summary, published: Published) -> str:
    configuration = summary.configuration
    row = published.row_title(configuration.model, configuration.ablation)
    label = f"{row}, {configuration.protocol_name}, {summary.selection}"
    parts = []
    if summary.missing:
        parts.append("missing " + "; ".join(f"{fold} ({why})" for fold, why in sorted(summary.missing.items())))
    unasked = configuration.folds_total - len(configuration.folds)
    if unasked > 0:
        parts.append(f"{unasked} not asked for")
    return f"{DAGGER} {label}: {summary.folds} folds, not the whole result; {', '.join(parts)}."


def _once(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
