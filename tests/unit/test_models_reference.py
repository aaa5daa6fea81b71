"""tfser's models against the plain ones of ``tfser.benchmark.reference``, and rank-one attention against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from tests.helpers.models import segments, small
from tfser.benchmark.reference import PlainATFNN, PlainTimeFrequencyTransformer, reference, renamed
from tfser.models import MODELS, PROPOSED
from tfser.models.atfnn import FEncoder
from tfser.models.rank_one import softmax_means

STEPS = 4


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def unsettled(module: nn.Module) -> nn.Module:
    """Every parameter away from where it starts: a fresh bias or norm would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype), alpha=0.3
            )
    return module


@pytest.mark.parametrize("model", PROPOSED)
def test_losses_gradients_and_weights_stay_those_of_the_plain_form_while_it_trains(model: str) -> None:
    """In float64, since Adam makes steps of equal size out of gradients that are nothing but rounding."""
    ours = unsettled(small(model, MODELS[model].ablations[0]).double()).train()
    plain = reference(ours).train()
    assert isinstance(plain, (PlainTimeFrequencyTransformer, PlainATFNN))
    ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = (
        torch.optim.AdamW(ours.parameters(), lr=1e-3, weight_decay=0.0, fused=True),
        torch.optim.Adam(plain.parameters(), lr=1e-3),
    )
    labels = torch.arange(6) % 4
    for step in range(STEPS):
        x = segments(model, 6, seed=step).double()
        losses = [cross_entropy(module(x), labels) for module in (ours, plain)]
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
        for loss, optimizer in zip(losses, adam, strict=True):
            optimizer.zero_grad()
            loss.backward()
        expected = gradients(plain)
        found = renamed(gradients(ours))
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(
                gradient, expected[name], rtol=1e-7, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}"
            )
        for optimizer in adam:
            optimizer.step()
    trained = renamed(ours.state_dict())
    for name, tensor in plain.state_dict().items():
        # The other two thirds of the bias are the keys' and the values'.
        kept = slice(len(tensor) // 3) if name.endswith("in_proj_bias") else ...
        torch.testing.assert_close(trained[name][kept], tensor[kept], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("model", PROPOSED)
def test_in_float32_logits_are_as_near_to_those_of_float64_as_the_plain_forms(model: str) -> None:
    ours = unsettled(small(model, MODELS[model].ablations[0])).train()
    plain = reference(ours).train()
    exact = copy.deepcopy(plain).double()
    x = segments(model, 32)
    with torch.no_grad():
        wanted = exact(x.double())
        mine, theirs = (float((module(x).double() - wanted).abs().max()) for module in (ours, plain))
    assert 0 < mine <= 10 * theirs


@pytest.mark.parametrize("ablation", ["T+F", "AFNN"])
def test_an_ablation_has_no_plain_form(ablation: str) -> None:
    model = "atfnn" if ablation == "AFNN" else "time_frequency_transformer"
    with pytest.raises(TypeError, match="there is no plain form of"):
        reference(small(model, ablation))


# ------------------------------------------------------------------ the rank-one attention


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])  # from nearly even to one-hot
def test_the_rank_one_form_is_the_attention_of_the_lifted_tokens(heads: int, scale: float) -> None:
    torch.manual_seed(0)
    encoder = unsettled(FEncoder(8, heads, 4, 5, 0.0).double())
    assert isinstance(encoder, FEncoder)
    x_NF = (scale * torch.randn(5, 12, dtype=torch.float64)).requires_grad_()
    lifted_NFC = encoder.lift(x_NF[..., None])
    forms = [encoder.layer.attention(lifted_NFC, lifted_NFC, lifted_NFC), encoder.attend(x_NF)]
    torch.testing.assert_close(*forms, rtol=1e-9, atol=1e-10)
    leaves = [x_NF, *encoder.lift.parameters(), *encoder.layer.attention.parameters()]
    weights = torch.randn_like(forms[0])
    expected, found = (torch.autograd.grad((form * weights).sum(), leaves) for form in forms)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_softmax_means_have_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 5), (2,), (2,))]
    assert torch.autograd.gradcheck(softmax_means, leaves)


def test_softmax_means_do_not_overflow() -> None:
    x_NF = torch.tensor([[-1e4, 0.0, 1e4]])
    m_NHF = softmax_means(x_NF, torch.tensor([1.0, -1.0]), torch.tensor([0.0, 0.0]))
    assert m_NHF.tolist() == [[[-1e4, 0.0, 1e4], [1e4, 0.0, -1e4]]]


def test_softmax_means_do_not_depend_on_how_many_sequences_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    x_NF, slope_H, offset_H = (
        torch.randn(7, 6, dtype=torch.float64, requires_grad=True),
        torch.randn(2).double(),
        torch.randn(2).double(),
    )
    whole = softmax_means(x_NF, slope_H, offset_H)
    (expected,) = torch.autograd.grad(whole.square().sum(), x_NF)
    monkeypatch.setattr("tfser.models.rank_one.CPU_CHUNK", 3 * 2 * 6**2)
    pieces = softmax_means(x_NF, slope_H, offset_H)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(torch.autograd.grad(pieces.square().sum(), x_NF)[0], expected)


def test_stacked_f_encoders_under_vmap_have_the_gradients_of_each_alone() -> None:
    encoders = [unsettled(FEncoder(4, 2, 3, 3, 0.0).double()) for _ in range(3)]
    for number, encoder in enumerate(encoders):
        torch.nn.init.normal_(encoder.get_parameter("lift.weight"), number, 1.0)
    parameters, _ = stack_module_state(encoders)
    x = torch.randn(3, 2, 1, 5, 4, dtype=torch.float64)
    weights = torch.randn(2, 4, 5, 4, dtype=torch.float64)

    def value(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return (functional_call(encoders[0], parameters, (x,)) * weights).sum()

    stacked = vmap(grad(value))(parameters, x)
    for number, encoder in enumerate(encoders):
        alone = grad(value)({name: p.detach() for name, p in encoder.named_parameters()}, x[number])
        for name, gradient in alone.items():
            torch.testing.assert_close(stacked[name][number], gradient, rtol=1e-8, atol=1e-10)
