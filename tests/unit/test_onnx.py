"""Final networks as ONNX files: the same scores, what a stranger has to know to run them, and every refusal."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.small_trainings import built, settings_of
from tfser.errors import RequestError
from tfser.evaluation.scores import scores
from tfser.final_models import onnx_export
from tfser.final_models.estimator import FinalEstimator
from tfser.final_models.model import Blueprint, FinalModel
from tfser.final_models.onnx_graph import rule_module
from tfser.models import MODELS, Network, base, rank_one
from tfser.planning.settings import hashed
from tfser.record import Record, Standardisation
from tfser.training.determinism import weights_digest
from tfser.training.scoring import Scorer, by_channel
from tfser.training.utterance_rules import RULES, UtteranceRule
from tfser.trial import TrialSpec

EMOTIONS = ("calm", "glad", "sad", "tense")

TRANSFORMER = {"n_mels": 16, "segment_frames": 16, "channels": 4, "feed_forward": 8, "time_frequency_feed_forward": 8}
ATFNN = {"n_mels": 10, "segment_frames": 16, "encoder_channels": 6, "lstm_hidden": 5, "lstm_layers": 1}
NARROW = {
    ("time_frequency_transformer", "T+F+TF"): TRANSFORMER,
    ("time_frequency_transformer", "T+F"): {**TRANSFORMER, "pooling": "together", "deviation": "unbiased"},
    ("atfnn", "ATFNN"): ATFNN,
    ("atfnn", "AFNN"): {**ATFNN, "band_token": "segment", "attention_weights": "softmax"},
    ("dnn_elm", "full"): {"hidden": 16},
    ("acrnn", "3-D"): {
        "conv_layers": 1, "first_maps": 4, "linear": 8, "lstm_hidden": 4, "hidden": 4, "segment_frames": 20
    },
    ("cnn_lstm", "full"): {
        "maps_1": 3, "maps_2": 4, "maps_3": 6, "lstm_hidden": 4, "hidden": 4, "fft": 800, "segment_frames": 60
    },
    ("seqcap", "CNN-GRU"): {
        "first_maps": 3, "maps": 8, "gru_hidden": 4, "hidden": 4, "top_hz": 2000.0, "segment_frames": 60
    },
    ("seqcap", "CNN"): {"first_maps": 3, "maps": 8, "top_hz": 2000.0, "segment_frames": 60},
    ("fcn_attention", "full"): {"channels": 4, "segment_frames": 80},
    ("dtpm", "full"): {"channels": 4, "hidden": 8},
    ("stc_attention", "full"): {"channels": 4, "segment_frames": 32},
    ("ssl_head", "full"): {"hidden": 16, "segment_frames": 20},
}  # fmt: skip
"""Networks of the comparison, each as it is built in but for its width."""

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed: pip install 'tfser[onnx]'",
)


def fitted(rule):
    """A rule as a training leaves it, fitted where it is a classifier."""
    random = np.random.default_rng(5)
    segments, of_utterance = random.dirichlet(np.ones(4), size=60), np.repeat(np.arange(20), 3)
    return rule.fit(segments, of_utterance, np.arange(20) % 4, 4, seed=0)


def final(name, ablation, **changes):
    """A final network with random weights, as the ledger would hand it over, and its record."""
    values = settings_of(name, ablation, **changes)
    network, rule = built(name, ablation, len(EMOTIONS), **changes), fitted(UtteranceRule.of(values))
    width = int(values["input_channels"]) * int(values["input_bands"])
    own = {n: v for n, v in values.items() if n not in ("input_channels", "input_bands")}
    spec = TrialSpec(
        database="tiny",
        database_digest="0123",
        protocol="speaker",
        fold="",
        purpose="deploy",
        model=name,
        ablation=ablation,
        seed=0,
        epochs=1,
        hyperparameters=tuple(sorted(hashed(MODELS[name], own).items())),
    )
    random, weights = np.random.default_rng(3), {**network.state_dict(), **rule.tensors()}
    takes = values.get("standardisation", "training") == "training"
    mean = random.normal(size=width) if takes else np.zeros(width)
    std = random.uniform(0.5, 2, size=width) if takes else np.ones(width)
    record = Record(
        spec=spec,
        scores=scores(EMOTIONS, [], None),
        epochs=1,
        started_unix=0.0,
        seconds=1.0,
        versions={"tfser": "1", "torch": "2", "torchaudio": "2", "numpy": "2"},
        standardisation=Standardisation(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
        weights_sha256=weights_digest(weights),
    )
    return FinalModel(Blueprint.of(record), weights), record


def answers(path, features):
    """What onnxruntime makes of the segments of an utterance."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["features"]
    assert [o.name for o in session.get_outputs()] == ["segments", "utterance"]
    return session.run(None, {"features": features.astype(np.float32)})


def test_the_list_of_networks_is_that_of_those_built_in():
    assert {name for name, _ in NARROW} == {name for name, model in MODELS.items() if isinstance(model, Network)}


@needs_onnx
@pytest.mark.full
@pytest.mark.parametrize(("name", "ablation"), NARROW, ids=" ".join)
def test_a_network_gives_the_scores_that_pytorch_gives_whatever_the_number_of_segments(name, ablation, tmp_path):
    model, record = final(name, ablation, **NARROW[name, ablation])
    (said,) = onnx_export.export(model, record, tmp_path / "m.onnx")
    assert "its probabilities differ from PyTorch's by" in said
    about = json.loads((tmp_path / "m.json").read_text())
    random, (length, hop) = np.random.default_rng(11), model.segment
    for frames in (length // 2 + 1, length, length + 1, 3 * length + 2):
        features = (np.array(model.bands.mean) + random.normal(size=(frames, len(model.bands.mean)))).astype(np.float32)
        expected = model.score(features)
        taken = expected.frames
        segments, utterance = answers(tmp_path / "m.onnx", features[taken])
        np.testing.assert_allclose(segments, expected.segments, atol=1e-5, rtol=0)
        np.testing.assert_allclose(utterance, expected.probabilities, atol=1e-5, rtol=0)
    assert about["input"]["shape"][2] == len(model.bands.mean)
    assert about["segments"]["hop"] == hop


@needs_onnx
@pytest.mark.full
def test_the_files_beside_a_graph_say_what_a_stranger_has_to_know(tmp_path):
    model, record = final("time_frequency_transformer", "T+F+TF", **TRANSFORMER)
    onnx_export.export(model, record, tmp_path / "m.onnx", "# card\n")
    features = np.random.default_rng(11).normal(size=(40, 16)).astype(np.float32)
    expected = model.score(features)
    segments, utterance = answers(tmp_path / "m.onnx", features[expected.frames])
    np.testing.assert_allclose(segments, expected.segments, atol=1e-5, rtol=0)
    np.testing.assert_allclose(utterance, expected.probabilities, atol=1e-5, rtol=0)
    assert (tmp_path / "m.md").read_text() == "# card\n"
    about = json.loads((tmp_path / "m.json").read_text())
    assert about["emotions"] == list(EMOTIONS)
    assert about["input"]["shape"] == ["segments", 16, 16]
    assert about["standardisation"]["in_graph"] is True
    np.testing.assert_array_equal(about["standardisation"]["mean"], model.bands.mean)
    assert about["features"]["settings"]["n_mels"] == 16
    assert about["utterance_rule"] == {"name": "mean", "in_graph": True}
    assert about["trial"]["id"] == record.trial_id
    assert about["largest_difference_from_pytorch"] <= 1e-5


@needs_onnx
@pytest.mark.full
def test_a_network_that_scores_whole_utterances_takes_any_number_of_frames(tmp_path):
    changes = {"channels": 4, "segment_frames": 80, "utterance_rule": "whole"}
    model, record = final("fcn_attention", "full", **changes)
    onnx_export.export(model, record, tmp_path / "m.onnx")
    for frames in (80, 90, 141):
        features = np.random.default_rng(frames).normal(size=(frames, len(model.bands.mean))).astype(np.float32)
        expected = model.score(features)
        _, utterance = answers(tmp_path / "m.onnx", features[None])
        np.testing.assert_allclose(utterance, expected.probabilities, atol=1e-5, rtol=0)
    about = json.loads((tmp_path / "m.json").read_text())
    assert about["input"]["shape"][1] == "frames, at least 80"


@needs_onnx
@pytest.mark.full
def test_features_that_have_to_be_standardised_first_are_said_to_be(tmp_path):
    model, record = final("time_frequency_transformer", "T+F+TF", **TRANSFORMER, standardisation="utterance")
    onnx_export.export(model, record, tmp_path / "m.onnx")
    about = json.loads((tmp_path / "m.json").read_text())
    assert about["standardisation"] == {
        "kind": "utterance",
        "in_graph": False,
        "rule": "from each value subtract its mean over the frames of the utterance, and divide by its deviation (at "
        "least 1e-5)",
        "mean": None,
        "std": None,
    }
    features = np.random.default_rng(1).normal(3, 2, size=(40, 16)).astype(np.float32)
    expected = model.score(features)
    own = (features - features.mean(axis=0)) / features.std(axis=0)
    segments, _ = answers(tmp_path / "m.onnx", own[expected.frames])
    np.testing.assert_allclose(segments, expected.segments, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 23])
def test_a_rule_in_the_graph_is_the_rule_of_the_trial(name, count):
    rule = fitted(UtteranceRule(name=name, p=3.0))
    segments = np.random.default_rng(count).dirichlet(np.ones(4), size=count)
    expected = rule(segments, np.zeros(count, dtype=np.int64))[0]
    found = rule_module(rule)(torch.from_numpy(segments)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("changes", [{"units": 0}, {}], ids=["ridge alone", "hidden units"])
def test_an_emotion_that_no_training_utterance_shows_gets_probability_0_in_the_graph(changes):
    random, of_utterance = np.random.default_rng(5), np.repeat(np.arange(20), 3)
    segments = random.dirichlet(np.ones(4), size=60)
    for rule in (UtteranceRule(name="statistics", **changes), UtteranceRule(name="pyramid", p=1000.0)):
        made = rule.fit(segments, of_utterance, np.arange(20) % 3, 4, seed=0)
        expected = made(segments[:6], np.zeros(6, dtype=np.int64))[0]
        found = rule_module(made)(torch.from_numpy(segments[:6])).numpy()
        assert found[3] == expected[3] == 0
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_softmax_means_written_out_are_the_fused_ones():
    random = torch.Generator().manual_seed(2)
    x, slope, offset = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((5, 7), (2,), (2,)))
    fused, plain = rank_one.softmax_means(x, slope, offset), rank_one.written_out(x, slope, offset)
    torch.testing.assert_close(plain, fused, rtol=1e-12, atol=1e-12)


def test_channels_are_split_off_rows_that_hold_all_bands_of_the_first_before_those_of_the_next():
    rows = torch.arange(2 * 3 * 4).reshape(2, 3, 4)  # 2 segments, 3 frames, 2 channels x 2 bands
    found = by_channel(rows, 2)
    assert found.shape == (2, 2, 2, 3)
    for segment, channel, band, frame in np.ndindex(*found.shape):
        assert found[segment, channel, band, frame] == rows[segment, frame, 2 * channel + band]


# ------------------------------------------------------------------ refusals


def test_every_reason_why_nothing_can_be_written_is_given_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx_of_another_planet", "onnxscript_too"))
    said = onnx_export.problems(tmp_path / "none" / "m.onnx", None)
    assert said == [
        f"--export: {tmp_path}/none/m.onnx cannot be written: there is no such folder",
        "--export: it needs onnx_of_another_planet and onnxscript_too: pip install 'tfser[onnx]'",
    ]
    assert "does not end in .onnx" in onnx_export.problems(tmp_path / "m.pt", None)[0]


def test_an_estimator_is_refused_with_what_serves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "PACKAGES", ())
    fitted_one = object.__new__(FinalEstimator)
    fitted_one.spec = final("time_frequency_transformer", "T+F+TF", **TRANSFORMER)[1].spec
    (said,) = onnx_export.problems(tmp_path / "m.onnx", fitted_one)
    assert said.endswith("is an estimator, and only networks are written as ONNX; tfser predict --log-model serves it")


def test_files_beside_it_that_are_not_of_an_export_are_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "PACKAGES", ())
    (tmp_path / "m.json").write_text('{"mine": 1}')
    (tmp_path / "m.md").write_text("my notes")
    said = onnx_export.problems(tmp_path / "m.onnx", None)
    assert [line.split()[1] for line in said] == [str(tmp_path / "m.json"), str(tmp_path / "m.md")]
    (tmp_path / "m.json").write_text(json.dumps({"format": onnx_export.FORMAT}))
    assert onnx_export.problems(tmp_path / "m.onnx", None) == []


class Halved(torch.nn.Module):
    """Not the network that was trained: its logits are half."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) / 2


@needs_onnx
@pytest.mark.full
def test_a_graph_that_gives_other_scores_is_not_written(tmp_path, monkeypatch):
    model, record = final("time_frequency_transformer", "T+F+TF", **TRANSFORMER)
    written = onnx_export._graph_bytes

    def wrong(graph, model):
        graph.network = Halved(graph.network)
        return written(graph, model)

    monkeypatch.setattr(onnx_export, "_graph_bytes", wrong)
    with pytest.raises(RequestError, match=r"as ONNX it gives other scores .*; nothing was written"):
        onnx_export.export(model, record, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


class Stubborn(torch.nn.Module):
    """A network that no graph can hold: what it computes depends on the values that it gets."""

    def __init__(self):
        super().__init__()
        self.classifier = torch.nn.Linear(16, 4)

    def forward(self, x):
        y = x.mean(dim=(1, 3))
        return self.classifier(y) if float(y.sum()) > 0 else self.classifier(-y)


@needs_onnx
@pytest.mark.full
def test_a_network_that_no_graph_can_hold_is_refused_in_words(tmp_path, monkeypatch):
    tft = MODELS["time_frequency_transformer"]
    assert isinstance(tft, base.Network)
    stubborn = replace(tft, build=lambda ablation, settings, emotions: Stubborn())
    monkeypatch.setitem(MODELS, "time_frequency_transformer", stubborn)
    model, record = final("time_frequency_transformer", "T+F+TF", **TRANSFORMER)
    with pytest.raises(RequestError, match=r"its network cannot be written as ONNX: .*; nothing was written"):
        onnx_export.export(model, record, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_scorer_makes_of_features_what_the_graph_makes(monkeypatch):
    model, _ = final("time_frequency_transformer", "T+F+TF", **TRANSFORMER)
    from tfser.final_models.onnx_graph import Graph

    graph, features = Graph(model), np.random.default_rng(0).normal(size=(5, 16, 16)).astype(np.float32)
    scorer = Scorer(graph.network, np.array(model.bands.mean), np.array(model.bands.std), torch.device("cpu"))
    with torch.no_grad():
        segments, utterance = graph(torch.from_numpy(features))
    expected = scorer.segments([torch.from_numpy(features)])
    np.testing.assert_allclose(segments, expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(utterance, expected.mean(axis=0), atol=1e-6, rtol=0)
