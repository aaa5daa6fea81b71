"""Runs a person's files under module names of their own, so that two of them never meet.

The file is the package ``tfser_model_<digest>``, and the modules beside it are parts of that package. So two files may
each ``import helper`` from their own folder, in one process, in functions too. The names are in ``sys.modules``, as
dataclasses, ``inspect`` and pickles need; ``sys.path`` stays as it is, and no bytecode is written. Knows nothing of
models.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import linecache
import re
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import PurePath
from types import ModuleType
from typing import Any

from tfser.errors import in_a_line
from tfser.models.beside import Files

PREFIX = "tfser_model_"

_OWN_NAME = re.compile(rf"{PREFIX}[0-9a-f]+\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """The files of one source."""

    folder: str
    texts: Mapping[str, str]
    main: str
    """The path of the person's own file in ``texts``."""

    def path(self, name: str) -> str | None:
        """Return the path of a module; empty for a folder without ``__init__.py``, ``None`` where there is none."""
        if not name:
            return self.main
        inner = name.replace(".", "/")
        for path in (f"{inner}/__init__.py", f"{inner}.py"):
            if path in self.texts:
                return path
        return "" if any(path.startswith(f"{inner}/") for path in self.texts) else None

    @property
    def tops(self) -> frozenset[str]:
        """Names that an import takes from here, the file's own among them."""
        return frozenset(PurePath(path).parts[0].removesuffix(".py") for path in self.texts)


_CODE: dict[str, _Code] = {}
"""Name of the package to its files."""

_SHOWN: dict[str, str] = {}
"""File name in tracebacks to the path that a person knows."""


def load(digest: str, files: Files, folder: str) -> ModuleType:
    """Run a person's file, unless this process has; return its module.

    Args:
        digest: of the files.
        files: see ``tfser.models.beside``.
        folder: where they lie, or lay on the machine that read them: for tracebacks.

    Raises:
        Exception: whatever the files raise.
    """
    root = PREFIX + digest
    if root not in _CODE:
        _CODE[root] = _Code(folder=folder, texts=dict(files), main=files[0][0])
    for path, text in files:
        name = _file_name(folder, path)
        _SHOWN[name] = path
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    with contextlib.redirect_stdout(sys.stderr):  # some commands print JSON
        return importlib.import_module(root)


def said(error: BaseException) -> str | None:
    """Return an error with the person's file and line, the innermost; ``None`` where it did not pass through one."""
    innermost = _innermost(error)
    if innermost is None:
        return None
    line = (innermost.line or "").strip()[:100]
    shown = f" (`{line}`)" if line else ""
    what = _OWN_NAME.sub("", in_a_line(error)).rstrip(": ")
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = _OWN_NAME.sub("", error.name)
        own = _SHOWN[innermost.filename]
        what = f"there is no module {missing!r} here; install it on every machine, or put it beside {own}"
    return f"{_SHOWN[innermost.filename]}, line {innermost.lineno}: {what}{shown}"


def place(error: BaseException) -> str | None:
    """Return the person's file, line and text of it where an error arose; ``None`` as in ``said``."""
    innermost = _innermost(error)
    if innermost is None:
        return None
    return f"{_SHOWN[innermost.filename]}, line {innermost.lineno}: `{(innermost.line or '').strip()[:100]}`"


def asked_to_end(error: BaseException) -> bool:
    """Return whether a person's code itself asked to end the process, by ``sys.exit`` or ``exit``."""
    frames = traceback.extract_tb(error.__traceback__)
    raised = [frame.filename for frame in frames if PurePath(frame.filename).name != "_sitebuiltins.py"]
    return isinstance(error, SystemExit) and bool(raised) and raised[-1] in _SHOWN


def shown(file_name: str) -> str | None:
    """Return the path by which a person knows a file that a traceback names; ``None`` for any other file."""
    return _SHOWN.get(file_name)


def _innermost(error: BaseException) -> traceback.FrameSummary | None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _SHOWN]
    return frames[-1] if frames else None


def _file_name(folder: str, path: str) -> str:
    return str(PurePath(folder, path))


class _Finder(MetaPathFinder):
    """Finds the modules of every source that this process holds."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, rest = fullname.partition(".")
        code = _CODE.get(root)
        found = None if code is None else code.path(rest)
        if code is None or found is None:
            return None
        package = not rest or not found or found.endswith("/__init__.py")
        return spec_from_loader(fullname, _Loader(root, code, found), is_package=package)


class _Loader(InspectLoader):
    """Runs one file of a source."""

    def __init__(self, root: str, code: _Code, path: str) -> None:
        self._root, self._code, self._path = root, code, path

    def get_source(self, fullname: str) -> str:
        return self._code.texts.get(self._path, "")

    def exec_module(self, module: ModuleType) -> None:
        if not self._path:
            return
        name = _file_name(self._code.folder, self._path)
        module.__file__ = name
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(self._root, self._code)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compiled = compile(self.get_source(module.__name__), name, "exec", dont_inherit=True)
        exec(compiled, module.__dict__)


def _importer(root: str, code: _Code) -> Any:
    """Return what ``import`` calls in a source's modules: it looks beside them first."""
    tops, stem = code.tops, code.main.removesuffix(".py")

    def importing(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or top not in tops:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if name == stem:
            return builtins.__import__(root, globals, locals, fromlist or (), 0)
        found = builtins.__import__(f"{root}.{name}", globals, locals, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{root}.{top}"]

    return importing
