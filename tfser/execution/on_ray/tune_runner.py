"""Trials on Ray Tune: reused actors, as many at once as the cluster's CPUs or GPU shares allow.

Tune places trials and scales; it decides nothing. A small searcher hands it the schedule's next trials. The worker
commits the ledger entry itself, so that nothing is lost with the driver. Tune's own experiment state is never restored:
every start plans anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from tfser.errors import RequestError, TfserError, in_a_line
from tfser.execution import run_trial
from tfser.execution.breakages import Breakages, Where
from tfser.execution.on_ray import environment, forgetting, gpu_share, open_doors, worker
from tfser.execution.on_ray.feed import searcher
from tfser.execution.on_ray.growth import may_get
from tfser.execution.on_ray.held_back import HeldBack
from tfser.execution.on_ray.losses import LOW_ON_MEMORY as LOW_ON_MEMORY
from tfser.execution.on_ray.losses import Losses, no_more
from tfser.execution.on_ray.mailbox import Mailbox
from tfser.execution.schedule import Schedule
from tfser.execution.task import DeviceKind
from tfser.execution.this_machine import usable_cpus
from tfser.execution.worker_usage import Usage
from tfser.models.sources import Source
from tfser.record import Failure
from tfser.storage import temporary
from tfser.trial import TrialSpec

TRIALS_AT_MOST, TRIALS_OF_A_WORKER = 20_000, 100
"""Trials of one Tuner, or so many per worker where that is more.

Tune forgets trials that have ended (see ``forgetting``), but the folder of each stays, and what else Ray keeps nobody
has counted. So a long sweep begins a new Tuner now and then, and waits for the trials that still run."""

PROBE_S = 300.0
"""How long the probe of a GPU may take, a worker's start included; after that the share follows from the CPUs alone."""


def trials_of_a_tuner(workers: int) -> int:
    """Return after how many trials a new Tuner begins: so many that its begin and end are little of the time."""
    return max(TRIALS_AT_MOST, TRIALS_OF_A_WORKER * workers)


class RayTuneRunner:
    """A ``tfser.execution.runner.Runner`` on Ray Tune.

    Args:
        address: a running cluster; ``None`` (or ``local``, as Ray calls it) starts a local one for this run.
        trial_cpus: CPUs of one trial; 1 where ``None``, because it trains with one thread.
        trial_gpus: GPU share of one trial; ``None`` leaves it to ``choose_share``, and till then to the number of
            CPUs.
        workers: trials at once on a local Ray; one per core where ``None``.
        together: most trials of one shape that a worker trains as one.
        sources: of the models that are not built in, for the workers.
        only_gpus: whether trials are never to be trained on CPUs where no GPU is there (``--fast``).
        say: told of lost workers.

    Raises:
        RequestError: the cluster cannot be reached.
    """

    _sources: tuple[Source, ...] = ()

    def __init__(
        self,
        address: str | None,
        *,
        trial_cpus: float | None = None,
        trial_gpus: float | None = None,
        workers: int | None = None,
        together: int = 1,
        sources: Sequence[Source] = (),
        only_gpus: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        for name, value in environment.ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        address = None if address in ("", "local") else address
        if address is None:
            environment.secure_local_ray()
        elif "RAY_AUTH_MODE" not in os.environ and (
            os.environ.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").exists()
        ):
            os.environ["RAY_AUTH_MODE"] = "token"
        environment.reach(address)
        if address is not None and (open_door := open_doors.open_to_anyone(address)):
            raise RequestError(f"{open_doors.option(address)} {address}", [f"{open_door}; {open_doors.ADVICE}"])
        import ray

        self._ray, self._say, self.together, self._sources = ray, say, together, tuple(sources)
        self._only_gpus = only_gpus
        self._losses: Counter[str] = Counter()
        self._session: BinaryIO | None = None
        self.usage = Usage()
        self._connect(address, workers)
        resources = ray.cluster_resources()
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        if only_gpus and address is None and not gpus:
            ray.shutdown()
            raise RequestError("local Ray", ["--fast: Ray finds no GPU on this machine; leave --fast out"])
        if address is not None and not gpus:
            self._without_gpus(address, cpus, trial_gpus)
        self.trial_cpus = trial_cpus or 1.0
        self._cpus_per_gpu = cpus / gpus if gpus and trial_gpus is None else None
        """Where the share of a GPU is still to be chosen."""
        fitted = round(min(max(gpus / max(cpus, 1.0), 0.125), 1.0), 3) if gpus else 0.0
        self.trial_gpus = fitted if trial_gpus is None else trial_gpus
        self.workers = self._places()
        if address is None and not self.workers:
            asked = f"--trial-cpus {self.trial_cpus:g} --trial-gpus {self.trial_gpus:g}"
            has = f"this machine has {cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"
            raise RequestError("local Ray", [f"{asked}: {has}; ask for less"])
        self.workers = max(1, self.workers)  # a cluster may still grow
        self._at_once = max(16, 2 * self.workers)
        """Pieces of work that may wait for a place: an autoscaler rents machines for them."""

    def _without_gpus(self, address: str, cpus: float, trial_gpus: float | None) -> None:
        """Say what happens on a cluster that has no GPU yet: it never goes over to CPUs in silence.

        Raises:
            RequestError: a GPU may come, and nobody said whether to wait for it.
        """
        waits = may_get(self._ray, "GPU")
        if trial_gpus is None and (waits or not cpus):
            self._ray.shutdown()
            has = "its GPU nodes are not up yet" if waits else "it has no worker yet"
            why = f"{has}, so that nothing tells which share of a GPU fits a trial"
            on_cpus = "" if self._only_gpus else " (0 trains on CPUs)"
            detail = f"{why}; say --trial-gpus X to wait for them{on_cpus}"
            raise RequestError(f"{open_doors.option(address)} {address}", [detail])
        if trial_gpus is None and self._only_gpus:
            self._ray.shutdown()
            detail = (
                "--fast: it is for GPUs, and the cluster has none; say --trial-gpus X if GPU nodes are still to join"
            )
            raise RequestError(f"{open_doors.option(address)} {address}", [f"{detail}, or leave --fast out"])
        if trial_gpus is None:
            what_to_do = "if GPU nodes are still to join, stop and say --trial-gpus X; --trial-gpus 0 ends this line"
            self._say(f"The cluster has no GPU, so that trials train on its CPUs; {what_to_do}")
        elif trial_gpus:
            waiting = f"No node with a GPU is up, and trials wait for one (--trial-gpus {trial_gpus:g})"
            self._say(waiting if self._only_gpus else f"{waiting}; --trial-gpus 0 trains on CPUs")

    @property
    def device(self) -> DeviceKind:
        """What networks are trained on: a GPU where each trial has a share of one."""
        return "gpu" if self.trial_gpus else "cpu"

    def _connect(self, address: str | None, workers: int | None) -> None:
        """Join a cluster, or start a local one where there is no address."""
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "tfser"}
        try:
            if address is None:
                cores = workers or usable_cpus()
                # Without address="local", Ray would join a cluster that another person started on this machine.
                alone = {"address": "local", "num_cpus": cores, "include_dashboard": False}
                began = self._ray.init(**alone, _temp_dir=environment.temp_folder(), **quiet)
                self._session = _mark_session(Path(began.address_info["session_dir"]))
            else:
                self._ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"{open_doors.option(address)} {address}" if address else "local Ray"
            ask = "is it running (ray status), and is RAY_AUTH_MODE=token set on both sides?"
            raise RequestError(where, [f"{' '.join(str(error).split())[:500]}; {ask}"]) from None

    def _places(self) -> int:
        """Return how many trials find room at once on the nodes that are there."""
        free = 0
        for node in self._ray.nodes():
            there = node.get("NodeID", "")
            if node["Alive"] and Where(node=there) not in self._held_back:
                gpus = node["Resources"].get("GPU", 0.0) - self._held_back.gpus(there)
                by_cpu = int(node["Resources"].get("CPU", 0.0) / self.trial_cpus + 1e-6)
                by_gpu = int(gpus / self.trial_gpus + 1e-6) if self.trial_gpus else by_cpu
                free += min(by_cpu, by_gpu)
        return free

    def choose_share(self, tasks: Sequence[run_trial.Task]) -> None:
        """Choose the share of a GPU by trying the largest trials on one, unless it was said or there is none."""
        per_gpu, self._cpus_per_gpu = self._cpus_per_gpu, None
        if per_gpu is None or not tasks:
            return
        run = self._ray.remote(num_gpus=1, num_cpus=min(self.trial_cpus, per_gpu), max_retries=1)
        probe = self._task(run, gpu_share.probe)
        asked = [probe(task) for task in tasks]
        try:
            probes = self._ray.get(asked, timeout=PROBE_S)
        except Exception as error:  # whatever the cluster or the GPU raises: the share can be had without it
            for one in asked:  # it may still wait for a GPU, and would take it from a trial
                self._ray.cancel(one, force=True)
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, MemoryError):
                self.trial_gpus = 1.0
            why = in_a_line(cause, 200)
            self._say(f"How many trials fit on a GPU could not be tried ({why}); each takes {self.trial_gpus:g} of one")
        else:
            self.trial_gpus = gpu_share.share(probes, per_gpu, self.trial_cpus, self.together)
            self._say(gpu_share.described(probes, self.trial_gpus))
        self.workers = max(1, self._places())
        self._at_once = max(16, 2 * self.workers)

    def mapper(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        """Apply ``function`` to every item as Ray tasks; yield the results in order."""
        if len(items) < 2:
            yield from map(function, items)
            return
        task, under_way = self._task(self._ray.remote, function), deque[Any]()
        for item in items:
            if len(under_way) >= self._at_once:
                yield self._answer(under_way.popleft())
            under_way.append(task(item))
        yield from (self._answer(one) for one in under_way)

    def _task(self, remote: Callable[[Any], Any], function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return what starts a function as a Ray task; a worker loads the sources before it unpickles the argument."""
        if not self._sources:
            start: Callable[[Any], Any] = remote(function).remote
            return start
        made, pickled = remote(worker.call), self._ray.cloudpickle.dumps
        return lambda argument: made.remote(self._sources, pickled((function, argument)))

    def _answer(self, task: Any) -> Any:
        """Return what a task returned; raise an error that is for a person as it was."""
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, TfserError):
                raise error.cause from None
            raise

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], run_trial.Task]) -> None:
        """Train everything the schedule has.

        Trials that ran out of memory, or whose worker was lost again and again, are tried again: first each by itself,
        then with twice the share of a node and of a GPU, until they have one for themselves.
        """
        while not schedule.finished:
            self._hold_back()
            search = searcher(schedule, task, self.usage, self._pack_size, trials_of_a_tuner(self.workers))
            losses = self._watch_losses(schedule, search)
            self._fit(search, losses)
            search.settle()
            again = losses.take_back_unread()
            if search.error is not None:
                raise search.error
            if search.refusal:
                raise TfserError(search.refusal)
            if not (search.set_aside or search.full or again or schedule.finished):
                raise TfserError("Ray Tune ended before the sweep did; run the same command again to go on")
            grown = bool(search.set_aside) and self._grow()
            for spec, reason in search.set_aside:
                if grown:
                    schedule.put_back(spec)
                else:
                    alone = f"alone on a node{' and its GPU' if self.trial_gpus else ''}"
                    why = f"{reason} ({alone})"
                    schedule.ended(spec, Failure(trial_id=spec.trial_id, spec=spec, reason=why, status="lost"))

    @cached_property
    def breakages(self) -> Breakages:
        """The errors that ended workers."""
        return Breakages()

    @cached_property
    def _mailbox(self) -> Mailbox:
        return Mailbox(self._ray)

    @cached_property
    def _held_back(self) -> HeldBack:
        return HeldBack(self._ray)

    def _hold_back(self) -> None:
        """Keep trials from GPUs and nodes that broke too many, while none runs.

        Raises:
            TfserError: no place is left.
        """
        unfit = self.breakages.unfit()
        nodes = {node.get("NodeID"): node for node in self._ray.nodes() if node["Alive"]} if unfit else {}
        for where in unfit:
            if where not in self._held_back and where.node in nodes:
                self._held_back.hold(where, nodes[where.node]["Resources"])
        if unfit and not self._places() and not may_get(self._ray, "GPU" if self.trial_gpus else "CPU"):
            lines = [no_more(where, broke) for where, broke in unfit.items()]
            advice = "mend what they name and run the same command again"
            cpus = "; --trial-gpus 0 trains on CPUs" if self.trial_gpus and not self._only_gpus else ""
            raise TfserError("\n  - ".join(["No worker is left that trials can be given:", *lines, advice + cpus]))

    def _pack_size(self, waiting: int) -> int:
        """Return the most trials that the next worker gets, so that no worker is idle while another has too many."""
        return max(1, min(self.together, -(-waiting // max(self.workers, 1))))

    def _grow(self) -> bool:
        """Give each trial a worker of its own, else twice its share; return whether there was more to give."""
        if self.together > 1:
            self.together = 1
            return True
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        most_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        before = self.trial_cpus, self.trial_gpus
        self.trial_cpus = max(self.trial_cpus, min(2 * self.trial_cpus, most_cpus))
        self.trial_gpus = max(self.trial_gpus, min(2 * self.trial_gpus, 1.0))
        return before != (self.trial_cpus, self.trial_gpus)

    def _watch_losses(self, schedule: Schedule, search: Any) -> Any:
        """Return a ``Losses`` that Tune takes for a callback."""
        from ray import tune

        class Callback(Losses, tune.Callback):  # type: ignore[misc]  # Ray is not typed
            pass

        return Callback(self, schedule, search, self._mailbox)

    def _fit(self, search: Any, losses: Any) -> None:
        """Let Tune run what the searcher suggests until it says that there is nothing left."""
        from ray import tune

        # Losing a worker is normal in a cluster; Tune would print a traceback for each, and a summary at the end.
        for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # By default Tune stages one trial of such a searcher, and throws away an actor that is not up before the next
        # trial ends: short trials would all run on one worker, and an autoscaler would be asked for one node at a time.
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(self._at_once))
        # A later start does not need Tune's own files; nothing of a trial goes through them.
        with temporary.Folder("tune") as folder, _said_plainly(search):
            tune.Tuner(
                tune.with_resources(
                    worker.trial_actor(self._sources, self._mailbox.box),
                    {"cpu": self.trial_cpus, "gpu": self.trial_gpus},
                ),
                tune_config=tune.TuneConfig(
                    search_alg=search,
                    scheduler=forgetting.scheduler(),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=str(folder),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=0),
                    callbacks=[losses, forgetting.quiet_progress()],
                ),
            ).fit()

    def close(self) -> None:
        """Leave the cluster; a local Ray that was started for this run ends."""
        self._ray.shutdown()
        if self._session is not None:
            self._session.close()


def _mark_session(folder: Path) -> BinaryIO | None:
    """Mark the folder of a local Ray as in use, and remove those of earlier ones that have ended: Ray removes none.

    The last one stays, for its logs.
    """
    mark = None
    with contextlib.suppress(OSError):
        mark = temporary.hold(folder)
        for other in folder.parent.glob("session_*"):
            if not other.is_symlink():
                with contextlib.suppress(OSError):
                    temporary.remove_dead(other)
    return mark


@contextlib.contextmanager
def _said_plainly(search: Any) -> Iterator[None]:
    """Say in a sentence why Tune ended; pass over an error of our callbacks, which the runner raises itself."""
    from ray.tune import TuneError

    try:
        yield
    except Exception as error:
        if search.error is None and isinstance(error, TuneError):
            reason = (str(error).strip().splitlines() or ["it gave no reason"])[-1][:300]
            again = "run the same command again to go on"
            raise TfserError(f"Ray Tune ended before the sweep did ({reason}); {again}") from error
        if search.error is None:
            raise
