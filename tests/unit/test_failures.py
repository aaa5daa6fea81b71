"""Failures are told apart: one that would recur is recorded once, one that may not recur elsewhere is tried again."""

import contextlib
import getpass
import importlib
import json
import os
import pwd
import subprocess
import sys
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.sweeps import arguments, read
from tests.helpers.tasks import SPEC, task
from tfser.benchmark import made_up
from tfser.errors import MachineError, TfserError, TrialError
from tfser.execution import run_trial
from tfser.execution.on_ray import tune_runner, worker
from tfser.execution.under_way import UnderWay
from tfser.execution.worker_usage import Usage
from tfser.storage.ledger import Ledger
from tfser.sweep import command
from tfser.training.together import FusedTraining
from tfser.training.training import Training

pytestmark = pytest.mark.usefixtures("blank_figures")


def fails(error):
    def run_epoch(self):
        raise error

    return run_epoch


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrialError("the loss was nan in epoch 1 of 4"), "the loss was nan in epoch 1 of 4"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_a_trial_that_would_fail_again_is_recorded_with_the_place_of_its_log(
    pack, tmp_path, monkeypatch, error, reason
):
    asked = task(pack, tmp_path)
    monkeypatch.setattr(Training, "run_epoch", fails(error))
    record = run_trial.run(asked)
    assert record.status == "failed"
    assert record.reason == reason
    assert Ledger(tmp_path / "ledger").get(asked.spec.trial_id) == record
    log = Path(record.log).read_text(encoding="utf-8")
    assert Path(record.log).parent == tmp_path / "logs"
    assert "Traceback" in log
    assert str(error) in log
    assert json.loads(log[log.index("\n{") :])["spec"] == asked.spec.to_dict()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("malloc"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 1 bytes"
        ),
        RuntimeError("CUDA error: out of memory; CUBLAS could not allocate"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`: no alloc"),
    ],
)
def test_a_full_memory_is_no_failure_of_the_trial(pack, tmp_path, monkeypatch, error):
    monkeypatch.setattr(Training, "run_epoch", fails(error))
    with pytest.raises(MemoryError, match="alloc"):
        run_trial.run(task(pack, tmp_path))
    assert Ledger(tmp_path / "ledger").ids() == set()


def test_a_failing_disk_is_no_failure_of_the_trial(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "run_epoch", fails(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        run_trial.run(task(pack, tmp_path))
    assert Ledger(tmp_path / "ledger").ids() == set()


def no_account(monkeypatch):
    """As in a container that runs with the number of an account that its system does not know."""
    importlib.import_module("torch._inductor.config")  # which asks for the name

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: getpass.getuser(), "uid not found"),
        (lambda: Path.home(), "home directory"),
        (lambda: importlib.import_module("torch.no_such_module"), "no_such_module"),
        (lambda: importlib.import_module("broken_package"), "KeyError: 'of the package'"),
        (lambda: fails(RuntimeError("CUDA error: uncorrectable ECC error encountered"))(None), "ECC error"),
        (lambda: fails(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"))(None), "CUDNN_STATUS"),
    ],
)
def test_a_fault_of_the_machine_is_no_failure_of_the_trial(pack, tmp_path, monkeypatch, fault, words, together):
    (tmp_path / "broken_package.py").write_text("raise KeyError('of the package')\n")
    monkeypatch.syspath_prepend(tmp_path)
    no_account(monkeypatch)
    monkeypatch.setattr(Training, "run_epoch", lambda self: fault())
    monkeypatch.setattr(FusedTraining, "until_an_epoch_ends", lambda self: fault())
    asked = task(pack, tmp_path)
    with pytest.raises(MachineError, match=words):
        run_trial.run_pack([replace(asked, spec=replace(asked.spec, seed=seed)) for seed in range(together)])
    assert Ledger(tmp_path / "ledger").ids() == set()
    assert not (tmp_path / "logs").exists()


@pytest.mark.full
def test_a_trial_is_trained_by_an_account_without_a_name_or_a_home(tmp_path):
    """torch asks for the name when deterministic kernels are switched on, and for a folder when it is imported."""
    text = f"""
import pwd
def unknown(number):
    raise KeyError("getpwuid(): uid not found: " + str(number))
pwd.getpwuid = unknown
from tfser.doctor import machine, probe
assert probe.training() is None, probe.training()
from mlflow.tracking.context.default_context import DefaultRunContext
assert DefaultRunContext().tags()["mlflow.user"].startswith("uid")
from tfser.storage.local_copies import cache_folder
assert cache_folder().is_relative_to({str(tmp_path)!r}), cache_folder()
(said,) = (f for f in machine.training({{"account": probe.account(), "training": None}}))
assert said.level == "note" and "no name for the account" in said.found
"""
    hidden = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "TORCHINDUCTOR_CACHE_DIR", "TFSER_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_sweep_goes_on_after_a_failed_and_a_lost_trial_and_the_next_start_tries_the_lost_one(
    tiny_manifest, tmp_path, monkeypatch, capsys
):
    real, broken = Training.run_epoch, {"bert": ValueError("odd"), "carl": MemoryError("full")}
    fold_of = deque()

    def run(task):
        fold_of.append(task.spec.fold)
        return run_for_real(task)

    def run_epoch(self):
        if fold_of[-1] in broken:
            raise broken[fold_of[-1]]
        real(self)

    run_for_real = run_trial.run
    monkeypatch.setattr(run_trial, "run", run)
    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    call = arguments(tiny_manifest, tmp_path, "--name", "s")
    assert command.main(call) == 1
    out = capsys.readouterr().out
    assert "ValueError: odd; log: " in out
    assert "lost: tiny carl" in out
    assert set(read(tmp_path / "s", "folds.csv").fold) == {"anna", "dora"}
    fold_of.clear()
    broken.clear()
    assert command.main(call) == 1
    assert list(fold_of) == ["carl"], "a lost trial is tried again, a failed one is not"
    fold_of.clear()
    assert command.main([*call, "--retry-failed"]) == 0
    assert list(fold_of) == ["bert"]


LOW = tune_runner.LOW_ON_MEMORY
OOM = (
    f"1 worker(s) were killed due to the node {LOW}. Memory on the node (IP: 10.0.0.1) was ...\n"
    "Refer to the documentation on how to ..."
)
"""As Ray 2.60 says it, shortened."""


class FakeCluster:
    """Drives the searcher as Tune does, on a node of four CPUs; trials need ``cpus`` each to fit into memory."""

    def __init__(self, cpus, refuse=False):
        self.cpus, self.refuse, self.shares, self.packs = cpus, refuse, [], []

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 4.0}}]

    def fit(self, runner, search):
        self.shares.append(runner.trial_cpus)
        for number in range(20):
            if search.suggest(str(number)) in (None, "FINISHED"):
                return
            tasks = search.running[str(number)]
            self.packs.append(len(tasks))
            fits = runner.trial_cpus >= self.cpus * len(tasks)
            status = "refused" if self.refuse else "done" if fits else "memory"
            if fits:
                runner.ledger.update(dict.fromkeys((task.spec for task in tasks), DONE))
            said = {"status": status, "reason": "out of memory: full"}
            search.on_trial_complete(str(number), {"done": True, "trials": [said] * len(tasks)})


DONE = made_up.record(SPEC, ("calm", "glad"), 2)


class FakeSchedule:
    def __init__(self, trials):
        self.ready, self.out, self.ends = deque(trials), set(), {}
        self.under_way = UnderWay()

    @property
    def finished(self):
        return not self.ready and not self.out

    @property
    def waiting(self):
        return len(self.ready)

    def next_together(self, key, most):
        specs = [self.ready.popleft() for _ in range(min(most, len(self.ready)))]
        self.out.update(specs)
        return specs

    def put_back(self, spec):
        self.out.remove(spec)
        self.ready.append(spec)

    def ended(self, spec, outcome):
        self.out.remove(spec)
        self.ends[spec] = outcome


class FakeTask:
    def __init__(self, spec, ledger):
        self.spec = spec
        self.ledger = ledger


def run_on(cluster, monkeypatch, trials=("a", "b", "c"), together=1, workers=0):
    runner = object.__new__(tune_runner.RayTuneRunner)
    runner._mailbox = None
    runner._ray, runner._say, runner.trial_cpus, runner.trial_gpus = cluster, print, 1.0, 0.0
    runner.ledger, runner._losses, runner.usage, runner.workers = {}, Counter(), Usage(), workers
    runner.together = together

    class Spec(str):
        purpose, fold, held_out, seed = "final", "anna", "anna", 0
        trial_id = property(lambda self: self)

    monkeypatch.setattr(worker, "pack_task", lambda task: "")
    monkeypatch.setattr(tune_runner.RayTuneRunner, "_fit", lambda self, search, losses: cluster.fit(self, search))
    schedule = cluster.schedule = FakeSchedule(map(Spec, trials))
    runner.run(schedule, lambda spec: FakeTask(spec, runner.ledger))
    return schedule


def test_trials_that_run_out_of_memory_get_a_larger_share_of_a_node_until_they_fit(monkeypatch):
    cluster = FakeCluster(cpus=4)
    schedule = run_on(cluster, monkeypatch)
    assert cluster.shares == [1.0, 2.0, 4.0]
    assert {end.status for end in schedule.ends.values()} == {"done"}


def test_trials_that_run_out_of_memory_together_are_tried_alone_before_they_get_a_larger_share(monkeypatch):
    cluster = FakeCluster(cpus=1)
    schedule = run_on(cluster, monkeypatch, together=3)
    assert cluster.packs == [3, 1, 1, 1]
    assert cluster.shares == [1.0, 1.0]
    assert {end.status for end in schedule.ends.values()} == {"done"}


@pytest.mark.parametrize(("workers", "packs"), [(1, [4, 1]), (2, [3, 1, 1]), (5, [1, 1, 1, 1, 1])])
def test_a_pack_leaves_no_worker_idle(monkeypatch, workers, packs):
    cluster = FakeCluster(cpus=0)
    run_on(cluster, monkeypatch, trials=("a", "b", "c", "d", "e"), together=4, workers=workers)
    assert cluster.packs == packs


def test_a_long_sweep_goes_on_with_another_tuner_and_trains_everything_once(monkeypatch):
    monkeypatch.setattr(tune_runner, "TRIALS_AT_MOST", 2)
    cluster = FakeCluster(cpus=1)
    schedule = run_on(cluster, monkeypatch, trials=("a", "b", "c", "d", "e"))
    assert cluster.shares == [1.0, 1.0, 1.0]
    assert list(schedule.ends) == ["a", "b", "c", "d", "e"]
    assert {end.status for end in schedule.ends.values()} == {"done"}


def test_a_trial_that_does_not_fit_into_a_whole_node_is_reported_and_not_tried_for_ever(monkeypatch):
    cluster = FakeCluster(cpus=5)
    schedule = run_on(cluster, monkeypatch)
    assert cluster.shares == [1.0, 2.0, 4.0]
    assert {(end.status, end.reason) for end in schedule.ends.values()} == {
        ("lost", "out of memory: full (alone on a node)")
    }
    assert len(schedule.ends) == 3


class FakeSearch:
    error = None
    noted = staticmethod(contextlib.nullcontext)

    def __init__(self, spec):
        self.lost, self.set_aside = {"t1": [spec]}, []


class FakeTrial:
    trial_id = "t1"

    def __init__(self, file, error):
        file.write_text(f"Failure # 1 (occurred at 2026-11-22_10-00-00)\n{error}\n")
        self.error_file = str(file)


def test_a_worker_that_ray_ended_for_memory_is_tried_with_a_larger_share_and_not_with_the_same_again(tmp_path, capsys):
    spec, schedule = SPEC, FakeSchedule([SPEC])
    schedule.next_together(None, 1)
    runner = object.__new__(tune_runner.RayTuneRunner)
    runner._mailbox = None
    runner._say, runner._losses = print, Counter()
    for error, put_back in (("The actor died.\nIts node was lost.", True), (OOM, False)):
        search = FakeSearch(spec)
        runner._watch_losses(schedule, search).on_trial_error(0, [], FakeTrial(tmp_path / "error.txt", error))
        assert bool(schedule.ready) == put_back
        assert search.set_aside == (
            [] if put_back else [(spec, f"out of memory: Ray ended its worker, because the node was {LOW}")]
        )
        if put_back:
            assert "(Its node was lost.); it is tried again" in capsys.readouterr().out
            schedule.next_together(None, 1)


def test_a_trial_that_ended_and_left_no_readable_entry_is_tried_again(tmp_path, capsys):
    schedule = FakeSchedule([SPEC])
    schedule.next_together(None, 1)
    runner = object.__new__(tune_runner.RayTuneRunner)
    runner._mailbox = None
    runner._say, runner._losses = print, Counter()
    runner._watch_losses(schedule, FakeSearch(SPEC)).on_trial_complete(0, [], FakeTrial(tmp_path / "error.txt", ""))
    assert list(schedule.ready) == [SPEC]
    assert "(it left no ledger entry that can be read); it is tried again" in capsys.readouterr().out


class FailingLedger(dict):
    """A ledger on a disk that fails for the entry of ``b``."""

    def get(self, spec):
        if spec == "b":
            raise OSError(116, "Stale file handle")
        return super().get(spec)


def tune_steps(search, losses):
    """Hand out packs of trials and end each, as Tune does: an error of a callback comes back as the trial's failure."""
    for number in map(str, range(20)):
        losses.on_step_begin(0, [])
        if search.suggest(number) == "FINISHED":
            return
        try:
            search.on_trial_complete(
                number, {"trials": [{"status": "done"}] * len(search.running[number]), "times": [0.0, 1.0]}
            )
        except Exception:
            search.on_trial_complete(number, error=True)


@pytest.mark.parametrize("together", [1, 3])
def test_a_disk_that_fails_while_a_result_is_taken_in_ends_the_run_with_its_own_error_and_keeps_the_others(
    monkeypatch, together
):
    class Cluster(FakeCluster):
        def fit(self, runner, search):
            runner.ledger = FailingLedger({"a": DONE, "c": DONE})
            losses = runner._watch_losses(FakeSchedule([]), search)
            runner._places = lambda: 1
            with tune_runner._said_plainly(search):
                tune_steps(search, losses)

    cluster = Cluster(cpus=1)
    with pytest.raises(OSError, match="Stale file handle"):
        run_on(cluster, monkeypatch, together=together)
    assert list(cluster.schedule.ends) == (["a"] if together == 1 else ["a", "c"])


@pytest.mark.parametrize("broken", ["next_together", "task", "ended", "put_back", "_places"])
def test_whatever_a_callback_of_tune_meets_ends_the_run_as_it_was_raised(monkeypatch, tmp_path, broken):
    def fails(*words, **named):
        raise OSError(5, "Input/output error")

    class Cluster(FakeCluster):
        def fit(self, runner, search):
            losses = runner._watch_losses(self.schedule, search)
            runner._places = fails if broken == "_places" else lambda: 1
            runner.ledger["a"] = None if broken == "put_back" else DONE
            if broken in ("next_together", "ended", "put_back"):
                setattr(self.schedule, broken, fails)
            with tune_runner._said_plainly(search):
                for number in ("t1", "t2"):
                    losses.on_step_begin(0, [])
                    if search.suggest(number) == "FINISHED":
                        return
                    search.on_trial_complete(number, error=broken == "put_back")
                    if broken == "put_back":
                        losses.on_trial_error(0, [], FakeTrial(tmp_path / "error.txt", "gone"))

    if broken == "task":
        monkeypatch.setattr(sys.modules[__name__], "FakeTask", fails)
    with pytest.raises(OSError, match="Input/output error"):
        run_on(Cluster(cpus=1), monkeypatch, trials=("a",))


def test_an_error_of_tune_itself_is_a_sentence(monkeypatch):
    from ray.tune import TuneError

    class Cluster(FakeCluster):
        def fit(self, runner, search):
            with tune_runner._said_plainly(search):
                raise TuneError(
                    "Traceback (most recent call last):\n  ...\nOSError: [Errno 28] No space left on device\n"
                )

    with pytest.raises(
        TfserError,
        match=r"Ray Tune ended before the sweep did \(OSError: \[Errno 28\] No space left on device\); run the",
    ):
        run_on(Cluster(cpus=1), monkeypatch)


def test_a_worker_of_another_version_ends_the_sweep_and_fails_no_trial(monkeypatch):
    with pytest.raises(TfserError, match="out of memory: full"):  # the fake gives one reason for everything
        run_on(FakeCluster(cpus=5, refuse=True), monkeypatch)


def test_a_worker_refuses_a_task_of_other_code(pack, tmp_path):
    text = json.loads(worker.pack_task(task(pack, tmp_path)))
    (answer,) = worker.run_packed([json.dumps({**text, "code": "0123456789ab"})])
    assert answer["status"] == "refused"
    assert "0123456789ab" in answer["reason"]
    assert "install one version on every node" in answer["reason"]
    assert not (tmp_path / "ledger").exists()


def test_the_code_digest_changes_with_any_source_file(tmp_path):
    package = Path(run_trial.__file__).parents[1]
    script = "from tfser.storage.packaged_files import code_digest; print(code_digest())"

    def digest():
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": "."},
        )
        return done.stdout.strip()

    (tmp_path / "tfser" / "storage").mkdir(parents=True)
    for name in ("__init__.py", "storage/__init__.py", "storage/packaged_files.py"):
        (tmp_path / "tfser" / name).write_bytes((package / name).read_bytes())
    first = digest()
    assert digest() == first
    (tmp_path / "tfser" / "new.py").write_text("")
    assert digest() != first
