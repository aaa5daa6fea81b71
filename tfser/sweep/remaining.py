"""What the next start of a sweep would train: its plan less what the ledger and its studies hold. Writes nothing.

It asks the schedule that a start would run, over a ledger that is only read and a copy of the studies, so that the two
never count differently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tfser.execution.ends import Done
from tfser.execution.schedule import Schedule
from tfser.planning.configuration import Configuration
from tfser.record import Failure
from tfser.search.copied import copied
from tfser.storage.ledger import ReadLedger
from tfser.sweep.identity import journal_place, study_owner
from tfser.sweep.request import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Trials of one kind, by what the next start makes of them."""

    done: int
    """Those that ended well, or that their study pruned."""
    failed: int
    """Those that failed and are not trained again."""
    to_train: int
    """Of a search, the most: it may try a setting twice, which is trained once."""
    undecided: int = 0
    """Final trials without a setting, because every setting of their search failed."""

    @property
    def planned(self) -> int:
        """All of them."""
        return self.done + self.failed + self.to_train + self.undecided


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What is done and what is left, in sum and by row."""

    search: Count
    final: Count
    """In the sums, a trial of several rows counts once."""
    rows: Mapping[Configuration, tuple[Count, Count]]
    """Of each row, its search and its final trials."""

    @property
    def done(self) -> int:
        """Trials that are done."""
        return self.search.done + self.final.done

    @property
    def to_train(self) -> int:
        """Trials that the next start trains, at most."""
        return self.search.to_train + self.final.to_train

    def of(self, row: Configuration) -> int:
        """Return how many trials of a row are left to train."""
        return sum(count.to_train for count in self.rows[row])


def look(sweep: Sweep) -> Remaining:
    """Return what is left of a sweep.

    Raises:
        RequestError: its studies cannot be read.
        OSError: its storage cannot be read.
    """
    studies, owner = sweep.plan.studies, study_owner(sweep)
    searched = [study.name + owner for study in studies if study.space is not None]
    storage = copied(journal_place(sweep), sweep.options.optuna_storage, searched) if searched else None
    ledger = ReadLedger(sweep.storage / "ledger")
    return _counted(Schedule(sweep.plan, ledger, storage, retry_failed=sweep.options.retry_failed, owner=owner))


def _counted(schedule: Schedule) -> Remaining:
    """Count what a schedule has found in the ledger and what it would hand out."""
    searches, searched = _searches(schedule)
    finals, final = _finals(schedule)
    nothing = Count(done=0, failed=0, to_train=0)
    rows = schedule.plan.configurations
    return Remaining(
        search=searched,
        final=final,
        rows={row: (searches.get(row, nothing), finals.get(row, nothing)) for row in rows},
    )


def _searches(schedule: Schedule) -> tuple[dict[Configuration, Count], Count]:
    """Return the search trials of each row, and their sum."""
    waiting: dict[Configuration, set[str]] = defaultdict(set)
    new: dict[Configuration, int] = defaultdict(int)
    for spec, row in schedule.missing:
        if spec.purpose == "search":
            waiting[row].add(spec.trial_id)
    for run in schedule.searching:
        row = run.study.configuration
        new[row] += run.left * len(run.study.search_specs(run.study.base))
        for opened in run.open.values():  # they wait until lost entries of their study are trained again
            waiting[row] |= {s.trial_id for s in opened.specs if schedule.ledger.get(s.trial_id) is None}
    failed: dict[Configuration, set[str]] = defaultdict(set)
    for ended in schedule.failures:
        if ended.spec.purpose == "search":
            failed[ended.configuration].add(ended.spec.trial_id)
    counts = {}
    for study in schedule.plan.studies:
        if study.space is not None and (row := study.configuration) not in counts:
            own = [each for each in schedule.plan.studies if each.configuration == row]
            planned = sum(each.trials * len(each.searched_folds) * each.validation_folds for each in own)
            left = len(waiting[row]) + new[row]
            lost = len(failed[row])
            counts[row] = Count(done=max(planned - left - lost, 0), failed=lost, to_train=left)
    done, lost, left = (sum(getattr(c, name) for c in counts.values()) for name in ("done", "failed", "to_train"))
    return counts, Count(done=done, failed=lost, to_train=left)


def _finals(schedule: Schedule) -> tuple[dict[Configuration, Count], Count]:
    """Return the final trials of each row, and their sum, in which a trial of several rows counts once."""
    without = {(study.configuration, study.folds) for study in schedule.undecided}
    ends: dict[Configuration, list[tuple[str, str]]] = {row: [] for row in schedule.plan.configurations}
    for study in schedule.plan.studies:
        row = study.configuration
        for fold, seed in study.final_keys:
            key = row, fold, seed
            spec, end = schedule.finals.get(key), schedule.ends.get(key)
            # Until its search has ended, nothing tells the id of a final trial.
            name = f"{row.key} {fold} {seed}" if spec is None else spec.trial_id
            how = "done" if isinstance(end, Done) else "failed" if isinstance(end, Failure) else "to_train"
            ends[row].append((name, "undecided" if (row, study.folds) in without else how))
    return {row: _count(each) for row, each in ends.items()}, _count(end for each in ends.values() for end in each)


def _count(ends: Iterable[tuple[str, str]]) -> Count:
    """Count trials, each once.

    Args:
        ends: name of each trial, and the field of ``Count`` that it belongs to.
    """
    numbers = dict.fromkeys(("done", "failed", "to_train", "undecided"), 0)
    for how in dict(ends).values():
        numbers[how] += 1
    return Count(**numbers)
