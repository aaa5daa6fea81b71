"""Other forms of the slowest parts of a training step, beside the ones that are used; on a CPU, forward and backward.

ATFNN's attention as one compiled kernel (``attention_kernel``), by itself and in a step of the whole network, beside
the default kernel and beside a plain script of library modules, which has the same losses. Then the convolutions of the
Time-Frequency Transformer whose kernels are stripes, with other ways to their weights' gradient; those are forms that
only this module has.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tfser.benchmark.figures import Figure, Scale, figure, one_core, seconds
from tfser.benchmark.reference import reference
from tfser.models import PROPOSED, compiled_rank_one
from tfser.models.rank_one import softmax_means
from tfser.planning.settings import published_settings
from tfser.training.allocator import keep_freed_memory
from tfser.training.determinism import settled
from tfser.trial import Value

CPU = torch.device("cpu")
EMOTIONS = 4
STEPS = 2
"""Training steps of a repeat."""

LIBRARY, COMPILED, PLAIN = "library", "compiled", "plain form"


def measure(scale: Scale) -> Iterator[Figure]:
    """Measure the attention, whole steps with it, and the convolutions."""
    if lacks := compiled_rank_one.missing():
        print(f"kernels: the compiled attention was not measured, because it {'; '.join(lacks)}", file=sys.stderr)
    else:
        with one_core():
            yield _attention(scale)
            yield from _steps(scale)
    for threads in (1,) if scale.quick else (1, 2):
        yield from _convolutions(scale, threads)


def _settings(scale: Scale, kernel: str) -> dict[str, Value]:
    own: dict[str, Value] = {"attention_kernel": kernel, **({"batch_size": 2} if scale.quick else {})}
    return {**published_settings("atfnn"), **own}


def _in_turn(scale: Scale, runs: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return what each run returned in each repeat; the first round compiles and warms caches."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(scale.repeats + 1):
        for name, run in runs.items():
            value = run()
            if repeat:
                found[name].append(value)
    return found


def _attention(scale: Scale) -> Figure:
    """Measure the attention's means of one batch by themselves, in CPU time."""
    settings = published_settings("atfnn")
    segments = 2 if scale.quick else int(settings["batch_size"])
    sequences, bands, heads = segments * int(settings["segment_frames"]), int(settings["n_mels"]), 2
    generator = torch.Generator().manual_seed(0)
    shapes = ((sequences, bands), (heads,), (heads,))
    leaves = [torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes]
    weights = torch.randn(sequences, heads, bands, generator=generator)

    def rate(kernel: str) -> float:
        with settled(CPU):
            begin = time.process_time()
            torch.autograd.grad(softmax_means(*leaves, compiled=kernel == COMPILED), leaves, weights)
            return segments / (time.process_time() - begin)

    rates = _in_turn(scale, {kernel: functools.partial(rate, kernel) for kernel in (COMPILED, LIBRARY)})
    return figure("ATFNN attention alone, compiled kernel (to the default)", "segment/s", *rates.values())


def _steps(scale: Scale) -> Iterator[Figure]:
    """Measure the same training loop on three forms of one network, in CPU time, and how near their losses are.

    Each keeps freed memory, as tfser's trainings do; ``--only training`` has the plain form without.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    build, settings = PROPOSED["atfnn"].build, published_settings("atfnn")
    networks = {kernel: build("ATFNN", _settings(scale, kernel), EMOTIONS) for kernel in (LIBRARY, COMPILED)}
    networks[COMPILED].load_state_dict(networks[LIBRARY].state_dict())
    networks[PLAIN] = reference(networks[LIBRARY])
    batch = int(_settings(scale, LIBRARY)["batch_size"])
    x = torch.randn(batch, 1, int(settings["n_mels"]), int(settings["segment_frames"]))
    labels = torch.arange(batch) % EMOTIONS
    losses: dict[str, list[float]] = {name: [] for name in networks}

    def trained(name: str, network: nn.Module) -> Callable[[], float]:
        if name != PLAIN:  # as a training lays them out
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        optimizer = torch.optim.Adam(network.train().parameters(), lr=float(settings["learning_rate"]))

        def rate() -> float:
            with settled(CPU):
                begin = time.process_time()
                for _ in range(STEPS):
                    loss = functional.cross_entropy(network(x), labels)
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                spent = time.process_time() - begin
            losses[name].append(float(loss.detach()))
            return STEPS * batch / spent

        return rate

    rates = _in_turn(scale, {name: trained(name, network) for name, network in networks.items()})
    title = "ATFNN step, one core"
    for name, other in ((COMPILED, LIBRARY), (COMPILED, PLAIN), (LIBRARY, PLAIN)):
        yield figure(f"{title}, {name} attention beside {_named(other)}", "segment/s", rates[name], rates[other])
    for name in (COMPILED, LIBRARY):
        what = f"ATFNN loss every {STEPS} steps, {name} attention beside {_named(PLAIN)}"
        yield figure(what, "nat", losses[name][1:], losses[PLAIN][1:])  # the first round is not counted


def _named(form: str) -> str:
    return "the plain form" if form == PLAIN else f"{form} attention"


class _Striped(torch.autograd.Function):
    """A convolution with a weight gradient of its own; everything else is the library's."""

    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor, along: int) -> Tensor:
        ctx.save_for_backward(x, weight)  # type: ignore[attr-defined]
        ctx.along = along  # type: ignore[attr-defined]
        return _library(x, weight, along)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        along = ctx.along  # type: ignore[attr-defined]
        rest = (None, _stride(along), _padding(along), (1, 1), False, (0, 0), 1, (True, False, False))
        toward_x = torch.ops.aten.convolution_backward(gradient, x, weight, *rest)[0]
        return toward_x, _weight_gradient(x, gradient, along).view_as(weight), None


def _stride(along: int) -> tuple[int, int]:
    return (2, 1) if along == 2 else (1, 2)


def _padding(along: int) -> tuple[int, int]:
    return (2, 0) if along == 2 else (0, 2)


def _library(x: Tensor, weight: Tensor, along: int) -> Tensor:
    """Convolve stripes of 5 cells along an axis of x (B, C, H, W), 2 or 3, with stride 2."""
    return functional.conv2d(x, weight, None, _stride(along), _padding(along))


def _unfolded(x: Tensor, weight: Tensor, along: int) -> Tensor:
    """Compute the same as one matrix product of patches that are laid out in memory."""
    patches = functional.unfold(x, weight.shape[2:], padding=_padding(along), stride=_stride(along))
    y = weight.flatten(1) @ patches
    height, width = (-(-size // step) for size, step in zip(x.shape[2:], _stride(along), strict=True))
    return y.view(len(x), -1, height, width)


def _weight_gradient(x: Tensor, gradient: Tensor, along: int) -> Tensor:
    """Return the weights' gradient as a matrix product per cell of the stripe, on odd and even cells, each copied once.

    Both arguments are channels_last, as in a training.
    """
    padded = functional.pad(x, (0, 0, 2, 2) if along == 2 else (2, 2, 0, 0)).permute(0, along, 5 - along, 1)
    halves = padded[:, ::2].contiguous(), padded[:, 1::2].contiguous()
    rows = gradient.permute(0, along, 5 - along, 1).contiguous().flatten(1, 2)
    length = gradient.shape[along]
    cells = (halves[number % 2][:, number // 2 : number // 2 + length].flatten(1, 2) for number in range(5))
    return torch.stack([torch.bmm(rows.mT, cell).sum(0) for cell in cells], -1)


Form = Callable[[Tensor, Tensor, int], Tensor]

FORMS: Mapping[str, Form] = {
    "library": _library,
    "unfolded to matrix products": _unfolded,
    "gradient as matrix products": lambda x, weight, along: _Striped.apply(x, weight, along),  # type: ignore[no-untyped-call]
}
"""Ways to compute a convolution with its gradients; the first is the one that is used."""


def striped(channels: int, along: int, batch: int, edge: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return input, weight and output gradient of an encoder's second convolution, channels_last."""
    generator = torch.Generator().manual_seed(0)
    shape = (edge // 2, edge) if along == 2 else (edge, edge // 2)
    kernel = (5, 1) if along == 2 else (1, 5)
    x, weight = (
        torch.randn(*size, generator=generator).contiguous(memory_format=torch.channels_last).requires_grad_()
        for size in ((batch, channels, *shape), (channels, channels, *kernel))
    )
    return x, weight, torch.randn_like(_library(x, weight, along).detach())


def _convolutions(scale: Scale, threads: int) -> Iterator[Figure]:
    """Measure every other form beside the library's: CPU time on one thread, wall-clock time on more."""
    settings = published_settings("time_frequency_transformer")
    batch, edge = (2, 16) if scale.quick else (int(settings["batch_size"]), int(settings["n_mels"]))
    for along, kernel in ((2, "(5, 1)"), (3, "(1, 5)")):
        x, weight, gradient = striped(int(settings["channels"]), along, batch, edge)

        def rate(form: Form, inputs: tuple[Tensor, Tensor, Tensor], along: int) -> float:
            x, weight, gradient = inputs

            def work() -> None:
                torch.autograd.grad(form(x, weight, along), (x, weight), gradient)

            if threads > 1:
                return len(x) / seconds(work)
            begin = time.process_time()
            work()
            return len(x) / (time.process_time() - begin)

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            runs = {name: functools.partial(rate, form, (x, weight, gradient), along) for name, form in FORMS.items()}
            rates = _in_turn(scale, runs)
        finally:
            torch.set_num_threads(before)
        for name in list(FORMS)[1:]:
            what = f"convolution {kernel}, threads {threads}, {name} (to the library)"
            yield figure(what, "segment/s", rates[name], rates["library"])
