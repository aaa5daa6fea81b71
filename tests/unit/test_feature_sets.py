"""Every feature set computes what its definition says, and its settings are checked in words before anything starts."""

import dataclasses
import importlib.util
import re
import threading
import tomllib
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import threadpoolctl
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.features import Length, Returns, framed, hamming, numpy_deltas, numpy_log_mel
from tests.helpers.tiny import write_tiny
from tests.helpers.tiny_hubert import tiny_hubert
from tfser.audio.files import Waveform
from tfser.databases import load
from tfser.errors import RequestError
from tfser.features import check, functionals, ssl
from tfser.features.base import Extractor
from tfser.features.functionals import OPENSMILE, STATISTICS, Functionals, statistics
from tfser.features.log_mel import LOG_MEL, FrontEnd, log_mel, mono
from tfser.features.mfcc import MFCC, Mfcc
from tfser.features.pack import Pack
from tfser.features.pitch import pitch
from tfser.features.sets import FEATURE_SETS
from tfser.features.spectrogram import SPECTROGRAM, Spectrogram
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS, PROPOSED
from tfser.planning import own_models, plan, request
from tfser.planning.search_space import Dimension, Space
from tfser.planning.settings import extractor, hashed, published_settings
from tfser.sweep import command as sweep_command
from tfser.sweep import hours
from tfser.sweep import request as sweep_request
from tfser.sweep.options import parse

ROOT = Path(__file__).parents[2]
MODEL = "time_frequency_transformer"


def noise(samples=6000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples)


def wave(samples, rate_hz=16000):
    return Waveform(np.asarray(samples)[None], rate_hz)


def loaded(file, code):
    """Write a module, and load it as a person's own file."""
    file.write_text(code, encoding="utf-8")
    module = types.ModuleType(file.stem)
    exec(compile(code, file, "exec"), module.__dict__)  # no byte code of an earlier edit in the same second
    return module


def defaults(features, **changes):
    return {name: h.default for name, h in features.hyperparameters.items()} | changes


# Log-mel frames


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("mel_scale", ["htk", "slaney"])
def test_every_setting_of_log_mel_is_what_its_definition_gives(mel_scale):
    front_end = FrontEnd.of(
        defaults(LOG_MEL, n_mels=20, window_ms=25.0, hop_ms=5.0, fft=1024, mel_scale=mel_scale, deltas=2, floor=1e-3)
    )
    assert (front_end.window, front_end.hop, front_end.n_fft, front_end.channels) == (400, 80, 1024, 3)
    static = numpy_log_mel(noise(), front_end)
    delta = numpy_deltas(static)
    rows = log_mel(wave(noise()), front_end)
    np.testing.assert_allclose(rows, np.hstack([static, delta, numpy_deltas(delta)]), atol=1e-8)
    assert (front_end.hop_s, front_end.window_s, front_end.first_s) == (0.005, 0.025, 0.032)


@pytest.mark.parametrize("mel_scale", ["htk", "slaney"])
def test_a_tone_is_loudest_in_the_band_whose_centre_it_has(mel_scale):
    front_end = FrontEnd(n_mels=40, mel_scale=mel_scale)
    for band in (10, 25):
        tone = np.sin(2 * np.pi * front_end.band_centres_hz[band] * np.arange(8000) / 16000).astype(np.float32)
        assert log_mel(wave(tone), front_end).mean(axis=0).argmax() == band


def test_log_mel_at_the_values_of_before_keeps_its_folders_and_any_other_value_has_its_own():
    assert FrontEnd().id == "mel80-4dba8a847a"
    assert FrontEnd(n_mels=40, preemphasis=0.97).id == "mel40-b1e8f1f581"
    assert FrontEnd.of(defaults(LOG_MEL)) == FrontEnd()
    others = [
        {"window_ms": 25.0}, {"hop_ms": 5.0}, {"fft": 1024}, {"mel_scale": "slaney"}, {"deltas": 1}, {"deltas": 2},
        {"floor": 1e-5},
    ]  # fmt: skip
    ids = {FrontEnd.of(defaults(LOG_MEL, **other)).id for other in others}
    assert len(ids - {FrontEnd().id}) == len(others)


@pytest.mark.parametrize("model", PROPOSED)
def test_a_setting_of_log_mel_enters_a_trial_only_where_it_is_not_what_it_was(model):
    settings = published_settings(model)
    added = {"window_ms", "hop_ms", "fft", "mel_scale", "deltas", "floor"}
    assert added <= settings.keys()
    assert not added & hashed(MODELS[model], settings).keys()
    assert added & hashed(MODELS[model], {**settings, "window_ms": 25, "fft": 512}).keys() == {"window_ms"}


@pytest.mark.parametrize(
    ("features", "changes", "text"),
    [
        (LOG_MEL, {"window_ms": 40.0}, "40 ms are 640 samples at 16000 Hz, more than the 512 points of fft; legal: at"),
        (LOG_MEL, {"fft": 256}, "320 samples at 16000 Hz, more than the 256 points of fft"),
        (LOG_MEL, {"fft": 256, "window_ms": 10.0}, r"fft: 256 points leave \d+ of 80 mel bands empty"),
        (SPECTROGRAM, {"window_ms": 60.0}, "at most 50 ms, or an fft of at least 960"),
        (MFCC, {"n_mfcc": 26}, "n_mfcc: 26 is not below n_mels 26"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_what_is_legal(features, changes, text):
    found = features.problems(defaults(features, **changes))
    assert any(re.search(text, problem) for problem in found), found
    assert features.problems(defaults(features)) == []


# Spectrograms


@pytest.mark.parametrize(("fft", "bands"), [(800, 200), (1600, 400)])
def test_a_spectrogram_holds_the_magnitudes_of_the_dft_up_to_4_khz(fft, bands):
    samples = noise().astype(np.float32)
    exact = np.abs(np.fft.rfft(framed(samples.astype(np.float64), 640, 160) * hamming(640), n=fft))[:, :bands]
    linear = Spectrogram.of(defaults(SPECTROGRAM, fft=fft, magnitudes="linear"))
    assert (linear.bands, linear.band_centres_hz[-1]) == (bands, 4000 - 16000 / fft)
    np.testing.assert_allclose(linear(wave(samples)), exact, atol=1e-3)
    logarithm = Spectrogram.of(defaults(SPECTROGRAM, fft=fft))
    np.testing.assert_allclose(np.exp(logarithm(wave(samples))) - 1e-3, exact, atol=1e-3)
    assert logarithm(wave(samples)).dtype == np.float32
    assert linear.id != logarithm.id


def test_a_spectrogram_needs_one_window_and_no_whole_dft():
    wide = Spectrogram(fft=1600)
    assert wide(wave(noise(640).astype(np.float32))).shape == (1, 400)
    with pytest.raises(ValueError, match=r"lasts 39.9 ms; one frame needs 40 ms"):
        wide(wave(noise(639).astype(np.float32)))


# MFCC


@pytest.mark.usefixtures("in_float64")
def test_mfcc_are_the_cosine_transform_of_log_mel_with_energy_and_deltas():
    wanted, samples = Mfcc.of(defaults(MFCC)), noise()
    cepstrum = scipy.fft.dct(numpy_log_mel(samples, wanted.mel), norm="ortho")[:, 1:13]
    frames = framed(samples, 512, 160)[:, 56:456]
    static = np.hstack([cepstrum, np.log((frames**2).sum(axis=1) + 1e-6)[:, None]])
    delta = numpy_deltas(static)
    rows = wanted(wave(samples))
    assert (wanted.bands, wanted.channels) == (39, 1)
    # torchaudio keeps its cosines as float32.
    np.testing.assert_allclose(rows, np.hstack([static, delta, numpy_deltas(delta)]), atol=1e-4)
    plain = Mfcc.of(defaults(MFCC, energy=False, deltas=0, mean_normalisation=True))
    np.testing.assert_allclose(plain(wave(samples)), cepstrum - cepstrum.mean(axis=0), atol=1e-4)


# Functionals


def test_the_statistics_of_a_contour_are_those_of_scipy():
    contours = np.random.default_rng(3).gamma(2.0, size=(4, 57))
    time_s = np.sort(np.random.default_rng(4).uniform(0, 3, 57))
    found = dict(zip(STATISTICS, statistics(contours, time_s).T, strict=True))
    line = [scipy.stats.linregress(time_s, contour) for contour in contours]
    residuals = [contour - each.intercept - each.slope * time_s for contour, each in zip(contours, line, strict=True)]
    expected = {
        "mean": contours.mean(axis=1),
        "sd": contours.std(axis=1),
        "min": contours.min(axis=1),
        "max": contours.max(axis=1),
        "range": np.ptp(contours, axis=1),
        "skewness": scipy.stats.skew(contours, axis=1),
        "kurtosis": scipy.stats.kurtosis(contours, axis=1),
        "quartile1": np.percentile(contours, 25, axis=1),
        "median": np.median(contours, axis=1),
        "quartile3": np.percentile(contours, 75, axis=1),
        "slope": np.array([each.slope for each in line]),
        "line_error": np.array([np.sqrt(np.mean(residual**2)) for residual in residuals]),
    }
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def functional(samples, rate_hz=16000):
    wanted = Functionals()
    (row,) = wanted(wave(np.asarray(samples, dtype=np.float32), rate_hz))
    assert len(row) == wanted.bands == len(set(wanted.names))
    return dict(zip(wanted.names, row.tolist(), strict=True))


@pytest.mark.parametrize("rate_hz", [16000, 22050])
def test_the_pitch_of_a_tone_of_200_hz_is_200_hz_and_noise_has_none(rate_hz):
    time_s = np.arange(rate_hz) / rate_hz
    found = functional(0.1 * np.sin(2 * np.pi * 200 * time_s), rate_hz)
    assert found["pitch_hz_mean"] == pytest.approx(200, abs=0.1)
    assert found["pitch_hz_range"] < 0.2
    assert found["voicing_min"] > 0.99
    hiss = functional(noise(16000))
    assert hiss["voicing_max"] < 0.5
    assert [value for name, value in hiss.items() if name.startswith("pitch")] == [0] * 2 * len(STATISTICS)


def test_a_rising_voice_with_overtones_has_its_fundamental_for_pitch_and_its_rise_for_slope():
    hz = 120 + 60 * np.arange(24000) / 16000
    phase = 2 * np.pi * np.cumsum(hz) / 16000
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 12))
    found = functional(0.1 * voice)
    assert found["pitch_hz_slope"] == pytest.approx(60, rel=0.02)
    assert found["pitch_hz_delta_mean"] == pytest.approx(0.6, rel=0.05)  # in 10 ms
    assert (found["pitch_hz_min"], found["pitch_hz_max"]) == pytest.approx((121, 209), abs=3)


@given(
    samples=st.sampled_from([1, 512, 4000]),
    kind=st.sampled_from(["zero", "constant", "impulse", "square", "faint", "loud"]),
)
@settings(max_examples=18, deadline=None)
def test_functionals_are_finite_whatever_they_are_made_of(samples, kind):
    made = {
        "zero": np.zeros(samples),
        "constant": np.full(samples, 0.5),
        "impulse": np.eye(1, samples, samples // 2)[0],
        "square": np.sign(np.sin(np.arange(samples) / 9)),
        "faint": 1e-9 * noise(samples),
        "loud": 16 * noise(samples),
    }[kind]
    found = functional(made)
    assert all(np.isfinite(value) for value in found.values())


def test_the_pitch_of_real_speech_is_that_of_its_speakers(real_speech):
    database = load("emodb", real_speech, allow_incomplete=True)
    medians = {}
    for speaker in ("03", "14"):  # a man and a woman
        spoken = [u for u in database.utterances if u.speaker == speaker and u.emotion == "neutral"][:4]
        hz = [pitch(mono(database.read(u)), 16000, 160) for u in spoken]
        medians[speaker] = float(torch.cat([p[v >= 0.5] for p, v in hz]).median())
    assert 90 < medians["03"] < 160 < medians["14"] < 260


def test_without_the_extra_a_set_of_opensmile_is_refused_with_the_extra_and_its_licence(monkeypatch):
    monkeypatch.setattr(functionals, "_version", lambda: "")
    for name in OPENSMILE:
        (problem,) = functionals.missing({"set": name})
        assert f"set: {name} needs the package opensmile" in problem
        assert "pip install 'tfser[opensmile]'" in problem
        assert "no commercial use" in problem
    assert functionals.missing({"set": "own"}) == []


def test_without_the_extra_the_plan_says_in_one_line_what_it_would_add_to_own_functionals(monkeypatch, tmp_path):
    monkeypatch.setattr(functionals, "_version", lambda: "")
    sweep = sweep_request.check(parse(["synthetic", "--model", "svm", "lda", "--out", str(tmp_path)]))
    assert [line for line in sweep_command.describe(sweep) if "opensmile" in line] == [
        "functionals: tfser's own, 360 values; the extra opensmile would add eGeMAPSv02, IS09, IS10, IS13, "
        "ComParE_2016, emobase (--set set=NAME), under a research licence that allows no commercial use"
    ]
    monkeypatch.setattr(functionals, "_version", lambda: "2.6.0")
    assert not [line for line in sweep_command.describe(sweep) if "opensmile" in line]
    assert functionals.remark({"set": "IS09"}) == ""


def test_the_version_of_opensmile_is_in_the_folder_of_its_features(monkeypatch):
    ids = set()
    for version in ("2.6.0", "2.7.0"):
        monkeypatch.setattr(functionals, "_version", lambda version=version: version)
        ids |= {functionals.of({"set": name}).id for name in OPENSMILE}
    assert len(ids) == 2 * len(OPENSMILE)
    assert all(check.declared(functionals.of({"set": name})) == [] for name in OPENSMILE)


def test_opensmile_is_an_extra_of_its_own_and_in_no_other_and_not_in_the_container():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    naming = [name for name, packages in extras.items() if any("opensmile" in package for package in packages)]
    assert naming == ["opensmile"]
    assert not [package for package in project["dependencies"] if "opensmile" in package]
    assert "opensmile" not in (ROOT / "cluster" / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.skipif(
    importlib.util.find_spec("opensmile") is None,
    reason="the extra opensmile is not installed: pip install 'tfser[opensmile]' (no commercial use)",
)
@pytest.mark.parametrize("name", OPENSMILE)
def test_a_set_of_opensmile_is_what_opensmile_gives_in_one_thread(name):
    import opensmile

    samples = noise(16000).astype(np.float32)
    smile = opensmile.Smile(getattr(opensmile.FeatureSet, name), opensmile.FeatureLevel.Functionals)
    before = threading.active_count()
    rows = functionals.of({"set": name})(wave(samples))
    assert threading.active_count() == before
    np.testing.assert_array_equal(rows, smile.process_signal(samples, 16000).to_numpy(dtype=np.float32))
    assert rows.shape == (1, OPENSMILE[name])
    assert np.isfinite(functionals.of({"set": name})(wave(samples[:512]))).all()


# Networks that learned without labels


@pytest.fixture
def tiny_bundle(tmp_path, monkeypatch):
    yield from tiny_hubert(tmp_path, monkeypatch)


def test_the_bundles_are_those_of_torchaudio():
    kinds = (torchaudio.pipelines.Wav2Vec2Bundle, torchaudio.pipelines.Wav2Vec2ASRBundle)
    there = {name for name in dir(torchaudio.pipelines) if type(getattr(torchaudio.pipelines, name)) in kinds}
    assert set(ssl.BUNDLES) == there


@pytest.mark.parametrize(("layer", "index"), [(0, 2), (1, 0), (3, 2)])
def test_a_layers_frames_are_those_of_the_network_as_float16(tiny_bundle, layer, index):
    wanted = ssl.Layer.of({"bundle": "HUBERT_BASE", "layer": layer})
    samples = noise(9000).astype(np.float32)
    rows = wanted(wave(samples))
    with torch.inference_mode():
        layers, _ = tiny_bundle.extract_features(torch.from_numpy(samples)[None])
    assert rows.shape == (27, 12) == (len(rows), wanted.bands)
    np.testing.assert_array_equal(rows, layers[index][0].numpy().astype(np.float16))
    assert wanted.hop_s == 0.02
    assert wanted == ssl.Layer.of({"bundle": "HUBERT_BASE", "layer": layer})


def test_of_a_long_utterance_the_first_30_seconds_are_read(tiny_bundle):
    wanted = ssl.Layer(bundle="HUBERT_BASE", layer=1)
    samples = noise(31 * 16000).astype(np.float32)
    np.testing.assert_array_equal(wanted(wave(samples)), wanted(wave(samples[: 30 * 16000])))


@pytest.mark.usefixtures("tiny_bundle")
def test_weights_that_are_not_there_are_named_with_their_place_and_never_downloaded(tmp_path, tiny):
    chosen = {"bundle": "HUBERT_BASE", "layer": 4}
    assert ssl.problems(chosen | {"layer": 3}) == ssl.missing(chosen) == []
    assert ssl.problems(chosen) == ["layer: 4 is above 3, the last layer of HUBERT_BASE; 0 is the last one too"]
    file = tmp_path / "hub" / "checkpoints" / "tiny_hubert.pth"
    file.write_bytes(b"no weights")
    with pytest.raises(RequestError, match=r"(?s)tiny_hubert.pth is not the file of its weights .* get it anew"):
        ssl.Layer(bundle="HUBERT_BASE")(wave(noise().astype(np.float32)))
    file.unlink()
    (problem,) = ssl.missing(chosen)
    assert f"HUBERT_BASE needs its weights, tiny_hubert.pth, and {file} is not there" in problem
    assert "torchaudio.pipelines.HUBERT_BASE.get_model()" in problem
    with pytest.raises(RequestError, match=r"anna/calm0.wav: no features: bundle: HUBERT_BASE needs its weights"):
        ensure(FeatureStore(tmp_path / "store"), tiny, ssl.Layer(bundle="HUBERT_BASE"))


# The page about them

PAGE = (ROOT / "docs" / "feature-sets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_page_about_feature_sets_has_every_setting_with_its_default_and_its_range(name):
    (section,) = re.findall(rf"^## `{name}`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows = {row[0]: row[1:3] for row in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|", section, re.MULTILINE)}
    known = FEATURE_SETS[name].hyperparameters
    if name == "functionals":
        assert {f"`{each}`" for each in known["set"].choices} <= {*re.findall(r"`\w+`", section)}
        return
    assert all(f"`{setting}`" in section for setting in known)
    for setting, (default, legal) in rows.items():
        h = known[setting]
        assert h.parse(default) == h.default, setting
        if h.low is not None:
            assert tuple(map(float, legal.split(" to "))) == (h.low, h.high), setting
        elif h.choices and setting != "bundle":
            assert legal == ", ".join(h.choices)


def test_the_pages_extractor_of_ones_own_is_extracted_planned_and_learned_from(tiny, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module = loaded(tmp_path / "loudness.py", code)
    model = module.MODEL
    pack = ensure(FeatureStore(tmp_path / "store"), tiny, model.feature_set.extractor({"window_ms": 25.0}))
    rows = np.asarray(pack.frames())
    assert rows.shape == (36, 4)
    heard = module.Loudness(25.0)(wave(np.full(1600, 0.5, dtype=np.float32)))
    np.testing.assert_allclose(heard, [[np.log(0.25 + 1e-9), 0, 0, 0]], atol=1e-6)
    source = own_models.get(f"{tmp_path / 'loudness.py'}:MODEL")
    asked = request.Request(models=(model.name,), sources={model.name: source.digest}, fixed=(("window_ms", "5"),))
    assert request.problems(asked, {}) == []
    planned = plan.make(asked, [tiny], lambda database: "digest", {})
    (read,) = planned.features[tiny.name]
    assert (read.inner.window_ms, read.id.endswith(source.digest)) == (5.0, True)
    fitted = model.build("full", {"window_ms": 25.0}, 0).fit(rows, [u.emotion for u in pack.utterances])
    assert fitted.score(rows, [u.emotion for u in pack.utterances]) > 0.5  # the emotions are tones of three pitches


# The store


def ensure(store, database, extractor, mapper=map):
    return store.ensure(database, audio_digests(database), extractor, mapper)


@pytest.mark.usefixtures("tiny_bundle")
@pytest.mark.parametrize("name", ["spectrogram", "mfcc", "functionals", "ssl"])
def test_the_store_keeps_every_feature_set_memory_mapped_and_extracts_it_once(name, tiny, tmp_path):
    features = FEATURE_SETS[name]
    settings = defaults(features) | ({"bundle": "HUBERT_BASE"} if name == "ssl" else {})
    wanted = features.extractor(settings)
    store = FeatureStore(tmp_path / "store")
    pack = ensure(store, tiny, wanted)
    frames = pack.frames()
    assert isinstance(frames, np.memmap)
    assert (frames.shape[1], frames.dtype) == (wanted.channels * wanted.bands, wanted.dtype)
    for packed, utterance in list(zip(pack.utterances, tiny.utterances, strict=True))[::12]:
        own = wanted(tiny.read(utterance))
        np.testing.assert_allclose(frames[packed.start : packed.start + packed.frames], own, rtol=1e-2, atol=1e-3)
    assert not wanted.vector or all(u.frames == 1 for u in pack.utterances)

    def none_left(function, chunks):
        assert not chunks
        return []

    assert ensure(store, tiny, wanted, none_left) == pack


def test_a_pack_of_before_is_read_and_one_of_another_type_of_number_is_not(tiny, tmp_path):
    extractor = FrontEnd(n_mels=16)
    pack = ensure(FeatureStore(tmp_path), tiny, extractor)
    table = pack.path.with_suffix(".json")
    assert '"dtype"' not in table.read_text()
    assert Pack.open(pack.path).dtype == "float32"
    table.write_text(table.read_text().replace('"n_mels": 16', '"n_mels": 16, "dtype": "float16"'))
    with pytest.raises(ValueError, match="float16 values that its table states"):
        Pack.open(pack.path)
    np.testing.assert_array_equal(ensure(FeatureStore(tmp_path), tiny, extractor).frames(), pack.frames())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("list", "the extractor returned list, not a NumPy array"),
        ("flat", r"the extractor returned the shape \(2,\), not \(rows, 2\)"),
        ("wide", r"the extractor returned the shape \(3, 3\), not \(rows, 2\)"),
        ("float64", "the extractor returned float64, and declares float32"),
        ("nan", "6 of the 6 values that the extractor returned are NaN or infinite"),
        ("none", "the extractor returned no rows"),
        ("raises", r"KeyError: 'raises' \(features.py, line \d+\)"),
        ("refuses", "it has no vowel"),
    ],
)
def test_what_an_extractor_of_ones_own_returns_wrongly_is_refused_with_the_utterance(kind, text, tiny, tmp_path):
    with pytest.raises(RequestError) as caught:
        ensure(FeatureStore(tmp_path), tiny, Returns(kind))
    (problem,) = caught.value.problems
    assert re.search(text, problem), problem
    assert "anna/calm0.wav: no features: " in problem
    assert re.search(r"\(36 of this kind; also \S+anna/calm1.wav, ", problem)
    assert "change the settings or the code of the features" in problem
    assert not [path for path in tmp_path.rglob("*.json") if path.parent.name != "parts"]


def test_a_vector_of_several_rows_is_refused(tiny, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Several(Returns):
        vector = True

    with pytest.raises(RequestError, match=r"returned 3 rows, and says that an utterance is one \(vector\)"):
        ensure(FeatureStore(tmp_path), tiny, Several("right"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": "../elsewhere"}, "its id '../elsewhere' cannot name a folder"),
        ({"id": "Upper"}, "its id 'Upper' cannot name a folder"),
        ({"id": "con"}, "its id 'con' cannot name a folder"),
        ({"id": None}, "its id None cannot name a folder"),
        ({"bands": 0}, "its bands are 0, not a whole number of at least 1"),
        ({"channels": 2.0}, "its channels are 2.0, not a whole number"),
        ({"dtype": "float64"}, "its dtype 'float64' is not one of float32, float16"),
        ({"__hash__": None}, "it cannot be a key"),
    ],
)
def test_what_an_extractor_of_ones_own_declares_wrongly_is_refused_before_any_audio_is_read(
    changes, text, tiny, tmp_path
):
    wrong = type("Wrong", (Returns,), changes)("right")
    with pytest.raises(RequestError) as caught:
        ensure(FeatureStore(tmp_path), tiny, wrong)
    assert [problem.startswith(text) for problem in caught.value.problems] == [True]
    assert caught.value.source == "features of Wrong"
    assert list(tmp_path.iterdir()) == []


def test_different_audio_with_the_same_features_is_not_taken_for_a_copy(tmp_path):
    database = load(str(write_tiny(tmp_path / "corpus")), None)
    pack = ensure(FeatureStore(tmp_path / "store"), database, Length())
    assert len(np.unique(pack.frames())) < len(pack.utterances) == 36


def test_extraction_computes_with_one_thread_of_torch_blas_and_openmp_and_then_with_as_many_as_before(tiny, tmp_path):
    seen = []

    class Watching(Returns):
        def __call__(self, waveform):
            seen.append((torch.get_num_threads(), *(pool["num_threads"] for pool in threadpoolctl.threadpool_info())))
            return np.ones((1, 2), dtype=np.float32)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threadpoolctl.threadpool_limits(limits=2):
            ensure(FeatureStore(tmp_path), tiny, Watching("right"))
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert {count for counts in seen for count in counts} == {1}


# Planning


def asked(*fixed, **changes):
    return request.Request(models=(MODEL,), fixed=fixed, **changes)


def test_a_window_that_does_not_fit_is_refused_in_planning_with_every_other_problem():
    found = request.problems(asked(("window_ms", "40"), ("time_heads", "3")), {})
    assert [problem.split(": ")[:3] for problem in found] == [
        [f"{MODEL} T+F+TF", "time_heads", "3 does not divide the token width 20 (n_mels 80 / 4); legal"],
        [f"{MODEL} T+F+TF", "window_ms", "40 ms are 640 samples at 16000 Hz, more than the 512 points of fft; legal"],
    ]
    (problem,) = request.problems(asked(("deltas", "2")), {})
    assert problem.endswith("deltas: 2 adds channels, and this model reads one; legal: 0")


def space(**searched):
    dimensions = tuple(
        Dimension(name=name, kind="choice", values=values, when=when) for name, (values, when) in searched.items()
    )
    return Space(source="mine.yaml", model=MODEL, fixed={}, dimensions=dimensions)


def test_every_combination_that_a_space_can_sample_is_asked_for_its_features(tiny):
    both = space(fft=((512, 1024), ()), window_ms=((20.0, 40.0), ()))
    (problem,) = request.problems(asked(trials=2), {MODEL: both})
    assert problem.startswith("mine.yaml: it can sample what the model refuses: window_ms: 40 ms are 640 samples")
    safe = space(fft=((512, 1024), ()), window_ms=((20.0, 40.0), (("fft", (1024,)),)))
    assert request.problems(asked(trials=2), {MODEL: safe}) == []
    planned = plan.make(asked(trials=2), [tiny], lambda database: "digest", {MODEL: safe})
    kinds = {(each.n_fft, each.window) for each in planned.features[tiny.name]}
    assert kinds == {(512, 320), (1024, 320), (1024, 640)}


def test_features_that_a_models_own_file_declares_wrongly_are_told_in_planning(monkeypatch):
    broken = {
        "raises": lambda settings: {}["window"],
        "unequal": lambda settings: type("Fresh", (), {"id": "a", "channels": 1, "bands": 1, "dtype": "float32"})(),
        "unnamed": lambda settings: type("Wrong", (Returns,), {"id": "A/B"})("right"),
    }
    told = {
        "raises": "features own: KeyError: 'window'",
        "unequal": "features own: two of its extractors with the same settings are not equal: make their class",
        "unnamed": "features own: its id 'A/B' cannot name a folder",
    }
    for name, make in broken.items():
        own = replace(LOG_MEL, name="own", extractor=make)
        monkeypatch.setitem(MODELS, MODEL, replace(MODELS[MODEL], features=own))
        (problem,) = request.problems(asked(), {})
        assert problem.startswith(f"{MODEL} T+F+TF: {told[name]}")


def test_an_estimate_counts_frames_as_long_as_the_features_make_them(tiny, monkeypatch):
    monkeypatch.setattr(hours, "segment_seconds", lambda study: 1.0)
    estimates = []
    for hop in ("10", "2.5"):
        wanted = asked(("hop_ms", hop), ("segment_frames", "16"), epochs=1)
        planned = plan.make(wanted, [tiny], lambda database: "digest", {})
        estimates.append(hours.core_hours(planned, {tiny.name: tiny}))
    assert estimates[1] == pytest.approx(4 * estimates[0], rel=0.2)


@pytest.mark.parametrize("held", [{"hop_ms": 2.5}, {"training_hop": 4}, {"segment_frames": 16}])
def test_what_a_search_space_holds_fixed_makes_as_many_segments_as_the_same_given_with_set(tiny, monkeypatch, held):
    monkeypatch.setattr(hours, "segment_seconds", lambda study: 1.0)
    costs = []
    for own, fixed in (({}, {}), ({}, held), (held, {})):
        typed = tuple((name, str(value)) for name, value in own.items())
        searched = replace(space(learning_rate=[0.001, 0.003]), fixed=fixed)
        planned = plan.make(asked(*typed, epochs=1, trials=2), [tiny], lambda database: "digest", {MODEL: searched})
        costs.append(hours.core_hours(planned, {tiny.name: tiny}))
    assert costs[1] == costs[2] != costs[0]


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_feature_set_says_what_it_is_and_all_of_its_settings(name):
    features = FEATURE_SETS[name]
    assert features.name == name
    assert all(h.help and h.problem(h.default) is None for h in features.hyperparameters.values())
    made = features.extractor(defaults(features))
    assert isinstance(made, Extractor)
    assert check.declared(made) == []
    assert made == features.extractor(defaults(features))
    assert "Hz" in made.words
    assert made.hop_s == 0 if made.vector else made.hop_s > 0


def test_a_model_reads_the_features_that_its_settings_say():
    settings = published_settings(MODEL) | {"window_ms": 25.0, "fft": 1024}
    assert extractor(MODELS[MODEL], settings) == FrontEnd(preemphasis=0.97, window=400, n_fft=1024)
