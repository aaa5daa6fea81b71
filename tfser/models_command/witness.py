"""Sees what a model's code does beside its work: what it prints, starts, seeds, and changes around it.

Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import psutil
import torch

from tfser.errors import counted
from tfser.models import isolated
from tfser.models_command.finding import Told

_FORKS = {"os.fork", "os.forkpty", "os.system", "os.posix_spawn", "os.spawn", "subprocess.Popen"}

_ASKS = ("ctypes", "platform", "uuid", "torch._inductor", "joblib.externals.loky.backend.context", "psutil")
"""Modules that start a process for a moment to learn something of the machine; nothing runs beside a trial by that."""

_QUIET = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
"""Warnings that are for the authors of libraries."""

_OF_LIBRARIES = ("KMP_", "TORCHINDUCTOR_", "TRITON_", "PYTEST_")
"""Variables of the environment that libraries set where they are first used."""

_watching: Witness | None = None
_is_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Count a process that is started; Python calls this for every event, and it cannot be taken away."""
    if _watching is None or event not in _FORKS:
        return
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if any(name == asks or name.startswith(f"{asks}.") for asks in _ASKS):
            return
        frame = frame.f_back  # type: ignore[assignment]
    _watching.forks += 1


class Witness:
    """Watches the code that runs inside ``with witness():`` and keeps what it saw."""

    def __init__(self) -> None:
        self.forks, self.threads = 0, 0
        self.children: set[int] = set()
        self.lines: list[str] = []
        self.warned: list[str] = []
        self.seeded: list[str] = []
        self.changed: dict[str, None] = {}

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Watch; put everything that was changed back at the end."""
        global _watching, _is_hooked
        if not _is_hooked:
            sys.addaudithook(_hear)
            _is_hooked = True
        before, printed = _Surroundings(), io.StringIO()
        children = {child.pid for child in psutil.Process().children(recursive=True)}
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(printed))
            stack.enter_context(contextlib.redirect_stderr(printed))
            heard = stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("default")
            stack.enter_context(self._seeds_seen())
            stack.enter_context(self._threads_seen())
            _watching = self
            try:
                yield
            finally:
                _watching = None
                self.lines += [line for line in printed.getvalue().splitlines() if line.strip()]
                self.warned += [
                    f"{one.category.__name__}: {' '.join(str(one.message).split())[:200]}"
                    for one in heard
                    if not issubclass(one.category, _QUIET)
                ]
                self.children |= {
                    child.pid for child in psutil.Process().children(recursive=True) if not _is_tracker(child)
                } - children
                self.changed |= dict.fromkeys(before.changed())
                before.restore()

    @contextlib.contextmanager
    def _seeds_seen(self) -> Iterator[None]:
        """See who seeds a global random state; tfser itself may."""
        places: list[tuple[Any, str]] = [(random, "seed"), (np.random, "seed"), (torch, "manual_seed")]
        originals = [getattr(where, name) for where, name in places]

        def seen(original: Callable[..., Any], word: str) -> Callable[..., Any]:
            def call(*given: Any, **more: Any) -> Any:
                caller = sys._getframe(1)
                if not str(caller.f_globals.get("__name__", "")).startswith("tfser."):
                    name = isolated.shown(caller.f_code.co_filename) or PurePath(caller.f_code.co_filename).name
                    self.seeded.append(f"{word} in {name}, line {caller.f_lineno}")
                return original(*given, **more)

            return call

        for (where, name), original in zip(places, originals, strict=True):
            module = "numpy.random" if where is np.random else where.__name__
            setattr(where, name, seen(original, f"{module}.{name}"))
        try:
            yield
        finally:
            for (where, name), original in zip(places, originals, strict=True):
                setattr(where, name, original)

    @contextlib.contextmanager
    def _threads_seen(self) -> Iterator[None]:
        """Count the threads that are started, not those that another thread of this process starts meanwhile."""
        original, own = threading.Thread.start, {threading.current_thread()}

        def start(thread: threading.Thread) -> None:
            if threading.current_thread() in own:
                own.add(thread)
                self.threads += 1
            original(thread)

        threading.Thread.start = start  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            threading.Thread.start = original  # type: ignore[method-assign]

    def findings(self) -> list[tuple[str, Told]]:
        """Return what is to be told, by the name of the check."""
        found: list[tuple[str, Told]] = []
        if self.lines:
            first = self.lines[0].strip()[:80]
            lines = counted(len(self.lines), "line")
            said = f"prints {lines} (first: {first!r}); in a sweep they go to the worker's log"
            found.append(("prints", [("remark", said)]))
        if self.warned:
            kinds = list(dict.fromkeys(self.warned))
            said = f"warns {counted(len(self.warned), 'time')}: {'; '.join(kinds[:3])}"
            found.append(("warnings", [("remark", said)]))
        found.append(("processes", self._started()))
        if self.seeded:
            kinds = list(dict.fromkeys(self.seeded))
            said = (
                f"calls {'; '.join(kinds[:3])}: that undoes the trial's seed, so that seeds do not differ; take the "
                "call away: every random state follows from the seed already"
            )
            found.append(("seeds", [("wrong", said)]))
        changed = [
            ("remark", f"changes {each}; later trials of the worker see it; change it back where it was changed")
            for each in self.changed
        ]
        found.append(("surroundings", changed))  # type: ignore[arg-type]  # mypy takes the word for any text
        return found

    def _started(self) -> Told:
        number = max(len(self.children), self.forks)
        what = counted(number, "process", "processes") if number else counted(self.threads, "thread")
        if not number and not self.threads:
            return []
        said = (
            f"starts {what}; a trial has one CPU, and its workers run side by side already; set n_jobs=1 "
            "(num_workers=0 in a DataLoader)"
        )
        return [("wrong" if number else "remark", said)]


def _is_tracker(process: psutil.Process) -> bool:
    """Return whether a process only cleans up after others, as those of multiprocessing and joblib do."""
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True


class _Surroundings:
    """What a process has that a model's code may not change."""

    def __init__(self) -> None:
        self._folder = os.getcwd()
        self._environment = dict(os.environ)
        self._path = list(sys.path)
        self._dtype = torch.get_default_dtype()
        self._grad = torch.is_grad_enabled()
        self._errors = np.geterr()

    def changed(self) -> list[str]:
        """Return what is another than before, in words."""
        now = dict(os.environ)
        names = sorted(
            name
            for name in {*now, *self._environment}
            if now.get(name) != self._environment.get(name) and not name.startswith(_OF_LIBRARIES)
        )
        return [
            said
            for said, holds in {
                "the working folder (os.chdir)": _folder() != self._folder,
                f"the environment ({', '.join(names[:5])})": bool(names),
                "sys.path": sys.path != self._path,
                "torch's default type (torch.set_default_dtype)": torch.get_default_dtype() != self._dtype,
                "whether gradients are computed (torch.set_grad_enabled)": torch.is_grad_enabled() != self._grad,
                "NumPy's handling of errors (np.seterr)": np.geterr() != self._errors,
            }.items()
            if holds
        ]

    def restore(self) -> None:
        """Put everything back."""
        if _folder() != self._folder:
            os.chdir(self._folder)
        if dict(os.environ) != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        sys.path[:] = self._path
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(self._grad)
        np.seterr(**self._errors)


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
