"""A tracking URI behind which MLflow would lose its runs is refused by every command, before anything starts."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from tfser import collect, predict
from tfser.attention import command as attention
from tfser.doctor import command as doctor
from tfser.sweep import command as sweep
from tfser.tracking import connection as tracking_connection
from tfser.tracking import uri as tracking_uri
from tfser.tracking.uri import sqlite_path

REFUSED = {
    "mlruns": "names a folder or file, and MLflow keeps no runs in folders any more (did you mean 'sqlite:////",
    "./mlruns": "names a folder or file",
    "/abs/mlruns": "did you mean 'sqlite:////abs/mlruns/mlflow.db'?",
    "/abs/mlflow.db": "did you mean 'sqlite:////abs/mlflow.db'?",
    "file:/x": "did you mean 'sqlite:////x/mlflow.db'?",
    "file:///x%20y": "did you mean 'sqlite:////x y/mlflow.db'?",
    "host:5000": "has no scheme (did you mean 'http://host:5000'?)",
    "127.0.0.1:5000/": "did you mean 'http://127.0.0.1:5000/'?",
    "http:/host:5000": "did you mean 'http://host:5000'?",
    "http://": "names no server",
    "http://:5000": "names no server",
    "http://host:port": "legal are http://HOST:PORT",
    "http://host:5000/#/experiments/1": "is a page; the server is http://host:5000",
    "postgresql:host/db": "did you mean 'postgresql://host/db'?",
    "postgresql://anna:s3cr3t@host": "names no database",
    "postgres://host/db": "no 'postgres://'; there are databricks://, http://, https://, mssql://, mysql://, "
    "postgresql://, sqlite:// (did",
    "sqlite:x.db": "did you mean 'sqlite:///x.db'?",
    "sqlite:/x.db": "did you mean 'sqlite:////x.db'?",
    "sqlite://x.db": "did you mean 'sqlite:///x.db'?",
    "sqlite://": "is a database in memory",
    "sqlite:///:memory:": "is a database in memory",
    "sqlite:///~/x.db": "'~' means nothing in a URI",
    "sqlite:////a/b?c/x.db": "did you mean 'sqlite+pysqlite:////a/b%3Fc/x.db'?",
    "sqlite:////tmp": "names a folder; name a file in it: sqlite:////tmp/mlflow.db",
    "ftp://host/x": "no 'ftp://'",
    "nonsense": "names a folder or file",
    "mysql+nodriver://host/db": "no 'mysql+nodriver://'",
}


@pytest.mark.parametrize("uri", REFUSED)
def test_a_uri_that_mlflow_keeps_no_runs_behind_is_refused_with_what_is_legal(uri):
    problems = []
    tracking_uri.given(uri, problems)
    (problem,) = problems
    assert problem.startswith("--tracking-uri: ")
    assert REFUSED[uri] in problem
    assert "s3cr3t" not in problem


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("http://host:5000", "http://host:5000"),
        (" HTTPS://Host/mlflow\n", "https://Host/mlflow"),
        ("SQLite:////x/y.db", "sqlite:////x/y.db"),
        ("sqlite:////x/y.db?mode=ro", "sqlite:////x/y.db?mode=ro"),
        ("sqlite:////x/50%25/y.db", "sqlite+pysqlite:////x/50%25/y.db"),
        ("databricks", "databricks"),
        ("Databricks://profile", "databricks://profile"),
        ("", None),
    ],
)
def test_a_uri_that_mlflow_takes_is_given_to_it_as_it_wants_it(typed, taken, monkeypatch):
    problems = []
    assert tracking_uri.given(typed, problems) == (taken or None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", typed)
    assert tracking_uri.given(None, problems) == (taken or None)
    assert problems == []


def test_a_database_whose_driver_is_not_installed_is_a_problem_of_every_command_but_the_doctor(monkeypatch):
    """Which says it of its own, beside everything else."""

    def gone():
        raise ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2")

    monkeypatch.setattr(
        sqlalchemy.engine.make_url("postgresql://x/y").get_dialect(), "import_dbapi", staticmethod(gone)
    )
    problems = []
    tracking_uri.given("postgresql://anna:s3cr3t@host/db", problems, driver=False)
    assert problems == []
    tracking_uri.given("postgresql://anna:s3cr3t@host/db", problems)
    (problem,) = problems
    assert problem.endswith("No module named 'psycopg2'; install what it is reached with: pip install psycopg2-binary")
    assert "s3cr3t" not in problem


@pytest.mark.parametrize("as_variable", [True, False], ids=["MLFLOW_TRACKING_URI", "--tracking-uri"])
@pytest.mark.parametrize(
    "call",
    [
        lambda folder: (sweep, ["synthetic", "--in-process", "--out", folder / "out"]),
        lambda folder: (collect, ["--out", folder / "out"]),
        lambda folder: (predict, ["0123456789abcdef", "x.wav", "--results", folder / "out"]),
        lambda folder: (attention, ["0123456789abcdef", "--file", "x.wav", "--results", folder / "out"]),
        lambda folder: (doctor, ["--out", folder / "out"]),
    ],
    ids=["sweep", "collect", "predict", "attention", "doctor"],
)
def test_every_command_refuses_it_before_anything_starts_and_names_where_it_was_read(
    call, as_variable, tmp_path, monkeypatch, capsys
):
    module, words = call(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if as_variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "host:5000")
    else:
        words += ["--tracking-uri", "host:5000"]
    assert module.main(list(map(str, words))) == 2
    error = capsys.readouterr().err
    option = "MLFLOW_TRACKING_URI" if as_variable else "--tracking-uri"
    assert f"{option}: 'host:5000' has no scheme (did you mean 'http://host:5000'?)" in error
    assert not (tmp_path / "out").exists()


RARE = ("50%", "#1", "a b", "it's", 'say "x"', "Straße 東京", "a+b&c;d=e")


@pytest.mark.full
@pytest.mark.parametrize("name", ["what?", "50%25", *(pytest.param(name, marks=pytest.mark.full) for name in RARE)])
def test_the_database_of_a_folder_of_any_name_lies_in_it_and_nothing_lies_beside_it(name, tmp_path):
    storage = tmp_path / name / "results"
    uri = tracking_connection.default_uri(storage)
    assert tracking_uri.sqlite_path(uri) == storage / "mlflow.db"
    tracking_connection.prepare(uri)
    assert sqlalchemy.engine.make_url(uri).database == str(storage / "mlflow.db")
    from mlflow import MlflowClient

    made = MlflowClient(tracking_uri=uri).create_experiment(
        "tfser/x/speaker", artifact_location=(storage / "mlartifacts").as_uri()
    )
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(storage / "mlflow.db")))
    with engine.connect() as connection:
        assert connection.execute(
            sqlalchemy.text("SELECT name FROM experiments WHERE experiment_id = :id"), {"id": made}
        ).scalar()
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Path(tracking_uri.sqlite_path(uri.replace("sqlite+pysqlite", "sqlite"))) == storage / "mlflow.db"


@pytest.mark.full
def test_two_threads_make_a_database_each(tmp_path):
    uris = [tracking_connection.default_uri(tmp_path / name) for name in ("first", "second")]
    with ThreadPoolExecutor(len(uris)) as threads:
        list(threads.map(tracking_connection.prepare, uris))
    for uri in uris:
        with sqlite3.connect(sqlite_path(uri)) as database:
            assert database.execute("SELECT count(*) FROM experiments").fetchone() == (1,)
