"""Every option and variable that takes a path or a URI: what cannot be meant is a sentence and not a traceback."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tfser import collect, predict
from tfser.attention import command as attention
from tfser.databases import command as databases
from tfser.databases import load
from tfser.doctor import command as doctor
from tfser.errors import RequestError
from tfser.execution.on_ray import environment, open_doors
from tfser.leaks import command as leaks
from tfser.storage import default_places, local_copies, places
from tfser.sweep import command as sweep

_spec = importlib.util.spec_from_file_location(
    "mlflow_service_of_places", Path(__file__).parents[2] / "cluster" / "mlflow_service.py"
)
mlflow_service = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mlflow_service)

WHO = "~no-such-account"
SENTENCE = "no account 'no-such-account', so that '~no-such-account' stands for nothing; write the whole path"


@pytest.mark.parametrize(
    ("module", "words", "variable"),
    [
        (sweep, ["synthetic", "--data", f"{WHO}/x"], None),
        (sweep, ["synthetic", "--out", f"{WHO}/x"], None),
        (sweep, ["synthetic", "--storage", f"{WHO}/x"], None),
        (sweep, ["synthetic", "--trials", "2", "--space", f"{WHO}/x.yaml"], None),
        (sweep, [f"{WHO}/labels.csv"], None),
        (sweep, [f"audformat:{WHO}/x"], None),
        (sweep, ["emodb"], "TFSER_DATA"),
        (leaks, ["synthetic", "--model", "atfnn", "--out", f"{WHO}/x"], None),
        (collect, ["--out", f"{WHO}/x"], None),
        (collect, ["--storage", f"{WHO}/x"], None),
        (predict, ["0123456789abcdef", "--results", f"{WHO}/x"], None),
        (attention, ["0123456789abcdef", "--out", f"{WHO}/x"], None),
        (databases, ["check", "emodb", "--data", f"{WHO}/x"], None),
        (databases, ["check", f"{WHO}/labels.csv"], None),
        (doctor, ["--data", f"{WHO}/x"], None),
        (doctor, ["--out", f"{WHO}/x"], None),
        (doctor, ["--storage", f"{WHO}/x"], None),
        (doctor, [], "TFSER_DATA"),
        (mlflow_service, ["status", "--folder", f"{WHO}/x"], None),
        (mlflow_service, ["start", "--storage", f"{WHO}/x"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else getattr(value, "__name__", str(value)),
)
def test_the_home_of_an_account_that_is_not_there_is_said_to_be_none(
    module, words, variable, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if variable:
        monkeypatch.setenv(variable, f"{WHO}/x")
    try:
        code = module.main(words)
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert code == 2
    assert SENTENCE in said.err + said.out
    assert list(tmp_path.iterdir()) == []


def test_the_other_variables_that_hold_a_path_are_read_the_same_way(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("TFSER_HOME", f"{WHO}/x")
    with pytest.raises(RequestError, match="TFSER_HOME: .*\n.*no account 'no-such-account'"):
        default_places.default_out()
    monkeypatch.setenv("TFSER_CACHE", f"{WHO}/x")
    with pytest.raises(OSError, match="TFSER_CACHE: .*no account 'no-such-account'"):
        local_copies.cache_folder()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", f"{WHO}/token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert open_doors.own_token() is None


def test_a_home_that_cannot_be_written_is_no_place_for_copies(tmp_path, monkeypatch):
    monkeypatch.delenv("TFSER_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/proc/no/home")
    monkeypatch.setattr(places.os, "access", lambda path, mode: not str(path).startswith("/proc"))
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = local_copies.cache_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    other = folder.stat().st_uid + 1
    (tmp_path / f"tfser-cache-{other}").mkdir()
    monkeypatch.setattr(places.os, "getuid", lambda: other)
    with pytest.raises(OSError, match="it belongs to another account; name a folder of your own with TFSER_CACHE"):
        local_copies.cache_folder()


@pytest.mark.parametrize("name", ["what?", "50%25", "#1", "a b", "Straße 東京", "it's"])
def test_a_file_uri_names_the_folder_that_it_was_made_from(name, tmp_path):
    assert places.place((tmp_path / name).as_uri()) == tmp_path / name
    assert places.place((tmp_path / name).as_uri().replace("file://", "file://localhost")) == tmp_path / name


def test_a_file_uri_of_two_slashes_is_refused_with_the_one_that_was_meant():
    with pytest.raises(
        ValueError, match=r"file://x/y: a file URI has three slashes before its path, as in file:///x/y"
    ):
        places.place("file://x/y")


def test_a_manifest_whose_folder_has_a_name_of_any_signs_is_read(tiny_manifest, tmp_path):
    folder = tmp_path / "what?50%25 #1 it's Straße"
    folder.symlink_to(tiny_manifest.parent)
    assert len(load(str(folder / "tiny.csv"), None).utterances) == 36
    assert len(load((folder / "tiny.csv").as_uri(), None).utterances) == 36


@pytest.mark.parametrize("variable", [True, False], ids=["RAY_ADDRESS", "--address"])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://head:8265", "http://head:8265 is the job API of a cluster; a sweep takes HOST:6379, auto or local;"),
        ("https://head", "ray job submit --address https://head --working-dir . -- python -m tfser.sweep"),
        ("ray://head:10001", "a Ray Client server, through which Ray Tune cannot be driven"),
        ("ray://head:10001", "ray job submit --address http://head:8265"),
        ("head", "'head' is no address of a Ray cluster; there are host:6379"),
    ],
)
def test_an_address_that_no_sweep_can_be_driven_through_is_refused_by_the_name_of_where_it_stands(
    address, words, variable, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    call = ["synthetic", "--out", str(tmp_path / "out")]
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", address)
    else:
        call += ["--address", address]
    assert sweep.main(call) == 2
    error = capsys.readouterr().err
    assert f"{'RAY_ADDRESS' if variable else '--address'}: " in error
    assert words in error
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_without_ray_its_address_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert sweep.main(["synthetic", "--out", str(tmp_path / "out"), "--in-process", "--plan"]) == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("studies.db", "'studies.db' is no URL of a database; legal are sqlite:////A/LOCAL/FILE.db"),
        ("sqlite://studies.db", "did you mean 'sqlite:///studies.db'?"),
        ("sqlite://", "is a database in memory"),
        ("postgres://anna:s3cr3t@host/x", "no 'postgres://'"),
    ],
)
def test_an_optuna_storage_that_cannot_be_one_is_refused_with_everything_else(url, words, tmp_path, capsys):
    assert sweep.main(["synthetic", "--out", str(tmp_path / "out"), "--optuna-storage", url, "--seeds", "0"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "--seeds" in error
    assert "s3cr3t" not in error
    assert not (tmp_path / "out").exists()


def sockets_of(folder):
    """The longest path that Ray makes of its temporary folder, with a process number of seven digits."""
    return f"{folder}/session_2026-11-25_20-41-10_123456_4194304/sockets/plasma_store.1"


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_that_is_too_long_for_the_sockets_of_ray_is_left_for_a_short_one(
    variable, tmp_path, monkeypatch
):
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert environment.temp_folder() is None
    monkeypatch.setenv(variable, "/x" * 10)
    assert environment.temp_folder() is None
    monkeypatch.setenv(variable, "/" + "x" * 60)
    folder = environment.temp_folder()
    try:
        assert len(sockets_of(folder)) <= 107
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    finally:
        Path(folder).rmdir()

    def full(**named):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(environment.tempfile, "mkdtemp", full)
    with pytest.raises(
        RequestError,
        match=rf"{variable}: /x+ has 61 bytes, which is too long for the paths of Ray's sockets \(37 at most",
    ):
        environment.temp_folder()
