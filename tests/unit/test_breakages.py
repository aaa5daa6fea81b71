"""Errors of a GPU are told from those of trials and of memory, and each trial is trained on the device of its task."""

import contextlib
import gc
import json
import weakref
from collections import Counter, deque
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
import torch

from tests.helpers.sweeps import arguments
from tests.helpers.tasks import SPEC, task
from tfser.errors import DeviceError, NoDeviceError, RequestError, TfserError, TrialError
from tfser.execution import faults, run_network, run_trial, this_machine
from tfser.execution.breakages import Breakage, Breakages, Where
from tfser.execution.on_ray import environment, gpu_share, growth, tune_runner, worker
from tfser.execution.on_ray.losses import Losses
from tfser.execution.worker_usage import Usage
from tfser.storage.ledger import Ledger
from tfser.sweep import command, trainer
from tfser.training.together import FusedTraining
from tfser.training.training import Training

pytestmark = pytest.mark.usefixtures("blank_figures")


def numbered(code, text="CUDA error"):
    """An error as PyTorch raises it, with CUDA's number."""
    error = torch.AcceleratorError(text)
    error.error_code = code
    return error


def raised_from(cause):
    error = ValueError("the model gave up")
    error.__cause__ = cause
    return error


MEMORY = [
    MemoryError("malloc"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    numbered(2, "CUDA error: said in other words"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED: no engine fits the workspace limit"),
    NotImplementedError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"),
    raised_from(torch.OutOfMemoryError("CUDA out of memory")),
]
DEVICE = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    numbered(710, "CUDA error: device-side assert triggered"),
    numbered(214, "words that nobody knows"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError(
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input"
    ),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR"),
    RuntimeError("No CUDA GPUs are available; CUDA driver initialization failed"),
    raised_from(RuntimeError("CUDA error: misaligned address")),
]
OWN = [
    TrialError("the loss was nan; a CUDA error was not the cause"),
    ValueError("a file named CUDA error"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
]


@pytest.mark.parametrize(
    ("errors", "memory", "device"), [(MEMORY, True, False), (DEVICE, False, True), (OWN, False, False)]
)
def test_memory_is_told_from_a_broken_gpu_by_types_and_numbers_and_else_by_words(errors, memory, device):
    for error in errors:
        assert faults.out_of_memory(error) == memory, error
        assert faults.of_the_device(error) == device, error


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("error", DEVICE)
def test_an_error_of_the_gpu_commits_nothing_and_is_raised_at_once(pack, tmp_path, monkeypatch, error, together):
    begun = []

    def fails(self):
        begun.append(self)
        raise error

    monkeypatch.setattr(Training, "run_epoch", fails)
    monkeypatch.setattr(FusedTraining, "until_an_epoch_ends", fails)
    asked = task(pack, tmp_path)
    with pytest.raises(DeviceError):
        run_trial.run_pack([replace(asked, spec=replace(asked.spec, seed=seed)) for seed in range(together)])
    assert len(begun) == 1, "in this process no other trial can be trained either"
    assert Ledger(tmp_path / "ledger").ids() == set()
    assert not (tmp_path / "logs").exists()


def test_an_error_of_the_gpu_before_a_trial_begins_is_told_apart_too(pack, tmp_path, monkeypatch):
    def fails(asked):
        raise torch.AcceleratorError(said)

    monkeypatch.setattr(run_network, "run", fails)
    said = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    with pytest.raises(DeviceError, match="busy or unavailable"):
        run_trial.run_pack([task(pack, tmp_path)])
    said = "CUDA error: out of memory"
    with pytest.raises(MemoryError, match="out of memory"):
        run_trial.run_pack([task(pack, tmp_path)])


class Context:
    """What Ray says to a worker on GPU 3."""

    get_node_id = staticmethod(lambda: "n1")
    get_accelerator_ids = staticmethod(lambda: {"GPU": ["3"]})


def test_a_worker_with_a_broken_gpu_raises_so_that_tune_ends_it_and_says_where_it_was(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr(Training, "run_epoch", lambda self: (_ for _ in ()).throw(DEVICE[1]))
    with pytest.raises(worker.BrokenWorkerError) as error:
        worker.run_packed([worker.pack_task(task(pack, tmp_path))])
    told = worker.breakage(f"\x1b[36mray::Trials.step()\x1b[39m\n  File\ntfser.BrokenWorkerError: {error.value}\n")
    assert told is not None
    assert (told.where, told.blames) == (Where(node="n1", gpu="3"), True)
    assert "device-side assert triggered" in told.in_words
    assert told.in_words.endswith(f"(on GPU 3 of {told.host})")
    assert told.said == "ray::Trials.step()\n  File"
    assert worker.breakage("The actor died.\nIts node was lost.") is None
    assert Ledger(tmp_path / "ledger").ids() == set()


def at(gpu="0", node="n1", reason="CUDA error: odd", blames=True):
    return Breakage(where=Where(node=node, gpu=gpu), host=f"host-{node}", reason=reason, blames=blames)


def unfit(*met):
    found = Breakages()
    for trials, breakage in met:
        found.add(trials.split(), breakage)
    return set(found.unfit())


def test_a_gpu_or_a_node_that_breaks_three_different_trials_is_unfit():
    assert unfit(("a", at()), ("b", at())) == set()
    assert unfit(("a", at()), ("a", at()), ("b", at())) == set()
    assert unfit(("a", at()), ("b", at()), ("c", at())) == {Where(node="n1", gpu="0")}
    assert unfit(("a", at("0")), ("b", at("1")), ("c", at("2"))) == {Where(node="n1")}
    assert unfit(("a", at("")), ("b", at("")), ("c", at(""))) == {Where(node="n1")}
    assert unfit(("a", at()), ("b", at()), ("c", at(node="n2"))) == set()
    assert unfit(("a b c", at()), ("d", at())) == set(), "of trials in one worker, one broke it"
    assert unfit(*((trial, at(blames=False)) for trial in "abc")) == {Where(node="n1", gpu="0")}


def test_a_trial_that_breaks_workers_in_two_places_counts_against_neither():
    both = [(trial, at(node=node)) for node in ("n1", "n2") for trial in "abc"]
    assert unfit(*both) == set()
    assert unfit(*both, ("d", at()), ("e", at())) == set()


class Schedule:
    def __init__(self, folder):
        self.ledger, self.ready, self.ends = Ledger(folder / "ledger"), deque(), {}

    def put_back(self, spec):
        self.ready.append(spec)

    def ended(self, spec, outcome):
        self.ends[spec.trial_id] = outcome


class Driver:
    """A runner's side of lost workers, as Tune tells of them."""

    def __init__(self, folder):
        self.folder, self.schedule, self.said = folder, Schedule(folder), []
        self.search = SimpleNamespace(lost={}, set_aside=[], left=9, error=None, noted=contextlib.nullcontext)
        self.runner = SimpleNamespace(
            _losses=Counter(), _say=self.said.append, breakages=Breakages(), usage=Usage(), _places=lambda: 1
        )

    def loses(self, specs, gpu="0", node="n1", reason="CUDA error: odd", blames=True):
        facts = {"node": node, "gpu": gpu, "host": f"host-{node}", "reason": reason, "blames": blames}
        file = self.folder / "error.txt"
        file.write_text(f"Failure # 1 (occurred at x)\nTraceback\nworker.BrokenWorkerError: {json.dumps(facts)}\n")
        self.search.lost["t"] = list(specs)
        tune = SimpleNamespace(trial_id="t", error_file=str(file))
        Losses(self.runner, self.schedule, self.search).on_trial_error(0, [], tune)


def spec(seed):
    return replace(SPEC, seed=seed)


def test_a_trial_is_tried_again_and_fails_with_both_texts_when_it_breaks_a_fresh_worker_too(tmp_path):
    driver = Driver(tmp_path)
    driver.loses([spec(0)], reason="CUDA error: first")
    assert list(driver.schedule.ready) == [spec(0)]
    assert driver.schedule.ledger.ids() == set()
    assert "it is tried again by a fresh worker" in driver.said[0]
    driver.loses([spec(0)], node="n2", reason="CUDA error: second")
    assert len(driver.schedule.ready) == 1
    entry = driver.schedule.ledger.get(spec(0).trial_id)
    assert entry == driver.schedule.ends[spec(0).trial_id]
    assert entry.status == "failed"
    assert entry.reason == (
        "it broke 2 workers, one after another: CUDA error: first (on GPU 0 of host-n1); "
        "then CUDA error: second (on GPU 0 of host-n2)"
    )
    assert (tmp_path / "logs" / f"{spec(0).trial_id}.log").read_text().count("Traceback") == 2


def test_a_gpu_that_breaks_three_trials_gets_no_more_which_is_said_once(tmp_path):
    driver = Driver(tmp_path)
    for seed in range(4):
        assert driver.search.left == (9 if seed < 3 else 0)
        driver.loses([spec(seed)], gpu="5")
    (line,) = (line for line in driver.said if "no more" in line)
    assert line == "GPU 5 of host-n1 broke 3 different trials and is given no more: CUDA error: odd"


def test_of_trials_in_one_worker_none_is_blamed_and_each_is_tried_alone(tmp_path):
    driver = Driver(tmp_path)
    for _ in range(2):
        driver.loses([spec(0), spec(1)])
    assert [one for one, _ in driver.search.set_aside] == [spec(0), spec(1)] * 2
    assert driver.schedule.ledger.ids() == set()
    assert "each of them is tried again alone" in driver.said[0]


def test_a_worker_that_sees_no_gpu_costs_no_trial(tmp_path):
    driver = Driver(tmp_path)
    for _ in range(3):
        driver.loses([spec(0)], blames=False)
    assert list(driver.schedule.ready) == [spec(0)] * 3
    assert driver.schedule.ledger.ids() == set()


class Holding:
    """Held places, without a cluster."""

    def __init__(self):
        self.held = []

    def __contains__(self, where):
        return where in self.held

    def gpus(self, node):
        return sum(where.node == node and where.gpu != "" for where in self.held)

    def hold(self, where, resources):
        self.held.append(where)


def runner_on(nodes, trial_gpus, breakages):
    runner = object.__new__(tune_runner.RayTuneRunner)
    runner._ray = SimpleNamespace(nodes=lambda: nodes)
    runner.trial_cpus, runner.trial_gpus, runner.breakages, runner._held_back = 1.0, trial_gpus, breakages, Holding()
    runner._only_gpus = False
    return runner


def test_what_is_unfit_is_held_back_and_no_longer_counts_as_a_place_and_a_sweep_without_a_place_ends():
    nodes = [{"NodeID": n, "Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}} for n in ("n1", "n2")]
    breakages = Breakages()
    runner = runner_on(nodes, 0.5, breakages)
    runner._hold_back()
    assert (runner._held_back.held, runner._places()) == ([], 8)
    for trial in "abc":
        breakages.add([trial], at("1"))
    runner._hold_back()
    assert (runner._held_back.held, runner._places()) == ([Where(node="n1", gpu="1")], 6)
    for number, gpu in enumerate("010"):
        breakages.add([f"d{number}"], at(gpu, node="n2"))
    runner._hold_back()
    assert runner._places() == 2
    for trial in "xyz":
        breakages.add([trial], at("0"))
    with pytest.raises(TfserError, match="No worker is left") as error:
        runner._hold_back()
    assert "node host-n2 broke 3 different trials" in str(error.value)
    assert "--trial-gpus 0 trains on CPUs" in str(error.value)
    runner._only_gpus = True  # --fast
    with pytest.raises(TfserError, match="No worker is left") as error:
        runner._hold_back()
    assert str(error.value).endswith("run the same command again")


# --- the device


@pytest.fixture
def with_gpus(monkeypatch):
    """A machine with GPUs, as far as PyTorch's answers go."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number=0: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # the optimiser asks


def test_a_task_for_a_cpu_is_trained_on_one_where_there_are_gpus_and_its_record_says_so(pack, tmp_path, with_gpus):
    record = run_trial.run(replace(task(pack, tmp_path), device="cpu"))
    assert record.status == "done"
    assert record.machine.device == this_machine.cpu_name()
    assert this_machine.device("any").type == this_machine.device("gpu").type == "cuda"


def test_a_task_for_a_gpu_never_goes_over_to_a_cpu(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoDeviceError, match="sees none here"):
        run_trial.run_pack([replace(task(pack, tmp_path), device="gpu")])
    assert Ledger(tmp_path / "ledger").ids() == set()


def test_the_device_goes_with_the_task_to_the_worker(pack, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr(run_trial, "run_pack", lambda tasks, limit: asked.extend(tasks) or [])
    for on in ("cpu", "gpu", "any"):
        worker.run_packed([worker.pack_task(replace(task(pack, tmp_path), device=on))])
    assert [one.device for one in asked] == ["cpu", "gpu", "any"]


@pytest.mark.parametrize(("said", "on"), [([], "any"), (["--trial-gpus", "0"], "cpu"), (["--trial-gpus", "1"], "any")])
def test_trial_gpus_0_trains_on_cpus_in_process_too(tiny_manifest, tmp_path, monkeypatch, said, on):
    seen = []

    def run(self, schedule, task):
        seen.append(task(schedule.next()).device)
        raise TfserError("seen")

    monkeypatch.setattr(trainer.InProcessRunner, "run", run)
    assert command.main(arguments(tiny_manifest, tmp_path, *said)) == 1
    assert seen == [on]


@pytest.mark.parametrize(("share", "on"), [(0.0, "cpu"), (0.25, "gpu")])
def test_on_a_cluster_the_share_of_a_trial_says_its_device(share, on):
    assert runner_on([], share, Breakages()).device == on


def test_a_worker_without_a_share_sees_no_gpu_and_one_with_a_share_keeps_what_ray_gave_it(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    worker.hide_gpus()
    assert worker.os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.setattr(Context, "get_accelerator_ids", staticmethod(lambda: {"GPU": []}))
    worker.hide_gpus()
    assert worker.os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert environment.ENVIRONMENT["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] == "1"


# --- memory between trials


def test_between_trials_what_only_the_collector_frees_is_freed_and_the_gpus_memory_given_back(
    pack, tmp_path, monkeypatch
):
    made, emptied, real = [], [], Training.__init__

    def circle(self, *words, **named):
        real(self, *words, **named)
        self.itself = self  # as a captured graph leaves one
        made.append(weakref.ref(self))

    monkeypatch.setattr(Training, "__init__", circle)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(made[0]() if made else None))
    gc.disable()
    try:
        run_trial.run_pack([task(pack, tmp_path)])
    finally:
        gc.enable()
    assert made[0]() is None
    assert emptied == [None, None], "before and after the trial; after it the model is gone first"


@pytest.mark.parametrize(
    ("captured", "on", "expected"), [(True, "any", True), (True, "cpu", False), (False, "any", False)]
)
def test_the_probe_measures_a_captured_training_where_trials_will_be(
    pack, tmp_path, monkeypatch, with_gpus, captured, on, expected
):
    class SeenError(Exception):
        pass

    def seen(*words, captured):
        raise SeenError(captured)

    monkeypatch.setattr(gpu_share, "Training", seen)
    fake = SimpleNamespace(reset_peak_memory_stats=lambda: None)
    with pytest.raises(SeenError) as error:
        gpu_share.probe(replace(task(pack, tmp_path), captured=captured, device=on), fake)
    assert error.value.args == (expected,)


# --- clusters whose GPUs are not there yet


def cluster(monkeypatch, cpus, may_come, trial_gpus):
    """Join a cluster that has CPUs alone; return the runner, and what it said."""
    said = []
    monkeypatch.setattr(environment, "reach", lambda address: None)
    monkeypatch.setattr(tune_runner.open_doors, "open_to_anyone", lambda address: "")
    monkeypatch.setattr(tune_runner.RayTuneRunner, "_connect", lambda self, address, workers: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": cpus} if cpus else {})
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": cpus}}])
    monkeypatch.setattr(ray, "shutdown", lambda: said.append("left"))
    most = {"GPU": 4, "CPU": 64} if may_come else None
    monkeypatch.setattr(ray._private.state.state, "get_max_resources_from_cluster_config", lambda: most)
    return tune_runner.RayTuneRunner("head:6379", trial_gpus=trial_gpus, say=said.append), said


def test_a_cluster_whose_gpu_nodes_are_not_up_asks_whether_to_wait_for_them(monkeypatch):
    with pytest.raises(RequestError, match="its GPU nodes are not up yet") as error:
        cluster(monkeypatch, 4.0, True, None)
    assert "--trial-gpus X to wait for them (0 trains on CPUs)" in str(error.value)
    with pytest.raises(RequestError, match="it has no worker yet"):
        cluster(monkeypatch, 0.0, False, None)


def test_a_cluster_without_gpus_trains_on_its_cpus_and_says_so_unless_that_was_asked_for(monkeypatch):
    runner, (line,) = cluster(monkeypatch, 4.0, False, None)
    assert runner.device == "cpu"
    assert "The cluster has no GPU, so that trials train on its CPUs" in line
    assert "--trial-gpus" in line
    assert cluster(monkeypatch, 4.0, True, 0.0)[1] == []


def test_trials_that_wait_for_a_gpu_say_so(monkeypatch):
    runner, (line,) = cluster(monkeypatch, 4.0, True, 0.25)
    assert runner.device == "gpu"
    assert line == (
        "No node with a GPU is up, and trials wait for one (--trial-gpus 0.25); --trial-gpus 0 trains on CPUs"
    )


def test_what_an_autoscaler_can_still_start_is_the_difference_to_what_is_there(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 2.0})
    for most, more in (({"GPU": 4}, True), ({"GPU": 2}, False), ({}, False), (None, False)):
        monkeypatch.setattr(ray._private.state.state, "get_max_resources_from_cluster_config", lambda most=most: most)
        assert growth.may_get(ray, "GPU") == more
    assert not growth.may_get(object(), "GPU")
