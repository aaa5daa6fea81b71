"""What becomes of trials whose worker was lost: tried again, set aside for more memory, or recorded as failed.

Knows what Tune tells of a lost worker, and the schedule; places nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tfser.errors import counted
from tfser.execution.breakages import Breakage, Breakages, Where
from tfser.execution.on_ray import worker
from tfser.execution.on_ray.feed import Feed, NotCopied
from tfser.execution.on_ray.mailbox import Mailbox
from tfser.execution.runner import RETRIES
from tfser.execution.schedule import Schedule
from tfser.execution.worker_usage import Usage
from tfser.record import Failure, Machine
from tfser.storage.places import commit_text, make_folder
from tfser.trial import TrialSpec

LOW_ON_MEMORY = "running low on memory"
"""Words in the error of a trial whose worker Ray ended before the system would have ended the whole node."""

UNREAD = "it left no ledger entry that can be read"

LOOK_S = 5.0
"""Time between two looks at how many workers there are."""


class Losing(Protocol):
    """The runner whose workers are lost."""

    _losses: Counter[str]
    _say: Callable[[str], None]
    usage: Usage

    @property
    def breakages(self) -> Breakages:
        """The errors that ended workers."""
        ...

    def _places(self) -> int: ...


def error_of(trial: Any) -> str:
    """Return what Ray said of the loss of a trial, without Tune's heading; "" where it said nothing.

    It is read from the driver's own file, because Tune's ``get_error`` reads a copy that is made later.
    """
    try:
        text = Path(trial.error_file or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition("Failure # ")[2].partition("\n")[2].strip()


class Losses(NotCopied):
    """Counts how often each trial was lost, looks at the workers, and sets aside trials that want more memory.

    Tune itself gives up at once a trial whose actor dies before it has begun. It tells its callbacks why, after it has
    told the searcher.

    Args:
        runner: whose trials these are.
        schedule: takes back a trial that is tried again.
        search: knows which trials were lost.
        mailbox: holds how far trials are.
    """

    def __init__(self, runner: Losing, schedule: Schedule, search: Feed, mailbox: Mailbox | None = None) -> None:
        self._runner, self._schedule, self._search, self._mailbox = runner, schedule, search, mailbox
        self._looked = 0.0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that a worker has begun a pack."""
        self._schedule.under_way.begin([task.spec for task in self._search.running.get(trial.trial_id, [])])

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raise what went wrong in the searcher, and look at the workers now and then."""
        if self._search.error is not None:
            # Here it ends Tune at once; a trial that runs goes on from its checkpoint at the next start.
            raise self._search.error
        self._search.take_in_fetched()
        self.take_back_unread()
        if self._mailbox is not None:
            self._mailbox.look(self._schedule.under_way.tell)
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            self._runner.usage.workers(time.time(), self._runner._places())

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take back the trials of a worker that was lost."""
        with self._search.noted():
            self._take_back(trial, "its worker or node is gone")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take back the trials that left no entry."""
        with self._search.noted():
            self._take_back(trial, UNREAD)

    def take_back_unread(self) -> bool:
        """Take back the trials whose entries were gone when they were to be read; return whether there are any."""
        unread, self._search.unread = self._search.unread, []
        self._lost(unread, UNREAD)
        return bool(unread)

    def _take_back(self, trial: Any, unsaid: str) -> None:
        """Put the lost trials of a pack back, set them aside, or record that they fail.

        Args:
            trial: the pack, as Tune calls it.
            unsaid: the reason where Ray gave none.
        """
        specs = self._search.lost.pop(trial.trial_id, [])
        said = error_of(trial)
        if LOW_ON_MEMORY in said:  # dozens of lines, of which the last one is advice
            reason = "out of memory: Ray ended its worker, because the node was running low on memory"
            self._search.set_aside += [(spec, reason) for spec in specs]
            return
        breakage = worker.breakage(said)
        if specs and breakage is not None:
            self._broken(specs, breakage)
            return
        self._lost(specs, (said.splitlines() or [unsaid])[-1].strip()[:200])

    def _lost(self, specs: Sequence[TrialSpec], reason: str) -> None:
        """Put trials back, or set aside those that were lost too often."""
        for spec in specs:
            self._runner._losses[spec.trial_id] += 1
            times = self._runner._losses[spec.trial_id]
            if times <= RETRIES:
                self._runner._say(f"lost: {_what(spec)} ({reason}); it is tried again")
                self._schedule.put_back(spec)
            else:
                self._search.set_aside.append((spec, f"lost {times} times, the last time: {reason}"))

    def _broken(self, specs: Sequence[TrialSpec], breakage: Breakage) -> None:
        """Try trials again whose worker met an error of its GPU; a trial that meets one again fails by itself."""
        breakages = self._runner.breakages
        unfit = set(breakages.unfit())
        met = breakages.add([spec.trial_id for spec in specs], breakage)
        what = f"{_what(specs[0])}{f' and {len(specs) - 1} more' if len(specs) > 1 else ''}"
        ended = f"a worker was ended: {what}: {breakage.in_words}"
        if not breakage.blames:
            self._lost(specs, breakage.in_words)
        elif len(specs) > 1:
            self._runner._say(f"{ended}; each of them is tried again alone")
            self._search.set_aside += [(spec, breakage.in_words) for spec in specs]
        elif len(met) < 2:
            self._runner._say(f"{ended}; it is tried again by a fresh worker")
            self._schedule.put_back(specs[0])
        else:
            self._fails(specs[0], met)
        for where, broke in breakages.unfit().items():
            if where not in unfit:
                self._runner._say(no_more(where, broke))
                self._search.left = 0  # the place is taken from the trials once those that run have ended

    def _fails(self, spec: TrialSpec, met: Sequence[Breakage]) -> None:
        """Record that a trial broke two workers."""
        ledger = self._schedule.ledger
        log = ledger.root.parent / "logs" / f"{spec.trial_id}.log"
        make_folder(log.parent)
        commit_text(log, "\n\n".join(f"{one.in_words}\n{one.said}" for one in met) + "\n")
        reason = f"it broke {len(met)} workers, one after another: {'; then '.join(one.in_words for one in met)}"
        machine = Machine(host=met[-1].host)
        failure = Failure(
            trial_id=spec.trial_id, spec=spec, reason=reason, log=str(log), started_unix=time.time(), machine=machine
        )
        ledger.commit(failure)
        self._schedule.ended(spec, failure)


def no_more(where: Where, broke: Sequence[Breakage]) -> str:
    """Say that a GPU or node gets no more trials, and why."""
    reasons = "; ".join(dict.fromkeys(one.reason for one in broke))
    place = broke[0].place if where.gpu else f"node {broke[0].host}"
    return f"{place} broke {counted(len(broke), 'different trial')} and is given no more: {reasons}"


def _what(spec: TrialSpec) -> str:
    return f"{spec.purpose} {spec.held_out} seed {spec.seed}"
