"""How many trials share a GPU: the choice is arithmetic; the probe is run on the CPU against a made-up device."""

import pytest

from tests.helpers.tasks import task
from tfser.execution.on_ray import gpu_share
from tfser.execution.on_ray.gpu_share import Probe, share
from tfser.sweep.options import parse
from tfser.training.training import Training

GIB = 2**30


def probe(peak, total=80.0, mps=False):
    return Probe(device="a GPU", peak_bytes=int(peak * GIB), total_bytes=int(total * GIB), mps=mps)


@pytest.mark.parametrize(
    ("probes", "cpus_per_gpu", "trial_cpus", "sharing"),
    [
        ([probe(1.0)], 64, 1.0, 16),  # never more than 16
        ([probe(1.0)], 8, 1.0, 8),  # no more than there are CPUs
        ([probe(1.0)], 8, 2.0, 4),
        ([probe(10.0)], 64, 1.0, 6),  # 85 % of 80 GiB
        ([probe(70.0)], 64, 1.0, 1),  # one, although it leaves less than the head-room
        ([probe(1.0), probe(20.0)], 64, 1.0, 3),  # the neediest counts
        ([probe(2.0, total=16.0), probe(2.0)], 64, 1.0, 6),
        ([probe(1.0)], 0.5, 1.0, 1),  # two GPUs for a CPU
        ([], 64, 1.0, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_fit_with_head_room_and_have_a_cpu(probes, cpus_per_gpu, trial_cpus, sharing):
    chosen = share(probes, cpus_per_gpu, trial_cpus)
    assert int(1 / chosen + 1e-6) == sharing
    assert chosen * sharing <= 1.0
    assert round(chosen * 10_000) == pytest.approx(chosen * 10_000), "Ray counts in ten-thousandths"


def test_the_line_says_how_many_why_and_whether_they_compute_at_the_same_moment():
    text = gpu_share.described([probe(1.0), probe(10.0)], share([probe(1.0), probe(10.0)], 64, 1.0))
    assert text == (
        "6 trials share a GPU: the largest takes 10.0 of the 80.0 GiB of a GPU; MPS is not on there, "
        "so that they compute in turns"
    )
    assert gpu_share.described([probe(60.0)], 1.0).startswith("1 trial has a GPU to itself: the largest takes 60.0 of")
    assert "MPS is on there" in gpu_share.described([probe(1.0, mps=True)], 0.0625)


class FakeCuda:
    """A device of 16 GiB: 3 GiB are reserved at the peak and 2 at the end; the context and others take 1."""

    def __init__(self):
        self.calls = []

    def reset_peak_memory_stats(self):
        self.calls.append("reset")

    def synchronize(self):
        self.calls.append("synchronize")

    def mem_get_info(self):
        return 13 * GIB, 16 * GIB

    def memory_reserved(self):
        return 2 * GIB

    def max_memory_reserved(self):
        return 3 * GIB

    def get_device_name(self, number):
        return f"fake {number}"


def test_the_probe_trains_and_scores_a_little_and_counts_the_peak_and_what_the_process_takes_beside_it(
    pack, tmp_path, monkeypatch
):
    monkeypatch.setattr(gpu_share, "mps_is_on", lambda: True)
    done = []
    for name in ("run_epoch", "score"):
        real = getattr(Training, name)
        monkeypatch.setattr(
            Training, name, lambda self, real=real, name=name, **named: (done.append(name), real(self, **named))[1]
        )
    cuda = FakeCuda()
    found = gpu_share.probe(task(pack, tmp_path), cuda)
    assert found == Probe(device="fake 0", peak_bytes=4 * GIB, total_bytes=16 * GIB, mps=True)
    assert done == ["run_epoch", "score"]
    assert cuda.calls == ["reset", "synchronize"]
    assert not (tmp_path / "ledger").exists(), "nothing is kept"


def test_a_trial_that_does_not_fit_alone_is_a_full_memory(pack, tmp_path, monkeypatch):
    def full(self):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Training, "run_epoch", full)
    with pytest.raises(MemoryError, match="allocate"):
        gpu_share.probe(task(pack, tmp_path), FakeCuda())


def test_mps_is_seen_by_its_pipe_where_its_program_is_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_share.shutil, "which", lambda name: None)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not gpu_share.mps_is_on()
    (tmp_path / "control").touch()
    assert gpu_share.mps_is_on()


def test_the_share_can_be_said_or_left_to_be_chosen(monkeypatch, capsys):
    monkeypatch.delenv("TFSER_TRIAL_GPUS", raising=False)
    assert parse(["tiny"]).trial_gpus is None
    assert parse(["tiny", "--trial-gpus", "auto"]).trial_gpus is None
    assert parse(["tiny", "--trial-gpus", "0.25"]).trial_gpus == 0.25
    monkeypatch.setenv("TFSER_TRIAL_GPUS", "0.5")
    assert parse(["tiny"]).trial_gpus == 0.5
    monkeypatch.setenv("TFSER_TRIAL_GPUS", "auto")
    assert parse(["tiny"]).trial_gpus is None
    with pytest.raises(SystemExit):
        parse(["tiny", "--trial-gpus", "half"])
    assert "'half' is neither auto nor a number" in capsys.readouterr().err


class FakeRay:
    """A cluster of one node that runs tasks at once, in this process."""

    def __init__(self, answer):
        self.answer, self.asked, self.cancelled = answer, [], []

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 32.0, "GPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 32.0}}]

    def remote(self, **resources):
        self.asked.append(resources)
        return lambda function: type("Remote", (), {"remote": staticmethod(lambda task: task)})

    def cancel(self, task, force):
        self.cancelled.append(task)

    def get(self, tasks, timeout):
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in tasks]


def settled(answer, per_gpu=16.0, together=1):
    from tfser.execution.on_ray.tune_runner import RayTuneRunner

    runner, said = object.__new__(RayTuneRunner), []
    runner._ray, runner._say, runner._cpus_per_gpu = FakeRay(answer), said.append, per_gpu
    runner.trial_cpus, runner.trial_gpus, runner.workers, runner.together = 1.0, 0.125, 16, together
    runner.choose_share(["the largest trial"])
    return runner, said


def test_the_runner_takes_the_share_that_the_probe_allows_and_says_so():
    runner, said = settled(probe(10.0))
    assert (runner.trial_gpus, runner.workers) == (0.1666, 12)
    assert runner._ray.asked == [{"num_gpus": 1, "num_cpus": 1.0, "max_retries": 1}]
    assert "6 trials share a GPU" in said[0]
    assert settled(probe(10.0), together=3)[0].trial_gpus == 0.5
    runner.choose_share(["another"])
    assert len(runner._ray.asked) == 1, "it is chosen once"


def test_a_share_that_was_said_is_not_tried():
    runner, said = settled(probe(10.0), per_gpu=None)
    assert (runner.trial_gpus, runner.workers, said) == (0.125, 16, [])


def test_a_probe_that_fails_costs_no_sweep():
    runner, said = settled(TimeoutError("nothing came up"))
    assert (runner.trial_gpus, runner.workers) == (0.125, 16)
    assert runner._ray.cancelled == ["the largest trial"]
    assert "could not be tried (TimeoutError: nothing came up); each takes 0.125 of one" in said[0]
    runner, said = settled(MemoryError("CUDA out of memory"))
    assert (runner.trial_gpus, runner.workers) == (1.0, 2)
