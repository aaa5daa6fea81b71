"""The papers' equations written a second time: plain NumPy, float64, from the textbook definitions.

Nothing here uses torch. It takes the weights by the names in the module's state and follows the papers' equations one
by one (Wang et al. 2023, section 2; Lu et al. 2022, section II), with the decisions that the module docstrings call
"ours".
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


class Weights:
    """A module's state as NumPy arrays: ``w("time_map")`` is the part below that name, ``w["weight"]`` an array."""

    def __init__(self, state: dict[str, Array], prefix: str = "") -> None:
        self.state, self.prefix = state, prefix

    def __call__(self, name: str) -> Weights:
        return Weights(self.state, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Array:
        return self.state[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        return any(key.startswith(f"{self.prefix}{name}.") for key in self.state)

    def get(self, name: str) -> Array | float:
        return self.state.get(self.prefix + name, 0.0)


def linear(x: Array, w: Weights) -> Array:
    return x @ w["weight"].T + w.get("bias")


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def convolution(x_BIFT: Array, w: Weights, stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """out[b, o, y, z] = bias[o] + sum over i, u, v of x[b, i, y * stride + u - padding, ...] * weight[o, i, u, v]."""
    weight_OIUV = w["weight"]
    x = np.pad(x_BIFT, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    U, V = weight_OIUV.shape[2:]
    rows, columns = (x.shape[2] - U) // stride[0] + 1, (x.shape[3] - V) // stride[1] + 1
    out = np.zeros((x.shape[0], weight_OIUV.shape[0], rows, columns))
    for u in range(U):
        for v in range(V):
            seen = x[:, :, u : u + rows * stride[0] : stride[0], v : v + columns * stride[1] : stride[1]][
                :, :, :rows, :columns
            ]
            out += np.einsum("biyz,oi->boyz", seen, weight_OIUV[:, :, u, v], optimize=True)
    bias = w.get("bias")
    return out + (bias[:, None, None] if isinstance(bias, np.ndarray) else bias)


def batch_norm(x_BCFT: Array, w: Weights) -> Array:
    per_channel = {name: w[name][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")}
    normal = (x_BCFT - per_channel["running_mean"]) / np.sqrt(per_channel["running_var"] + 1e-5)
    return normal * per_channel["weight"] + per_channel["bias"]


def layer_norm(x: Array, w: Weights) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w["weight"] + w["bias"]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q: Array, k: Array, v: Array, w: Weights, heads: int) -> Array:
    """Vaswani et al. 2017, section 3.2.2, one head after the other."""
    q, k, v = linear(q, w("query")), linear(k, w("key")), linear(v, w("value"))
    width = q.shape[-1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        weights = softmax(q[..., part] @ np.swapaxes(k[..., part], -1, -2) / np.sqrt(width))
        outputs.append(weights @ v[..., part])
    return linear(np.concatenate(outputs, -1), w("out"))


def lstm_direction(x_BTE: Array, w: Weights, suffix: str) -> Array:
    """Hidden states of every frame. Gates: input, forget, cell, output. Backward begins at the last frame."""
    backward = suffix.endswith("_reverse")
    H = w[f"weight_hh_{suffix}"].shape[1]
    h = c = np.zeros((x_BTE.shape[0], H))
    states = np.zeros((*x_BTE.shape[:2], H))
    frames = range(x_BTE.shape[1])
    for t in reversed(frames) if backward else frames:
        gates = x_BTE[:, t] @ w[f"weight_ih_{suffix}"].T + w[f"bias_ih_{suffix}"]
        gates = gates + h @ w[f"weight_hh_{suffix}"].T + w[f"bias_hh_{suffix}"]
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states[:, t] = h
    return states


def encoder_layers(q: Array, k: Array | None, v: Array | None, w: Weights, layers: int, heads: int) -> Array:
    """(2)-(3) or (5)-(6) without k and v, (8)-(9) with them."""
    for n in range(layers):
        layer = w(f"layers.{n}")
        k_n, v_n = (q, q) if k is None or v is None else (k, v)
        m = layer_norm(attention(q, k_n, v_n, layer("attention"), heads) + v_n, layer("attention_norm"))
        out = layer_norm(linear(np.maximum(linear(m, layer("mlp.0")), 0), layer("mlp.2")) + m, layer("mlp_norm"))
        if k is None:
            q = out
        else:
            v = out
    return q if v is None else v


def encode(x: Array, w: Weights, stride: tuple[int, int]) -> Array:
    """(1), (4), (7) and the mean over the channels."""
    padding = tuple((size - 1) // 2 for size in w["conv_1.weight"].shape[2:])
    for n in "12":
        x = np.maximum(batch_norm(convolution(x, w(f"conv_{n}"), stride, padding), w(f"norm_{n}")), 0)
    return x.mean(1)


def pool(y: Array, fewer: int = 0) -> Array:
    """(10); ``fewer`` is 1 for the unbiased deviation."""
    variance = ((y - y.mean(1, keepdims=True)) ** 2).sum(1) / (y.shape[1] - fewer)
    return np.concatenate([y.mean(1), np.sqrt(variance + 1e-8)], axis=1)


def time_frequency_transformer(
    x: Array, w: Weights, ablation: str, a: dict[str, int], *, together: bool = False, fewer: int = 0
) -> Array:
    s = a["stride"]
    q = k = v = None
    if ablation in ("T+F+TF", "T+F", "T+TF"):
        s_t = encode(x, w("time_encoder"), (s, 1)).transpose(0, 2, 1)
        q_hat = encoder_layers(s_t, None, None, w("time_transformer"), a["time_layers"], a["time_heads"])
        q = linear(q_hat.transpose(0, 2, 1), w("time_map"))
    if ablation in ("T+F+TF", "T+F", "F+TF"):
        s_f = encode(x, w("frequency_encoder"), (1, s))
        k_hat = encoder_layers(s_f, None, None, w("frequency_transformer"), a["frequency_layers"], a["frequency_heads"])
        k = linear(k_hat.transpose(0, 2, 1), w("frequency_map")).transpose(0, 2, 1)
    if ablation == "T+F":
        assert q is not None
        assert k is not None
        if together:
            return linear(pool(np.concatenate([q, k], axis=1), fewer), w("classifier"))
        return linear(np.concatenate([pool(q, fewer), pool(k, fewer)], axis=1), w("classifier"))
    v = encode(x, w("time_frequency_encoder"), (s, s))
    q, k = v if q is None else q, v if k is None else k
    y = encoder_layers(q, k, v, w("time_frequency_transformer"), a["time_frequency_layers"], a["time_frequency_heads"])
    return linear(pool(y, fewer), w("classifier"))  # (11)


def group_weights(source_BSFT: Array, w: Weights, group: tuple[int, int], squash: str = "sigmoid") -> Array:
    """The mean over the channels of F_a or T_a, each weight repeated for its group: (B, 1, F, T)."""
    a = convolution(source_BSFT, w("conv"), group, (0, 0))
    if squash == "sigmoid":
        a = sigmoid(a)
    if squash == "softmax":  # over the groups, of which there are several along one axis
        a = np.exp(a) / np.exp(a).sum(2 if group[1] == 1 else 3, keepdims=True)
    return np.kron(a.mean(1, keepdims=True), np.ones((1, 1, *group)))


def f_encoder(x_B1FT: Array, w: Weights, heads: int) -> Array:
    """Figure 2, one frame after the other: (B, C, F, T)."""
    frames = []
    kernel = w["layer.mlp.conv_1.weight"].shape[3]
    for t in range(x_B1FT.shape[3]):
        lifted_BFC = x_B1FT[:, 0, :, t, None] * w["lift.weight"][:, 0] + w["lift.bias"]
        layer = w("layer")
        m_BFC = layer_norm(
            attention(lifted_BFC, lifted_BFC, lifted_BFC, layer("attention"), heads) + lifted_BFC,
            layer("attention_norm"),
        )
        m_BC1F = m_BFC.transpose(0, 2, 1)[:, :, None]
        hidden = np.maximum(convolution(m_BC1F, layer("mlp.conv_1"), (1, 1), (0, kernel // 2)), 0)
        out_BFC = convolution(hidden, layer("mlp.conv_2"), (1, 1), (0, kernel // 2))[:, :, 0].transpose(0, 2, 1)
        frames.append(layer_norm(out_BFC + m_BFC, layer("mlp_norm")).transpose(0, 2, 1))
    return np.stack(frames, axis=-1)


def segment_f_encoder(x_B1FT: Array, w: Weights, heads: int) -> Array:
    """Figure 2 with one token per band, of all its frames: (B, C, F, T)."""
    lifted_BFTC = x_B1FT[:, 0, ..., None] * w["lift.weight"][:, 0] + w["lift.bias"]
    B, F, T, C = lifted_BFTC.shape
    tokens, layer = lifted_BFTC.reshape(B, F, T * C), w("layer")
    m = layer_norm(attention(tokens, tokens, tokens, layer("attention"), heads) + tokens, layer("attention_norm"))
    m_BCTF = m.reshape(B, F, T, C).transpose(0, 3, 2, 1)
    padding = (0, w["layer.mlp.conv_1.weight"].shape[3] // 2)
    hidden = np.maximum(convolution(m_BCTF, layer("mlp.conv_1"), (1, 1), padding), 0)
    out_BCTF = convolution(hidden, layer("mlp.conv_2"), (1, 1), padding)
    normal = layer_norm(out_BCTF.transpose(0, 3, 2, 1).reshape(B, F, T * C) + m, layer("mlp_norm"))
    return normal.reshape(B, F, T, C).transpose(0, 3, 1, 2)


def atfnn(
    x: Array, w: Weights, ablation: str, a: dict[str, int], source: str, squash: str = "sigmoid", token: str = "frame"
) -> Array:
    enhanced = x
    if ablation in ("ATFNN", "AFNN"):
        enhanced = x + group_weights(x, w("frequency_attention"), (a["band_group"], 1), squash) * x  # (1)
    encoder = f_encoder if token == "frame" else segment_f_encoder
    encoding = x if ablation == "ATNN" else encoder(enhanced, w("frequency_encoder"), a["heads"])  # (3)
    if ablation in ("ATFNN", "ATNN"):
        seen = encoding if source == "encoding" else x
        weights = group_weights(seen, w("time_attention"), (1, a["frame_group"]), squash)
        encoding = encoding + weights * encoding  # (2) or (4)
    if ablation == "AFNN":
        return linear(encoding.mean(3).transpose(0, 2, 1).reshape(len(x), -1), w("classifier"))
    h = encoding.transpose(0, 3, 2, 1).reshape(len(x), x.shape[3], -1)  # one row of F C numbers per frame
    for n in range(a["lstm_layers"]):
        forward, backward = (lstm_direction(h, w("time_encoder.lstm"), f"l{n}{way}") for way in ("", "_reverse"))
        h = np.concatenate([forward, backward], axis=2)
    return linear(np.concatenate([forward[:, -1], backward[:, 0]], axis=1), w("classifier"))
