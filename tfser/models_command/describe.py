"""What ``list`` and ``describe`` say of a model, as JSON values and as tables.

Everything that it says comes from what a model declares and from the settings that all models share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from tfser.features.log_mel import FrontEnd
from tfser.models import COMPARISON, MODELS, Model, Network
from tfser.models.sources import Source
from tfser.planning import own_models
from tfser.planning.request import MOST_EPOCHS
from tfser.planning.settings import build_settings, extractor, hyperparameters, published_settings
from tfser.report import published
from tfser.report.tables.ablation import part_title
from tfser.trial import Hyperparameter, Value

EMOTIONS = 4
"""Number of emotions for which parameters are counted; only the last layer depends on it."""

NOT_STATED = "the paper states none"


def in_short(model: Model, source: Source | None = None) -> dict[str, Any]:
    """Return what ``list`` says of a model, as JSON values.

    Args:
        model: the model.
        source: of a model that is not built in.
    """
    return {
        "name": model.name,
        "title": model.title,
        "paper": model.paper,
        "kind": _kind(model),
        "ablations": list(model.ablations),
        "parameters": parameters(model, model.ablations[0]),
        "from": _origin(source),
        "source": source.digest if source else None,
    }


def _kind(model: Model) -> str:
    return "network" if isinstance(model, Network) else "estimator"


def _origin(source: Source | None) -> str:
    """Return where a model comes from, in words."""
    if source is None:
        return "built in"
    return f"{source.package.distribution} {source.package.version}" if source.package else source.typed


def in_full(model: Model, source: Source | None = None) -> dict[str, Any]:
    """Return what ``describe`` says of a model, as JSON values; a published value is null where the paper is silent.

    Args:
        model: the model.
        source: of a model that is not built in.
    """
    first = next(iter(MODELS.values()))
    unit = first.cost.get(first.ablations[0], 1.0)
    seen = model.attention.ablations if isinstance(model, Network) and model.attention is not None else ()
    return {
        "name": model.name,
        "title": model.title,
        "paper": model.paper,
        "paper_title": published.load().papers.get(model.paper or ""),
        "reruns": list(model.reruns),
        "kind": _kind(model),
        "from": _origin(source),
        "source": source.digest if source else None,
        "features": _features(model),
        "emotions": EMOTIONS,
        "cost_relative_to": f"{first.title} {first.ablations[0]}",
        "ablations": [
            {
                "name": ablation,
                "parameters": parameters(model, ablation),
                "cost": model.cost.get(ablation, 1.0) / unit,
                "parts": dict(model.parts.get(ablation, {})),
                "attention_maps": ablation in seen,
            }
            for ablation in model.ablations
        ],
        "epochs": _epochs(model),
        "hyperparameters": [
            {**_setting(model, name, h, _published(model, name, h)), "own": name in model.hyperparameters}
            for name, h in _in_order(model).items()
        ],
    }


def _features(model: Model) -> dict[str, Any]:
    """Return what a model reads with its default settings, as JSON values."""
    reads, features = extractor(model, settings := published_settings(model.name)), model.feature_set
    return {
        "name": features.name,
        "meaning": features.meaning,
        "channels": reads.channels,
        "bands": reads.bands,
        "vector": reads.vector,
        **(asdict(reads) if isinstance(reads, FrontEnd) else {}),
        **{name: settings[name] for name in features.hyperparameters},
    }


def _epochs(model: Model) -> dict[str, Any] | None:
    """Return the epochs as a setting; ``None`` for an estimator, which has none."""
    if not isinstance(model, Network):
        return None
    epochs = Hyperparameter(default=model.epochs, low=1, high=MOST_EPOCHS, help="passes over the training segments")
    return _setting(model, "epochs", epochs, model.published_epochs)


def _in_order(model: Model) -> dict[str, Hyperparameter]:
    """Return every setting, the model's own first."""
    every = hyperparameters(model.name)
    return {name: every[name] for name in (*model.hyperparameters, *every)}


def _published(model: Model, name: str, hyperparameter: Hyperparameter) -> Value | None:
    """Return the paper's value of a setting; ``None`` where there is none."""
    if model.paper is None or name in model.ours:
        return None
    if name in model.published:
        return model.published[name]
    return hyperparameter.default if name in model.hyperparameters else None


def _setting(model: Model, name: str, hyperparameter: Hyperparameter, printed: Value | None) -> dict[str, Any]:
    silent = model.paper is not None and printed is None
    return {
        "name": name,
        "default": hyperparameter.default,
        "low": hyperparameter.low,
        "high": hyperparameter.high,
        "choices": list(hyperparameter.choices),
        "published": printed,
        "ours": model.ours.get(name, NOT_STATED) if silent else None,
        "meaning": hyperparameter.help,
    }


def parameters(model: Model, ablation: str) -> int | None:
    """Count the trained numbers of an ablation with published settings; ``None`` for an estimator, which has none."""
    if not isinstance(model, Network):
        return None
    settings = build_settings(model, published_settings(model.name))
    module: Any = own_models.built(model, ablation, settings)  # without allocating them where that works
    return int(sum(parameter.numel() for parameter in module.parameters()))


def print_list(models: list[dict[str, Any]]) -> None:
    out, table = console(), Table(box=None, pad_edge=False)
    own = any(model.get("source") for model in models)
    for title in ("name", "title", *(["from"] if own else []), "paper", "ablations"):
        table.add_column(title, overflow="fold", no_wrap=title == "name")
    table.add_column("parameters", justify="right")
    for model in models:
        if "problem" in model:
            continue
        origin = f"{model['from']}, source {model['source']}" if model["source"] else model["from"]
        words = (model["name"], model["title"], *([origin] if own else []), model["paper"] or "")
        table.add_row(*words, ", ".join(model["ablations"]), _count(model["parameters"]))
    out.print(table)
    out.print(f"\nParameters are those of the full model (named first) with published settings, {EMOTIONS} emotions.")
    out.print("describe NAME gives every hyperparameter, the features and the cost; new FILE.py begins your own.")
    out.print(f"--model {COMPARISON} stands for every built-in model that the machine can run.")
    out.print("\nCited in the papers' tables, and not run again:")
    for names, why in published.load().only_cited().items():
        out.print(f"  {' = '.join(names)}: {why}")
    for model in models:
        if "problem" in model:
            out.print(f"{model['name']} cannot be trained: {model['problem']}")


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def print_described(model: Mapping[str, Any]) -> None:
    out = console()
    head = Table.grid(padding=(0, 2))
    head.add_column(no_wrap=True)
    head.add_column(overflow="fold")
    for key, value in _head(model).items():
        head.add_row(key, value)
    out.print(head)
    out.print()
    out.print(_ablations(model))
    out.print()
    if model["kind"] == "network":
        out.print(f"Parameters: with published settings, {model['emotions']} emotions.")
    out.print(f"Cost: of training per frame, a guess; {model['cost_relative_to']} is 1.")
    rows = model["hyperparameters"]
    out.print("\nSettings of the model (--set KEY=VALUE)\n")
    out.print(_settings([row for row in rows if row["own"]]))
    out.print("\nSettings of features and training\n")
    out.print(_settings([row for row in rows if not row["own"]]))
    ours = [row for row in (model["epochs"], *rows) if row and row["ours"]]
    if ours:
        out.print("\nOurs, because the paper is silent")
    for why in dict.fromkeys(row["ours"] for row in ours):
        out.print(f"  {', '.join(row['name'] for row in ours if row['ours'] == why)}: {why}")


def _head(model: Mapping[str, Any]) -> dict[str, str]:
    read, epochs = model["features"], model["epochs"]
    seen = [ablation["name"] for ablation in model["ablations"] if ablation["attention_maps"]]
    return {
        "name": model["name"],
        "title": model["title"],
        "paper": f"{model['paper']}: {model['paper_title'] or 'not in published.yaml'}" if model["paper"] else "none",
        **({"runs again": _runs_again(model["reruns"])} if model["reruns"] else {}),
        "kind": model["kind"],
        "from": f"{model['from']}, source {model['source']}" if model["source"] else model["from"],
        "features": _features_in_words(read),
        **({"epochs": _epochs_in_words(epochs)} if epochs else {}),
        "attention maps": f"of {', '.join(seen)}" if seen else "none",
    }


def _runs_again(methods: list[str]) -> str:
    """Return the cited methods that a model runs again, each with its other names."""
    figures = published.load()
    return "; ".join(" = ".join(dict.fromkeys((method, *figures.names_of(method)))) for method in methods)


def _epochs_in_words(epochs: Mapping[str, Any]) -> str:
    return f"{epochs['default']}" + (f" (ours: {epochs['ours']})" if epochs["ours"] else "")


def _features_in_words(read: Mapping[str, Any]) -> str:
    """Return the features with their default settings."""
    if "n_mels" in read and "n_fft" in read:
        window, hop = (1000 * read[name] / read["rate_hz"] for name in ("window", "hop"))
        return (
            f"{read['name']}: {read['rate_hz']} Hz, window {window:g} ms, hop {hop:g} ms, FFT of {read['n_fft']}, "
            f"{read['n_mels']} mel bands, pre-emphasis {read['preemphasis']:g}"
        )
    told = ("name", "meaning", "channels", "bands", "vector")
    settings = "".join(f", {name} {value}" for name, value in read.items() if name not in told)
    per = "one vector per utterance" if read["vector"] else "a row per frame"
    return f"{read['name']}: {read['meaning']}; {per}, {read['channels']} x {read['bands']} values{settings}"


def _ablations(model: Mapping[str, Any]) -> Table:
    parts = dict.fromkeys(part for ablation in model["ablations"] for part in ablation["parts"])
    table = Table("ablation", *map(part_title, parts), box=None, pad_edge=False)
    for title in ("parameters", "cost") if model["kind"] == "network" else ("cost",):
        table.add_column(title, justify="right")
    for ablation in model["ablations"]:
        has = ["yes" if ablation["parts"].get(part) else "no" for part in parts]
        count = [_count(ablation["parameters"])] if model["kind"] == "network" else []
        table.add_row(ablation["name"], *has, *count, f"{ablation['cost']:g}")
    return table


def _settings(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("legal", overflow="fold", min_width=10)
    table.add_column("paper", overflow="fold", min_width=5)
    table.add_column("meaning", overflow="fold", min_width=20)
    for row in rows:
        paper = "silent" if row["ours"] else "" if row["published"] in (None, row["default"]) else row["published"]
        table.add_row(row["name"], str(row["default"]), _legal(row), str(paper), row["meaning"])
    return table


def _legal(row: Mapping[str, Any]) -> str:
    if row["choices"]:
        return ", ".join(row["choices"])
    if isinstance(row["default"], bool):
        return "true, false"
    return " to ".join("any" if row[end] is None else f"{row[end]:g}" for end in ("low", "high"))


def console() -> Console:
    """Return a console that prints words as they are."""
    return Console(highlight=False, markup=False, soft_wrap=True)
