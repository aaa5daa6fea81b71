"""Coverage of the 95 % intervals of ``tfser.evaluation.uncertainty``, measured on simulated speakers.

    python -m tests.coverage_of_intervals OUT [--simulations 1000] [--speakers 3 4 5 8 10 50] [--package]

This writes OUT/blocks.csv (counts per 100 simulations; a later call goes on where it ended), and from it
OUT/coverage.json and OUT/coverage.md. --package also writes tfser/evaluation/interval_coverage.json, which
``actual_coverage`` reads. The seed of a simulation is its scenario, number of speakers and number, so any block can be
made again alone.

Speaker s shows emotion e in n_se utterances; utterance i is recognised under seed r with probability

    logistic(mu_e + a_s + b_se + c_sr + u_i),   each of a, b, c, u normal with mean 0

where a is the speaker, b the speaker's manner of showing that emotion, c the model trained without that speaker under
that seed, and u the utterance, which all seeds share. The truth that an interval should hold is the figure's
expectation over speakers, models and utterances. For draws of utterances alone it is the figure of these speakers and
models over endless utterances. A second row has its own mean per emotion, its own b and c, and the same a and u; the
two rows' difference is tested too.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tfser import __version__
from tfser.evaluation import significance, uncertainty
from tfser.storage.places import commit_text

SPEAKERS = (3, 4, 5, 8, 10, 50)
BLOCK = 100
"""Simulations per line of blocks.csv."""

DRAWS = {"speakers": 2000, "speakers, utterances": 1000, "utterances": 1000, uncertainty.DIFFERENCE: 1000}
"""Replicates per interval: fewer than in a report, which changes coverage by less than 1000 simulations can show."""

COLUMNS = (
    "scenario",
    "speakers",
    "block",
    "method",
    "figure",
    "simulations",
    "held",
    "truth_below",
    "truth_above",
    "width",
    "seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One population of speakers; standard deviations are on the logit scale."""

    about: str
    mu: tuple[float, ...]
    """Mean of each emotion."""
    gain: tuple[float, ...]
    """Difference of the second row's means, for each emotion."""
    share: tuple[float, ...]
    """Share of the utterances that show each emotion, averaged over speakers."""
    concentration: float
    """Concentration of the Dirichlet distribution of a speaker's shares; smaller values make speakers differ more."""
    speaker: float
    """Standard deviation of a."""
    manner: float
    """Standard deviation of b."""
    model: float
    """Standard deviation of c."""
    utterance: float
    """Standard deviation of u."""
    seeds: int


SCENARIOS = {
    "uneven": Scenario(
        about="7 emotions, recalls and spread over speakers as recorded on cut EmoDB, absent emotions occur, 5 seeds",
        mu=(1.7, -0.4, -2.0, -0.9, -0.9, -0.6, 0.7),
        gain=(0.2, 0.6, 0.3, -0.1, 0.4, 0.0, 0.3),
        share=(0.24, 0.15, 0.09, 0.13, 0.13, 0.15, 0.11),
        concentration=30,
        speaker=0.65,
        manner=0.4,
        model=0.3,
        utterance=1.0,
        seeds=5,
    ),
    "alike": Scenario(
        about="5 emotions of one size, speakers nearly alike, so that utterances make most of the spread, 3 seeds",
        mu=(0.4, -0.2, 0.2, -0.4, 0.0),
        gain=(0.2, 0.2, 0.2, 0.2, 0.2),
        share=(0.2, 0.2, 0.2, 0.2, 0.2),
        concentration=200,
        speaker=0.15,
        manner=0.15,
        model=0.1,
        utterance=0.8,
        seeds=3,
    ),
    "high": Scenario(
        about="4 emotions of unlike size, recalls around 85 % and skewed over unlike speakers, 1 seed",
        mu=(2.8, 2.2, 1.8, 2.5),
        gain=(0.4, 0.4, -0.2, 0.4),
        share=(0.4, 0.3, 0.2, 0.1),
        concentration=40,
        speaker=0.8,
        manner=0.5,
        model=0.3,
        utterance=1.0,
        seeds=1,
    ),
}


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def over_normal(x: np.ndarray, sd: float) -> np.ndarray:
    """Return the mean of logistic(x + sd Z) over a standard normal Z, by Gauss-Hermite quadrature; x of any shape."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return logistic(x[..., None] + sd * nodes) @ (weights / weights.sum())


def utterance_counts(scenario: Scenario, speakers: int, rng: np.random.Generator) -> np.ndarray:
    """Draw 30 to 60 utterances per speaker: int, shape (speakers, emotions)."""
    shares = rng.dirichlet(scenario.concentration * np.array(scenario.share), speakers)
    return rng.multinomial(rng.integers(30, 61, speakers), shares)


def figures(recalls: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Return the four figures for each speaker's recall and count of each emotion, both (speakers, emotions)."""
    right, shown = recalls * counts, counts > 0
    total = counts.sum(axis=0)
    return {
        "war_pooled": float(right.sum() / counts.sum()),
        "uar_pooled": float((right.sum(axis=0)[total > 0] / total[total > 0]).mean()),
        "war_mean": float((right.sum(axis=1) / counts.sum(axis=1)).mean()),
        "uar_mean": float(((recalls * shown).sum(axis=1) / shown.sum(axis=1)).mean()),
    }


@cache
def expectation(name: str, second: bool) -> dict[str, float]:
    """Return the four figures over a population of speakers: exact recalls, and the counts of 200,000 speakers."""
    scenario = SCENARIOS[name]
    sd = np.sqrt(scenario.speaker**2 + scenario.manner**2 + scenario.model**2 + scenario.utterance**2)
    mu = np.array(scenario.mu) + second * np.array(scenario.gain)
    counts = utterance_counts(scenario, 200_000, np.random.default_rng(0))
    return figures(np.broadcast_to(over_normal(mu, float(sd)), counts.shape), counts)


def simulate(name: str, speakers: int, number: int) -> tuple[uncertainty.Row, uncertainty.Row, dict[str, float]]:
    """Make two rows on one test set, and the first's figures over endless utterances of these speakers and models."""
    scenario = SCENARIOS[name]
    rng = np.random.default_rng([list(SCENARIOS).index(name), speakers, number])
    counts = utterance_counts(scenario, speakers, rng)
    emotions = counts.shape[1]
    speaker, truth = np.repeat(np.divmod(np.arange(counts.size), emotions), counts.ravel(), axis=1)
    a = rng.normal(0, scenario.speaker, (speakers, 1))
    u = rng.normal(0, scenario.utterance, len(truth))
    rows, endless = [], {}
    for second in (False, True):
        mean = (
            np.array(scenario.mu) + second * np.array(scenario.gain) + a + rng.normal(0, scenario.manner, counts.shape)
        )
        models = rng.normal(0, scenario.model, (scenario.seeds, speakers, 1))
        if not second:
            endless = figures(over_normal(mean + models, scenario.utterance).mean(axis=0), counts)
        right = rng.random((scenario.seeds, len(truth))) < logistic((mean + models)[:, speaker, truth] + u)
        wrong = (truth + rng.integers(1, emotions, right.shape)) % emotions
        rows.append(uncertainty.row(list(trials(speaker, truth, np.where(right, truth, wrong))), emotions))
    return rows[0], rows[1], endless


def trials(speaker: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> Iterator[uncertainty.FoldScores]:
    """Yield one trial per speaker and seed; predicted of shape (seeds, utterances)."""
    for s in np.unique(speaker):
        where = np.flatnonzero(speaker == s)
        for seed, guess in enumerate(predicted[:, where]):
            yield uncertainty.FoldScores(
                fold=f"{s:02}",
                seed=seed,
                utterances=[f"{i:04}" for i in where],
                speakers=[f"{s:02}"] * len(where),
                truth=truth[where].tolist(),
                predicted=guess.tolist(),
            )


def measure(name: str, speakers: int, block: int, methods: Sequence[str] = tuple(DRAWS)) -> list[dict[str, object]]:
    """Measure one line of blocks.csv per method and figure, of ``BLOCK`` simulations."""
    begun = time.process_time()
    counts: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(4))
    population, other = expectation(name, False), expectation(name, True)
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        first, second, endless = simulate(name, speakers, number)
        for method in methods:
            if method == uncertainty.DIFFERENCE:
                made = {f: significance.compare(first, second, f, DRAWS[method]).interval for f in uncertainty.FIGURES}
            else:
                made = uncertainty.intervals(first, method, DRAWS[method])
            for figure, interval in made.items():
                truth = endless[figure] if method == "utterances" else population[figure]
                truth -= other[figure] if method == uncertainty.DIFFERENCE else 0.0
                if not interval.reason:  # an interval that cannot be given counts as missing the truth
                    held = interval.low <= truth <= interval.high
                    counts[method, figure] += (
                        held,
                        truth < interval.low,
                        truth > interval.high,
                        interval.high - interval.low,
                    )
    seconds = round(time.process_time() - begun, 1)
    return [
        dict(
            zip(
                COLUMNS,
                (name, speakers, block, *key, BLOCK, *(int(n) for n in c[:3]), round(float(c[3]), 6), seconds),
                strict=True,
            )
        )
        for key, c in counts.items()
    ]


def read_blocks(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add_up(rows: Sequence[dict[str, str]]) -> list[dict[str, object]]:
    """Sum up per scenario, number of speakers, method and figure: simulations, counts, coverage and mean width."""
    sums: dict[tuple[str, int, str, str], np.ndarray] = defaultdict(lambda: np.zeros(5))
    for r in rows:
        values = [float(r[c]) for c in ("simulations", "held", "truth_below", "truth_above", "width")]
        sums[r["scenario"], int(r["speakers"]), r["method"], r["figure"]] += values
    names = (
        "scenario",
        "speakers",
        "method",
        "figure",
        "simulations",
        "held",
        "truth_below",
        "truth_above",
        "coverage",
        "mean_width",
    )
    return [
        dict(
            zip(
                names,
                (*key, *(int(n) for n in c[:4]), round(c[1] / c[0], 4), round(c[4] / c[1:4].sum(), 4)),
                strict=True,
            )
        )
        for key, c in sorted(sums.items(), key=lambda item: (list(SCENARIOS).index(item[0][0]), *item[0][1:]))
    ]


def packaged(entries: Sequence[dict[str, object]]) -> str:
    """Write interval_coverage.json: method to figure to speakers to the coverage in each scenario."""
    nested: dict[str, dict[str, dict[str, list[object]]]] = {}
    for e in entries:
        by_speakers = nested.setdefault(str(e["method"]), {}).setdefault(str(e["figure"]), {})
        by_speakers.setdefault(str(e["speakers"]), []).append(e["coverage"])
    simulations = sorted({int(str(e["simulations"])) for e in entries})
    about = {"made_by": "python -m tests.coverage_of_intervals", "level": uncertainty.LEVEL, "simulations": simulations}
    lines = ",\n".join(
        f"    {json.dumps(method)}: {{\n"
        + ",\n".join(f"      {json.dumps(figure)}: {json.dumps(numbers)}" for figure, numbers in by_figure.items())
        + "\n    }"
        for method, by_figure in nested.items()
    )
    head = f'  "about": {json.dumps(about)},\n  "scenarios": {json.dumps(list(SCENARIOS))},\n'
    return f'{{\n{head}  "coverage": {{\n{lines}\n  }}\n}}\n'


def to_markdown(entries: Sequence[dict[str, object]]) -> str:
    """Write coverage in percent and mean width in points, one table per figure."""
    out = []
    speakers = sorted({int(str(e["speakers"])) for e in entries})
    for figure in uncertainty.FIGURES:
        out += [
            f"## {figure}",
            "",
            f"| method | scenario | {' | '.join(f'{n} speakers' for n in speakers)} |",
            "| --- " * (2 + len(speakers)) + "|",
        ]
        for method in DRAWS:
            for scenario in SCENARIOS:
                cells = {
                    e["speakers"]: e
                    for e in entries
                    if (e["method"], e["figure"], e["scenario"]) == (method, figure, scenario)
                }
                texts = [
                    f"{100 * float(str(cells[n]['coverage'])):.1f} ({100 * float(str(cells[n]['mean_width'])):.1f})"
                    if n in cells
                    else ""
                    for n in speakers
                ]
                out.append(f"| {method} | {scenario} | {' | '.join(texts)} |")
        out.append("")
    return "\n".join(out)


def machine() -> dict[str, object]:
    try:
        models = [
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
    except OSError:
        models = []
    versions = {"tfser": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return {"cores": os.cpu_count(), "cpu": models[0] if models else platform.processor(), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--simulations", type=int, default=1000, help=f"per scenario and number of speakers, a multiple of {BLOCK}"
    )
    parser.add_argument("--speakers", type=int, nargs="+", default=SPEAKERS)
    parser.add_argument("--package", action="store_true", help="also write tfser/evaluation/interval_coverage.json")
    options = parser.parse_args()
    path = options.out / "blocks.csv"
    options.out.mkdir(parents=True, exist_ok=True)
    rows = read_blocks(path) if path.exists() else []
    done = {(r["scenario"], int(r["speakers"]), int(r["block"])) for r in rows}
    for block in range(options.simulations // BLOCK):
        for speakers in options.speakers:
            for name in SCENARIOS:
                if (name, speakers, block) not in done:
                    rows += [
                        {key: str(value) for key, value in line.items()} for line in measure(name, speakers, block)
                    ]
                    commit_text(
                        path,
                        "".join(
                            ",".join(f'"{v}"' if "," in v else v for v in line) + "\n"
                            for line in (COLUMNS, *(tuple(r.values()) for r in rows))
                        ),
                    )
    entries = add_up(rows)
    seconds = sum({(r["scenario"], r["speakers"], r["block"]): float(r["seconds"]) for r in rows}.values())
    asked = f"--simulations {options.simulations} --speakers {' '.join(map(str, options.speakers))}"
    about = {
        "command": f"python -m tests.coverage_of_intervals {options.out} {asked}",
        "cpu_seconds": round(seconds),
        "draws": DRAWS,
        **machine(),
    }
    commit_text(options.out / "coverage.json", json.dumps({**about, "coverage": entries}, indent=1) + "\n")
    commit_text(options.out / "coverage.md", to_markdown(entries))
    if options.package:
        commit_text(Path(uncertainty.__file__).with_name("interval_coverage.json"), packaged(entries))


if __name__ == "__main__":
    main()
