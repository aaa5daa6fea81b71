"""A model that is not built in: where it comes from, as a value that has a digest and travels to every worker.

It comes from a person's file, whose text travels, or from an entry point of an installed package, which has to be on
every machine. Nothing is ever run that a person did not name: no text is read from a URI, a ledger, a checkpoint or
MLflow. Knows nothing of settings or trials.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from pathlib import Path
from types import ModuleType

from tfser.errors import RequestError, in_a_line, unknown
from tfser.models import BUILT_IN, COMPARISON, Estimator, Model, Network, beside, isolated
from tfser.models.beside import Files
from tfser.text.typed import clipped

GROUP = "tfser.models"
"""Entry points of this group are models."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
"""Legal names of models: they become parts of file names."""

NEW = "tfser models new FILE.py writes a file to begin with"

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_TYPED = re.compile(r"(?P<file>.*\.py)(?::(?P<name>.*))?", re.DOTALL)


class OtherSourceError(RequestError):
    """A package is another one here than where the trials were planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The installed package that an entry point belongs to."""

    distribution: str
    version: str
    module: str
    """Name of its top-level package, whose files make the digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from."""

    typed: str
    """What a person typed, without folders: ``mine.py:Mine``, or the name of an entry point."""
    attribute: str
    """Name of the model in its file, or of its entry point."""
    digest: str
    """16 hexadecimal digits: the same for the same text, whatever folder it lies in."""
    name: str = ""
    """The model's name."""
    files: Files = field(default=(), repr=False)
    """The person's file and the modules beside it; empty for an entry point."""
    folder: str = field(default="", repr=False, compare=False)
    """Where the files lie; for tracebacks."""
    word: str = field(default="", repr=False, compare=False)
    """What a person typed, folders included; empty for an entry point."""
    package: Package | None = None
    """Of an entry point."""

    def model(self) -> Model:
        """Run the source, unless this process has, and return its model.

        Raises:
            OtherSourceError: the package of an entry point is missing here, or another one.
            Exception: whatever the person's code raises.
        """
        if self.package is None:
            found = getattr(isolated.load(self.digest, self.files, self.folder), self.attribute)
        else:
            point = installed().get(self.attribute)
            here = None if point is None else _of_entry_point(point)
            if point is None or here is None or here.digest != self.digest:
                raise OtherSourceError(f"model {self.attribute}", [_differs(self.package, self.digest, here)])
            found = point.load()
        assert isinstance(found, Model)
        return found


def _differs(wanted: Package, digest: str, here: Source | None) -> str:
    """Say how the package of an entry point differs from the one that was planned with."""
    node = socket.gethostname()
    there = f"the driver has {wanted.distribution} {wanted.version} (source {digest})"
    if here is None or here.package is None:
        return f"{there}, node {node} has none; install it on every node"
    return (
        f"{there}, node {node} has {here.package.distribution} {here.package.version} (source {here.digest}); "
        "install one version on every node"
    )


def is_file(typed: str) -> bool:
    """Return whether a word names a file rather than a model that is known by name."""
    return _TYPED.fullmatch(typed) is not None


def gone(typed: str) -> str | None:
    """Return the sentence about a model whose file or installed package is not there; ``None`` where it is."""
    match = _TYPED.fullmatch(typed)
    if match is None:
        return None if typed in names() else "it is not installed; install its package again"
    if _URI.match(typed) or (path := Path(match["file"]).expanduser()).is_file():
        return None
    return f"there is no file {_where(path)}; put it back"


def whereabouts(typed: str) -> str:
    """Return a word that names a file with the whole path of that file."""
    file, colon, name = typed.rpartition(":")
    return f"{Path(file).expanduser().absolute()}{colon}{name}"


def installed() -> dict[str, EntryPoint]:
    """Return the models of installed packages, by the name that a person types."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def names() -> list[str]:
    """Return every name that ``--model`` takes without a file."""
    return list(dict.fromkeys([*(model.name for model in BUILT_IN), *installed()]))


def read(typed: str) -> Source:
    """Return the source of a model that is not built in, and check that the model can be loaded.

    Args:
        typed: ``path/to/file.py:NAME``, or the name of an entry point.

    Raises:
        RequestError: every problem, those of the file with its line.
    """
    if (match := _TYPED.fullmatch(typed)) is not None:
        return _of_file(typed, match["file"], match["name"])
    point = installed().get(typed)
    if point is None:
        raise RequestError(
            "--model", [unknown("--model", typed, names(), every="tfser models list").removeprefix("--model: ")]
        )
    source = _of_entry_point(point)
    if source is None:
        raise RequestError(typed, [f"its package {point.module.partition('.')[0]} is not there; install it again"])
    try:
        model = point.load()
    except (Exception, SystemExit) as error:
        owner = f"{source.package.distribution} {source.package.version}" if source.package else point.module
        raise RequestError(typed, [f"{owner} cannot be loaded: {in_a_line(error)}"]) from error
    if not isinstance(model, (Network, Estimator)):
        raise RequestError(typed, [f"{point.value} is {_kind(model)}, not a tfser.models.Network or Estimator"])
    return _named(typed, source, model)


def _of_file(typed: str, file: str, name: str | None) -> Source:
    """Return the source of a model in a file; see ``read``."""
    if _URI.match(file):
        raise RequestError(typed, ["a model is never read from a URI; copy its file to this machine, and name that"])
    path = Path(file).expanduser()
    if not path.is_file():
        raise RequestError(typed, [_no_file(path)])
    files = beside.gather(path)
    folder, shown = str(path.parent.absolute()), f"{path.name}:{name}"
    digest = _digest(files)
    try:
        module = isolated.load(digest, files, folder)
    except (Exception, SystemExit) as error:
        raise RequestError(str(path), [described(error)]) from error
    there = _models(module)
    if not name:
        choose = ", ".join(f"{path}:{each}" for each in there)
        said = f"name one of its models: {choose}" if there else f"it holds no tfser.models.Network or Estimator; {NEW}"
        raise RequestError(typed, [said])
    attribute = name if name in there else next((key for key, model in there.items() if model.name == name), None)
    if attribute is None:
        other = vars(module).get(name)
        if other is not None:
            why = f"{name} is {_kind(other)}, not a tfser.models.Network or Estimator"
            raise RequestError(typed, [f"{why}; there are {', '.join(there)}" if there else f"{why}; {NEW}"])
        raise RequestError(typed, [unknown(path.name, name, there) if there else f"it holds no model; {NEW}"])
    source = Source(typed=shown, attribute=attribute, digest=digest, files=files, folder=folder, word=typed)
    return _named(typed, source, there[attribute])


def _named(typed: str, source: Source, model: Model) -> Source:
    """Return a source with its model's name, if that is legal."""
    name: object = model.name
    if not isinstance(name, str) or not NAME.fullmatch(name):
        why = f"its name {clipped(name)} becomes a part of file names; use letters, digits, '_' and '-'"
        raise RequestError(typed, [why])
    if name.casefold() == COMPARISON:
        raise RequestError(typed, [f"its name {name} stands for all built-in models with --model; give it another"])
    if any(name.casefold() == other.name.casefold() for other in BUILT_IN):
        raise RequestError(typed, [f"its name {name} is that of a built-in model; give it another"])
    return replace(source, name=name)


def _where(path: Path) -> str:
    return f"{path}" if path.is_absolute() else f"{path} in {Path.cwd()}"


def _no_file(path: Path) -> str:
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        seen = "a submitted job sees the files of the head and those of its --working-dir"
        return f"there is no file {_where(path)}; {seen}: ray job submit --working-dir . -- tfser sweep ..."
    return f"there is no file {_where(path)}; {NEW} (tables of finished trials need no file: tfser collect)"


def _models(module: ModuleType) -> Mapping[str, Model]:
    """Return the models that a file holds, by the names of their variables; those of tfser are left out."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (Network, Estimator)) and not any(value is model for model in BUILT_IN)
    }


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a value of type {type(value).__name__}"


def described(error: BaseException) -> str:
    """Return an error of a person's code with its file and line, where it has one."""
    said = isolated.said(error)
    if said is None:
        return in_a_line(error)
    return f"{said}; it ended the process" if isinstance(error, SystemExit) else said


def _digest(files: Files) -> str:
    """Return the digest of a person's files. The first one's own name is no part of it."""
    digest = hashlib.sha256()
    for number, (path, text) in enumerate(files):
        for part in (path if number else "", text):
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:16]


def _of_entry_point(point: EntryPoint) -> Source | None:
    """Return the source of an entry point; ``None`` where its package is not there."""
    top = point.module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    try:
        distribution = point.dist.name if point.dist else top
        version = point.dist.version if point.dist else ""
    except (PackageNotFoundError, KeyError):
        distribution, version = top, ""
    folders = tuple(spec.submodule_search_locations or ())
    code = _package_digest(folders or (spec.origin or "",))
    digest = hashlib.sha256("\0".join((distribution, version, top, code)).encode()).hexdigest()[:16]
    package = Package(distribution=distribution, version=version, module=top)
    return Source(typed=point.name, attribute=point.name, name=point.name, digest=digest, package=package)


@lru_cache(maxsize=64)
def _package_digest(places: tuple[str, ...]) -> str:
    """Return a digest of the source files of a package (its folders) or of a single module (its file)."""
    digest = hashlib.sha256()
    for place in map(Path, places):
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            name = path.relative_to(place).as_posix() if place.is_dir() else path.name
            content = path.read_bytes() if path.is_file() else b""
            digest.update(name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
