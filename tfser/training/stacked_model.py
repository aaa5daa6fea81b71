"""Several models of one shape as one network: M members side by side, none of which sees another.

Axes: M members, B segments of each, R rows of each in a layer's input (B or a multiple of it); C, F, D and E as in the models.

Activations keep the models' own shapes with all members' rows one after another, (M B, ...), so that ``forward`` of a model, and
whatever in it has no parameters, runs unchanged. Only layers with parameters have another form here: one kernel does the work of M.

    Linear            one batched matrix product with M weights
    LayerNorm         one normalisation; M scales and shifts
    Conv2d            of patches that do not overlap: a batched matrix product of its patches
    Encoder           of the Time-Frequency Transformer, on a GPU or narrow: convolutions in M groups, normalisation of M C channels
    TEncoder          of the ATFNN, on a GPU without dropout: its M recurrences in step, two batched products per frame
    any other         its members one by one, as they are: the F-Encoder, wide encoders and the Bi-LSTM on a CPU, dropout, whatever
                      a model gains

Batch normalisation and dropout take a member's true rows alone where batches differ in size, so that a member's numbers are
its own. The stacked parameters lie in one matrix, a row per member, and each member's own parameters are views of its row: a
member can be scored, saved and trained alone at any time.
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

from tfser.models import atfnn, time_frequency_transformer

CPU_CHANNELS = 8
"""From how many channels on a CPU convolves the members of an encoder one by one: its kernels for that many are faster than those for
groups (``python -m tfser.benchmark --only fused``)."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One stacked parameter: where in a row it lies and how it is laid out there."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    """Of one member's own parameter; dense, in whichever order of its axes."""

    @property
    def numel(self) -> int:
        return int(torch.Size(self.size).numel())

    def of_all(self, columns_MN: Tensor) -> Tensor:
        """The columns of a matrix as (M, *size), a view."""
        order = sorted(range(len(self.size)), key=lambda axis: (-self.stride[axis], axis))  # outermost axis first
        laid_out = columns_MN.view(-1, *(self.size[axis] for axis in order))
        return laid_out.permute(0, *(1 + order.index(axis) for axis in range(len(self.size))))

    def of_one(self, row_N: Tensor) -> Tensor:
        """The same of one row of the matrix, with the strides that the parameter had, a view."""
        return row_N.as_strided(self.size, self.stride, row_N.storage_offset() + self.offset)


class StackedModel(nn.Module):
    """M models as one: x (M B, 1, n_mels, segment_frames) -> logits (M B, emotions).

    Args:
        models: of one architecture and one shape, on one device. Their stacked parameters and buffers become views of this
            one's, until ``release``.
        as_member: a context in which random numbers are those of a member, named by its place; dropout draws there.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        as_member: Callable[[int], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        super().__init__()
        self.models = list(models)  # a list, not modules of this one: their parameters are not its own
        self.as_member = as_member
        self.members = len(self.models)
        self.rows: list[int] | None = None
        """Of the pass under way: each member's true segments of the B; ``None`` where all are."""
        self._stacked: dict[str, _Piece] = {}
        self._values: dict[str, Tensor] = {}
        self._buffers_of: dict[str, Tensor] = {}
        self._network = [copy.deepcopy(self.models[0])]  # in a list, so that its unused parameters are not this one's
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
        """Stack what lies at ``path`` in every member: its parameters and buffers."""
        for name, parameter in self.models[0].get_submodule(path).named_parameters():
            offset = sum(piece.numel for piece in self._stacked.values())
            self._stacked[f"{path}.{name}"] = _Piece(offset, tuple(parameter.shape), parameter.stride())
        for name, _ in self.models[0].get_submodule(path).named_buffers():
            full = f"{path}.{name}"
            self._buffers_of[full] = torch.stack([model.get_buffer(full) for model in self.models])

    def _stack(self) -> None:
        """Move the members' parameters and buffers here and leave views in their place."""
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
        """Copy tensors that are shaped as the stacked parameters into a row of a matrix and make them views of it."""
        for name, piece in self._stacked.items():
            view = piece.of_one(matrix[member])
            view.copy_(tensors[name].detach())
            tensors[name].data = view

    @property
    def stacked_names(self) -> tuple[str, ...]:
        """The parameters that are stacked, as a member names them; the others are trained where they are."""
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
        """A stacked parameter in this pass, (M, *shape)."""
        return self._values[path]

    def stacked_buffer(self, path: str) -> Tensor:
        """A stacked buffer, (M, *shape), to be changed in place."""
        return self._buffers_of[path]

    def true_rows(self, of_one: int, segments: int) -> list[int]:
        """How many of a layer's R rows of each member are not padding.

        Args:
            of_one: R.
            segments: B.
        """
        return [of_one] * self.members if self.rows is None else [of_one * rows // segments for rows in self.rows]

    def forward(self, x: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Logits of all members' segments, in training.

        Args:
            x: members one after another, each with B segments.
            rows: how many of each member's B are its own; the others are padding, whose logits mean nothing. Default: all.
        """
        self.segments = len(x) // self.members
        self.rows = None if rows is None or all(r == self.segments for r in rows) else list(rows)
        # One split, whose gradient is one concatenation; a slice each would write M x P zeros for every parameter.
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
    """Whether a module has parameters or buffers itself, not only in its parts."""
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))


def _set_buffer(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, last = name.rpartition(".")
    setattr(model.get_submodule(path), last, value)


class StackedLayer(nn.Module):
    """A layer of a ``StackedModel``; x (M R, ...) -> (M R, ...) in the shapes of the layer that it stands for."""

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__()
        self._whole = (whole,)  # in a tuple, so that it is no module of this one
        self.path = path

    @property
    def whole(self) -> StackedModel:
        """What this is a layer of."""
        return self._whole[0]

    def parameter_of_all(self, name: str) -> Tensor:
        """(M, *shape)."""
        return self.whole.value(f"{self.path}.{name}")


class OneByOne(StackedLayer):
    """Any layer or group of layers: every member's own, on its own rows, with its own random numbers.

    The first axis of input and output is rows. A member's padding comes out as zeros.
    """

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        self._layers = [model.get_submodule(path) for model in whole.models]
        self._random = any(
            getattr(part, "p", 0) or getattr(part, "dropout", 0) for part in layer.modules() if _draws(part)
        )

    def forward(self, x: Tensor) -> Tensor:
        """All members' rows."""
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
        """One product of M pairs of matrices."""
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
        """Normalised as every row by itself, then scaled and shifted as its member does."""
        x_MNE = F.layer_norm(x, x.shape[-1:], eps=self.epsilon).view(self.whole.members, -1, x.shape[-1])
        out_MNE = torch.addcmul(self.parameter_of_all("bias")[:, None], x_MNE, self.parameter_of_all("weight")[:, None])
        return out_MNE.view(x.shape)


class StackedPatches(StackedLayer):
    """``nn.Conv2d`` whose kernel is its stride, without padding: x (M R, S, F, T) -> (M R, C, F / kernel, T / kernel)."""

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, nn.Conv2d)
        whole.wants(path)
        self.kernel = layer.kernel_size

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether this is the layer's form."""
        plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.bias is not None
        return plain and layer.kernel_size == layer.stride and layer.padding == (0, 0) and layer.dilation == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """One product of M pairs of matrices, of patches and of kernels."""
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


class StackedEncoder(StackedLayer):
    """``Encoder`` of the Time-Frequency Transformer: x (M B, 1, F, D) -> (M B, f or F, d or D).

    In between, the members are groups of channels: (B, M C, F, D).
    """

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, time_frequency_transformer.Encoder)
        whole.wants(path)
        self.stride, self.padding = layer.conv_1.stride, layer.conv_1.padding
        self.norms = {"norm_1": layer.norm_1, "norm_2": layer.norm_2}

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether this is the layer's form."""
        if not isinstance(layer, time_frequency_transformer.Encoder):
            return False
        return layer.conv_1.weight.device.type != "cpu" or layer.conv_1.out_channels < CPU_CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """Encode, then average over each member's channels."""
        x_BMFD = x.view(self.whole.members, -1, *x.shape[2:]).transpose(0, 1)
        for convolution, norm in (("conv_1", "norm_1"), ("conv_2", "norm_2")):
            weight = self.parameter_of_all(f"{convolution}.weight").flatten(
                0, 1
            )  # (M C, channels of the input of one member, ...)
            x_BMFD = F.conv2d(x_BMFD, weight, None, self.stride, self.padding, groups=self.whole.members)
            x_BMFD = F.relu(self._normalised(x_BMFD, norm), inplace=True)
        means_BMfd = x_BMFD.view(len(x_BMFD), self.whole.members, -1, *x_BMFD.shape[2:]).mean(dim=2)
        return means_BMfd.transpose(0, 1).flatten(0, 1)

    def _normalised(self, x_BMFD: Tensor, name: str) -> Tensor:
        """As M batch normalisations, each with the statistics of its own true rows."""
        layer = self.norms[name]
        assert layer.momentum is not None, "a cumulative average would need each member's number of batches"
        weight_MC, bias_MC = self.parameter_of_all(f"{name}.weight"), self.parameter_of_all(f"{name}.bias")
        mean_MC, variance_MC = (
            self.whole.stacked_buffer(f"{self.path}.{name}.running_{what}") for what in ("mean", "var")
        )
        self.whole.stacked_buffer(f"{self.path}.{name}.num_batches_tracked").add_(1)
        momentum, epsilon = layer.momentum, layer.eps
        if self.whole.rows is None:
            flat = (mean_MC.view(-1), variance_MC.view(-1), weight_MC.reshape(-1), bias_MC.reshape(-1))
            return F.batch_norm(x_BMFD, *flat, training=True, momentum=momentum, eps=epsilon)
        out = []
        members = zip(
            x_BMFD.chunk(self.whole.members, dim=1),
            mean_MC,
            variance_MC,
            weight_MC,
            bias_MC,
            self.whole.rows,
            strict=True,
        )
        for x_BCFD, mean, variance, weight, bias, rows in members:
            y_BCFD = F.batch_norm(
                x_BCFD[:rows], mean, variance, weight, bias, training=True, momentum=momentum, eps=epsilon
            )
            out.append(F.pad(y_BCFD, (0, 0, 0, 0, 0, 0, 0, len(x_BCFD) - rows)))
        return torch.cat(out, dim=1)


class StackedRecurrence(StackedLayer):
    """``TEncoder`` of the ATFNN without dropout: x (M B, T, E) -> (M B, 2 H).

    Both directions of all members take each step together. On a GPU, where a member's recurrence alone is hundreds of small
    kernels one after another, that is the same number of kernels for all of them; on a CPU its own LSTM is faster.
    """

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, atfnn.TEncoder)
        # Not stacked for good but in every pass: cuDNN, which scores with a member's own LSTM, wants its weights in one piece.
        self._lstms = [model.get_submodule(f"{path}.lstm") for model in whole.models]
        self.layers, self.hidden = layer.lstm.num_layers, layer.lstm.hidden_size

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether this is the layer's form: on a GPU, where nothing is drawn between the layers of the LSTM."""
        return isinstance(layer, atfnn.TEncoder) and not layer.lstm.dropout and next(layer.parameters()).is_cuda

    def _weights(self, name: str, layer: int) -> Tensor:
        """Of all members and both directions: (M, 2, ...)."""
        both: list[Tensor] = [
            lstm.get_parameter(f"{name}_l{layer}{direction}") for lstm in self._lstms for direction in ("", "_reverse")
        ]
        return torch.stack(both).view(len(self._lstms), 2, *both[0].shape)

    def forward(self, x: Tensor) -> Tensor:
        """Through all frames, in both directions; the last states of the last layer."""
        members, hidden = self.whole.members, self.hidden
        x_MBTE = x.view(members, -1, *x.shape[1:])
        segments, frames = x_MBTE.shape[1:3]
        h_NBH = x.new_zeros(2 * members, segments, hidden)  # N = M x directions
        for layer in range(self.layers):
            x_MRE = x_MBTE.transpose(1, 2).flatten(1, 2)[:, None]  # R = T B rows, frame by frame
            bias_M21G = (self._weights("bias_ih", layer) + self._weights("bias_hh", layer))[:, :, None]
            in_M2RG = (
                x_MRE @ self._weights("weight_ih", layer).mT + bias_M21G
            )  # G = 4 H: what a step adds to its gates, of all frames
            in_M2TBG = in_M2RG.view(members, 2, frames, segments, -1)
            in_NTBG = torch.stack([in_M2TBG[:, 0], in_M2TBG[:, 1].flip(1)], dim=1).flatten(
                0, 1
            )  # the second goes backwards
            recurrent_NHG = self._weights("weight_hh", layer).flatten(0, 1).mT.contiguous()
            h_NBH, c_NBH = x.new_zeros(2 * members, segments, hidden), x.new_zeros(2 * members, segments, hidden)
            states = []
            for in_NBG in in_NTBG.unbind(1):
                update, forget, candidate, output = torch.baddbmm(in_NBG, h_NBH, recurrent_NHG).chunk(4, dim=2)
                c_NBH = forget.sigmoid() * c_NBH + update.sigmoid() * candidate.tanh()
                h_NBH = output.sigmoid() * c_NBH.tanh()
                states.append(h_NBH)
            if layer + 1 < self.layers:
                states_M2TBH = torch.stack(states, dim=1).view(members, 2, frames, segments, hidden)
                x_MBTE = torch.cat([states_M2TBH[:, 0], states_M2TBH[:, 1].flip(1)], dim=3).transpose(1, 2)
        return h_NBH.view(members, 2, segments, hidden).transpose(1, 2).reshape(-1, 2 * hidden)


def _form(layer: nn.Module) -> Callable[[StackedModel, str, nn.Module], StackedLayer] | None:
    """How a layer is stacked; ``None`` where its parts are, or where it has no other form than one by one."""
    if isinstance(layer, atfnn.FEncoder):
        return OneByOne  # it computes with its parts' weights, and on long sequences: there is nothing small to gather
    if isinstance(layer, atfnn.TEncoder):
        return StackedRecurrence if StackedRecurrence.fits(layer) else OneByOne
    if isinstance(layer, time_frequency_transformer.Encoder):
        return StackedEncoder if StackedEncoder.fits(layer) else OneByOne
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
