"""Every number of the table of leaks, recomputed from made-up scores with pandas and scikit-learn.

``test_leaks`` has scores of trained models.
"""

import io
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.helpers.leaks import FIGURES, check
from tfser.evaluation.scores import scores
from tfser.leaks import table as leaks_table
from tfser.leaks.measured import measure
from tfser.leaks.plan import ROWS, make
from tfser.planning import plan
from tfser.planning.request import Request
from tfser.record import Failure, Record, ScoredUtterance
from tfser.report.tables import formats

pytestmark = pytest.mark.usefixtures("few_draws", "blank_figures")


def files_of(asked, records):
    """What the command writes: leaks.csv, leaks.md, leaks.tex and leaks_trials.csv."""
    measured = measure(asked, records)
    table = leaks_table.table(asked, measured)
    csv_text = formats.to_csv(leaks_table.CSV_COLUMNS, [table])
    return (
        csv_text,
        formats.to_markdown("Leaks", [table]),
        formats.to_latex([table]),
        leaks_table.trials_csv(asked, measured, records),
    )


@pytest.fixture(scope="module")
def asked(tiny):
    """A plan of every row with two seeds."""
    request = Request(models=("time_frequency_transformer",), seeds=2, epochs=3)
    return make(plan.make(request, [tiny], lambda d: "digest", {}), ROWS)


@pytest.fixture
def invented(asked, tiny):
    """A record with random scores for every trial of that plan."""
    entries = {}
    for study in asked.plan.studies:
        for (fold, seed), spec in study.final_specs(study.base, study.epochs).items():
            dice = random.Random(spec.trial_id)
            number = 1 + study.folds.index(fold)
            mine = [
                u
                for i, u in enumerate(tiny.utterances)
                if (i % 4 + 1 == number if fold.startswith("part") else u.speaker == fold)
            ]
            utterances = []
            for u in mine:
                p = tuple(dice.random() for _ in tiny.emotions)
                utterances.append(ScoredUtterance(id=u.id, speaker=u.speaker, truth=u.emotion, p=p))
            entries[study.configuration, fold, seed] = Record(
                spec=spec,
                scores=scores(tiny.emotions, utterances, np.eye(len(tiny.emotions), dtype=np.int64)),
                epochs=3,
                started_unix=1.0,
                seconds=1.0,
            )
    return entries


@pytest.mark.full
def test_every_number_of_two_seeds_follows_from_the_scores(asked, invented, tiny):
    texts = files_of(asked, invented)
    table = check(*texts, {r.trial_id: r for r in invented.values()}, list(tiny.emotions))
    assert list(table.settings_tried) == [1, 1, 3, 1, 1, 1, 3]
    assert list(table.paired) == [True] * 5 + [False] * 2
    assert "2 seeds: means over the seeds; a choice on the test fold is made for each seed by itself." in texts[1]


@pytest.mark.full
def test_no_number_is_wrong_or_silently_missing_where_trials_are(asked, invented, tiny):
    """Gaps: a fold without a trial, a failed setting beside others, a fold with only failures, a lost trial."""
    of = {row.name: row for row in asked.rows}

    def fail(name, setting, fold, seed, status="failed"):
        key = (of[name].studies[setting].configuration, fold, seed)
        spec = invented[key].spec
        invented[key] = Failure(trial_id=spec.trial_id, spec=spec, status=status, reason="the loss was nan")

    del invented[of["epoch"].studies[0].configuration, "anna", 1]
    fail("hyperparameters", 1, "bert", 0)
    for setting in range(3):
        fail("together", setting, "part02", 0)
    fail("together", 2, "part03", 1, "lost")
    fail("random_split", 0, "part04", 1)
    texts = files_of(asked, invented)
    table = check(*texts, {r.trial_id: r for r in invented.values()}, list(tiny.emotions))
    assert table.folds_done.to_dict() == dict(zip(ROWS, (4, 3, 4, 4, 4, 3, 2), strict=True))
    assert (
        "epoch chosen on the test fold: 3 of 4 folds, not the whole; missing anna (seed 1 not finished (1 of 1))."
        in texts[1]
    )
    assert (
        "hyperparameters chosen on the test fold: 1 trainings failed, and another setting was chosen there." in texts[1]
    )
    assert "part02 (seed 0 failed: the loss was nan); part03 (seed 1 not finished (1 of 3))" in texts[1]


def test_a_row_of_which_nothing_is_done_stands_there_without_numbers(asked, invented):
    left = {key: r for key, r in invented.items() if key[0].label != "standardisation"}
    csv_text, markdown, *_ = files_of(asked, left)
    row = pd.read_csv(io.StringIO(csv_text)).set_index("row").loc["standardisation"]
    assert row.folds_done == 0
    assert row[[f"{figure}{part}" for figure in FIGURES for part in ("", "_difference")]].isna().all()
    assert "standardisation over all speakers: 0 of 4 folds" in markdown


def test_equal_settings_are_told_apart_by_nothing_and_the_first_counts(asked, invented):
    of = {row.name: row for row in asked.rows}
    for setting in (1, 2):
        for fold in asked.configuration.folds:
            first = invented[of["honest"].studies[0].configuration, fold, 0]
            key = (of["hyperparameters"].studies[setting].configuration, fold, 0)
            invented[key] = replace(first, spec=invented[key].spec)
    trials = pd.read_csv(io.StringIO(files_of(asked, invented)[3]), dtype={"trial_id": str})
    mine = trials[(trials["row"] == "hyperparameters") & (trials.seed == 0)]
    assert list(mine.counts) == [True] * 4 + [False] * 8


def test_an_incomplete_database_and_recurring_texts_are_said(asked, invented):
    configuration = replace(asked.configuration, complete=False, same_texts=True, remark="first 2 s only")
    markdown = files_of(replace(asked, configuration=configuration), invented)[1]
    for words in ("tiny: first 2 s only", "tiny: incomplete", "not text-independent"):
        assert words in markdown
