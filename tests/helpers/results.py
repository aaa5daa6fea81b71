"""Results with random scores, what real records hold beside them, and readers of the tables that are made from them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from tfser.evaluation.scores import scores
from tfser.execution.results import Results
from tfser.planning import settings
from tfser.planning.configuration import Configuration
from tfser.record import Curves, Failure, Machine, Record, ScoredUtterance
from tfser.report import published
from tfser.report.provenance import Provenance
from tfser.report.tables import terminal
from tfser.search.history import History, Tried
from tfser.trial import TrialSpec

TFT, ATFNN = "time_frequency_transformer", "atfnn"


def configuration(**changes) -> Configuration:
    values = {
        "database": "emodb",
        "database_digest": "0a1b2c3d",
        "settings": '{"epochs": 5}',
        "protocol": "speaker",
        "model": TFT,
        "ablation": "T+F+TF",
        "selection": "nested",
        "emotions": ("mad", "glad", "sad"),
        "folds": ("03", "08", "09"),
        "seeds": (0,),
    }
    values |= changes
    return Configuration(**{"folds_total": len(values["folds"]), **values})


def spec(row: Configuration, fold: str, seed: int, settings: Mapping[str, Any]) -> TrialSpec:
    return TrialSpec(
        database=row.database,
        database_digest=row.database_digest,
        protocol=row.protocol,
        fold=fold,
        purpose="final",
        model=row.model,
        ablation=row.ablation,
        seed=seed,
        epochs=20,
        hyperparameters=tuple(sorted(settings.items())),
    )


def record(row: Configuration, fold: str, seed: int, *, lacks: tuple[str, ...] = (), size: int = 24) -> Record:
    """A final trial's record with random scores, the same for the same arguments."""
    dice = int(hashlib.sha256(repr((row.key, fold, seed)).encode()).hexdigest()[:8], 16)
    rng = np.random.default_rng(dice)
    said = random.Random(repr((row.database, fold)))  # what was said depends neither on the model nor on the seed
    truths = [e for e in row.emotions if e not in lacks]
    utterances = []
    for number in range(size + len(fold) * 3 + said.randrange(9)):  # folds of unequal size, so that the averages differ
        truth = said.choice(truths)
        p = rng.dirichlet(np.ones(len(row.emotions)))
        p = p + 0.35 * np.eye(len(row.emotions))[row.emotions.index(truth)] * rng.random()
        p = tuple((p / p.sum()).tolist())
        utterances.append(ScoredUtterance(id=f"{fold}/{number:03d}", speaker=fold, truth=truth, p=p))
    # Rows differ in what they chose, so that no two have a trial in common.
    settings = {"learning_rate": 0.0005, "channels": 16, "dropout": dice / 2**32}
    return Record(
        spec=spec(row, fold, seed, settings),
        scores=scores(row.emotions, utterances, np.eye(len(row.emotions), dtype=np.int64)),
        epochs=20,
        seconds=12.5,
        started_unix=1.7e9,
    )


def failure(row: Configuration, fold: str, seed: int, reason: str) -> Failure:
    made = spec(row, fold, seed, {"channels": 16})
    return Failure(trial_id=made.trial_id, spec=made, reason=reason)


def sweep(*rows: Configuration, without: tuple = (), name: str = "test", **options) -> Results:
    """Everything done but the (fold, seed) pairs in ``without``."""
    entries = {
        (row, fold, seed): record(row, fold, seed, **options)
        for row in rows
        for fold in row.folds
        for seed in row.seeds
        if (fold, seed) not in without
    }
    return Results(sweep=name, configurations=rows, entries=entries)


def paper_rows(*databases: str) -> list[Configuration]:
    return [
        configuration(database=d, emotions=tuple(sorted(published.load().emotions[d])), model=m, ablation=a)
        for d in databases
        for m, a in ((TFT, "T+F+TF"), (ATFNN, "ATFNN"))
    ]


def markdown_cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in lines]


DETAILS = {
    "comparison": "WAR and UAR on ",
    "best": "Every row against",
    "ablation": "Ablations of ",
    "paired": "Paired comparisons on ",
}
"""Beginnings of the titles of the full tables, by kind."""


def details(folder: Path, *kinds: str, about: str = "") -> str:
    """The full tables of some kinds, by default the comparison, as details.md has them."""
    text = (folder / "details.md").read_text(encoding="utf-8")
    parts = [f"## {part}" for part in f"\n{text}".split("\n## ")[1:]]
    heads = tuple(f"## {DETAILS[kind]}" for kind in kinds or ("comparison",))
    return "\n".join(part for part in parts if part.startswith(heads) and about in part.splitlines()[0])


HOSTILE = configuration(
    database="my_data",
    model="n|e*t",
    ablation="<b>\\x{y}",
    emotions=("a&b_%", "$x^2$ #~", "愤怒"),
    folds=("sp|1", "[2]", "_3_"),
    folds_total=4,
    remark='50 % of "A&B"\nand &amp; `code` [link](x)',
)


def printed(
    results: Results,
    *,
    width: int = 80,
    is_terminal: bool = False,
    encoding: str = "utf-8",
    averaging: str = "pooled",
) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    terminal.show(
        results,
        Console(file=out, width=width, force_terminal=is_terminal, color_system="standard" if is_terminal else None),
        averaging=averaging,
    )
    out.flush()
    return out.buffer.getvalue().decode(encoding)


def with_runs(results: Results) -> Results:
    runs = {key: f"run of {entry.trial_id}" for key, entry in results.entries.items()}
    rows = {c: f"row of {' '.join(c.key)}" for c in results.configurations}
    return Results(
        sweep=results.sweep, configurations=results.configurations, entries=results.entries, runs=runs, row_runs=rows
    )


ABLATIONS = {TFT: ("T+F+TF", "T+F", "T+TF", "F+TF"), ATFNN: ("ATFNN", "AFNN", "ATNN", "TFNN"), "own": ("whole", "half")}


def cell_numbers(cell: str) -> list[float]:
    return [float(text.replace("−", "-")) for text in re.findall(r"[−+-]?\d+\.\d+", cell)]


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, dtype={"fold": str, "speaker": str, "trial_id": str})


class Tables(HTMLParser):
    """Every table of a page: rows of cell texts, lines joined by a space, without the parts for narrow pages only."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] | None = None
        self._cell: list[str] | None = None
        self._skip = 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "table":
            self._rows = self.tables.setdefault(given.get("id") or f"trials-{len(self.tables)}", [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows:
            self._cell = []
        elif tag == "span" and self._cell is not None:
            if self._skip or given.get("class") in ("narrow", "unseen"):
                self._skip += 1
            else:
                self._cell.append(" ")

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self._rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag == "table":
            self._rows = None
        elif tag == "span" and self._skip:
            self._skip -= 1

    def handle_data(self, data):
        if self._cell is not None and not self._skip:
            self._cell.append(data)


def is_number(cell: str) -> bool:
    return bool(re.match(r"[−+-]?\d+\.\d\d\b", cell))


def papers_sweep() -> Results:
    """Both models with all ablations on two corpora, two seeds, one speaker without sadness, one failed trial."""
    rows = [
        configuration(
            database=database,
            model=model,
            ablation=ablation,
            folds=folds,
            seeds=(0, 1),
            emotions=("glad", "mad", "sad"),
        )
        for database, folds in (("casia", ("a", "b", "c", "d")), ("emodb", ("03", "08", "09", "10", "11", "12")))
        for model in (TFT, ATFNN)
        for ablation in ABLATIONS[model]
    ]
    results = sweep(*rows)
    for row in rows:
        if row.database == "emodb":
            for seed in row.seeds:
                results.entries[row, "08", seed] = record(row, "08", seed, lacks=("sad",))
    results.entries[rows[1], "b", 1] = failure(rows[1], "b", 1, "the loss was not finite in epoch 3 of 20")
    return results


def random_results(number: int) -> Results:
    """A valid ledger with gaps of every kind, the same for the same number."""
    rng = random.Random(number)
    corpora = rng.choice(
        [("emodb",), ("casia",), ("casia", "iemocap", "abc"), ("emodb", "casia", "own data"), ("iemocap",)]
    )
    rows: dict[tuple, Configuration] = {}
    for database in corpora:
        emotions = tuple(sorted(published.load().emotions.get(database, ("calm", "glad", "tense"))))
        folds = tuple(f"{name}{number % 7}" for name in "abcdefghij"[: rng.randint(1, 6)])
        for _ in range(rng.randint(1, 3)):
            model = rng.choice([TFT, TFT, ATFNN, ATFNN, "own"])
            asked = folds if rng.random() < 0.7 else tuple(rng.sample(folds, rng.randint(1, len(folds))))
            row = configuration(
                database=database,
                model=model,
                ablation=rng.choice(ABLATIONS[model]),
                selection=rng.choice(["nested", "nested", "fixed", "oracle"]),
                settings=f'{{"epochs": {rng.choice([5, 5, 8])}}}',
                protocol=rng.choice(["speaker", "speaker", "session"]),
                emotions=emotions,
                folds=tuple(sorted(asked)),
                folds_total=len(folds),
                seeds=tuple(range(rng.choice([1, 1, 2, 3]))),
                complete=rng.random() < 0.8,
                same_texts=rng.random() < 0.5,
                remark=rng.choice(["", "first 2 s of each utterance"]),
            )
            rows[row.key] = row
    size = rng.choice([6, 12])
    absent = {
        (database, fold): rng.sample(published_emotions(rows, database), 1) for database in corpora for fold in "abc"
    }
    entries = {}
    for row in rows.values():
        gap = rng.choice([0.0, 0.0, 0.2, 1.0 if rng.random() < 0.3 else 0.4])
        for fold in row.folds:
            lacks = absent.get((row.database, fold[0]), ()) if number % 3 == 0 else ()
            for seed in row.seeds:
                chance = rng.random()
                if chance < gap / 2:
                    continue
                if chance < gap:
                    entries[row, fold, seed] = failure(row, fold, seed, f"the loss was not finite in epoch {seed + 2}")
                    continue
                entries[row, fold, seed] = record(row, fold, seed, lacks=tuple(lacks), size=size)
    return Results(sweep=f"random-{number}", configurations=tuple(rows.values()), entries=entries)


def published_emotions(rows: dict[tuple, Configuration], database: str) -> list[str]:
    return list(next(c.emotions for c in rows.values() if c.database == database))


COMMAND = "python -m tfser.sweep emodb --data corpora --ablation all"

MADE = Provenance(
    tracking_uri="http://anna:***@mlflow.example:5000",
    versions={"ray": "2.60.0"},
)


def trained(results: Results) -> Results:
    """With everything that a real record holds of how it was made."""
    entries = dict(results.entries)
    for (c, fold, seed), entry in results.entries.items():
        if isinstance(entry, Record):
            entries[c, fold, seed] = dataclasses.replace(
                entry,
                spec=spec(c, fold, seed, settings.published_settings(TFT)),
                curves=Curves(train_loss=(1.9, 1.2, 0.8 + 0.1 * seed)),
                versions={"tfser": "0.1.0", "torch": "2.11.0"},
                machine=Machine(host="secret-host", device="x86_64", system="Linux-6"),
                seconds=90.0,
            )
    return dataclasses.replace(results, entries=entries)


def example() -> Results:
    whole, part = configuration(seeds=(0, 1)), configuration(ablation="T+F", seeds=(0, 1), folds_total=4)
    results = sweep(whole, part, without=(("09", 1),))
    for seed in (0, 1):
        results.entries[whole, "08", seed] = record(whole, "08", seed, lacks=("sad",))
        results.entries[part, "08", seed] = record(part, "08", seed, lacks=("sad",))
    results.entries[part, "03", 0] = failure(part, "03", 0, "the loss was not finite in epoch 3")
    return with_runs(trained(results))


def histories(results: Results) -> list[History]:
    whole = next(c for c in results.configurations if c.ablation == "T+F+TF")
    tried = (
        Tried(state="finished", validation_uar=0.4, epochs=2, hyperparameters={"learning_rate": 0.01}, seconds=30.0),
        Tried(state="pruned", validation_uar=None, epochs=None, hyperparameters={"learning_rate": 0.1}),
        Tried(state="finished", validation_uar=0.6, epochs=3, hyperparameters={"learning_rate": 0.002}, seconds=60.0),
    )
    return [
        History(
            configuration=whole, folds=(fold,), tried=tried, importances={"learning_rate": 1.0}, curve=(0.3, 0.5, 0.6)
        )
        for fold in whole.folds
    ]


def searched(results: Results) -> Results:
    return dataclasses.replace(results, histories=tuple(histories(results)), command=COMMAND)


def rescored(entry: Record, **changes) -> Record:
    """The record with other scores, which need not fit each other."""
    return dataclasses.replace(entry, scores=dataclasses.replace(entry.scores, **changes))
