"""Under bfloat16, recurrences, softmax sums and layer norms stay in float32, and the ids of its trials alone change."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.models import segments, small
from tests.helpers.tasks import SPEC
from tfser import trial
from tfser.databases import load
from tfser.models import PROPOSED, rank_one
from tfser.models.layers import Recurrence
from tfser.planning import plan
from tfser.planning import request as planning_request
from tfser.sweep import command, hours
from tfser.training.kept_float32 import KeptFloat32
from tfser.training.training import Forward
from tfser.trial import (
    BFLOAT16_NUMERICS_VERSION,
    GROUPED_SAMPLING_NUMERICS_VERSION,
    NUMERICS_VERSION,
    TrialSpec,
    numerics_of,
)

CPU = torch.device("cpu")


class Dtypes(TorchDispatchMode):
    """Notes the types of the tensors that each kernel gets."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else [arg])]
        found = {a.dtype for a in given if isinstance(a, torch.Tensor) and a.is_floating_point()}
        self.of.setdefault(func.overloadpacket.__name__, set()).update(found)
        return func(*args, **(kwargs or {}))

    def among(self, *words):
        return set().union(*(found for name, found in self.of.items() if any(word in name for word in words)))


class Every(nn.Module):
    """A person's network that calls what has to stay in float32 in other ways."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.group = nn.Linear(8, 8), nn.LayerNorm(8), nn.GroupNorm(2, 8)
        self.gru, self.lstm, self.cell = Recurrence(nn.GRU, 8, 4), nn.LSTM(8, 4, 2, batch_first=True), nn.LSTMCell(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = self.linear(x.mean(dim=(1, 2))[:, :8])[:, None].expand(-1, 5, 8)
        x = self.norm(self.gru(x)) + functional.layer_norm(self.linear(x), (8,))
        x = torch.cat([self.lstm(self.linear(x))[0]] * 2, dim=2)
        x = (
            x
            * self.linear(x).softmax(dim=1)
            * functional.softmax(self.linear(x), dim=2)
            * torch.softmax(self.linear(x), 1)
        )
        x = x + self.group(self.linear(x).mT).mT + self.attention(self.linear(x), self.linear(x), self.linear(x))[0]
        return self.out(self.cell(self.linear(x[:, 0]))[0]).log_softmax(dim=1)


NETWORKS = {
    **{f"{model} {a}": (lambda m=model, a=a: small(m, a)) for model in PROPOSED for a in PROPOSED[model].ablations},
    "every": Every,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_recurrences_softmaxes_and_norms_see_float32_alone_and_products_bfloat16(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().train()
    x = segments("time_frequency_transformer" if name == "every" else name.split()[0], 4)
    outputs = []
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.RNNBase, nn.RNNCellBase)):
            module.register_forward_hook(lambda m, i, o: outputs.append(o[0] if isinstance(o, tuple) else o))
    with Dtypes() as seen:
        logits = Forward(model, CPU, "bfloat16")(x)
    logits.sum().backward()
    assert {out.dtype for out in outputs} <= {torch.float32}
    assert seen.among("_softmax", "layer_norm", "group_norm", "rnn", "lstm", "gru", "exp_") <= {torch.float32}
    assert seen.among("scaled_dot_product") <= {torch.float32}, "on a CPU"
    assert torch.bfloat16 in seen.among("mm", "convolution", "linear"), "products are computed in it"
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_the_sums_of_a_rank_one_attention_are_those_of_float32():
    torch.manual_seed(0)
    inputs = [torch.randn(3, 40), torch.randn(2), torch.randn(2)]
    expected = rank_one.softmax_means(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rank_one.softmax_means(*inputs), expected)
        assert rank_one.softmax_means(*(tensor.bfloat16() for tensor in inputs)).dtype == torch.float32
    assert rank_one.softmax_means(*(tensor.double() for tensor in inputs)).dtype == torch.float64


def test_the_context_hands_on_wide_tensors_as_they_are_and_ends_with_its_block(monkeypatch):
    """A GPU's LSTM wants its weights in one piece of memory, so that they may not be copied."""
    given = []

    def lstm(*args):
        given.append(args)
        return args

    lstm.__name__ = "lstm"
    weights, wide = [torch.randn(2, 2)], torch.randn(2, dtype=torch.float64)
    narrow = torch.randn(2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        KeptFloat32("cpu").__torch_function__(lstm, (), (narrow, weights, wide, True))
        assert torch.is_autocast_enabled("cpu")
    ((first, (weight,), other, flag),) = given
    assert (first.dtype, weight is weights[0], other is wide, flag) == (torch.float32, True, True, True)
    with KeptFloat32("cpu"):
        assert narrow.softmax(0).dtype == torch.float32
    assert narrow.softmax(0).dtype == torch.bfloat16


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("cuda", torch.bfloat16)])
def test_scaled_dot_product_attention_is_float32_where_bfloat16_is_slow(device, dtype):
    """A CPU's backward pass of it; a GPU has fast kernels, which sum in float32 themselves."""
    given = []

    def scaled_dot_product_attention(*args):
        given.extend(args)

    KeptFloat32(device).__torch_function__(scaled_dot_product_attention, (), (torch.randn(2).bfloat16(),))
    assert [tensor.dtype for tensor in given] == [dtype]


def spec(precision):
    return TrialSpec(
        **{
            **{name: getattr(SPEC, name) for name in ("database", "database_digest", "protocol", "fold", "purpose")},
            **{name: getattr(SPEC, name) for name in ("model", "ablation", "seed", "epochs")},
            "hyperparameters": (("batch_size", 32), ("precision", precision)),
        }
    )


def test_trials_whose_numbers_changed_have_a_numerics_version_of_their_own_and_the_others_keep_theirs():
    assert [spec(p).numerics for p in ("float32", "tf32", "bfloat16")] == [2, 2, BFLOAT16_NUMERICS_VERSION]
    assert NUMERICS_VERSION == 2 != BFLOAT16_NUMERICS_VERSION == numerics_of({"precision": "bfloat16"})
    grouped = {"sampling": "emotions", "segments_together": 2, "precision": "bfloat16"}
    assert numerics_of(grouped) == GROUPED_SAMPLING_NUMERICS_VERSION == 4
    assert numerics_of({**grouped, "segments_together": 1}) == numerics_of({**grouped, "sampling": "shuffled"}) == 3
    before = {**spec("bfloat16").to_dict(), "numerics": 2}
    assert TrialSpec.from_dict(before).numerics == 2, "an older entry stays what it was"
    assert TrialSpec.from_dict(before).trial_id != spec("bfloat16").trial_id


@pytest.mark.parametrize(("precision", "changes"), [("float32", False), ("tf32", False), ("bfloat16", True)])
def test_studies_of_bfloat16_alone_are_begun_anew_with_its_numerics_version(monkeypatch, precision, changes):
    def names():
        request = planning_request.Request(models=("atfnn",), epochs=1, fixed=(("precision", precision),))
        return [study.name for study in plan.make(request, [load("synthetic", None)], lambda d: "0" * 16, {}).studies]

    before = names()
    monkeypatch.setattr(trial, "BFLOAT16_NUMERICS_VERSION", 99)
    assert before
    assert (names() != before) == changes


@pytest.mark.parametrize(
    ("cpu", "gpu", "where", "warned"),
    [
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, False, [], True),
        ({"avx512_bf16": True, "amx_bf16": False}, False, [], False),
        ({"avx512_bf16": False, "amx_bf16": True}, False, [], False),
        ({"neon": True, "bf16": True}, False, [], False),
        ({"avx512_bf16": False, "amx_bf16": False}, True, [], False),
        ({"avx512_bf16": False, "amx_bf16": False}, True, ["--trial-gpus", "0"], True),
    ],
)
def test_bfloat16_is_warned_of_where_the_cpu_cannot_compute_in_it_and_no_gpu_is_used(
    cpu, gpu, where, warned, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **cpu})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(hours, "by_model", lambda plan, databases: {})
    words = ["synthetic", "--out", str(tmp_path), "--plan", "--epochs", "1", "--model", "atfnn", "svm", *where]
    assert command.main([*words, "--set", "atfnn.precision=bfloat16"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "precision=bfloat16" in line]
    assert len(lines) == warned
    assert all(line.startswith("warning: precision=bfloat16 (atfnn): this machine's CPU has neither") for line in lines)


def test_bfloat16_among_the_values_of_a_search_is_warned_of_too(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hours, "by_model", lambda plan, databases: {})
    text = "model: atfnn\nsearch:\n  precision: {choice: [float32, %s]}\n"
    for other, count in (("bfloat16", 1), ("tf32", 0)):
        (tmp_path / "space.yaml").write_text(text % other)
        words = ["synthetic", "--out", str(tmp_path), "--plan", "--model", "atfnn", "--trials", "2"]
        assert command.main([*words, "--space", str(tmp_path / "space.yaml")]) == 0
        assert capsys.readouterr().out.count("warning: precision=bfloat16 (atfnn)") == count
