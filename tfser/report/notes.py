"""The sentences that have to stand beside a table: what is missing, what a number is, what it cannot be compared with.

Knows no format, and no number but counts of folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.table import DAGGER

SELECTIONS = {
    "published": "settings and epochs as the paper prints them; nothing was chosen on data",
    "fixed": "settings or epochs were given by hand, alike for every fold; nothing was chosen by tfser",
    "nested": "settings and epochs were chosen for each fold on validation speakers taken from its training speakers",
    "global": "one setting for all folds, chosen on validation speakers, who are test speakers of other folds",
    "oracle": "chosen on the test speakers themselves: an upper bound, not a result",
}
"""What each way of choosing settings means."""

AVERAGING = (
    "Pooled: of one confusion matrix that holds every test utterance. "
    "Mean of folds: mean ± sample standard deviation over the held-out folds, each over the emotions that occur in it."
)

BEST = (
    f"Bold: the highest figure of its column. Rows of ours with {DAGGER}, of an incomplete database or with settings chosen on the "
    "test speakers are never bold."
)


def configuration_name(summary: Summary, published: Published) -> str:
    """The method as a table names it: the paper's name, and the ablation where it is not the whole model."""
    configuration = summary.configuration
    title = published.model_title(configuration.model)
    return title if published.is_full(configuration.model, configuration.ablation) else f"{title}, {configuration.ablation}"


def of_database(summaries: Sequence[Summary], published: Published) -> list[str]:
    """What is to be said of one database, whichever of its rows are shown.

    Args:
        summaries: rows of one database.
        published: to tell whether the emotions are those of the papers.
    """
    notes: list[str] = []
    for configuration in (s.configuration for s in summaries):
        name, theirs = configuration.database, published.emotions.get(configuration.database)
        if configuration.remark:
            notes.append(f"{name}: {configuration.remark}")
        if not configuration.complete:
            notes.append(f"{name}: incomplete; this copy does not have the published counts.")
        if configuration.same_texts:
            notes.append(f"{name}: speaker-independent, not text-independent; the same texts recur for every speaker.")
        if theirs is not None and theirs != set(configuration.emotions):
            ours = ", ".join(sorted(configuration.emotions))
            notes.append(f"{name}: another task than the published one; emotions here: {ours}; there: {', '.join(sorted(theirs))}.")
    return _once(notes)


def of_measurement(summaries: Sequence[Summary], published: Published) -> list[str]:
    """How the numbers were made: selection, averaging, seeds, absent emotions, and every missing fold by name."""
    notes = [AVERAGING]
    for selection in _once(s.configuration.selection for s in summaries):
        notes.append(f"Selection {selection}: {SELECTIONS[selection]}." if selection in SELECTIONS else f"Selection {selection}.")
    for count in sorted({len(s.configuration.seeds) for s in summaries}):
        if count > 1:
            notes.append(f"{count} seeds: means over the seeds; a fold counts as done when every seed of it is.")
    notes += _once(note for s in summaries for note in _absent(s))
    notes += [_missing(s, published) for s in summaries if s.incomplete]
    return notes


def _absent(summary: Summary) -> list[str]:
    if not summary.absent:
        return []
    folds = "; ".join(f"{fold} ({', '.join(emotions)})" for fold, emotions in sorted(summary.absent.items()))
    protocol = summary.configuration.protocol_name
    return [f"Emotions that a held-out fold never shows, and that its UAR leaves out ({protocol}): {folds}."]


def _missing(summary: Summary, published: Published) -> str:
    configuration = summary.configuration
    label = f"{configuration_name(summary, published)}, {configuration.protocol_name}, {configuration.selection}"
    parts = []
    if summary.missing:
        parts.append("missing " + "; ".join(f"{fold} ({why})" for fold, why in sorted(summary.missing.items())))
    unasked = configuration.folds_total - len(configuration.folds)
    if unasked > 0:
        parts.append(f"{unasked} not asked for")
    return f"{DAGGER} {label}: {summary.folds} folds, not the whole result; {', '.join(parts)}."


def _once(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
