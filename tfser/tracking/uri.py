"""Tracking URIs: which ones MLflow can keep runs behind, and the files that those of SQLite name.

Every command takes its URI from ``given``. Opens nothing, and does not import MLflow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tfser.errors import unknown
from tfser.storage.passwords import redacted

OPTION, VARIABLE = "--tracking-uri", "MLFLOW_TRACKING_URI"

DATABASES = ("mssql", "mysql", "postgresql", "sqlite")
SCHEMES = ("databricks", "http", "https", *DATABASES)
"""Schemes that a tracking URI can begin with."""

LEGAL = (
    "legal are http://HOST:PORT, https://HOST, sqlite:////A/LOCAL/FILE.db, postgresql://, mysql://, mssql:// "
    "and databricks"
)

_SQLITE_OPTIONS = {
    "mode",
    "cache",
    "uri",
    "timeout",
    "check_same_thread",
    "isolation_level",
    "detect_types",
    "nolock",
    "immutable",
    "vfs",
}
_DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Packages by the module that they hold, where the names differ."""


def given(typed: str | None, problems: list[str], *, driver: bool = True) -> str | None:
    """Return the tracking URI that a person named, as MLflow takes it; ``None`` where they named none.

    Args:
        typed: the value of ``--tracking-uri``; without one MLFLOW_TRACKING_URI counts.
        problems: gets what is wrong with it.
        driver: whether the driver of a database has to be installed.
    """
    text = (typed or os.environ.get(VARIABLE) or "").strip()
    if not text:
        return None
    scheme, separator, rest = text.partition("://")
    uri = f"{scheme.lower()}://{rest}" if separator else text.lower() if text.lower() == "databricks" else text
    problem = _problem(uri)
    if problem is None and driver and uri.partition("://")[0].partition("+")[0] in DATABASES:
        problem = _no_driver(uri)
    if problem:
        problems.append(redacted(f"{OPTION if typed else VARIABLE}: {problem}"))
        return uri
    path = sqlite_path(uri)
    return uri if path is None or "?" in uri else sqlite_uri(path)


def sqlite_uri(path: Path) -> str:
    """Return the URI of an SQLite file, whatever characters its path holds.

    >>> sqlite_uri(Path("/a b/mlflow.db")), sqlite_uri(Path("/50%?/mlflow.db"))
    ('sqlite:////a b/mlflow.db', 'sqlite+pysqlite:////50%25%3F/mlflow.db')
    """
    text = str(path).replace("%", "%25").replace("?", "%3F")
    # MLflow makes the folder that follows "sqlite:///" as it is written, so encoded characters would give another one.
    return f"sqlite:///{text}" if text == str(path) else f"sqlite+pysqlite:///{text}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file that a URI of SQLite names; ``None`` for a database in memory, and for any other URI.

    >>> sqlite_path("sqlite+pysqlite:////50%25%3F/mlflow.db?mode=ro")
    PosixPath('/50%?/mlflow.db')
    """
    scheme, _, rest = uri.partition(":///")
    name = unquote(rest.partition("?")[0])
    return Path(name) if scheme.partition("+")[0] == "sqlite" and name not in ("", ":memory:") else None


def install_driver(error: ImportError) -> str:
    """Return the command that installs the module that was missing."""
    name = error.name or "the driver of that database"
    return f"pip install {_DRIVERS.get(name, name)}"


def _problem(uri: str) -> str | None:
    """Return why MLflow could keep no runs there, or ``None``; nothing is opened for that."""
    scheme, separator, rest = uri.partition("://")
    if uri == "databricks" or scheme == "databricks":
        return None
    if not separator:
        return f"{uri!r} {_without_scheme(uri)}; {LEGAL}"
    if scheme == "file":
        return f"{uri!r} {_folder(unquote(rest))}; {LEGAL}"
    kind = scheme.partition("+")[0]
    if kind not in SCHEMES:
        return unknown("", f"{scheme}://", [f"{name}://" for name in SCHEMES]).removeprefix(": ")
    if kind == "sqlite":
        return _sqlite_problem(uri, rest)
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018  # what is no number is found here
    except ValueError as error:
        return f"{uri!r}: {error}; {LEGAL}"
    if kind in ("http", "https"):
        if scheme != kind or not parts.hostname or re.search(r"\s", uri):
            return f"{uri!r} names no server; {LEGAL}"
        if parts.fragment or parts.query:
            return f"{uri!r} is a page; the server is {uri.partition('#')[0].partition('?')[0].rstrip('/')}"
        return None
    return _server_problem(uri)


def _server_problem(uri: str) -> str | None:
    """Return what is wrong with the URL of a database server, or ``None``."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    kind = uri.partition("://")[0].partition("+")[0]
    try:
        database = make_url(uri).database
    except (ArgumentError, ValueError):
        return f"{uri!r} cannot be read; legal is {kind}://USER:PASSWORD@HOST:PORT/DATABASE"
    return None if database else f"{uri!r} names no database; legal is {kind}://USER:PASSWORD@HOST:PORT/DATABASE"


def no_database(url: str) -> str | None:
    """Return why a database's URL cannot be used here, or ``None``; nothing is opened for that."""
    scheme, separator, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if not separator:
        legal = "legal are sqlite:////A/LOCAL/FILE.db and postgresql://USER:PASSWORD@HOST/DATABASE"
        return f"{url!r} is no URL of a database; {legal}"
    return (_sqlite_problem(url, rest) if kind == "sqlite" else _server_problem(url)) or _no_driver(url)


def _without_scheme(text: str) -> str:
    """Say what a text without ``://`` seems to be, and what was meant."""
    scheme, separator, rest = text.partition(":")
    kind = scheme.lower().partition("+")[0]
    if separator and kind in SCHEMES:
        slashes = ":///" if kind == "sqlite" else "://"
        path = rest if kind == "sqlite" else rest.lstrip("/")
        return f"has no '://' after its scheme (did you mean {f'{scheme.lower()}{slashes}{path}'!r}?)"
    if separator and scheme.lower() == "file":
        return _folder(rest)
    if re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s/:@]+):\d+(/\S*)?", text):
        return f"has no scheme (did you mean {f'http://{text}'!r}?)"
    return _folder(text)


def _folder(text: str) -> str:
    path = Path(os.path.abspath(os.path.expanduser(text)))
    database = path if path.suffix in (".db", ".sqlite") else path / "mlflow.db"
    why = "names a folder or file, and MLflow keeps no runs in folders any more"
    return f"{why} (did you mean {sqlite_uri(database)!r}?)"


def _sqlite_problem(uri: str, rest: str) -> str | None:
    path = sqlite_path(uri)
    if path is None:
        if rest in ("", "/", "/:memory:") or rest.startswith(("?", "/?", "/:memory:?")):
            why = "is a database in memory, which ends with this process"
            return f"{uri!r} {why}; name a file: sqlite:////A/LOCAL/FILE.db"
        why = "names no file: three slashes begin a relative path and four an absolute one"
        return f"{uri!r} {why} (did you mean 'sqlite:///{rest}'?)"
    if path.parts[0].startswith("~"):
        meant = os.path.expanduser(str(path))
        return f"{uri!r}: '~' means nothing in a URI; did you mean {sqlite_uri(Path(meant))!r}?"
    raw = Path(rest.removeprefix("/"))
    query = [pair.partition("=")[0] for pair in rest.partition("?")[2].split("&") if pair]
    if set(query) - _SQLITE_OPTIONS and "file:" not in rest:
        why = "what follows '?' are options of SQLite, not a part of the path"
        return f"{uri!r}: {why}; did you mean {sqlite_uri(raw)!r}?"
    if raw != path and not query and not path.parent.is_dir() and raw.parent.is_dir():
        why = f"names a file in {path.parent}, which is not there: a '%' is written '%25'"
        return f"{uri!r} {why}; did you mean {sqlite_uri(raw)!r}?"
    return f"{uri!r} names a folder; name a file in it: {sqlite_uri(path / 'mlflow.db')}" if path.is_dir() else None


def _no_driver(uri: str) -> str | None:
    """Return why this machine cannot talk to a database of that kind, or ``None``."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except NoSuchModuleError:
        scheme = uri.partition("://")[0]
        return unknown("", f"{scheme}://", [f"{name}://" for name in DATABASES]).removeprefix(": ")
    except ImportError as error:
        return f"{uri!r}: {error}; install what it is reached with: {install_driver(error)}"
    return None
