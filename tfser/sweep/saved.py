"""Writes the request of a sweep as a sweep file: for --save, and for the report."""

from __future__ import annotations

from pathlib import Path

from tfser.errors import RequestError
from tfser.storage.passwords import redacted
from tfser.storage.places import commit_text
from tfser.sweep import sweep_file
from tfser.sweep.options import Options, parser
from tfser.sweep.sweep_file_reader import ENDINGS


def request_text(options: Options, folder: Path | None = None) -> str:
    """Return what was asked for as the content of a sweep file.

    Args:
        options: the command line.
        folder: the file's, to which its paths are relative; by default the working folder.
    """
    return sweep_file.text(options.typed, parser, Path.cwd() if folder is None else folder)


def shown(options: Options) -> str:
    """Return the same for a report, without passwords; paths are relative to the working folder."""
    return redacted(request_text(options))


def problems(options: Options) -> list[str]:
    """Return why the file of --save cannot be written, in words."""
    path = options.save
    if path is None:
        return []
    if not path.name.lower().endswith(ENDINGS):
        return [f"--save {path}: a sweep file is told by its ending; name it {path}.yaml"]
    if not path.parent.is_dir():
        return [f"--save {path}: there is no folder {path.parent}; make it, or name another"]
    text = request_text(options, path.parent)
    if redacted(text) != text:
        return [f"--save {path}: the request holds a password; put that into the environment instead"]
    if not path.exists():
        return []
    if options.file is not None and path.resolve() == options.file.path.resolve() and options.file.replaced:
        return [f"--save {path}: it is the file that is run; name another, or change it by hand"]
    try:
        words, there = sweep_file.expand([str(path)], parser)
        same = there is not None and not there.problems and sweep_file.text(words, parser, path.parent) == text
    except RequestError:
        same = False
    what = "something is there that asks for something else, and it is never overwritten; name another, or remove it"
    return [] if same else [f"--save {path}: {what}"]


def write(options: Options) -> str | None:
    """Write the file of --save, and return a line that says so; ``None`` where there is none to write.

    Raises:
        RequestError: it cannot be written.
    """
    path = options.save
    if path is None or path.exists():  # then it says the same: see ``problems``
        return None
    try:
        commit_text(path, request_text(options, path.parent))
    except OSError as error:
        raise RequestError(f"--save {path}", [f"it cannot be written: {error.strerror or error}"]) from None
    return f"Saved this request as {path}; run it with: tfser sweep {path}"
