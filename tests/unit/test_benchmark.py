"""The benchmark runs and writes what it promises. Nothing here looks at a time."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import stand_in_measurers
from tests.helpers.tiny import SMALL, write_tiny
from tfser.benchmark import command, figures, gpu, kernels, methods
from tfser.benchmark.processes import Child, EndedError
from tfser.databases import load
from tfser.errors import TfserError
from tfser.execution.run_trial import trial_data
from tfser.execution.task import open_pack
from tfser.features.segments import Cut
from tfser.models import BUILT_IN, MODELS
from tfser.record import Failure

ROOT = Path(__file__).parents[2]
KEYS = {"name", "value", "unit", "baseline", "ratio", "n", "spread"}


@pytest.mark.full
def test_the_quick_run_writes_one_object_per_figure(tmp_path):
    file = tmp_path / "new" / "figures.json"
    # In a process of its own: it starts a Ray, whose token a process reads once.
    words = [sys.executable, "-m", "tfser.benchmark", "--quick", "--json", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(file.read_text(encoding="utf-8"))
    assert len(written) >= 2 * len(command.MEASURES)
    for figure in written:
        assert figure.keys() == KEYS
        assert figure["name"]
        assert figure["unit"]
        assert figure["n"] in (1, figures.QUICK.repeats), "a process, or a run of many trials, is measured once"
        assert all(figure[key] > 0 for key in ("value", "baseline", "ratio"))
        assert figure["spread"] >= 0
        assert figure["name"] in done.stdout
    assert len({figure["name"] for figure in written}) == len(written)


@pytest.mark.parametrize("along", [2, 3])
def test_every_form_of_a_convolution_that_is_timed_has_the_gradients_of_the_library(along):
    x, weight, gradient = (tensor.detach().double() for tensor in kernels.striped(3, along, 2, 12))
    found = {}
    for name, form in kernels.FORMS.items():
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = form(*leaves, along)
        found[name] = [y.detach(), *torch.autograd.grad(y, leaves, gradient)]
    assert len(found) == 3
    for one in found.values():
        for tensor, expected in zip(one, found["library"], strict=True):
            torch.testing.assert_close(tensor, expected)


@pytest.mark.full
def test_measuring_leaves_the_process_as_it_was(capsys):
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    assert command.main(["--quick", "--only", "features", "training"]) == 0
    assert "features of 12 utterances" in capsys.readouterr().out
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (threads, cores)


def test_a_figure_is_the_median_of_ratios_taken_in_turn():
    figure = figures.figure("x", "s", [2.0, 30.0, 4.0], [1.0, 10.0, 4.0])
    assert (figure.value, figure.baseline, figure.ratio, figure.n, figure.spread) == (4.0, 4.0, 2.0, 3, 2.0)


def test_a_file_that_cannot_be_written_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command.main(["--quick", "--json", str(tmp_path / "file" / "x.json")]) == 2
    error = capsys.readouterr().err
    assert "file" in error
    assert "Traceback" not in error


def test_wrong_words_end_with_2(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--fast"])
    assert end.value.code == 2
    assert "--quick" in capsys.readouterr().err


@pytest.mark.full
def test_a_machine_without_a_gpu_is_told_so_and_what_needs_one_runs_on_its_cpu(capsys):
    if not torch.cuda.is_available():
        assert list(gpu.measure(figures.QUICK)) == []
        assert "PyTorch sees no GPU here" in capsys.readouterr().err
    found = list(gpu.figures(figures.QUICK, torch.device("cpu")))
    assert len({figure.name for figure in found}) == len(found) == 2 * 4 + 1
    assert all(figure.value > 0 and figure.ratio > 0 for figure in found)
    assert found[-1].unit == "h"


def test_the_projected_tables_have_the_papers_folds_ablations_and_epochs():
    table = next(t for t in gpu.TABLES if (t.model, t.database) == ("time_frequency_transformer", "casia"))
    # 1200 utterances of 2 s have 3 segments of 80 frames; 3 of 4 speakers train: 4 folds x 4 ablations x 1000 epochs.
    assert table.segments(80) == 1200 * 3 * 3 / 4 * 4 * 4 * 1000
    assert {(t.model, t.database) for t in gpu.TABLES} == {
        *(("time_frequency_transformer", name) for name in ("iemocap", "casia")),
        *(("atfnn", name) for name in ("iemocap", "abc", "casia")),
    }


FIGURE = figures.figure("first", "s", [1.0], [2.0])


def _measures(monkeypatch, figures_and_errors):
    """Let the command measure what is given, one after another."""

    def measure(scale):
        for each in figures_and_errors:
            if isinstance(each, Exception):
                raise each
            yield each

    monkeypatch.setattr(command, "MEASURES", ("stand_in",))
    monkeypatch.setitem(sys.modules, "tfser.benchmark.stand_in", SimpleNamespace(measure=measure))


def test_what_was_measured_before_an_error_is_in_the_file(monkeypatch, tmp_path, capsys):
    _measures(monkeypatch, [FIGURE, replace(FIGURE, name="second"), TfserError("the third was refused")])
    assert command.main(["--json", str(tmp_path / "x.json")]) == 2
    assert [figure["name"] for figure in json.loads((tmp_path / "x.json").read_text())] == ["first", "second"]
    seen = capsys.readouterr()
    assert "second" in seen.out
    assert seen.err == "the third was refused\n"


def test_the_file_is_written_where_nothing_was_measured(monkeypatch, tmp_path):
    _measures(monkeypatch, [])
    assert command.main(["--json", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("killed", "its process was ended by SIGKILL, as the system does where memory is full"),
        ("busy", "its process was ended by SIGXCPU, because it took all the CPU time that it was given"),
        ("exit", "its process ended with exit code 3"),
        ("error", "RuntimeError: CUDA out of memory"),
    ],
)
def test_a_process_that_ends_says_how(how, said):
    with Child(stand_in_measurers.ends_after, 1, how) as child:
        child.send(None)
        assert child.receive() == 1.0
        child.send(None)
        with pytest.raises(EndedError) as ended:
            child.receive()
    assert str(ended.value) == said


def test_a_process_tells_of_its_own_peak_and_not_of_the_one_that_started_it():
    held = bytearray(os.urandom(1 << 20)) * 400
    with Child(stand_in_measurers.tells_its_peak) as child:
        assert 1 < child.receive() < 200
    assert len(held) == 400 << 20


def test_processes_side_by_side_are_summed_and_stand_beside_one_of_them():
    serve = partial(stand_in_measurers.answers, value=2.5)
    assert gpu.in_processes(serve, 3, 2) == ([2.5, 2.5], [7.5, 7.5])


def test_a_card_is_filled_with_processes_first_and_fewer_trainings_only_for_two():
    context, gib = gpu.CONTEXT_BYTES, 2**30
    for one in (0.5 * gib, 1.1 * gib, 2 * gib, 5 * gib, 20 * gib):
        for room in (44 * gib, 66 * gib, 120 * gib):
            processes, members = gpu.side_by_side(room, one)
            assert processes * (members * one + context) <= room
            assert 2 <= processes <= gpu.PROCESSES
            assert 1 <= members <= gpu.MEMBERS
            # One more would not fit, of whatever may be more.
            if members < gpu.MEMBERS:
                assert processes == 2
                assert 2 * ((members + 1) * one + context) > room
            elif processes < gpu.PROCESSES:
                assert (processes + 1) * (members * one + context) > room


def test_a_card_without_room_for_two_processes_says_what_they_need():
    with pytest.raises(TfserError, match=r"two processes need 12 GiB, and 10 are free"):
        gpu.side_by_side(10 * 2**30, 5 * 2**30)


def _rates(*_):
    return {name: [4.0, 6.0] for name in ("plain", "alone", "fused", "peak")}


def test_a_process_that_dies_costs_its_figure_only(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "_here", _rates)
    dies = partial(stand_in_measurers.ends_after, answers_left=1, how="killed")
    real = gpu.in_processes
    monkeypatch.setattr(gpu, "in_processes", lambda serve, processes, repeats: real(dies, processes, repeats))
    found = list(gpu.figures(figures.QUICK, torch.device("cpu")))
    assert len(found) == 2 * 3 + 1
    assert not any("side by side" in figure.name for figure in found)
    assert found[-1].unit == "h"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("processes side by side is left out" in line and "SIGKILL" in line for line in lines)


def test_a_model_that_finds_no_room_costs_its_figures_and_the_projection(monkeypatch, capsys):
    def full(model, *_):
        if model == "atfnn":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return _rates()

    monkeypatch.setattr(gpu, "_here", full)
    monkeypatch.setattr(gpu, "in_processes", lambda *_: ([4.0, 6.0], [8.0, 9.0]))
    found = list(gpu.figures(figures.QUICK, torch.device("cpu")))
    assert [figure.unit for figure in found] == ["segment/s"] * 3 + ["GMAC/s"]
    error = capsys.readouterr().err
    assert "ATFNN is left out: OutOfMemoryError: CUDA out of memory" in error
    assert "both papers' tables is left out" in error


class _InThisProcess:
    """A ``Child`` that serves at once, in this process."""

    def __init__(self, serve, *arguments):
        self.answer = None
        serve(SimpleNamespace(send=lambda answer: setattr(self, "answer", answer)), *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def receive(self):
        return self.answer


def _scale(folder):
    return replace(figures.QUICK, database=str(write_tiny(folder)))


@pytest.mark.full
def test_methods_have_a_figure_of_time_one_of_memory_and_one_per_feature_set(monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "Child", _InThisProcess)
    monkeypatch.setattr(methods, "give", lambda cpu_s: None)  # the tests' own process has longer to live
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "store").mkdir()
    found = list(methods.of_models({"svm": {}, "lda": {}}, _scale(tmp_path), tmp_path / "store"))
    assert [figure.unit for figure in found] == ["CPU ms", "CPU s", "MiB", "CPU s", "MiB"]
    assert found[0].name.startswith("features functionals (")
    assert 300 < found[0].baseline < 500  # ms: its utterances last 0.31 to 0.5 s
    fold = found[1]
    assert (fold.n, fold.name.split(",")[0]) == (2, "svm")
    assert fold.value > 0.01  # a record that was found would take a millisecond
    assert 0.1 < fold.ratio < 10  # beside itself
    # one process after the imports and after the fold; the kernel's count of its pages lags by a few
    assert found[2].value > found[2].baseline - 1 > 1


def test_a_method_that_cannot_run_here_or_whose_process_dies_is_left_out_in_a_line(monkeypatch, tmp_path, capsys):
    class Dies(_InThisProcess):
        def __init__(self, serve, *arguments):
            self.answer = 100.0
            if serve is methods.serve_cost:
                model = arguments[0].spec.model
                if model == "lda":
                    raise EndedError("its process was ended by SIGKILL")
                self.answer = methods.Cost(seconds=(3.0, 4.0), baselines=(1.0, 1.0), peak_mib=300.0)

    monkeypatch.setattr(methods, "Child", Dies)
    really = methods.missing_here
    monkeypatch.setattr(
        methods, "missing_here", lambda m, settings: ["no weights"] if m.name == "rgsr" else really(m, settings)
    )
    (tmp_path / "store").mkdir()
    models = dict.fromkeys(("lda", "rgsr", "svm"), {})
    found = list(methods.of_models(models, _scale(tmp_path), tmp_path / "store"))
    assert [(figure.value, figure.ratio) for figure in found[1:]] == [(3.5, 3.5), (300.0, 3.0)]
    assert capsys.readouterr().err.splitlines() == [
        "methods: lda is left out: its process was ended by SIGKILL",
        "methods: rgsr is left out: no weights",
    ]


@pytest.mark.parametrize(
    ("first", "quick", "values", "baselines"),
    [(9.0, False, (3.0, 5.0), (4.0, 6.0)), (11.0, False, (11.0,), (3.0,)), (11.0, True, (3.0, 5.0), (4.0, 6.0))],
)
def test_the_first_fold_of_a_method_counts_only_where_it_is_long(monkeypatch, first, quick, values, baselines):
    taken = iter([first, 2.0, 3.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr(methods, "_trained", lambda task: next(taken))
    monkeypatch.setattr(methods, "of", lambda spec: MODELS["svm"])
    task = SimpleNamespace(spec=None)
    cost = methods.cost_of(task, task, figures.Scale(repeats=2, quick=quick))
    assert (cost.seconds, cost.baselines, cost.batch, cost.epoch) == (values, baselines, 0, 0)


def test_a_fold_that_fails_is_no_figure(monkeypatch, tmp_path):
    failed = Failure(trial_id="x", spec=None, reason="it raised ValueError: too few", status="failed")
    monkeypatch.setattr(methods, "run", lambda task: failed)
    monkeypatch.setattr(methods, "of", lambda spec: MODELS["svm"])
    task = methods.Task(spec=None, pack=tmp_path, storage=tmp_path)
    with pytest.raises(TfserError, match="it raised ValueError: too few"):
        methods.cost_of(task, task, figures.QUICK)


def test_a_network_is_timed_by_a_batch_and_its_epochs_are_said_to_be_estimated():
    cost = methods.Cost(seconds=(2.0, 4.0), baselines=(1.0, 1.0), peak_mib=300.0, batch=20, epoch=100)
    found = methods.figures_of("dnn_elm", "emodb", cost, 100.0)
    assert [(figure.name, figure.unit) for figure in found] == [
        ("dnn_elm, a batch of 20 segments of emodb (to svm)", "CPU s"),
        ("dnn_elm, an epoch of 100 segments of emodb, estimated (to svm)", "CPU s"),
        ("dnn_elm, its 10 epochs of emodb, estimated (to svm)", "CPU h"),
        ("dnn_elm, peak memory of that of emodb (to imports)", "MiB"),
    ]
    assert [figure.value for figure in found] == pytest.approx([3.0, 15.0, 150 / 3600, 300.0])
    assert [figure.ratio for figure in found] == pytest.approx([3.0, 15.0, 150.0, 3.0])
    (long, *_) = methods.figures_of("dnn_elm", "emodb", replace(cost, seconds=(61.0, 2.0)), 100.0)
    assert long.name == "dnn_elm, a batch of 20 segments of emodb, over the budget of 60 s (to svm)"


def test_the_batch_that_is_timed_is_the_first_whole_utterances_of_the_folds_training_that_fill_it(tmp_path):
    manifest = write_tiny(tmp_path)
    bench = methods._Bench(load(str(manifest), None), tmp_path)
    small = {**SMALL, "batch_size": 20}
    task = bench.task("time_frequency_transformer", small)
    training, batch, epoch = methods.one_batch(task)
    pack, frames = open_pack(task.pack, task.spec.database_digest)
    cut = Cut.of(task.spec.settings)
    counts = [len(cut(frames[start : start + n])) for start, n, _ in trial_data(pack, frames, task.spec).train]
    assert epoch == sum(counts), "three of four speakers"
    assert batch == max(total for total in itertools.accumulate(counts) if total <= 20)
    steps = []
    training.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    training.run_epoch()
    training.run_epoch()
    assert len(steps) == 2, "an epoch of it is one step"
    with_two = bench.task("time_frequency_transformer", {**small, "batch_size": 2})
    assert methods.one_batch(with_two)[1:] == (counts[0], epoch), "one utterance at least"


def test_every_built_in_method_is_measured_where_the_run_is_not_quick(monkeypatch):
    asked = []
    monkeypatch.setattr(methods, "of_models", lambda models, scale, folder: asked.append(dict(models)) or ())
    assert list(methods.measure(figures.FULL)) == []
    assert list(methods.measure(figures.QUICK)) == []
    assert asked == [{model.name: {} for model in BUILT_IN}, dict(methods.QUICK)]


def test_a_database_that_is_not_there_is_said_before_anything_is_measured(capsys):
    assert command.main(["--quick", "--only", "methods", "--database", "nowhere.csv"]) == 2
    error = capsys.readouterr().err
    assert "nowhere.csv" in error
    assert "Traceback" not in error
