"""From a printed number to its trials and runs, and from a trial to the command that repeats it."""

from __future__ import annotations

import json
import random
import re
import shlex

import numpy as np
import optuna
import pytest

from tests.helpers.printed import printed_figures
from tests.helpers.results import (
    TFT,
    configuration,
    details,
    is_number,
    markdown_cells,
    papers_sweep,
    read,
    sweep,
    with_runs,
)
from tfser.errors import RequestError
from tfser.models import MODELS, Estimator
from tfser.planning import search_space_file
from tfser.planning import settings as planning_settings
from tfser.report import repeat_command, trace, write
from tfser.report.repeat_command import repeat
from tfser.storage import packaged_files
from tfser.sweep.options import parse
from tfser.sweep.request import check
from tfser.trial import TrialSpec

pytestmark = pytest.mark.usefixtures("few_draws", "blank_figures")
optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_every_number_that_a_table_prints_can_be_asked_for_and_names_its_trials(tmp_path):
    results = with_runs(papers_sweep())
    write.write(results, tmp_path, pictures=False)
    every = list(trace.entries(results))
    texts = {entry.printed for entry in every}
    asked = 0
    for kind in ("comparison", "ablation"):
        head: list[str] = []
        cells = markdown_cells(details(tmp_path, kind))
        for line, following in zip(cells, [*cells[1:], [""]], strict=True):
            if set(following[0]) == {"-"}:
                head = line
            if "published" in line or (kind == "comparison" and line[1] != "ours"):
                continue
            for title, cell in zip(head, line, strict=True):
                for text in re.sub(r"[][*†,]", " ", cell).split():
                    if is_number(text) and not title.startswith("Published"):
                        assert text in texts, (kind, line, text)
                        asked += 1
    assert asked > 500
    printed = list(printed_figures(tmp_path))
    assert len(printed) > 15
    for _, war, uar, interval in printed:
        assert {war, uar} <= texts
        for end in re.findall(r"\d+\.\d", interval or ""):
            found = trace.trace(results, ["pooled", "uar", end])
            assert all("95 % interval" in entry.what for entry in found)
    folds = read(tmp_path, "folds.csv")
    for entry in every:
        assert len(entry.trials) == len(entry.runs) > 0
        assert all(run == f"run of {trial}" for trial, run in zip(entry.trials, entry.runs, strict=True))
        assert set(entry.trials) <= set(folds.trial_id)


@pytest.mark.full
def test_a_number_names_exactly_the_trials_that_it_is_made_of(tmp_path):
    results = with_runs(papers_sweep())
    write.write(results, tmp_path, pictures=False)
    folds = read(tmp_path, "folds.csv")
    (pooled,) = [e for e in trace.trace(results, ["emodb", "T+F", "uar", "pooled"]) if e.what == "UAR, pooled"]
    mine = folds[(folds.database == "emodb") & (folds.ablation == "T+F")]
    assert set(pooled.trials) == set(mine.trial_id)
    summary = read(tmp_path, "summary.csv").set_index(["database", "ablation"])
    assert pooled.value == pytest.approx(summary.loc[("emodb", "T+F"), "uar_pooled"], abs=1e-12)
    assert pooled.printed == f"{100 * pooled.value:.2f}"
    assert pooled in trace.trace(results, [pooled.printed])
    (one,) = [e for e in trace.trace(results, ["casia", "T+F", "b", "seed0", "war"]) if e.where == "folds"]
    assert one.trials == tuple(
        folds.query("database == 'casia' and ablation == 'T+F' and fold == 'b' and seed == 0").trial_id
    )
    (seeds,) = [e for e in trace.trace(results, ["emodb", "T+F", "uar", "pooled"]) if "over seeds" in e.what]
    wars = mine.groupby("seed").uar  # of the folds; the pooled spread is another number
    assert seeds.value > 0
    assert wars.ngroups == 2
    incomplete = [e for e in trace.trace(results, ["casia", "T+F", "war", "mean"]) if e.what == "WAR, mean of folds"]
    fold_b = set(folds.query("database == 'casia' and ablation == 'T+F' and fold == 'b'").trial_id)
    assert fold_b
    assert not fold_b & set(incomplete[0].trials)  # one seed of b failed, so the number leaves b out
    (difference,) = [
        e
        for e in trace.trace(results, ["emodb", "T+F", "T+F+TF", "difference", "uar"])
        if e.what.endswith(", difference")
    ]
    whole = folds[(folds.database == "emodb") & (folds.ablation == "T+F+TF")]
    assert set(difference.trials) == set(mine.trial_id) | set(whole.trial_id)


def test_the_text_for_a_person_names_ledger_entries_and_runs_once():
    results = with_runs(sweep(configuration(), configuration(ablation="T+F")))
    text = trace.to_text(trace.trace(results, ["T+F", "uar", "pooled"]), results)
    trials = [results.entries[c, f, 0].trial_id for c in results.configurations if c.ablation == "T+F" for f in c.folds]
    for trial in trials:
        assert text.count(f"{trial[:2]}/{trial}.json, MLflow run run of {trial}") == 1
    assert "UAR, pooled; emodb / speaker / time_frequency_transformer / T+F / nested" in text
    assert "low end of the 95 % interval" in text
    values = json.loads(trace.to_json(trace.trace(results, ["T+F", "uar", "pooled"])))
    assert all(value["trials"] == trials for value in values)


def test_a_word_that_fits_nothing_is_refused_with_what_does():
    results = sweep(configuration())
    with pytest.raises(RequestError, match=r"no number of these tables is printed as 99\.99"):
        trace.trace(results, ["99.99"])
    with pytest.raises(RequestError, match=r"--trace: no 'poold'.*did you mean 'pooled'"):
        trace.trace(results, ["poold"])
    with pytest.raises(RequestError, match="2 problem"):
        trace.trace(results, ["poold", "77.77"])


def test_an_unknown_run_is_said_and_not_invented():
    results = sweep(configuration())
    assert "no MLflow run known" in trace.to_text(trace.trace(results, ["uar", "pooled"]), results)


# --- repeating a trial -----------------------------------------------------------------------------------------------


def trained_specs(command: str) -> dict[tuple[str, int], TrialSpec]:
    """What the command would train, by fold and seed."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "tfser.sweep"]
    planned = check(parse(words[3:])).plan
    return {key: spec for study in planned.studies for key, spec in study.final_specs(study.base, study.epochs).items()}


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_command_of_a_searched_trial_trains_a_trial_of_the_same_id(model, tiny_manifest, tmp_path):
    """Whatever settings a search over the papers' space chose, and however many epochs."""
    fitted = isinstance(MODELS[model], Estimator)
    if missing := planning_settings.missing_here(MODELS[model], planning_settings.published_settings(model)):
        pytest.skip(missing[0])  # such as weights that are not on this machine
    sampled = search_space_file.read(
        packaged_files.data_folder("search_spaces") / f"{model}.yaml",
        {name: planning_settings.hyperparameters(name) for name in MODELS},
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5))
    rng = random.Random(model)
    base = planning_settings.published_settings(model)
    plain = trained_specs(f"python -m tfser.sweep {tiny_manifest} --model {model} --out {tmp_path / 'plain'}")
    digest = next(iter(plain.values())).database_digest
    seen, tried = set(), 0
    while tried < 6:
        settings = planning_settings.hashed(MODELS[model], sampled.sample(study.ask(), base))
        if planning_settings.missing_here(MODELS[model], settings):
            continue  # a set of openSMILE
        tried += 1
        spec = TrialSpec(
            database="tiny",
            database_digest=digest,
            protocol=rng.choice(["speaker", "session"]),
            fold="?",
            purpose="final" if fitted else rng.choice(["final", "oracle"]),
            model=model,
            ablation=rng.choice(MODELS[model].ablations),
            seed=rng.randrange(3),
            epochs=1 if fitted else rng.randrange(1, 200),
            hyperparameters=tuple(sorted(settings.items())),
        )
        fold = rng.choice(["anna", "carl"]) if spec.protocol == "speaker" else "s2"
        spec = TrialSpec.from_dict({**spec.to_dict(), "fold": fold})
        command = repeat(
            spec, command=f"python -m tfser.sweep {shlex.quote(str(tiny_manifest))}", out=str(tmp_path / "again")
        )
        trained = trained_specs(command)
        assert trained[fold, spec.seed].trial_id == spec.trial_id, command
        assert {key[0] for key in trained} == {fold}
        seen.add(spec.trial_id)
    assert len(seen) > 2
    assert not (tmp_path / "again").exists()


def test_a_known_database_is_named_and_another_one_is_a_manifest():
    def spec_of(database):
        spec = TrialSpec(
            database=database,
            database_digest="0" * 16,
            protocol="speaker",
            fold="a b",
            purpose="final",
            model=TFT,
            ablation="T+F+TF",
            seed=0,
            epochs=3,
            hyperparameters=tuple(sorted(planning_settings.published_settings(TFT).items())),
        )
        return spec

    typed = (
        "python -m tfser.sweep emodb '/data/My Corpus/mine.csv' audformat:/x/other --trials 3 --data corpora --epochs 5"
    )
    for name, wanted in (
        ("emodb", "emodb --data corpora --fold 'a b' "),
        ("mine", "'/data/My Corpus/mine.csv' --data corpora --fold 'a b' "),
        ("other", "audformat:/x/other --data corpora --fold 'a b' "),
    ):
        assert repeat(spec_of(name), command=typed).startswith(f"python -m tfser.sweep {wanted}")
    assert repeat(spec_of("emodb")).startswith("python -m tfser.sweep emodb --fold ")
    assert repeat(spec_of("mine")).startswith("python -m tfser.sweep mine.csv --fold ")
    assert "--allow-incomplete" in repeat(spec_of("emodb"), incomplete=True)


def test_what_cannot_be_repeated_by_itself_says_why():
    spec = TrialSpec(
        database="emodb",
        database_digest="0" * 16,
        protocol="speaker",
        fold="03",
        purpose="search",
        validation=("08",),
        model=TFT,
        ablation="T+F+TF",
        seed=0,
        epochs=3,
        hyperparameters=(*sorted({**planning_settings.published_settings(TFT), "learning_rate": 1}.items()),),
        numerics=0,
    )
    with pytest.raises(RequestError) as refused:
        repeat(spec)
    text = str(refused.value)
    assert "the command of its sweep repeats it" in text
    assert "numerics version 0" in text
    assert "learning_rate=1 cannot be typed" in text


def test_every_float_that_a_search_can_choose_survives_being_typed():
    rng = np.random.default_rng(3)
    legal = planning_settings.hyperparameters(TFT)
    for value in [*10 ** rng.uniform(-6.9, 0.9, 200), 1e-5, 1.0, 0.1 + 0.2]:
        assert legal["learning_rate"].parse(repeat_command.typed_form(float(value))) == float(value)
