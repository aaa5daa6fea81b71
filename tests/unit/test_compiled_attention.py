"""The compiled kernel of ATFNN's attention: the default kernel's numbers, ids of its own, and a refusal without one."""

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo.exc

from tests.helpers.models import SMALL
from tests.helpers.tasks import SPEC, task
from tfser.errors import MachineError
from tfser.execution import run_trial
from tfser.execution.faults import of_the_machine
from tfser.models import MODELS, compiled_rank_one
from tfser.models.rank_one import softmax_means
from tfser.planning.settings import hashed, published_settings, setting_problems
from tfser.storage.ledger import Ledger
from tfser.sweep import command
from tfser.training.determinism import settled
from tfser.training.training import Training, TrialData

CPU = torch.device("cpu")
MODEL = MODELS["atfnn"]
NARROW = {**SMALL["atfnn"], "n_mels": 16, "band_group": 4, "epochs": 2}
compiles = pytest.mark.skipif(bool(compiled_rank_one.missing()), reason="there is no C++ compiler here")


def computed(inputs, weights, dtype, *, compiled):
    """The means, and the gradients of their weighted sum."""
    leaves = [each.to(dtype).requires_grad_() for each in inputs]
    with settled(CPU):
        means = softmax_means(*leaves, compiled=compiled)
        return [means.detach(), *torch.autograd.grad(means, leaves, weights.to(dtype))]


def drawn(sequences, tokens=10, heads=2, scale=1.0):
    generator = torch.Generator().manual_seed(sequences)
    shapes = ((sequences, tokens), (heads,), (heads,), (sequences, heads, tokens))
    x, slope, offset, weights = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return (scale * x, slope, offset), weights


@pytest.mark.full
@compiles
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])  # from nearly even to nearly one-hot
@pytest.mark.parametrize("sequences", [1, 2, 300])
def test_means_and_gradients_are_as_near_to_float64_as_those_of_the_default_kernel(sequences, scale):
    inputs, weights = drawn(sequences, scale=scale)
    single = [each.float() for each in inputs]  # what both forms read; rounding it is no error of theirs
    exact = computed(single, weights, torch.float64, compiled=False)
    default = computed(single, weights, torch.float32, compiled=False)
    kernel = computed(single, weights, torch.float32, compiled=True)
    for found, other, true in zip(kernel, default, exact, strict=True):
        one_digit = torch.finfo(torch.float32).eps * float(true.abs().max())
        allowed = 4 * float((other - true).abs().max()) + 8 * one_digit
        assert float((found - true).abs().max()) <= allowed
    assert float((kernel[0] - exact[0]).abs().max()) <= 1e-6 * max(1.0, float(inputs[0].abs().max()))


@pytest.mark.full
@compiles
def test_it_is_the_default_kernel_to_the_last_digits_of_float64_for_another_shape_in_the_same_process():
    inputs, weights = drawn(5, tokens=7, heads=4)
    kernel, default = (computed(inputs, weights, torch.float64, compiled=c) for c in (True, False))
    for found, true in zip(kernel, default, strict=True):
        torch.testing.assert_close(found, true, rtol=1e-11, atol=1e-12)


@pytest.mark.full
@compiles
def test_its_numbers_depend_neither_on_what_ran_before_nor_on_what_stands_beside_a_sequence():
    inputs, weights = drawn(300)
    whole, again = (computed(inputs, weights, torch.float32, compiled=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    x, slope, offset = inputs
    few = computed((x[:3], slope, offset), weights[:3], torch.float32, compiled=True)
    assert torch.equal(few[0], whole[0][:3])
    assert torch.equal(few[1], whole[1][:3])


@pytest.mark.full
@compiles
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_computes_the_same():
    inputs, weights = drawn(4)
    expected = computed(inputs, weights, torch.float32, compiled=True)
    receiving, sending = os.pipe()
    if (child := os.fork()) == 0:
        with os.fdopen(sending, "wb") as file:
            file.write(pickle.dumps([each.numpy() for each in computed(inputs, weights, torch.float32, compiled=True)]))
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as file:
        found = pickle.loads(file.read())
    os.waitpid(child, 0)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def trained(kernel, precision="float32"):
    data = TrialData(
        frames=np.random.default_rng(0).standard_normal((12 * 16, 10), dtype=np.float32),
        emotions=("calm", "glad", "tense"),
        train=tuple((number * 16, 16, number % 3) for number in range(12)),
        scored=((0, 16, 0), (16, 32, 1)),
    )
    changes = {"batch_size": 5, "attention_kernel": kernel, "precision": precision}
    values = {**published_settings("atfnn"), **SMALL["atfnn"], **changes}
    training = Training(lambda: MODEL.build("ATFNN", values, 3), data, values, 0, 3, CPU)
    for _ in range(3):
        training.run_epoch()
    return training


@pytest.mark.full
@compiles
@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-4), ("bfloat16", 5e-3)])
def test_a_training_has_the_losses_and_scores_of_the_default_kernel(precision, near):
    default, kernel, again = (trained(kind, precision) for kind in ("library", "compiled", "compiled"))
    np.testing.assert_allclose(kernel.curves.train_loss, default.curves.train_loss, rtol=near)
    np.testing.assert_allclose(kernel.score().probabilities, default.score().probabilities, atol=10 * near)
    assert kernel.curves.train_loss == again.curves.train_loss


def test_scores_and_other_ablations_need_no_compiler(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("it was compiled")

    monkeypatch.setattr(compiled_rank_one, "softmax_means", refuse)
    values = {**published_settings("atfnn"), **SMALL["atfnn"], "attention_kernel": "compiled"}
    x = torch.randn(2, 1, values["n_mels"], values["segment_frames"])
    model = MODEL.build("ATFNN", values, 3)
    default = MODEL.build("ATFNN", values | {"attention_kernel": "library"}, 3)
    default.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x), default.eval()(x))
    MODEL.build("ATNN", values, 3).train()(x)
    with pytest.raises(AssertionError, match="it was compiled"):
        model.train()(x)


def test_only_a_trial_that_asks_for_it_has_another_id():
    def spec(**changes):
        values = hashed(MODEL, {**published_settings("atfnn"), **changes})
        return replace(SPEC, hyperparameters=tuple(sorted(values.items())))

    plain = spec()
    assert "attention_kernel" not in plain.settings
    assert spec(attention_kernel="library").trial_id == plain.trial_id
    assert spec(attention_kernel="compiled").settings["attention_kernel"] == "compiled"
    assert spec(attention_kernel="compiled").trial_id != plain.trial_id


def test_the_other_kind_of_token_has_no_such_kernel():
    values = {**published_settings("atfnn"), "attention_kernel": "compiled"}
    assert setting_problems(MODEL, "ATFNN", values) == []
    (problem,) = setting_problems(MODEL, "ATFNN", values | {"band_token": "segment"})
    assert problem == "attention_kernel: compiled is for band_token frame; legal with segment: library"


def asked(manifest, out, *more):
    small = [f"{name}={value}" for name, value in NARROW.items() if name != "epochs"]
    words = ["--model", "atfnn", "--epochs", "1", "--fold", "anna", "--set", "attention_kernel=compiled", *small]
    return [str(manifest), "--out", str(out), "--in-process", *words, *more]


@pytest.mark.parametrize("how", ["CXX", "PATH"])
def test_a_sweep_without_a_compiler_is_refused_before_anything_starts(
    tiny_manifest, tmp_path, monkeypatch, capsys, how
):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(how, str(tmp_path / "nothing"))
    assert command.main(asked(tiny_manifest, tmp_path)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "attention_kernel" in line]
    assert "atfnn: attention_kernel compiled needs a C++ compiler" in line
    assert "leave the setting out" in line
    assert not (tmp_path / ".tfser" / "ledger").exists()
    # An ablation without the F-Encoder needs none.
    assert command.main(asked(tiny_manifest, tmp_path, "--ablation", "ATNN", "--plan")) == 0


def of_atfnn(pack, storage):
    transformer = task(pack, storage)
    values = {**published_settings("atfnn"), **NARROW, "attention_kernel": "compiled", "batch_size": 8}
    del values["epochs"]
    settings = tuple(sorted(hashed(MODEL, values).items()))
    spec = replace(transformer.spec, model="atfnn", ablation="ATFNN", epochs=1, hyperparameters=settings)
    return replace(transformer, spec=spec)


def test_a_worker_without_a_compiler_commits_nothing_because_the_fault_is_its_own(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    asked_for = of_atfnn(pack, tmp_path)
    with pytest.raises(MachineError, match="no no-such-compiler is here.*CXX names it.*leave the setting out"):
        run_trial.run(asked_for)
    assert [*Ledger(tmp_path / "ledger").ids()] == []


def test_a_compiler_that_does_not_work_is_the_machines_fault_too(pack, tmp_path, monkeypatch):
    def broken(function):
        def call(*arguments):
            raise torch._dynamo.exc.TorchDynamoException("Python.h: No such file or directory")

        return call

    monkeypatch.setattr(compiled_rank_one, "missing", list)
    monkeypatch.setattr(compiled_rank_one, "_compiled", broken)
    with pytest.raises(MachineError, match=r"needs a C\+\+ compiler.*Python.h.*leave the setting out") as caught:
        run_trial.run(of_atfnn(pack, tmp_path))
    assert of_the_machine(caught.value)
    assert [*Ledger(tmp_path / "ledger").ids()] == []


@pytest.mark.full
@compiles
def test_a_worker_with_a_compiler_trains_and_commits(pack, tmp_path):
    record = run_trial.run(of_atfnn(pack, tmp_path))
    assert record.spec.settings["attention_kernel"] == "compiled"
    assert [*Ledger(tmp_path / "ledger").ids()] == [record.spec.trial_id]


def test_the_compiler_that_is_looked_for_is_the_one_that_is_named(monkeypatch):
    monkeypatch.setenv("CXX", shutil.which("python3") or shutil.which("python") or os.devnull)
    assert compiled_rank_one.missing() == []


@pytest.mark.full
@compiles
def test_a_kernel_compiled_for_one_instruction_set_is_not_taken_for_another(tmp_path):
    code = (
        "import torch; from tfser.models.compiled_rank_one import softmax_means;"
        "print(softmax_means(torch.linspace(-1, 1, 30).view(3, 10), torch.ones(2), torch.zeros(2)).sum().item())"
    )
    for allowed in ({}, {"ATEN_CPU_CAPABILITY": "default"}):
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), **allowed}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert -60 < float(done.stdout) < 60  # 60 means of numbers from -1 to 1
