"""A person's file and the modules beside it that it imports, as text: found by reading, nothing is run.

Imports inside functions count too. Names that are put together at run time, as for ``importlib.import_module``, do not.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from tfser.errors import RequestError

Files = tuple[tuple[str, str], ...]
"""(path relative to the folder of the first, text), the person's own file first."""

_NOT_BESIDE = {"tfser", *sys.builtin_module_names}
"""Modules that never come from a person's folder: a checkout of tfser may be that folder."""


def gather(path: Path) -> Files:
    """Return a file and the modules beside it that it imports, with line ends as on Unix, so that digests agree.

    Raises:
        RequestError: a file cannot be read, is not UTF-8 or is no Python; all of them.
    """
    folder, problems = path.parent, list[str]()
    found: dict[str, str] = {}
    waiting = [path.name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        text = found[name] = _text(folder / name, name, problems)
        if (tree := parsed(text, name, problems)) is None:
            continue
        for wanted in _imported(tree, Path(name).parent.parts):
            waiting += _files(folder, wanted)
    if problems:
        raise RequestError(str(path), problems)
    rest = sorted(name for name in found if name != path.name)
    return tuple((name, found[name]) for name in (path.name, *rest))


def _text(path: Path, name: str, problems: list[str]) -> str:
    """Return the text of a file; note why it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.append(f"{name} cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(f"{name}, line {line}: this is not UTF-8; save the file as UTF-8")
    else:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return ""


def parsed(text: str, name: str, problems: list[str]) -> ast.Module | None:
    """Return the syntax tree of a file that Python would compile; else note its error with the line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, name)
            compile(tree, name, "exec", dont_inherit=True)
        return tree
    except SyntaxError as error:
        shown = f" (`{error.text.strip()[:100]}`)" if error.text and error.text.strip() else ""
        problems.append(f"{name}, line {error.lineno}: {error.msg}{shown}")
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, or brackets in brackets
        problems.append(f"{name}: it cannot be parsed: {error or type(error).__name__}")
    return None


def _imported(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the modules that a file may import, as parts of their names from the folder of the person's file on.

    Args:
        tree: the file.
        package: the package that it lies in; empty beside the person's file.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(package) + 1:
                continue
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            if base:
                yield base
            yield from ((*base, alias.name) for alias in node.names)


def _files(folder: Path, wanted: tuple[str, ...]) -> list[str]:
    """Return the files beside that Python runs for an import: those of its packages, then that of the module."""
    if wanted[0] in _NOT_BESIDE:
        return []
    found: list[str] = []
    for count in range(1, len(wanted) + 1):
        inner = Path(*wanted[:count])
        if (folder / inner / "__init__.py").is_file():
            found.append((inner / "__init__.py").as_posix())
        elif (folder / inner.with_suffix(".py")).is_file():
            return [*found, inner.with_suffix(".py").as_posix()]
        elif not (folder / inner).is_dir() or (count == 1 and _installed(wanted[0])):
            return found
    return found


def _installed(name: str) -> bool:
    """Return whether a module is found elsewhere, before which a folder without ``__init__.py`` stands back."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin is not None
