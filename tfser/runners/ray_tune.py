"""Trials on Ray Tune: reused actors, as many at once as the cluster's CPUs or GPU shares allow.

Tune places, retries and scales; it decides nothing. A small searcher hands it the schedule's next
trial, and the worker commits the ledger entry itself, so that nothing is lost with the driver. Tune's
own experiment state is never restored: every start plans anew (design: re-plan, never restore).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tfser import __version__
from tfser.errors import RequestError, TfserError
from tfser.ledger import Ledger
from tfser.runners import work
from tfser.schedule import Schedule
from tfser.trial import TrialSpec

RETRIES = 5
"""How often a trial is started again elsewhere after its worker or node was lost."""

ENVIRONMENT = {
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Read by Ray when it is imported or started: quiet, no usage reports, Ctrl-C left to the sweep, and no
metrics endpoints of the agents (they listen on every interface and ask for no token)."""

ENVIRONMENT_OF_A_LOCAL_RAY = {
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""Ports of Ray's own metrics, which would listen on every interface; -1 keeps them shut."""


class RayTuneRunner:
    """See ``tfser.runners.Runner``.

    Args:
        address: of a running cluster; ``None`` starts a local one for this run.
        scratch: a folder that every node reaches, for Tune's own files; emptied at the end.
        trial_cpus: CPUs of one trial; it trains with one thread, so 1 where nothing else is asked.
        trial_gpus: GPU share of one trial; fitted to the cluster where ``None``.
        workers: trials at once on a local Ray; as many as there are cores where ``None``.

    Raises:
        RequestError: the cluster cannot be reached.
    """

    def __init__(
        self,
        address: str | None,
        scratch: Path,
        *,
        trial_cpus: float | None = None,
        trial_gpus: float | None = None,
        workers: int | None = None,
    ) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if address is None:
            _secure_local_ray()
        elif "RAY_AUTH_MODE" not in os.environ and (os.environ.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").exists()):
            os.environ["RAY_AUTH_MODE"] = "token"
        _reach(address)
        import ray

        self._ray, self.scratch = ray, scratch.resolve()  # Tune takes a relative path for a URI
        try:
            if address is None:
                cores = workers or len(os.sched_getaffinity(0))
                ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="tfser")
            else:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="tfser")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise RequestError(
                f"--address {address}" if address else "local Ray",
                [f"{' '.join(str(error).split())[:500]}; is it running (ray status), and is RAY_AUTH_MODE=token set on both sides?"],
            ) from None
        resources = ray.cluster_resources()
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        self.trial_cpus = trial_cpus or 1.0
        fitted = round(min(max(gpus / max(cpus, 1.0), 0.125), 1.0), 3) if gpus else 0.0
        self.trial_gpus = fitted if trial_gpus is None else trial_gpus
        by_cpu = int(cpus / self.trial_cpus)
        self.workers = min(by_cpu, int(gpus / self.trial_gpus)) if self.trial_gpus else by_cpu
        if address is None and not self.workers:
            asked = f"--trial-cpus {self.trial_cpus:g} --trial-gpus {self.trial_gpus:g}"
            raise RequestError("local Ray", [f"{asked}: this machine has {cpus:g} CPUs and {gpus:g} GPUs; ask for less"])
        self.workers = max(1, self.workers)  # a cluster may still grow

    def mapper(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        """Apply ``function`` to every item as Ray tasks; results in order."""
        if len(items) < 2:
            return map(function, items)
        remote = self._ray.remote(function)
        results: list[Any] = self._ray.get([remote.remote(item) for item in items])
        return results

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], work.Task]) -> None:
        """Train everything the schedule has."""
        if schedule.finished:
            return
        from ray import tune

        self.scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            tune.Tuner(
                tune.with_resources(trial_actor(), {"cpu": self.trial_cpus, "gpu": self.trial_gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher(schedule, task),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=str(folder),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                ),
            ).fit()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not schedule.finished:
            raise TfserError("Ray Tune ended before the sweep did; run the same command again to go on")

    def close(self) -> None:
        """Leave the cluster; a local Ray that was started for this run ends."""
        self._ray.shutdown()


def _reach(address: str | None) -> None:
    """Fail in seconds where nothing listens; Ray itself tries for minutes.

    Raises:
        RequestError: nothing answers there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RequestError(f"--address {address}", [f"nothing answers there ({error}); start Ray, or name another address"]) from None


def _secure_local_ray() -> None:
    """A token of its own for a Ray that lives as long as this process, and no open port beyond Ray's guarded ones."""
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ["RAY_AUTH_MODE"] = "token"
    for name, value in ENVIRONMENT_OF_A_LOCAL_RAY.items():
        os.environ.setdefault(name, value)


def trial_actor() -> type:
    """The Tune trainable: one step is one trial; the actor, its imports and its packs are used again."""
    from ray import tune

    class Trial(tune.Trainable):  # type: ignore[misc]  # Ray is not typed
        def setup(self, config: dict[str, Any]) -> None:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on a GPU

        def step(self) -> dict[str, Any]:
            return {"done": True, **run_packed(self.config["task"])}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing: what is worth keeping is in the ledger."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Nothing: a trial that is started again starts from its spec."""

    return Trial


def pack_task(task: work.Task) -> str:
    """A task as text, for Tune's configuration."""
    values = {"spec": task.spec.to_dict(), "pack": str(task.pack), "ledger": str(task.ledger), "bar": task.bar}
    return json.dumps({"tfser": __version__, **values})


def run_packed(text: str) -> dict[str, Any]:
    """In the worker: run a task; a failure that another worker would repeat is a result, not an exception.

    A failing disk or a full memory is raised, so that Tune tries again elsewhere.
    """
    values = json.loads(text)
    if values["tfser"] != __version__:
        return {"status": "failed", "reason": f"the driver runs tfser {values['tfser']} and this worker {__version__}; install one version"}
    spec = TrialSpec.from_dict(values["spec"])
    task = work.Task(spec=spec, pack=Path(values["pack"]), ledger=Path(values["ledger"]), bar=tuple(values["bar"]))
    try:
        record = work.run(task)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"status": record["status"], "pruned_after": record["epochs"] if record["status"] == "pruned" else None}


def searcher(schedule: Schedule, task: Callable[[TrialSpec], work.Task]) -> Any:
    """The schedule as Tune sees it: suggests the next trial, and passes on each one that ended."""
    from ray.tune.search import Searcher

    class ScheduleSearcher(Searcher):  # type: ignore[misc]  # Ray is not typed
        def __init__(self) -> None:
            super().__init__(metric="done", mode="max")
            self.running: dict[str, tuple[TrialSpec, Ledger]] = {}

        # Tune copies and pickles what it is given. The schedule lives in this process and nowhere else.
        def __deepcopy__(self, memo: dict[int, Any]) -> ScheduleSearcher:
            return self

        def __reduce__(self) -> tuple[Any, ...]:
            return (str, ("the schedule is planned anew at every start",))

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            spec = schedule.next()
            if spec is None:
                return str(Searcher.FINISHED) if schedule.finished else None
            packed = task(spec)
            self.running[trial_id] = (spec, Ledger(packed.ledger))
            return {"task": pack_task(packed)}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """A trial has one result, its last."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            spec, ledger = self.running.pop(trial_id)
            record = ledger.get(spec.trial_id)
            if record is None and (result or {}).get("status") == "pruned":
                record = {"status": "pruned", "epochs": (result or {})["pruned_after"]}
            if record is None:
                reason = (result or {}).get("reason") or f"its worker was lost {RETRIES + 1} times, or its memory or disk gave out"
                # A reason comes from a worker and would come again; without one the trial was lost on the way.
                record = {"status": "failed" if (result or {}).get("reason") else "lost", "reason": reason}
            schedule.ended(spec, record)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger and the studies are the state."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: see ``save``."""

    return ScheduleSearcher()
