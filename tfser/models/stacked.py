"""Several models of one shape as one network: M independent members side by side.

Axes: M members, B segments of each, R rows of each in a layer's input (B or a multiple of it); C, F, D and E as in the
models.

Activations keep the models' own shapes, with all members' rows one after another, (M B, ...). A model's ``forward``
and all parts without parameters therefore run unchanged. Only layers with parameters get another form, in which one
kernel does the work of M:

    Linear            one batched matrix product with M weights
    LayerNorm         one normalisation; M scales and shifts
    Conv2d            of patches that do not overlap: a batched matrix product of its patches
    any other         its members one by one, unchanged: recurrences, dropout, and all that a model gains later

A layer with a method ``stacked_form() -> Form`` has the form that it names, which lies beside it in the model's file.

If batches differ in size, batch normalisation and dropout take only a member's true rows, so that its numbers depend on
no other member. The stacked parameters lie in one matrix, a row per member, and each member's own parameters are views
of its row: a member can be scored, saved and trained alone at any time.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class _Piece:
    """One stacked parameter: its place in a row, and its layout there."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    """Strides of one member's own parameter; dense, in any order of its axes."""

    @property
    def numel(self) -> int:
        return int(torch.Size(self.size).numel())

    def of_all(self, columns_MN: Tensor) -> Tensor:
        """Return the columns of a matrix as (M, *size), a view."""
        order = sorted(range(len(self.size)), key=lambda axis: (-self.stride[axis], axis))  # outermost axis first
        laid_out = columns_MN.view(-1, *(self.size[axis] for axis in order))
        return laid_out.permute(0, *(1 + order.index(axis) for axis in range(len(self.size))))

    def of_one(self, row_N: Tensor) -> Tensor:
        """Return one row of the matrix with the parameter's own strides, a view."""
        return row_N.as_strided(self.size, self.stride, row_N.storage_offset() + self.offset)


class StackedModel(nn.Module):
    """M models as one: x (M B, 1, n_mels, segment_frames) -> logits (M B, emotions).

    Args:
        models: models of one architecture and one shape, on one device. Until ``release``, their stacked parameters and
            buffers are views of this one's.
        as_member: a context in which random numbers are those of a member, given by its place; dropout draws there.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        as_member: Callable[[int], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        super().__init__()
        self.models = list(models)  # a list, not submodules: their parameters are not this module's
        self.as_member = as_member
        self.members = len(self.models)
        self.rows: list[int] | None = None
        """In a pass: the number of true segments, of the B, of each member; ``None`` if all are true."""
        self._stacked: dict[str, _Piece] = {}
        self._values: dict[str, Tensor] = {}
        self._buffers_of: dict[str, Tensor] = {}
        self._network = [copy.deepcopy(self.models[0])]  # in a list: its unused parameters are not this module's
        self._replace(self._network[0], "")
        self._stack()

    def _replace(self, module: nn.Module, prefix: str) -> None:
        """Give every layer with parameters, and every dropout, its form for M members."""
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            form = _form(child)
            if form is not None:
                setattr(module, name, form(self, path, child))
            elif _own(child) or (isinstance(child, nn.Dropout) and child.p > 0):
                setattr(module, name, OneByOne(self, path, child))
            else:
                self._replace(child, f"{path}.")

    def wants(self, path: str) -> None:
        """Stack the parameters and buffers at ``path`` of every member."""
        for name, parameter in self.models[0].get_submodule(path).named_parameters():
            offset = sum(piece.numel for piece in self._stacked.values())
            self._stacked[f"{path}.{name}"] = _Piece(offset, tuple(parameter.shape), parameter.stride())
        for name, _ in self.models[0].get_submodule(path).named_buffers():
            full = f"{path}.{name}"
            self._buffers_of[full] = torch.stack([model.get_buffer(full) for model in self.models])

    def _stack(self) -> None:
        """Move the members' parameters and buffers here and leave views behind."""
        like = next(self.models[0].parameters())
        self.flat = nn.Parameter(
            torch.empty(self.members, sum(p.numel for p in self._stacked.values()), device=like.device)
        )
        """Shape (M, stacked parameters of one member)."""
        for member, model in enumerate(self.models):
            self.share(member, {name: model.get_parameter(name) for name in self._stacked}, self.flat.detach())
            for name, stacked in self._buffers_of.items():
                _set_buffer(model, name, stacked[member])

    def share(self, member: int, tensors: Mapping[str, Tensor], matrix: Tensor) -> None:
        """Copy tensors with the stacked parameters' shapes into a row of a matrix and make them views of it."""
        for name, piece in self._stacked.items():
            view = piece.of_one(matrix[member])
            view.copy_(tensors[name].detach())
            tensors[name].data = view

    @property
    def stacked_names(self) -> tuple[str, ...]:
        """Return the names of the stacked parameters within a member; the others are trained in place."""
        return tuple(self._stacked)

    def release(self) -> None:
        """Give every member its own memory back."""
        for model in self.models:
            for name in self._stacked:
                parameter = model.get_parameter(name)
                parameter.data, parameter.grad = parameter.detach().clone(), None
            for name in self._buffers_of:
                _set_buffer(model, name, model.get_buffer(name).clone())

    def value(self, path: str) -> Tensor:
        """Return a stacked parameter in this pass, (M, *shape)."""
        return self._values[path]

    def stacked_buffer(self, path: str) -> Tensor:
        """Return a stacked buffer, (M, *shape), to be changed in place."""
        return self._buffers_of[path]

    def true_rows(self, of_one: int, segments: int) -> list[int]:
        """Return how many of a layer's R rows of each member are not padding.

        Args:
            of_one: R.
            segments: B.
        """
        return [of_one] * self.members if self.rows is None else [of_one * rows // segments for rows in self.rows]

    def forward(self, x: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Compute the logits of all members' segments, in training mode.

        Args:
            x: members one after another, each with B segments.
            rows: number of true segments, of the B, of each member; the others are padding with meaningless logits.
                Default: all are true.
        """
        self.segments = len(x) // self.members
        self.rows = None if rows is None or all(r == self.segments for r in rows) else list(rows)
        # One split, whose gradient is one concatenation; a slice per parameter would write M x P zeros each.
        columns = (
            self.flat.split_with_sizes([piece.numel for piece in self._stacked.values()], dim=1)
            if self._stacked
            else ()
        )
        self._values = {
            name: piece.of_all(part) for (name, piece), part in zip(self._stacked.items(), columns, strict=True)
        }
        self._network[0].train()
        logits: Tensor = self._network[0](x)
        self._values = {}
        return logits


def _own(module: nn.Module) -> bool:
    """Tell whether a module itself, and not only its parts, has parameters or buffers."""
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))


def _set_buffer(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, last = name.rpartition(".")
    setattr(model.get_submodule(path), last, value)


class StackedLayer(nn.Module):
    """A layer of a ``StackedModel``; x (M R, ...) -> (M R, ...) in the shapes of the layer that it replaces."""

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__()
        self._whole = (whole,)  # in a tuple, so that it is not a submodule
        self.path = path

    @property
    def whole(self) -> StackedModel:
        """The model that this is a layer of."""
        return self._whole[0]

    def parameter_of_all(self, name: str) -> Tensor:
        """Return a parameter of all members, (M, *shape)."""
        return self.whole.value(f"{self.path}.{name}")


class OneByOne(StackedLayer):
    """Any layer or group of layers: every member's own, applied to its rows with its random numbers.

    The first axis of input and output is rows. The output is zero for padding.
    """

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        self._layers = [model.get_submodule(path) for model in whole.models]
        self._random = any(
            getattr(part, "p", 0) or getattr(part, "dropout", 0) for part in layer.modules() if _draws(part)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member's layer to its rows."""
        of_one = len(x) // self.whole.members
        out: list[Tensor] = []
        true = self.whole.true_rows(of_one, self.whole.segments)
        for member, (layer, x_R, rows) in enumerate(zip(self._layers, torch.split(x, of_one), true, strict=True)):
            layer.train()
            with self.whole.as_member(member) if self._random else contextlib.nullcontext():
                y_R = layer(x_R[:rows])
            out.append(y_R if rows == of_one else F.pad(y_R, (*(0,) * (2 * y_R.dim() - 1), of_one - rows)))
        return torch.cat(out)


def _draws(module: nn.Module) -> bool:
    return isinstance(module, (nn.Dropout, nn.RNNBase))


class StackedLinear(StackedLayer):
    """``nn.Linear``: x (M R, ..., I) -> (M R, ..., O)."""

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        whole.wants(path)
        self.has_bias = getattr(layer, "bias", None) is not None

    def forward(self, x: Tensor) -> Tensor:
        """Compute one product of M pairs of matrices."""
        weight_MIO = self.parameter_of_all("weight").mT
        x_MNI = x.reshape(self.whole.members, -1, x.shape[-1])
        out_MNO = (
            torch.baddbmm(self.parameter_of_all("bias")[:, None], x_MNI, weight_MIO)
            if self.has_bias
            else x_MNI @ weight_MIO
        )
        return out_MNO.view(*x.shape[:-1], -1)


class StackedLayerNorm(StackedLayer):
    """``nn.LayerNorm`` over the last axis: x (M R, ..., E) -> (M R, ..., E)."""

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, nn.LayerNorm)
        whole.wants(path)
        self.epsilon = layer.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every row by itself, then apply its member's scale and shift."""
        x_MNE = F.layer_norm(x, x.shape[-1:], eps=self.epsilon).view(self.whole.members, -1, x.shape[-1])
        out_MNE = torch.addcmul(self.parameter_of_all("bias")[:, None], x_MNE, self.parameter_of_all("weight")[:, None])
        return out_MNE.view(x.shape)


class StackedPatches(StackedLayer):
    """``nn.Conv2d`` with kernel = stride, without padding: x (M R, S, F, T) -> (M R, C, F / kernel, T / kernel)."""

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, nn.Conv2d)
        whole.wants(path)
        self.kernel = layer.kernel_size

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Tell whether a layer can take this form."""
        plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.bias is not None
        return plain and layer.kernel_size == layer.stride and layer.padding == (0, 0) and layer.dilation == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute one product of M pairs of matrices, of patches and of kernels."""
        high, wide = self.kernel
        n, s, f, t = x.shape
        patches = (
            x.view(n, s, f // high, high, t // wide, wide)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(self.whole.members, -1, s * high * wide)
        )
        weight_MCK = self.parameter_of_all("weight").flatten(2)
        out_MNC = torch.baddbmm(self.parameter_of_all("bias")[:, None], patches, weight_MCK.mT)
        return out_MNC.view(n, f // high, t // wide, -1).permute(0, 3, 1, 2)


Form = Callable[[StackedModel, str, nn.Module], StackedLayer]
"""(whole, path of the layer, the first member's layer) -> the layer's form for all members."""


def _form(layer: nn.Module) -> Form | None:
    """Return how a layer is stacked; ``None`` if that is decided for its parts."""
    declared: Callable[[], Form] | None = getattr(layer, "stacked_form", None)
    if declared is not None:
        return declared()
    if isinstance(layer, nn.Linear):
        return StackedLinear
    if (
        isinstance(layer, nn.LayerNorm)
        and layer.elementwise_affine
        and layer.bias is not None
        and len(layer.normalized_shape) == 1
    ):
        return StackedLayerNorm
    return StackedPatches if StackedPatches.fits(layer) else None
