"""What every entry of ``MODELS`` promises; the equations themselves are in ``test_models_equations.py``."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import math
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.models import published, segments, small
from tfser import models, models_command
from tfser.__main__ import COMMANDS
from tfser.errors import RequestError
from tfser.models import MODELS, PROPOSED, Network
from tfser.models.atfnn import ATFNN
from tfser.models.layers import MultiHeadAttention, mean_and_deviation
from tfser.models.time_frequency_transformer import TimeFrequencyTransformer
from tfser.planning.settings import HYPERPARAMETERS, build_settings, hashed, hyperparameters, published_settings
from tfser.report import published as figures
from tfser.storage import packaged_files
from tfser.trial import Hyperparameter

EVERY = [(model, ablation) for model, architecture in PROPOSED.items() for ablation in architecture.ablations]
every_ablation = pytest.mark.parametrize(("model", "ablation"), EVERY, ids=[f"{m}-{a}" for m, a in EVERY])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# ------------------------------------------------------------------ the registry


def test_the_registry_carries_the_published_settings() -> None:
    transformer, attentive = MODELS["time_frequency_transformer"], MODELS["atfnn"]
    assert (transformer.title, transformer.paper, transformer.published_epochs) == (
        "Time-Frequency Transformer",
        "wang2023tft",
        1000,
    )
    assert (attentive.title, attentive.paper, attentive.published_epochs) == ("ATFNN", "lu2022atfnn", None)
    assert transformer.ablations == ("T+F+TF", "T+F", "T+TF", "F+TF")
    assert attentive.ablations == ("ATFNN", "AFNN", "ATNN", "TFNN")
    assert transformer.published == {
        "n_mels": 80,
        "segment_frames": 80,
        "preemphasis": 0.97,
        "learning_rate": 0.001,
        "batch_size": 64,
    }
    assert attentive.published == {
        "n_mels": 80,
        "segment_frames": 128,
        "preemphasis": 0.0,
        "learning_rate": 0.0005,
        "batch_size": 128,
    }
    assert all(name == architecture.name for name, architecture in MODELS.items())


def test_the_parts_that_a_model_declares_are_the_check_marks_of_its_papers_table() -> None:
    printed = {(a.model, a.ablation): (a.paper, list(a.parts.items())) for a in figures.load().ablations}
    declared = {
        (name, ablation): (model.paper, list(model.parts[ablation].items()))
        for name, model in PROPOSED.items()
        for ablation in model.ablations
    }
    assert declared == printed


@pytest.mark.parametrize("model", PROPOSED)
def test_what_a_model_says_of_its_ablations_and_settings_names_those_that_it_has(model: str) -> None:
    declared = MODELS[model]
    for said in (declared.parts, declared.cost):
        assert said.keys() == {*declared.ablations}
    assert declared.attention is not None
    assert {*declared.attention.ablations} <= {*declared.ablations}
    shared = {*HYPERPARAMETERS, *declared.feature_set.hyperparameters}
    assert {*declared.ours} <= {"epochs", *declared.hyperparameters, *shared}
    assert ("epochs" in declared.ours) == (declared.published_epochs is None)
    assert {*declared.published} <= shared


@pytest.mark.parametrize("model", PROPOSED)
def test_settings_that_a_model_calls_its_papers_are_those_of_the_papers_record(model: str) -> None:
    declared, printed = MODELS[model], yaml.safe_load(packaged_files.published().read_text("utf-8"))["training"]
    theirs = printed[declared.paper]
    assert theirs["epochs"] == declared.published_epochs
    for name, value in declared.published.items():
        assert theirs[name] == (None if name in declared.ours else value), name


def test_epochs_are_the_papers_or_where_it_is_silent_the_models_own() -> None:
    assert {name: model.epochs for name, model in PROPOSED.items()} == {
        "time_frequency_transformer": 1000,
        "atfnn": 100,
    }
    assert dataclasses.replace(MODELS["atfnn"], epochs_where_silent=7).epochs == 7


@pytest.mark.parametrize(
    ("model", "module"), [("time_frequency_transformer", TimeFrequencyTransformer), ("atfnn", ATFNN)]
)
def test_the_defaults_of_the_module_are_the_defaults_of_the_registry(model: str, module: type[nn.Module]) -> None:
    defaults = module.__init__.__kwdefaults__
    expected = {name: h.default for name, h in MODELS[model].hyperparameters.items()}
    expected |= {name: MODELS[model].published[name] for name in ("n_mels", "segment_frames")} | {
        "ablation": MODELS[model].ablations[0]
    }
    assert defaults == expected


@every_ablation
def test_every_default_is_legal_by_its_own_range(model: str, ablation: str) -> None:
    architecture = MODELS[model]
    assert all(h.problem(h.default) is None for h in architecture.hyperparameters.values())
    assert architecture.problems(ablation, published(architecture)) == []


# ------------------------------------------------------------------ sizes


@every_ablation
def test_published_sizes_give_one_logit_per_emotion(model: str, ablation: str) -> None:
    architecture = MODELS[model]
    x = torch.randn(2, 1, 80, int(architecture.published["segment_frames"]))
    assert architecture.build(ablation, published(architecture), 6)(x).shape == (2, 6)


def outputs(model: nn.Module, x: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of every submodule's output."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda _, __, out, name=name: (
                shapes.__setitem__(name, tuple(out.shape)) if isinstance(out, torch.Tensor) else None
            )
        )
    model(x)
    return shapes


def test_every_equation_of_the_time_frequency_transformer_has_its_printed_shape() -> None:
    shapes = outputs(TimeFrequencyTransformer(emotions=4), torch.randn(2, 1, 80, 80))
    assert shapes["time_encoder.norm_2"] == (2, 64, 20, 80)  # (1)
    assert shapes["time_transformer.layers.0.attention_norm"] == (2, 80, 20)  # (2)
    assert shapes["time_transformer"] == (2, 80, 20)  # (3)
    assert shapes["frequency_encoder.norm_2"] == (2, 64, 80, 20)  # (4)
    assert shapes["frequency_transformer.layers.0.attention_norm"] == (2, 80, 20)  # (5)
    assert shapes["frequency_transformer"] == (2, 80, 20)  # (6)
    assert shapes["time_frequency_encoder.norm_2"] == (2, 64, 20, 20)  # (7)
    assert shapes["time_frequency_encoder"] == shapes["time_map"] == shapes["frequency_map"] == (2, 20, 20)  # v, q, k
    assert shapes["time_frequency_transformer"] == (2, 20, 20)  # (9)
    assert shapes["classifier"] == (2, 4)  # (11)


def test_every_equation_of_atfnn_has_its_printed_shape() -> None:
    model = ATFNN(emotions=4)
    shapes = outputs(model, torch.randn(2, 1, 80, 128))
    assert shapes["frequency_attention.conv"] == (2, 8, 16, 128)  # f / 5 groups
    assert shapes["time_attention.conv"] == (2, 8, 80, 16)  # t / 8 groups
    assert shapes["frequency_encoder.layer.mlp.conv_1"][1] == 32
    assert shapes["frequency_encoder"] == (2, 128, 80, 8)  # f x t x c, frames first
    assert model.time_encoder(torch.randn(2, 128, 640)).shape == (2, 256)


def test_the_full_time_frequency_transformer_has_about_a_quarter_of_a_million_parameters() -> None:
    assert sum(p.numel() for p in TimeFrequencyTransformer(emotions=4).parameters()) == pytest.approx(240_000, rel=0.01)


ABSENT = {
    "T+F+TF": (),
    "T+F": ("time_frequency_encoder", "time_frequency_transformer"),
    "T+TF": ("frequency_encoder", "frequency_transformer", "frequency_map"),
    "F+TF": ("time_encoder", "time_transformer", "time_map"),
    "ATFNN": (),
    "AFNN": ("time_attention", "time_encoder"),
    "ATNN": ("frequency_attention", "frequency_encoder"),
    "TFNN": ("frequency_attention", "time_attention"),
}


@every_ablation
def test_an_ablation_has_no_parameter_of_the_part_it_lacks(model: str, ablation: str) -> None:
    def parts(of: str) -> set[str]:
        return {name.split(".")[0] for name, _ in small(model, of).named_parameters()}

    assert parts(ablation) == parts(MODELS[model].ablations[0]) - set(ABSENT[ablation])


# ------------------------------------------------------------------ nothing else names a model

PACKAGE = Path(models.__file__).parents[1]
NAMES = [word for m in MODELS.values() for word in (m.name, m.title, *m.ablations) if word != "full"]
NAMED = re.compile(rf"(?<![\w+])({'|'.join(re.escape(name) for name in NAMES)})(?![\w+])")


def names_of_models(source: str) -> list[str]:
    """Every import of a model's file and every string that names a model or an ablation, but for docstrings."""
    found: list[str] = []
    imports: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imports += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        for child in ast.iter_child_nodes(node):
            is_text = isinstance(child, ast.Constant) and isinstance(child.value, str)
            if is_text and not isinstance(node, ast.Expr):  # a text that stands alone is a docstring
                found.append(child.value)
    imported = re.compile(rf"tfser\.models\.({'|'.join(MODELS)})\b")
    return [*filter(imported.match, imports), *filter(NAMED.search, found)]


def test_outside_the_models_own_files_no_code_names_one() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("models", "benchmark")
        for text in names_of_models(path.read_text("utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "from tfser.models import atfnn",
        "from tfser.models.atfnn import GroupAttention as G",
        "import tfser.models.time_frequency_transformer",
        "if model == 'atfnn': pass",
        "COST = {'time_frequency_transformer': 1.0}",
        "build('T+F+TF', settings)",
        "said = f'{ablation} has none; ATFNN, AFNN and ATNN have'",
        "def f(model='Time-Frequency Transformer'): pass",
    ],
)
def test_code_that_names_a_model_is_found(source: str) -> None:
    assert names_of_models(source)
    assert not names_of_models("from sklearn.svm import SVC\nsaid = 'errors of an SVM'")
    assert not names_of_models("'As the ATFNN paper has it.'\ndef f():\n    'Of T+F.'\n    return 'T+F+X'")


# ------------------------------------------------------------------ what `tfser models` says


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert models_command.main([*words]) == 0
    return capsys.readouterr().out


def test_list_names_every_model_with_its_paper_ablations_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(said(capsys, "list", "--json"))
    assert [(m["name"], m["title"], m["paper"], tuple(m["ablations"])) for m in listed] == [
        (m.name, m.title, m.paper, m.ablations) for m in MODELS.values()
    ]
    for one in listed:
        declared = MODELS[one["name"]]
        if not isinstance(declared, Network):
            continue
        settings = build_settings(declared, published_settings(one["name"]))
        module = declared.build(one["ablations"][0], settings, 4)
        assert one["parameters"] == sum(p.numel() for p in module.parameters())
    text = " ".join(said(capsys, "list").split())
    assert all(one["name"] in text for one in listed)
    assert all(f"{one['parameters']:,}" in text for one in listed if one["parameters"] is not None)


def test_python_m_tfser_models_is_the_same_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["models", "list", "--json"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("tfser.models", run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out == said(capsys, "list", "--json")
    assert COMMANDS["models"][0] == models_command.__name__


@pytest.mark.parametrize("model", PROPOSED)
def test_describe_gives_every_setting_with_its_range_default_and_meaning(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(said(capsys, "describe", model, "--json"))
    every = hyperparameters(model)
    assert {
        row["name"]: (row["default"], row["low"], row["high"], tuple(row["choices"]), row["meaning"])
        for row in told["hyperparameters"]
    } == {n: (h.default, h.low, h.high, h.choices, h.help) for n, h in every.items()}
    assert {row["name"] for row in told["hyperparameters"] if row["own"]} == {*MODELS[model].hyperparameters}
    assert [(a["name"], a["cost"]) for a in told["ablations"]] == [*MODELS[model].cost.items()]
    text = said(capsys, "describe", model)
    rows = [line.split()[:2] for line in text.splitlines()]
    assert [name for name, h in every.items() if [name, str(h.default)] not in rows] == []


def test_describe_says_which_settings_are_ours_because_the_paper_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, "describe", "atfnn", "--json"))
    ours = {row["name"]: row["published"] for row in (told["epochs"], *told["hyperparameters"]) if row["ours"]}
    assert ours.keys() >= {"epochs", "preemphasis", "heads", "dropout", "time_attention_from", "weight_decay"}
    assert set(ours.values()) == {None}
    by_name = {row["name"]: row for row in told["hyperparameters"]}
    assert (by_name["learning_rate"]["published"], by_name["learning_rate"]["ours"]) == (0.0005, None)
    assert (by_name["channels"]["published"], by_name["channels"]["ours"]) == (8, None)
    text = said(capsys, "describe", "atfnn")
    assert "100 (ours: the paper states none)" in text
    assert "time_attention_from: equations 2 and 4 contradict each other" in text
    assert "window 20 ms, hop 10 ms, FFT of 512, 80 mel" in " ".join(text.split())


def test_a_published_value_that_is_not_the_default_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = {**MODELS["atfnn"].published, "lstm_hidden": 333}
    monkeypatch.setitem(MODELS, "atfnn", dataclasses.replace(MODELS["atfnn"], published=wider))
    (line,) = [line for line in said(capsys, "describe", "atfnn").splitlines() if line.startswith("lstm_hidden")]
    assert line.split()[1:6] == ["128", "1", "to", "1024", "333"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("atfn", "atfnn"), ("ATFNN", "atfnn"), ("Time-Frequency Transformer", "time_frequency_transformer")],
)
def test_an_unknown_model_is_refused_with_the_name_that_was_probably_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--json"]):
        assert models_command.main(["describe", typed, *more]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"NAME: no {typed!r} (did you mean {meant!r}" in err
        assert f"; tfser models list names all {len(MODELS)}" in err


def test_a_model_without_paper_parts_ranges_or_attention_is_described_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        "gated": Hyperparameter(default=True, help="whether gates are there"),
        "bias": Hyperparameter(default=0.5, low=0.0, help="added"),
    }
    own = dataclasses.replace(
        MODELS["atfnn"], name="own", title="Own", paper=None, attention=None, parts={}, cost={}, ours={},
        hyperparameters={**MODELS["atfnn"].hyperparameters, **more},
        build=lambda ablation, settings, emotions: nn.Linear(3, emotions),
    )  # fmt: skip
    monkeypatch.setitem(MODELS, "own", own)
    lines = said(capsys, "describe", "own").splitlines()
    assert [line.split()[:4] for line in lines if line.startswith("gated")] == [["gated", "True", "true,", "false"]]
    assert [line.split()[:5] for line in lines if line.startswith("bias")] == [["bias", "0.5", "0", "to", "any"]]
    assert "attention maps  none" in "\n".join(lines)
    assert "silent" not in "\n".join(lines)
    assert "16" in next(line for line in lines if line.startswith("AFNN"))


# ------------------------------------------------------------------ problems


def test_a_head_count_that_does_not_fit_is_refused_with_the_arithmetic() -> None:
    wrong = published(MODELS["time_frequency_transformer"]) | {"time_heads": 3, "kernel": 4, "segment_frames": 8}
    assert MODELS["time_frequency_transformer"].problems("T+F+TF", wrong) == [
        "kernel: 4 is even, and only an odd kernel can be padded alike on both sides; legal: 1, 3, 5, ...",
        "segment_frames: 8 / 4 (stride 2, twice) leaves a token width of 2; legal: at least 9",
        "time_heads: 3 does not divide the token width 20 (n_mels 80 / 4); legal: 1, 2, 4, 5, 10, 20",
        "time_frequency_heads: 4 does not divide the token width 2 (segment_frames 8 / 4); legal: 1, 2",
    ]


def test_groups_that_do_not_fill_the_segment_are_refused_with_the_arithmetic() -> None:
    wrong = published(MODELS["atfnn"]) | {"n_mels": 64, "segment_frames": 100, "heads": 3}
    assert MODELS["atfnn"].problems("ATFNN", wrong) == [
        "band_group: 5 does not divide n_mels 64; legal: 1, 2, 4, 8, 16, 32, 64",
        "heads: 3 does not divide the token width 8 (channels); legal: 1, 2, 4, 8",
        "frame_group: 8 does not divide segment_frames 100; legal: 1, 2, 4, 5, 10, 20, 25, 50, 100",
    ]


def test_everything_missing_or_out_of_range_is_named_at_once() -> None:
    wrong = published(MODELS["atfnn"]) | {"n_mels": 80.0, "lstm_layers": 0, "time_attention_from": "figure"}
    del wrong["dropout"]
    assert MODELS["atfnn"].problems("AFN", wrong) == [
        "ablation: no 'AFN'; there are AFNN, ATFNN, ATNN, TFNN (did you mean 'AFNN'?)",
        "n_mels: 80.0 is not a whole number of at least 1",
        "lstm_layers: 0 is not within 1 to 8",
        "dropout: missing",
        "time_attention_from: 'figure' is not one of spectrogram, encoding",
    ]


def test_what_only_an_absent_part_needs_is_not_asked_of_an_ablation() -> None:
    assert (
        MODELS["time_frequency_transformer"].problems(
            "T+F", published(MODELS["time_frequency_transformer"]) | {"time_frequency_heads": 3}
        )
        == []
    )
    assert MODELS["atfnn"].problems("AFNN", published(MODELS["atfnn"]) | {"frame_group": 7}) == []
    assert (
        MODELS["atfnn"].problems(
            "ATNN", published(MODELS["atfnn"]) | {"heads": 3, "band_group": 7, "encoder_kernel": 2}
        )
        == []
    )


@every_ablation
def test_fewer_than_two_emotions_are_refused(model: str, ablation: str) -> None:
    with pytest.raises(RequestError, match="emotions: 1 is not at least 2"):
        MODELS[model].build(ablation, published(MODELS[model]), 1)


FEW = st.integers(1, 4)


def divisor(draw: st.DrawFn, whole: int) -> int:
    return draw(st.sampled_from([n for n in range(1, whole + 1) if whole % n == 0]))


@st.composite
def transformer_settings(draw: st.DrawFn) -> dict[str, Any]:
    stride = draw(st.integers(1, 3))
    n_mels, frames = (draw(st.integers(2 * stride**2 + 1, 2 * stride**2 + 14)) for _ in range(2))
    f, d = (math.ceil(math.ceil(size / stride) / stride) for size in (n_mels, frames))
    values = {name: draw(FEW) for name in ("channels", "feed_forward", "time_frequency_feed_forward")}
    values |= {name: draw(st.integers(1, 2)) for name in ("time_layers", "frequency_layers", "time_frequency_layers")}
    values |= {
        "time_heads": divisor(draw, f),
        "frequency_heads": divisor(draw, d),
        "time_frequency_heads": divisor(draw, d),
    }
    values |= {
        "n_mels": n_mels,
        "segment_frames": frames,
        "stride": stride,
        "kernel": draw(st.sampled_from([1, 3, 5, 7])),
    }
    return values | {
        "dropout": draw(st.sampled_from([0.0, 0.5])),
        "pooling": draw(st.sampled_from(["apart", "together"])),
        "deviation": draw(st.sampled_from(["biased", "unbiased"])),
    }


@st.composite
def atfnn_settings(draw: st.DrawFn) -> dict[str, Any]:
    n_mels, frames, channels = draw(st.integers(2, 16)), draw(st.integers(2, 16)), draw(st.integers(3, 8))
    values = {name: draw(FEW) for name in ("encoder_channels", "lstm_hidden", "lstm_layers")}
    values |= {
        "channels": channels,
        "heads": divisor(draw, channels),
        "encoder_kernel": draw(st.sampled_from([1, 3, 5, 7])),
    }
    values |= {
        "band_group": divisor(draw, n_mels),
        "frame_group": divisor(draw, frames),
        "n_mels": n_mels,
        "segment_frames": frames,
    }
    return values | {
        "dropout": draw(st.sampled_from([0.0, 0.5])),
        "time_attention_from": draw(st.sampled_from(["spectrogram", "encoding"])),
        "attention_weights": draw(st.sampled_from(["sigmoid", "linear", "softmax"])),
        "band_token": draw(st.sampled_from(["frame", "segment"])),
        "attention_kernel": "library",
    }


LEGAL = {"time_frequency_transformer": transformer_settings(), "atfnn": atfnn_settings()}
MODULES: dict[str, Any] = {"time_frequency_transformer": TimeFrequencyTransformer, "atfnn": ATFNN}
drawn_often = settings(deadline=None, max_examples=40, derandomize=True, database=None)


def trains(module: nn.Module, values: dict[str, Any]) -> bool:
    logits = module(torch.randn(2, 1, values["n_mels"], values["segment_frames"]))
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    return logits.shape == (2, 3) and all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.full
@every_ablation
@drawn_often
@given(data=st.data())
def test_settings_that_fit_together_train_whatever_the_sizes(model: str, ablation: str, data: st.DataObject) -> None:
    values = data.draw(LEGAL[model])
    assert MODELS[model].problems(ablation, values) == []
    assert trains(MODELS[model].build(ablation, values, 3), values)


@pytest.mark.full
@every_ablation
@drawn_often
@given(data=st.data())
def test_what_problems_accepts_trains_and_what_it_refuses_cannot_be_built(
    model: str, ablation: str, data: st.DataObject
) -> None:
    values = data.draw(LEGAL[model])
    whole = sorted(name for name, value in values.items() if isinstance(value, int) and name != "channels")
    values |= data.draw(st.dictionaries(st.sampled_from(whole), st.integers(1, 8), min_size=1, max_size=2))
    problems = MODELS[model].problems(ablation, values)
    if not problems:
        assert trains(MODELS[model].build(ablation, values, 3), values)
        return
    with pytest.raises(RequestError) as refused:
        MODELS[model].build(ablation, values, 3)
    assert refused.value.problems == problems
    with pytest.raises(ValueError, match=r"heads|kernel|n_mels|group"):
        MODULES[model](ablation=ablation, emotions=3, **values)


# ------------------------------------------------------------------ training and evaluation


@every_ablation
def test_gradients_reach_every_parameter(model: str, ablation: str) -> None:
    module = small(model, ablation)
    nn.functional.cross_entropy(module(segments(model, 4)), torch.tensor([0, 1, 2, 3])).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


READINGS = [
    ("time_frequency_transformer", "T+F", {"pooling": "together"}),
    ("time_frequency_transformer", "T+F+TF", {"deviation": "unbiased"}),
    ("atfnn", "ATFNN", {"attention_weights": "linear"}),
    ("atfnn", "ATFNN", {"attention_weights": "softmax"}),
    ("atfnn", "ATFNN", {"band_token": "segment"}),
    ("atfnn", "ATFNN", {"band_token": "segment", "attention_weights": "softmax", "time_attention_from": "encoding"}),
]
every_reading = pytest.mark.parametrize(
    ("model", "ablation", "reading"), READINGS, ids=["-".join(map(str, r.values())) for *_, r in READINGS]
)


@every_reading
def test_gradients_reach_every_parameter_under_every_reading(
    model: str, ablation: str, reading: dict[str, Any]
) -> None:
    module = small(model, ablation, **reading)
    nn.functional.cross_entropy(module(segments(model, 4)), torch.tensor([0, 1, 2, 3])).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@every_reading
def test_a_reading_at_its_implied_value_is_left_out_of_a_trial_and_any_other_is_in_it(
    model: str, ablation: str, reading: dict[str, Any]
) -> None:
    declared, usual = MODELS[model], published_settings(model)
    implied = {name: declared.hyperparameters[name].implied for name in reading if name != "time_attention_from"}
    assert implied == {name: usual[name] for name in implied}
    assert not {*implied} & {*hashed(declared, usual)}
    assert {**usual, **reading}.items() >= hashed(declared, {**usual, **reading}).items() >= reading.items()


def test_the_weights_of_a_softmax_are_shared_by_the_groups_of_a_frame_or_a_band() -> None:
    model = small("atfnn", "ATFNN", attention_weights="softmax").double()
    x = segments("atfnn", 3).double()
    frequency, time = model.frequency_attention(x), model.time_attention(x)
    torch.testing.assert_close(frequency[:, :, ::5].sum(2), torch.ones(3, 1, 16, dtype=torch.float64))
    torch.testing.assert_close(time[..., ::8].sum(3), torch.ones(3, 1, 10, dtype=torch.float64))


def test_heads_that_do_not_divide_a_whole_segments_token_are_refused_with_its_width() -> None:
    values = published(MODELS["atfnn"]) | {"heads": 3, "channels": 3, "segment_frames": 16}
    assert MODELS["atfnn"].problems("TFNN", values | {"band_token": "segment"}) == []
    (problem,) = MODELS["atfnn"].problems("TFNN", values | {"band_token": "segment", "heads": 5})
    assert problem.startswith("heads: 5 does not divide the token width 48 (segment_frames * channels); legal: 1, 2, 3")


@pytest.mark.parametrize(("model", "name"), [(m, n) for m, _, r in READINGS for n in r])
def test_an_unknown_reading_is_refused_with_the_legal_words(model: str, name: str) -> None:
    declared = MODELS[model]
    (problem,) = declared.problems(declared.ablations[0], published(declared) | {name: "maybe"})
    assert problem == f"{name}: 'maybe' is not one of {', '.join(declared.hyperparameters[name].choices)}"


@pytest.mark.full
@every_ablation
@pytest.mark.parametrize("level", [0.0, 1.0, -80.0])
def test_constant_input_gives_finite_gradients(model: str, ablation: str, level: float) -> None:
    architecture = MODELS[model]
    module = architecture.build(ablation, published(architecture), 4)
    x = torch.full((2, 1, 80, int(architecture.published["segment_frames"])), level)
    loss = nn.functional.cross_entropy(module(x), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_deviation_of_equal_values_has_a_finite_gradient() -> None:
    y = torch.ones(2, 5, 3, requires_grad=True)
    pooled = mean_and_deviation(y)
    pooled.sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad, torch.full_like(y, 1 / 5))
    torch.testing.assert_close(pooled[:, 3:], torch.full((2, 3), 1e-4))


@every_ablation
def test_a_batch_of_one_can_be_trained_on(model: str, ablation: str) -> None:
    module = small(model, ablation).train()
    module(segments(model, 1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@every_ablation
def test_a_segment_scores_the_same_alone_and_in_a_batch(model: str, ablation: str) -> None:
    module = small(model, ablation).double()
    x = segments(model, 6).double()
    module(x)  # moves the running statistics
    module.eval()
    with torch.no_grad():
        together, alone = module(x), torch.cat([module(one[None]) for one in x])
        others = x.clone()
        others[1:] = 100
        beside_others = module(others)[:1]
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(together[:1], beside_others, rtol=1e-10, atol=1e-10)


@every_ablation
def test_evaluation_with_and_without_gradients_and_training_without_dropout_agree(model: str, ablation: str) -> None:
    module = small(model, ablation).double().eval()
    x = segments(model, 3).double()
    with_gradients = module(x)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), with_gradients.detach(), rtol=1e-12, atol=1e-12)
    for part in module.modules():
        if not isinstance(part, nn.BatchNorm2d):
            part.training = True
    torch.testing.assert_close(module(x), with_gradients, rtol=1e-12, atol=1e-12)


@every_ablation
def test_dropout_acts_in_training_and_nowhere_else(model: str, ablation: str) -> None:
    module = small(model, ablation, dropout=0.5)
    x = segments(model, 3)
    assert not torch.equal(module(x), module(x))
    assert {part.dropout for part in module.modules() if isinstance(part, nn.LSTM)} <= {0.5}
    module.eval()
    assert torch.equal(module(x), module(x))


@every_ablation
def test_the_memory_layout_does_not_change_the_result(model: str, ablation: str) -> None:
    module = small(model, ablation).double().eval()
    x = segments(model, 3).double()
    other = copy.deepcopy(module).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(other(x.to(memory_format=torch.channels_last)), module(x), rtol=1e-12, atol=1e-12)


@every_ablation
def test_the_same_torch_seed_gives_the_same_parameters(model: str, ablation: str) -> None:
    first, again, other = (small(model, ablation, seed).state_dict() for seed in (3, 3, 4))
    assert list(first) == list(again)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# ------------------------------------------------------------------ attention


def test_the_attention_is_the_one_of_the_library() -> None:
    ours, library = (
        MultiHeadAttention(12, 3).double(),
        nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64),
    )
    with torch.no_grad():
        library.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        # Any key bias cancels.
        library.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.randn(12), ours.value.bias]))
        library.out_proj.load_state_dict(ours.out.state_dict())
    q, k, v = (torch.randn(2, 5, 12, dtype=torch.float64) for _ in range(3))
    expected, weights = library(q, k, v, average_attn_weights=False)
    torch.testing.assert_close(ours(q, k, v), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.weights(q, k, v), weights, rtol=1e-10, atol=1e-10)


def test_attention_maps_come_out_of_an_ordinary_forward_pass() -> None:
    model = TimeFrequencyTransformer(
        emotions=4, n_mels=16, segment_frames=24, frequency_heads=3, time_frequency_heads=1
    ).eval()
    maps: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            module.register_forward_pre_hook(
                lambda m, inputs, name=name: maps.__setitem__(name.split(".")[0], m.weights(*inputs))
            )
    model(torch.randn(2, 1, 16, 24))
    assert maps["time_transformer"].shape == (2, 2, 24, 24)  # frame to frame
    assert maps["frequency_transformer"].shape == (2, 3, 16, 16)  # band to band
    assert maps["time_frequency_transformer"].shape == (2, 1, 4, 4)
    assert all(torch.allclose(weights.sum(-1), torch.ones(())) for weights in maps.values())


def test_every_band_and_frame_of_a_group_shares_one_weight_between_zero_and_one() -> None:
    model = ATFNN(emotions=4, n_mels=10, segment_frames=16)
    x = torch.randn(2, 1, 10, 16)
    frequency, time = model.frequency_attention(x), model.time_attention(x)
    assert frequency.shape == time.shape == x.shape
    assert ((frequency > 0) & (frequency < 1) & (time > 0) & (time < 1)).all()
    assert torch.equal(frequency[:, :, :5], frequency[:, :, :1].expand(2, 1, 5, 16))
    assert not torch.equal(frequency[:, :, 4], frequency[:, :, 5])
    assert torch.equal(time[..., :8], time[..., :1].expand(2, 1, 10, 8))
    assert not torch.equal(time[..., 7], time[..., 8])
