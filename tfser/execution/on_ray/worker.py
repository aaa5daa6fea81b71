"""The work of a Ray worker: the Tune trainable, and tasks as text on their way to it.

All but ``pack_task`` runs away from the driver and its schedule, and answers in plain values.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import socket
import time
from collections.abc import Sequence
from typing import Any

from tfser import __version__
from tfser.errors import DeviceError, NoDeviceError, TfserError
from tfser.execution import forked, run_trial, time_limit
from tfser.execution.breakages import Breakage, Where
from tfser.execution.on_ray.held_back import own_gpus
from tfser.execution.on_ray.mailbox import Sender
from tfser.execution.under_way import Tell, untold
from tfser.models.sources import OtherSourceError, Source, described
from tfser.planning import own_models
from tfser.storage import temporary
from tfser.storage.packaged_files import code_digest
from tfser.storage.places import place
from tfser.trial import TrialSpec

_WATCHDOG = time_limit.Watchdog()
"""This worker's."""


def trial_actor(sources: Sequence[Source] = (), box: Any = None) -> type:
    """Return the Tune trainable. One step is one pack of trials; the actor, its imports and its features are reused.

    Args:
        sources: of the models that are not built in; each actor loads them once.
        box: takes in how far trials are (``tfser.execution.on_ray.mailbox``); ``None`` for nobody.
    """
    from ray import tune

    class Trials(tune.Trainable):  # type: ignore[misc]  # Ray is not typed
        def setup(self, config: dict[str, Any]) -> None:
            forked.end_by_sigterm()
            hide_gpus()
            with contextlib.suppress(OSError):
                temporary.clear()  # of workers that were killed on this machine
            self.refusal = _unusable(sources)
            self.tell = Sender(box)

        def step(self) -> dict[str, Any]:
            began = time.time()
            tasks = self.config["tasks"]
            refused = {"status": "refused", "reason": self.refusal}
            self.tell.begin()
            said = [refused] * len(tasks) if self.refusal else run_packed(tasks, self.tell)
            # Lists, because Tune keeps a history of every number.
            return {"done": True, "trials": said, "times": [began, time.time()]}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Do nothing: what is worth keeping is in the ledger."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Do nothing: a trial that is started again starts from its spec."""

    return Trials


def hide_gpus() -> None:
    """Hide the machine's GPUs from a worker that has no share of one: Ray leaves all of them visible."""
    if not own_gpus():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _unusable(sources: Sequence[Source]) -> str:
    """Load models that are not built in; return why one cannot be used on this node, empty where all can."""
    for source in sources:
        try:
            own_models.use(source)
        except OtherSourceError as error:
            return f"{error.source}: {'; '.join(error.problems)}"
        except Exception as error:
            return f"{source.typed} cannot be loaded on node {socket.gethostname()}: {described(error)}"
    return ""


def call(sources: Sequence[Source], pickled: bytes) -> Any:
    """Load models that are not built in, then call a function; what it is called with may need them.

    Args:
        sources: of those models.
        pickled: the function and its argument.

    Raises:
        TfserError: a model cannot be used on this node.
    """
    if refusal := _unusable(sources):
        raise TfserError(refusal)
    function, argument = pickle.loads(pickled)
    return function(argument)


class BrokenWorkerError(Exception):
    """A worker whose GPU does not work, or no longer; the text is for ``breakage``."""


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Ray's, in tracebacks."""

_BROKEN = f"{BrokenWorkerError.__name__}: "


def _breakage(error: DeviceError) -> str:
    """Return an error of this worker's GPU as text."""
    import ray

    node, gpus = ray.get_runtime_context().get_node_id(), own_gpus()
    gpu, reason = gpus[0] if len(gpus) == 1 else "", " ".join(str(error).split())[:300]
    facts = {"node": node, "gpu": gpu, "host": socket.gethostname(), "reason": reason}
    return json.dumps({**facts, "blames": not isinstance(error, NoDeviceError)})


def breakage(said: str) -> Breakage | None:
    """Return the breakage in what Ray said of a lost worker; ``None`` where it lost it otherwise."""
    before, mark, text = said.rpartition(_BROKEN)
    try:
        facts = json.loads(text.splitlines()[0]) if mark else None
    except (ValueError, IndexError):
        return None
    if facts is None:
        return None
    where, traceback = Where(node=facts["node"], gpu=facts["gpu"]), _COLOURS.sub("", before.rpartition("\n")[0])
    return Breakage(where=where, host=facts["host"], reason=facts["reason"], said=traceback, blames=facts["blames"])


def pack_task(task: run_trial.Task) -> str:
    """Return a task as text, for Tune's configuration."""
    values = {"spec": task.spec.to_dict(), "pack": str(task.pack), "storage": str(task.storage)}
    how = {"checkpoint_s": task.checkpoint_s, "bar": task.bar, "captured": task.captured, "limit_s": task.limit_s}
    how["device"] = task.device
    return json.dumps({**_version(), **values, **how})


def _version() -> dict[str, str]:
    return {"tfser": __version__, "code": code_digest()}


def run_packed(texts: Sequence[str], tell: Tell = untold) -> list[dict[str, Any]]:
    """Run tasks inside a Ray worker, several of them together.

    Return failures that would recur on any worker; raise only those worth retrying, such as a failing disk. Tune ends a
    worker that raises, and its GPU's context with it.

    Args:
        texts: the tasks, made by ``pack_task``.
        tell: told how far they are.

    Returns:
        For each task its ``status``, with a ``reason`` where it left no entry.

    Raises:
        BrokenWorkerError: an error of the GPU, after which this process can train nothing.
    """
    import ray

    tasks = []
    for values in map(json.loads, texts):
        if {name: values[name] for name in ("tfser", "code")} != _version():
            driver, worker = f"{values['tfser']} (code {values['code']})", f"{__version__} (code {code_digest()})"
            which = f"the driver runs tfser {driver}, a worker on {socket.gethostname()} runs {worker}"
            reason = f"{which}; install one version on every node, or submit with --working-dir"
            return [{"status": "refused", "reason": reason}] * len(texts)
        task = run_trial.Task(
            spec=TrialSpec.from_dict(values["spec"]),
            pack=place(values["pack"]),
            storage=place(values["storage"]),
            checkpoint_s=values["checkpoint_s"],
            bar=tuple(values["bar"]),
            device=values["device"],
            captured=values["captured"],
            limit_s=values["limit_s"],
            machine={"node": ray.get_runtime_context().get_node_id()},
            tell=tell,
        )
        tasks.append(task)
    try:
        outcomes = run_trial.run_pack(tasks, _WATCHDOG)
    except DeviceError as error:
        raise BrokenWorkerError(_breakage(error)) from error
    except MemoryError as error:
        return [{"status": "memory", "reason": f"out of memory: {' '.join(str(error).split())[:300]}"}] * len(texts)
    return [
        {"status": outcome.status, "pruned_after": outcome.epochs if outcome.status == "pruned" else None}
        for outcome in outcomes
    ]
