"""Nothing that only reads or plans assumes Linux; what cannot work elsewhere refuses in a sentence.

No test here runs on another system: one process takes away what Windows lacks.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tfser.benchmark import command as benchmark
from tfser.errors import RequestError, TfserError
from tfser.execution import this_machine
from tfser.storage import leftovers, locks, places, temporary
from tfser.storage.ledger import Ledger
from tfser.storage.sweep_lock import lease

ROOT = Path(__file__).parents[2]
UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
"""Modules of the standard library that Windows lacks."""


def imported_at_once(path: Path) -> set[str]:
    """The modules without which a file cannot be imported: outside functions, and not where a failure is caught."""

    def walk(nodes):
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").partition(".")[0]
            elif isinstance(node, (ast.ClassDef, ast.With, ast.If)):
                yield from walk(node.body)

    return set(walk(ast.parse(path.read_text(encoding="utf-8")).body))


def test_no_module_but_those_of_two_benchmarks_needs_what_windows_lacks():
    needing = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in sorted((ROOT / "tfser").rglob("*.py"))
        if (found := imported_at_once(path) & UNIX)
    }
    assert needing == {"tfser/benchmark/memory.py": ["resource"], "tfser/benchmark/processes.py": ["resource"]}


@pytest.fixture
def without_locks(monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)


def test_files_are_written_and_folders_made_and_removed_where_a_system_has_no_locks(without_locks, tmp_path):
    places.commit_text(tmp_path / "a.txt", "text\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "text\n"
    (tmp_path / ".b.txt.12345678.part").write_text("", encoding="utf-8")
    assert places.remove_unfinished(tmp_path) == 0, "nothing tells whether another process still writes it"
    with temporary.Folder("test") as folder:
        assert folder.is_dir()
        with open(folder / "file", "wb") as file:
            assert temporary.is_free(file) is None
    assert not folder.exists()
    leftovers.clear(tmp_path, tmp_path / "out", Ledger(tmp_path / "ledger"))


def test_a_sweep_is_refused_in_one_sentence_where_a_system_has_no_locks(without_locks, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(RequestError) as caught, lease(tmp_path, "s", print):
        pytest.fail("the sweep began")
    (problem,) = caught.value.problems
    assert problem == (
        "Windows lacks the file locks by which only one driver runs a sweep; train on Linux or in WSL; --plan and all "
        "that reads works here"
    )
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_numbers_of_accounts_every_file_is_ones_own(monkeypatch):
    monkeypatch.delattr("os.getuid")
    assert locks.account() == 0


def test_where_a_process_is_not_told_its_cores_it_takes_the_machines(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert this_machine.usable_cpus() == 7
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert this_machine.usable_cpus() == 1


def test_a_benchmark_that_a_system_cannot_measure_is_refused_in_one_sentence(monkeypatch):
    for name in ("resource", "tfser.benchmark.scale", "tfser.benchmark.processes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(benchmark.importlib, "import_module", _as_without("resource"))
    with pytest.raises(TfserError, match=r"^--only scale: it measures the memory and time of processes"):
        benchmark._module("scale")


def _as_without(name):
    def refuse(module):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    return refuse


ELSEWHERE = '''
import importlib, os, platform, shutil, signal, sys
space = shutil.disk_usage(".")
shutil.disk_usage = lambda path: space  # Windows has one of its own, without os.statvfs
libraries = """torch torchaudio torch._dynamo numpy pandas scipy.stats sklearn.pipeline matplotlib.pyplot rich.live
soundfile yaml mlflow ray optuna fsspec upath filelock psutil jinja2 skops.io argcomplete hmmlearn.hmm threadpoolctl
fontTools.ttLib asyncio PIL.Image"""
for name in libraries.split():
    try:
        importlib.import_module(name)
    except ImportError:
        pass
unix = UNIX_MODULES
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in unix:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for name in unix:
    sys.modules.pop(name, None)
for name in ("getuid", "geteuid", "sched_getaffinity", "killpg", "getpgid", "register_at_fork", "fork", "statvfs"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGKILL", "SIGSTOP", "SIGHUP", "setitimer", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
sys.platform, platform.system = "win32", lambda: "Windows"

from tests.helpers.results import paper_rows, sweep
from tfser import __main__ as tfser
from tfser.execution.results import Results
from tfser.report import write

def run(*words):
    sys.argv = ["tfser", *words]
    try:
        return tfser.main()
    except SystemExit as ended:
        return ended.code

assert run("databases", "list") == 0
assert run("databases", "check", "synthetic") == 0
assert run("models", "list") == 0
assert run("models", "describe", "svm") == 0
assert run("sweep", "synthetic", "--plan") == 0
assert run("leaks", "synthetic", "--plan") == 0
assert run("sweep", "synthetic") == 2
write.write(sweep(*paper_rows("casia")), importlib.import_module("pathlib").Path("out"))
assert run("collect", "--storage", "none") == 2
print("all ran")
'''


@pytest.mark.full
def test_what_reads_and_plans_works_without_all_that_windows_lacks(tmp_path):
    code = ELSEWHERE.replace("UNIX_MODULES", repr(UNIX))
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.endswith("all ran\n"), done.stdout + done.stderr
    assert "Windows lacks the file locks" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "comparison.md").is_file()
