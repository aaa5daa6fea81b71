"""What a model attends to: against the papers' equations in NumPy, on the axes of the spectrogram, and as files."""

import io
import json
import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.equations import (
    Weights,
    encode,
    encoder_layers,
    f_encoder,
    group_weights,
    linear,
    segment_f_encoder,
    softmax,
)
from tests.helpers.tiny import SET_SMALL
from tfser.attention import command, figure
from tfser.attention.maps import Chosen, attend, look, over_utterance
from tfser.audio.files import Waveform
from tfser.benchmark import made_up
from tfser.errors import RequestError
from tfser.features.log_mel import LOG_MEL, FrontEnd, log_mel
from tfser.features.spectrogram import SPECTROGRAM
from tfser.final_models.find import Source, find
from tfser.final_models.model import Blueprint, FinalModel
from tfser.models import MODELS
from tfser.models.atfnn import SPLIT_HZ
from tfser.models.time_frequency_transformer import nearest
from tfser.planning.settings import published_settings
from tfser.record import ScoredUtterance, Standardisation
from tfser.sweep import command as sweep_command
from tfser.training.determinism import settled, weights_digest
from tfser.trial import TrialSpec

TFT, ATFNN = "time_frequency_transformer", "atfnn"
EMOTIONS = ("calm", "glad", "tense")
SIZES = {
    TFT: [
        {
            "n_mels": 16,
            "segment_frames": 20,
            "channels": 3,
            "time_frequency_heads": 1,
            "feed_forward": 7,
            "time_frequency_feed_forward": 5,
        },
        {
            "n_mels": 11,
            "segment_frames": 13,
            "channels": 2,
            "kernel": 3,
            "time_heads": 3,
            "time_frequency_heads": 2,
            "feed_forward": 7,
        }
        | {"time_frequency_feed_forward": 6, "time_layers": 2, "frequency_layers": 2, "time_frequency_layers": 3},
    ],
    ATFNN: [
        {"n_mels": 10, "segment_frames": 16, "lstm_hidden": 3, "lstm_layers": 1, "time_attention_from": "spectrogram"},
        {
            "n_mels": 9,
            "segment_frames": 12,
            "band_group": 3,
            "frame_group": 4,
            "channels": 6,
            "heads": 3,
            "lstm_hidden": 2,
        }
        | {"lstm_layers": 1, "time_attention_from": "encoding"},
    ],
}


def final(name, ablation, sizes, database="tiny", seed=0):
    """A final trial's model with made-up weights and standardisation, and its ledger entry."""
    settings = {**published_settings(name), **sizes}
    if name == TFT:  # heads that divide the odd sizes
        settings["frequency_heads"] = 1 if -(-settings["segment_frames"] // 4) % 2 else 2
    spec = TrialSpec(
        database=database, database_digest="0" * 16, protocol="speaker", fold="anna", purpose="final", model=name,
        ablation=ablation, seed=seed, epochs=1, hyperparameters=tuple(sorted(settings.items())),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = MODELS[name].build(ablation, settings, len(EMOTIONS))
        for parameter in module.parameters():  # a fresh layer norm or bias would hide a mistake
            torch.nn.init.normal_(parameter, 0, 1.0)
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=settings["n_mels"]), rng.uniform(0.5, 2, settings["n_mels"])
    record = replace(
        made_up.record(spec, EMOTIONS, 0),
        weights_sha256=weights_digest(module),
        standardisation=Standardisation(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
    )
    return FinalModel(Blueprint.of(record), module.state_dict()), record


def frames_of(model, count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, model.extractor.n_mels)).astype(np.float32)


def prepared(model, record, frames, taken):
    """The model's input and its weights, in NumPy: (segments, 1, bands, frames), float64."""
    mean, std = (np.array(getattr(record.standardisation, name)) for name in ("mean", "std"))
    offset, scale = (
        mean.astype(np.float32),
        (1 / std).astype(np.float32),
    )  # as the model has them
    x = (frames.astype(np.float64)[taken] - offset) * scale
    return x.transpose(0, 2, 1)[:, None], Weights(
        {k: v.double().numpy() for k, v in model.scorer.model.state_dict().items()}
    )


def softmax_of(q, k, w, heads):
    """The softmax of Vaswani et al. 2017, section 3.2, every head: (segments, heads, attending tokens, tokens)."""
    q, k = linear(q, w("query")), linear(k, w("key"))
    width = q.shape[-1] // heads
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    return np.stack([softmax(q[..., p] @ np.swapaxes(k[..., p], -1, -2) / np.sqrt(width)) for p in parts], axis=1)


def received(weights):
    """What each token gets, as a multiple of an equal share; written as loops."""
    segments, heads, attending, tokens = weights.shape
    out = np.zeros((segments, tokens))
    for h in range(heads):
        for i in range(attending):
            out += weights[:, h, i]
    return out * tokens / (heads * attending)


# ------------------------------------------------------------------ the maps


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("sizes", SIZES[TFT])
@pytest.mark.parametrize("ablation", MODELS[TFT].ablations)
def test_the_transformers_maps_are_those_of_its_equations(ablation, sizes):
    model, record = final(TFT, ablation, sizes)
    frames = frames_of(model, 3 * sizes["segment_frames"] - 4)
    scored = model.score(frames)
    x, w = prepared(model, record, frames, scored.frames)
    s, stride = model.spec.settings, model.spec.settings["stride"]
    F, D = s["n_mels"], s["segment_frames"]
    expected, q, k = {}, None, None
    if "T" in ablation.split("+"):
        tokens = encode(x, w("time_encoder"), (stride, 1)).transpose(0, 2, 1)  # (1), the mean over the channels
        below = encoder_layers(tokens, None, None, w("time_transformer"), s["time_layers"] - 1, s["time_heads"])
        last = w("time_transformer")(f"layers.{s['time_layers'] - 1}")("attention")
        expected["time_transformer"] = softmax_of(below, below, last, s["time_heads"])  # (2)
        q_hat = encoder_layers(tokens, None, None, w("time_transformer"), s["time_layers"], s["time_heads"])
        q = linear(q_hat.transpose(0, 2, 1), w("time_map"))
    if "F" in ablation.split("+"):
        tokens = encode(x, w("frequency_encoder"), (1, stride))  # (4)
        below = encoder_layers(
            tokens, None, None, w("frequency_transformer"), s["frequency_layers"] - 1, s["frequency_heads"]
        )
        last = w("frequency_transformer")(f"layers.{s['frequency_layers'] - 1}")("attention")
        expected["frequency_transformer"] = softmax_of(below, below, last, s["frequency_heads"])  # (5)
        k_hat = encoder_layers(
            tokens, None, None, w("frequency_transformer"), s["frequency_layers"], s["frequency_heads"]
        )
        k = linear(k_hat.transpose(0, 2, 1), w("frequency_map")).transpose(0, 2, 1)
    cells = {}
    if "TF" in ablation.split("+"):
        v = encode(x, w("time_frequency_encoder"), (stride, stride))  # (7)
        q, k = v if q is None else q, v if k is None else k
        layers = s["time_frequency_layers"]
        below = (
            encoder_layers(q, k, v, w("time_frequency_transformer"), layers - 1, s["time_frequency_heads"])
            if layers > 1
            else v
        )
        last = w("time_frequency_transformer")(f"layers.{layers - 1}")("attention")
        expected["time_frequency_transformer"] = softmax_of(q, k, last, s["time_frequency_heads"])  # (8)
        patches = received(expected["time_frequency_transformer"])[:, :, None] * np.abs(below)
        step = stride**2
        rows = [min(range(patches.shape[1]), key=lambda j: (abs(j * step - i), -j)) for i in range(F)]
        columns = [min(range(patches.shape[2]), key=lambda j: (abs(j * step - i), -j)) for i in range(D)]
        cells["time_frequency_transformer"] = patches[:, rows][:, :, columns]
    if "time_transformer" in expected:
        cells["time_transformer"] = np.stack([received(expected["time_transformer"])] * F, axis=1)
    if "frequency_transformer" in expected:
        cells["frequency_transformer"] = np.stack([received(expected["frequency_transformer"])] * D, axis=2)

    seen = attend(model, frames, scored.frames)
    assert list(seen) == [
        f"{word}_transformer" for word in ("time", "frequency", "time_frequency") if f"{word}_transformer" in expected
    ]
    for name, part in seen.items():
        np.testing.assert_allclose(part.weights, expected[name], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(part.cells, cells[name], rtol=1e-9, atol=1e-10)
        assert np.ptp(part.cells[0]) > 1e-3, "a comparison of constants shows nothing"
        np.testing.assert_allclose(received(part.weights).mean(axis=1), 1, rtol=1e-12)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    "sizes",
    [
        *SIZES[ATFNN],
        SIZES[ATFNN][0] | {"attention_weights": "linear"},
        SIZES[ATFNN][1] | {"attention_weights": "softmax", "band_token": "segment"},
    ],
)
@pytest.mark.parametrize("ablation", ["ATFNN", "AFNN", "ATNN"])
def test_atfnns_maps_are_the_weights_of_its_equations(ablation, sizes):
    model, record = final(ATFNN, ablation, sizes)
    frames = frames_of(model, 40)
    scored = model.score(frames)
    x, w = prepared(model, record, frames, scored.frames)
    s = model.settings
    squash, encoder = s["attention_weights"], segment_f_encoder if s["band_token"] == "segment" else f_encoder
    expected = {}
    enhanced = x
    if ablation != "ATNN":
        expected["frequency_attention"] = group_weights(
            x, w("frequency_attention"), (s["band_group"], 1), squash
        )  # (1)
        enhanced = x + expected["frequency_attention"] * x
    if ablation != "AFNN":
        encoding = encoder(enhanced, w("frequency_encoder"), s["heads"]) if ablation == "ATFNN" else x
        seen_by = encoding if s["time_attention_from"] == "encoding" else x
        weights = group_weights(seen_by, w("time_attention"), (1, s["frame_group"]), squash)  # (2) or (4)
        expected["time_attention"] = weights
    seen = attend(model, frames, scored.frames)
    assert list(seen) == list(expected)
    for name, part in seen.items():
        np.testing.assert_allclose(part.cells, expected[name][:, 0], rtol=1e-9, atol=1e-10)
        assert part.cells.min() < part.cells.max()
        assert (part.cells.min() < 0) == (squash == "linear")
        assert (
            part.unit
            == {
                "sigmoid": "weight (0 to 1)",
                "linear": "weight (of either sign)",
                "softmax": "weight (0 to 1; those of all groups add up to 1)",
            }[squash]
        )


def test_looking_changes_no_score_and_leaves_no_hook():
    model, _ = final(TFT, "T+F+TF", SIZES[TFT][0])
    frames = frames_of(model, 33)
    before = model.score(frames).probabilities
    attend(model, frames, model.score(frames).frames)
    np.testing.assert_array_equal(model.score(frames).probabilities, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.scorer.model.modules())


def test_a_model_without_attention_is_refused():
    model, _ = final(ATFNN, "TFNN", SIZES[ATFNN][0])
    with pytest.raises(RequestError, match="TFNN has neither F- nor T-Attention to show; ATFNN, AFNN and ATNN have"):
        look(model, Chosen(name="x", frames=frames_of(model, 20), about=""), None)


# ------------------------------------------------------------------ the axes


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_a_cell_is_the_mean_of_all_segments_that_show_it(frames, length, hop):
    from tfser.features.segments import segment_frames

    if hop > length:
        hop = length
    taken = segment_frames(0, frames, length, hop)
    cells = np.random.default_rng(frames).normal(size=(len(taken), 3, length))
    expected = np.zeros((3, frames))
    for frame in range(frames):
        places = [(s, p) for s in range(len(taken)) for p in range(length) if taken[s, p] == frame]
        expected[:, frame] = np.mean([cells[s, :, p] for s, p in places], axis=0)
    np.testing.assert_allclose(over_utterance(cells, taken), expected, atol=1e-12)


def test_bands_are_centred_where_the_front_ends_triangles_peak():
    front_end = FrontEnd(n_mels=80)
    fine = torchaudio.functional.melscale_fbanks(80001, 0.0, 8000.0, 80, 16000)  # every 0.1 Hz
    np.testing.assert_allclose(front_end.band_centres_hz, fine.argmax(dim=0).numpy() / 10, atol=0.2)
    # Figure 6 of the ATFNN paper: band 50 lies around 2700 Hz.
    assert abs(front_end.band_centres_hz[49] - SPLIT_HZ) < 100


def test_a_frames_time_is_where_a_click_is_loudest():
    front_end = FrontEnd(n_mels=20)
    for at in (0.1, 0.25, 0.499):
        samples = np.zeros((1, 16000), dtype=np.float32)
        samples[0, round(at * 16000)] = 1.0
        frames = log_mel(Waveform(samples, 16000), front_end)
        loudest = frames.sum(axis=1).argmax()
        times = front_end.first_s + np.arange(len(frames)) * front_end.hop_s
        assert loudest == np.abs(times - at).argmin()


@given(st.integers(1, 200), st.integers(1, 3))
def test_a_cell_is_shown_with_the_patch_that_is_centred_nearest(size, stride):
    step, count = stride**2, -(-size // stride**2)
    distances = np.abs(np.arange(count)[None, :] * step - np.arange(size)[:, None])
    chosen = nearest(size, count, step)
    np.testing.assert_array_equal(distances[np.arange(size), chosen], distances.min(axis=1))


def test_an_utterance_shorter_than_a_segment_is_shown_once():
    model, _ = final(TFT, "T+F+TF", SIZES[TFT][0])
    shown = look(model, Chosen(name="x", frames=frames_of(model, 7), about=""), None)
    assert {m.values.shape for m in shown.maps} == {(16, 7)}
    assert (shown.features.shape, len(shown.time_s)) == ((16, 7), 7)


@pytest.mark.full
def test_a_figure_names_the_features_that_the_model_reads(tmp_path, monkeypatch):
    model, _ = final(TFT, "T+F+TF", SIZES[TFT][0])
    titles = []
    drawn = figure._panel
    monkeypatch.setattr(figure, "_panel", lambda *a: titles.append((a[4], a[5])) or drawn(*a))
    for name, column in (("log_mel", "log_mel"), ("spectrogram", "spectrogram"), ("time_s", "features")):
        monkeypatch.setitem(MODELS, TFT, replace(MODELS[TFT], features=replace(LOG_MEL, name=name)))
        shown = look(model, Chosen(name="x", frames=frames_of(model, 30), about=""), None)
        *_, table, arrays = figure.write(shown, tmp_path / name)
        assert list(pd.read_csv(table).columns[:3]) == ["time_s", "frequency_hz", column]
        with np.load(arrays, allow_pickle=False) as kept:
            np.testing.assert_array_equal(kept[column], shown.features)
            assert json.loads(str(kept["about"]))["features"] == name
    first = [each for each in titles if each[0].startswith("(a)")]
    assert first == [(f"(a) {title}", "log power") for title in ("log-mel", "spectrogram", "time-s")]
    spectrogram = {name: h.default for name, h in SPECTROGRAM.hyperparameters.items()}
    assert SPECTROGRAM.extractor(spectrogram).unit == "log magnitude"


def test_one_segment_is_shown_at_its_place_in_the_utterance():
    model, _ = final(TFT, "T+F+TF", SIZES[TFT][0])
    frames = frames_of(model, 50)
    chosen = Chosen(name="x", frames=frames, about="")
    whole, third = look(model, chosen, None), look(model, chosen, 3)
    # Segments begin at 0 and 20; the third ends with the utterance.
    np.testing.assert_array_equal(third.features, frames[30:50].T.astype(np.float64))
    np.testing.assert_array_equal(third.time_s, whole.time_s[30:50])
    for a, b in zip(third.maps, whole.maps, strict=True):
        np.testing.assert_array_equal(a.values[:, 10:], b.values[:, 40:])  # 30 to 40 are the second segment's too
    assert "segment 3 of 3" in third.heading
    for wrong in (0, 4, -1):
        with pytest.raises(RequestError, match=r"x has 3 of 20 frames: 1 to 3"):
            look(model, chosen, wrong)


# ------------------------------------------------------------------ the files


@pytest.fixture(scope="module")
def shown():
    """What a figure of an ATFNN shows, one of a Transformer's segment, and one without variation."""
    atfnn, _ = final(ATFNN, "ATFNN", {**SIZES[ATFNN][0], "n_mels": 80})
    transformer, _ = final(TFT, "T+F+TF", SIZES[TFT][0])
    long = look(atfnn, Chosen(name="Müller/03 $x$", frames=frames_of(atfnn, 120), about="anger"), None)
    short = look(transformer, Chosen(name="a", frames=np.zeros((30, 16), dtype=np.float32), about="a file"), 1)
    return [long, short]


@pytest.mark.full
def test_equal_values_give_equal_bytes_whatever_a_persons_settings_are(shown, tmp_path):
    for one in shown:
        first = figure.write(one, tmp_path / "a")
        with mpl.rc_context({"font.size": 30, "image.cmap": "jet", "savefig.dpi": 20, "text.parse_math": True}):
            second = figure.write(one, tmp_path / "b")
        assert [p.suffix for p in first] == [".png", ".pdf", ".csv", ".npz"]
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
        with Image.open(first[0]) as image:
            assert set(image.info) <= {"dpi"}, "no date, no version"
    assert figure.file_name("a/../b c") != figure.file_name("a/../b-c")
    assert re.fullmatch(r"[A-Za-z0-9_+-]+", shown[0].name)


@pytest.mark.full
def test_csv_and_npz_hold_what_is_drawn(shown, tmp_path):
    for one in shown:
        *_, table, arrays = figure.write(one, tmp_path)
        with np.load(arrays, allow_pickle=False) as kept:
            np.testing.assert_array_equal(kept["log_mel"], one.features)
            about = json.loads(str(kept["about"]))
            assert about["heading"] == one.heading
            for name, weights in one.weights.items():
                np.testing.assert_array_equal(kept[f"weights_{name}"], weights)
            rows = pd.read_csv(table)
            bands, frames = one.features.shape
            assert len(rows) == bands * frames
            np.testing.assert_allclose(rows["time_s"].to_numpy()[::bands], kept["time_s"], atol=1e-6)
            np.testing.assert_allclose(rows["frequency_hz"].to_numpy()[:bands], kept["frequency_hz"], atol=1e-3)
            for name in ["log_mel", *(f"{m.name}_attention" for m in one.maps)]:
                np.testing.assert_array_equal(rows[name].to_numpy().reshape(frames, bands).T, kept[name])


@pytest.mark.full
def test_the_line_at_2700_hz_lies_between_the_bands_around_it_and_only_in_atfnns_figures(shown):
    long, short = shown
    assert (long.line_hz, short.line_hz) == (2700.0, None)
    place = figure._band(long.frequency_hz, [2700.0])[0]
    below = int(place)
    assert long.frequency_hz[below] <= 2700 <= long.frequency_hz[below + 1]
    with_line, without = (
        np.asarray(Image.open(io.BytesIO(figure.to_png(one))).convert("L"), dtype=int)
        for one in (long, figure.Attention(**{f: getattr(long, f) for f in long.__slots__} | {"line_hz": None}))
    )
    changed = np.flatnonzero((with_line != without).any(axis=1))
    assert len(changed)
    assert ((with_line != without).sum(axis=1) > 200).any(), "a line across the panels"


class Panels:
    """Keeps every axes and image that a figure has."""

    def __init__(self, monkeypatch):
        self.axes, self.images = [], []
        own = figure._panel

        def kept(*given):
            self.images.append(own(*given))
            self.axes.append(given[1])
            return self.images[-1]

        monkeypatch.setattr(figure, "_panel", kept)


def of_two_emotions():
    model, _ = final(ATFNN, "ATFNN", {**SIZES[ATFNN][0], "n_mels": 80})
    return [
        look(model, Chosen(name=name, frames=frames_of(model, frames), about="", label=name), None)
        for name, frames in (("happy", 120), ("sad", 30))
    ]


@pytest.mark.full
def test_two_emotions_share_one_colour_scale_per_unit_on_axes_of_frames_and_mel_bands(monkeypatch):
    both = of_two_emotions()
    panels = Panels(monkeypatch)
    drawn = figure.draw(both)
    assert len(panels.axes) == 6, "log-mel, F- and T-attention of both, as in figure 6"
    for unit in ([0, 3], [1, 2, 4, 5]):
        values = [panels.images[i].get_array() for i in unit]
        limits = (min(v.min() for v in values), max(v.max() for v in values))
        assert {panels.images[i].get_clim() for i in unit} == {limits}
    for index, (axes, image) in enumerate(zip(panels.axes, panels.images, strict=True)):
        one, part = both[index // 3], index % 3
        wanted = one.features if part == 0 else one.maps[part - 1].values
        np.testing.assert_array_equal(image.get_array(), wanted)
        assert list(image.get_extent()) == [0.5, wanted.shape[1] + 0.5, 0.5, 80.5], "frames and bands count from 1"
        assert axes.get_xlabel().startswith(f"frame\n({'abcdef'[index]}) ")
        assert axes.get_ylabel() == (f"{one.label}\nmel band" if part == 0 else "")
        assert axes.get_title() == ""
        (line,) = axes.lines
        low, high = np.searchsorted(one.frequency_hz, SPLIT_HZ) + np.array([0, 1])  # counted from 1
        assert low <= line.get_ydata()[0] <= high
    box = re.search(rb"/MediaBox \[ ?0 0 ([0-9.]+) ([0-9.]+)", drawn.pdf)
    assert float(box[1]) / 72 * 25.4 == pytest.approx(122, abs=0.01)
    assert b"/Type3" not in drawn.pdf
    assert b"CreationDate" not in drawn.pdf
    assert figure.draw(both) == drawn


@pytest.mark.full
def test_one_utterance_has_a_colour_scale_for_each_panel(shown, monkeypatch):
    panels = Panels(monkeypatch)
    figure.draw([shown[0]])
    for image in panels.images:
        assert image.get_clim() == (image.get_array().min(), image.get_array().max())


@pytest.mark.full
def test_frames_of_a_later_segment_keep_their_numbers(monkeypatch):
    model, _ = final(TFT, "T+F+TF", SIZES[TFT][0])
    chosen = Chosen(name="x", frames=frames_of(model, 50), about="")
    panels = Panels(monkeypatch)
    figure.draw([look(model, chosen, 3)])
    assert {tuple(image.get_extent()) for image in panels.images} == {(30.5, 50.5, 0.5, 16.5)}


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    words = ["--out", str(out), "--in-process", "--fold", "anna", "--epochs", "1", "--name", "looked", "--model", TFT]
    assert sweep_command.main([str(tiny_manifest), *words, "--set", *SET_SMALL]) == 0
    return out


def asked(capsys, *words):
    code = command.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_an_utterance_and_its_file_show_the_same(done, tiny_manifest, tmp_path, capsys):
    file = tiny_manifest.parent / "anna" / "calm0.wav"
    words = ["looked", "--results", done, "--out", tmp_path]
    code, out, err = asked(capsys, *words, "--utterance", "anna/calm0.wav", "bert/glad1.wav", "--file", file)
    assert code == 0, err
    paths = out.split()
    assert len(paths) == 3 * 4 + 2
    assert all((tmp_path / p).is_file() for p in paths)
    known, other, anonymous = (np.load(p, allow_pickle=False) for p in paths[3::4])
    for name in ("log_mel", "t_attention", "f_attention", "tf_attention", "time_s"):
        np.testing.assert_array_equal(known[name], anonymous[name])
    headings = [json.loads(str(kept["about"]))["heading"] for kept in (known, other, anonymous)]
    assert headings[0].startswith("anna/calm0.wav: calm, speaker anna (held out), recognised as ")
    assert headings[1].startswith("bert/glad1.wav: glad, speaker bert (among the training speakers), recognised as ")
    assert headings[2].startswith("calm0.wav: a file, recognised as ")


@pytest.mark.full
def test_each_emotion_is_shown_by_its_surest_utterance_and_all_in_one_figure(done, tmp_path, capsys):
    record = find("looked", Source(storage=done / ".tfser", results=done), {})
    sure = {}
    for u in record.scores.utterances:
        said = dict(zip(record.scores.emotions, u.p, strict=True))
        if max(said, key=said.get) == u.truth:
            sure[u.truth] = max(sure.get(u.truth, (0.0, "")), (said[u.truth], u.id))
    words = ["looked", "--results", done, "--out", tmp_path, "--emotion"]
    code, out, err = asked(capsys, *words, *sure)
    assert code == 0, err
    endings = [path.rpartition(".")[2] for path in out.split()]
    together = ["png", "pdf"] if len(sure) > 1 else []
    assert endings == ["png", "pdf", "csv", "npz"] * len(sure) + together
    headings = [json.loads(str(np.load(p)["about"]))["heading"] for p in out.split() if p.endswith(".npz")]
    assert [heading.partition(": ")[0] for heading in headings] == [name for _, name in sure.values()]
    missing = [emotion for emotion in record.scores.emotions if emotion not in sure]
    code, _, err = asked(capsys, *words, "joy", *missing)
    assert code == 2
    assert "tiny has no emotion joy; it has calm, glad, tense" in err
    for emotion in missing:
        assert f"no test utterance with {emotion} was recognised; name one with --utterance ID" in err


@pytest.mark.full
def test_figures_go_beside_the_results_by_default(done, capsys):
    code, out, _ = asked(capsys, "looked", "--results", done, "--utterance", "anna/calm0.wav", "--segment", "2")
    assert code == 0
    assert all(path.startswith(str(done / "attention")) and "_segment2" in path for path in out.split())


def test_what_cannot_be_shown_is_refused_with_what_can(done, tmp_path, capsys):
    words = ["looked", "--results", done, "--out", tmp_path]
    code, _, err = asked(capsys, *words)
    assert code == 2
    assert "nothing to look at; name --utterance ID or --file FILE (of the test utterances it is surest of anna/" in err
    code, _, err = asked(capsys, *words, "--utterance", "zoe", "adam", "anna/calm0.wav")
    assert code == 2
    assert "2 problems" in err
    assert "tiny has no zoe; of the test utterances it is surest of anna/" in err
    code, _, err = asked(capsys, *words, "--utterance", "anna/calm0.wav", "--segment", "99")
    assert code == 2
    (tmp_path / "text.wav").write_text("not audio")
    code, _, err = asked(capsys, *words, "--file", tmp_path / "text.wav", tmp_path / "gone.wav")
    assert code == 2
    assert "text.wav: unreadable" in err
    assert "gone.wav: missing" in err
    assert [p.name for p in tmp_path.iterdir()] == ["text.wav"], "nothing is written when something is refused"


def test_lost_features_of_a_database_without_a_name_of_its_own_are_said(done, tmp_path, capsys):
    trial = find("looked", Source(storage=done / ".tfser", results=done), {}).trial_id
    ledger = tmp_path / "ledger" / trial[:2]
    ledger.mkdir(parents=True)
    for ending in (".json", ".pt"):
        (ledger / f"{trial}{ending}").write_bytes(
            (done / ".tfser" / "ledger" / trial[:2] / f"{trial}{ending}").read_bytes()
        )
    code, _, err = asked(capsys, trial, "--storage", tmp_path, "--utterance", "anna/calm0.wav")
    assert code == 2
    assert (
        "cannot be read (FileNotFoundError), and it is not known by name; name audio with --file instead of --utterance"
        in err
    )


def test_lost_features_of_a_known_database_are_made_anew(tmp_path):
    from tfser.databases import load

    database = load("synthetic", None)
    utterance = database.utterances[0]
    model, record = final(TFT, "T+F+TF", SIZES[TFT][0], database="synthetic")
    place = Source(storage=tmp_path, results=tmp_path)
    (chosen,) = command.utterances(model, record, [utterance.id], place, None)
    with settled(torch.device("cpu")):
        np.testing.assert_array_equal(chosen.frames, log_mel(database.read(utterance), model.extractor))
    assert chosen.about == f"{utterance.emotion}, speaker {utterance.speaker} (among the training speakers)"
    right = model.score(chosen.frames).probabilities

    def recorded(p):
        heard = ScoredUtterance(id=utterance.id, speaker=utterance.speaker, truth=EMOTIONS[0], p=tuple(p.tolist()))
        return replace(record, scores=replace(record.scores, utterances=(heard,)))

    assert command.utterances(model, recorded(right), [utterance.id], place, None)
    with pytest.raises(
        RequestError, match="its scores are not the recorded ones: this is not the audio that the trial was tested on"
    ):
        command.utterances(model, recorded(np.roll(right, 1)), [utterance.id], place, None)


def test_a_folder_that_cannot_be_written_is_said(done, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = asked(
        capsys, "looked", "--results", done, "--utterance", "anna/calm0.wav", "--out", tmp_path / "file"
    )
    assert code == 1
    assert "the figures could not be written; name another folder with --out" in err


@pytest.mark.full
def test_a_wav_of_another_rate_has_the_same_axes(done, tmp_path, capsys):
    soundfile.write(tmp_path / "fast.wav", np.sin(np.arange(48000) / 30) * 0.3, 48000)
    code, out, err = asked(capsys, "looked", "--results", done, "--file", tmp_path / "fast.wav", "--out", tmp_path)
    assert code == 0, err
    kept = np.load(out.split()[3], allow_pickle=False)
    assert kept["time_s"][-1] == pytest.approx((96 * 160 + 256) / 16000)
    loudest = kept["log_mel"].mean(axis=1).argmax()
    assert abs(kept["frequency_hz"][loudest] - 48000 / 30 / 2 / np.pi) < 200
