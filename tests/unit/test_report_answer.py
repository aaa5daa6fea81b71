"""The sentences that the page opens with, against scikit-learn, SciPy and pandas on predictions.csv."""

from __future__ import annotations

import dataclasses
import html
import re
import zlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import recall_score

from tests.helpers.results import (
    ATFNN,
    TFT,
    configuration,
    failure,
    read,
    record,
    rescored,
    searched,
    sweep,
    trained,
)
from tfser.evaluation.scores import scores
from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.report import write
from tfser.report.summary import summarise
from tfser.search import history
from tfser.search.history import History, Tried

FOLDS = tuple("abcdefgh")
TITLES = {TFT: "Time-Frequency Transformer", ATFNN: "ATFNN", "svm": "Functionals + SVM", "lda": "LLD+DR"}


def skilled(shares: dict[Configuration, float]) -> Results:
    """Results in which each row recognises about that share of the same utterances, in every fold."""
    results = sweep(*shares)
    entries = dict(results.entries)
    for (row, fold, seed), entry in results.entries.items():
        rng = np.random.default_rng(zlib.crc32(repr((row.key, fold, seed)).encode()))
        utterances = []
        for utterance in entry.scores.utterances:
            index = row.emotions.index(utterance.truth)
            if rng.random() >= shares[row]:
                index = (index + 1) % len(row.emotions)
            p = tuple(0.8 if i == index else 0.2 / (len(row.emotions) - 1) for i in range(len(row.emotions)))
            utterances.append(dataclasses.replace(utterance, p=p))
        made = scores(row.emotions, utterances, np.eye(len(row.emotions), dtype=np.int64))
        entries[row, fold, seed] = rescored(entry, **{f.name: getattr(made, f.name) for f in dataclasses.fields(made)})
    return dataclasses.replace(results, entries=entries)


def rows(*models: str, **changes) -> list[Configuration]:
    ablations = {TFT: "T+F+TF", ATFNN: "ATFNN"}
    given = {"folds": FOLDS, "selection": "fixed", **changes}
    return [configuration(model=model, ablation=ablations.get(model, "full"), **given) for model in models]


def page_of(results: Results, folder: Path, **options) -> str:
    write.write(results, folder, pictures=False, **options)
    return (folder / "report.html").read_text(encoding="utf-8")


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def answer(results: Results, folder: Path, **options) -> str:
    page = page_of(results, folder, **options)
    return words(re.search(r'<h2 id="answer">Answer</h2>(.*?)</section>', page, flags=re.DOTALL)[1])


def uar(of: pd.DataFrame) -> float:
    return 100 * recall_score(of.truth, of.predicted, average="macro", labels=sorted(of.truth.unique()))


def measured(folder: Path) -> tuple[pd.Series, pd.DataFrame]:
    """Pooled UAR by model, and each fold's by model, from the predictions alone."""
    predictions, folds = read(folder, "predictions.csv"), read(folder, "folds.csv")
    joined = predictions.merge(folds[["trial_id", "model", "fold"]], on="trial_id")
    pooled = joined.groupby("model").apply(uar, include_groups=False)
    by_fold = joined.groupby(["fold", "model"]).apply(uar, include_groups=False).unstack()
    return pooled, by_fold


def sign_flip(differences: np.ndarray) -> float:
    made = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    return float(made.pvalue)


def holm(ps: list[float]) -> list[float]:
    order, out, before = sorted(range(len(ps)), key=lambda i: ps[i]), [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        before = out[i] = max(before, min(1.0, ps[i] * (len(ps) - rank)))
    return out


@pytest.mark.parametrize("averaging", ["pooled", "mean"])
def test_it_names_the_highest_method_and_its_lead_as_printed(tmp_path, averaging):
    results = skilled(dict(zip(rows(TFT, ATFNN, "svm", "lda"), (0.72, 0.6, 0.66, 0.5), strict=True)))
    said = answer(results, tmp_path, averaging=averaging)
    pooled, by_fold = measured(tmp_path)
    figures = (pooled if averaging == "pooled" else by_fold.mean()).sort_values(ascending=False)
    (first, best), (second, following) = list(figures.items())[:2]
    assert (first, second) == (TFT, "svm")
    how = "pooled over all test utterances" if averaging == "pooled" else "as mean of folds"
    opening = re.match(
        r"Of 4 methods on EmoDB, leave-one-speaker-out, (.*?) reaches the highest UAR: ([\d.]+) % (.*?) "
        r"\(95 % interval [\d.]+ to [\d.]+ %\), ([\d.]+) points above the next, (.*?) \(([\d.]+) %\)\. ",
        said,
    )
    assert opening[1] == TITLES[first]
    assert opening[3] == how
    assert opening[5].startswith(TITLES[second])
    shown = [float(opening[i]) for i in (2, 6, 4)]
    assert shown == pytest.approx([best, following, best - following], abs=0.0051)


def test_the_paired_difference_its_p_and_holms_are_those_of_scipy(tmp_path):
    results = skilled(dict(zip(rows(TFT, ATFNN, "svm", "lda"), (0.72, 0.6, 0.66, 0.5), strict=True)))
    said = answer(results, tmp_path)
    _, by_fold = measured(tmp_path)
    others = [m for m in by_fold.columns if m != TFT]
    ps = [sign_flip((by_fold[TFT] - by_fold[m]).to_numpy()) for m in others]
    corrected = dict(zip(others, holm(ps), strict=True))
    found = re.search(
        r"The paired difference of their means of folds is ([+−][\d.]+) points \(95 % interval ([+−][\d.]+) to "
        r"([+−][\d.]+)\)\. 8 speakers (do not )?show it: p = ([\d.]+) \(([\d.]+) after Holm's correction for 3 "
        r"comparisons\)\.",
        said,
    )
    number = [float(text.replace("−", "-")) for text in found.group(1, 2, 3, 5, 6)]
    assert number[0] == pytest.approx((by_fold[TFT] - by_fold["svm"]).mean(), abs=0.0051)
    assert number[3:] == pytest.approx([ps[others.index("svm")], corrected["svm"]], abs=0.00051)
    assert bool(found[4]) == (corrected["svm"] >= 0.05)
    pairs = read(tmp_path, "paired.csv")
    line = pairs[(pairs.figure == "uar_mean") & pairs.model.isin((TFT, "svm")) & pairs.other_model.isin((TFT, "svm"))]
    ends = sorted(100 * np.sign(line.difference.iloc[0]) * line[["low", "high"]].iloc[0])
    assert number[1:3] == pytest.approx(ends, abs=0.0051)


def test_speakers_that_show_a_difference_are_said_to(tmp_path):
    said = answer(skilled(dict(zip(rows(TFT, "svm"), (0.95, 0.4), strict=True))), tmp_path)
    assert "8 speakers show it: p = 0.008." in said  # the smallest that 8 can give, 2 / 2 ** 8
    assert "Functionals + SVM (re-run, one-vs-one) is the best simple method (fitted once, not a network)." in said


@pytest.mark.parametrize(
    ("folds", "models", "wanted"),
    [
        (1, (TFT, ATFNN), "1 speaker cannot show it: the smallest possible p is 1."),
        (4, (TFT, ATFNN), "4 speakers cannot show it: the smallest possible p is 0.125."),
        (
            6,
            (TFT, ATFNN, "svm"),
            "6 speakers cannot show it: the smallest possible p is 0.0312, 0.0625 after Holm's correction for 2 "
            "comparisons.",
        ),
    ],
)
def test_too_few_speakers_are_said_to_show_nothing_whatever_the_scores(tmp_path, folds, models, wanted):
    shares = dict(zip(rows(*models, folds=FOLDS[:folds]), (0.9, 0.3, 0.3), strict=False))
    assert wanted in answer(skilled(shares), tmp_path)


def test_sessions_are_called_so(tmp_path):
    said = answer(skilled(dict(zip(rows(TFT, ATFNN, protocol="session"), (0.9, 0.3), strict=True))), tmp_path)
    assert "leave-one-session-out" in said
    assert "8 sessions show it" in said


def test_where_the_means_of_folds_favour_the_next_it_says_so(tmp_path):
    def turned(results: Results) -> bool:
        one, other = (s.figures for s in summarise(results))
        return (one.uar_pooled - other.uar_pooled) * (one.uar_mean - other.uar_mean) < 0

    tried = (sweep(*rows(TFT, ATFNN, settings=f'{{"epochs": {number}}}')) for number in range(200))
    said = answer(next(results for results in tried if turned(results)), tmp_path)
    pooled, by_fold = measured(tmp_path)
    assert pooled.idxmax() != by_fold.mean().idxmax()
    assert f"As mean of folds, {TITLES[by_fold.mean().idxmax()]} is ahead." in said


def test_guessing_is_one_over_the_emotions_that_occur(tmp_path):
    assert "Guessing among 3 emotions reaches 33.33 %." in answer(sweep(*rows(TFT)), tmp_path / "a")
    lacking = sweep(*rows(TFT), lacks=("sad",))
    assert "Guessing among 2 emotions reaches 50.00 %." in answer(lacking, tmp_path / "b")


def test_the_best_simple_method_is_named_with_its_distance(tmp_path):
    made = skilled(dict(zip(rows(TFT, ATFNN, "svm", "lda"), (0.9, 0.8, 0.4, 0.6), strict=True)))
    said, (pooled, _) = answer(made, tmp_path / "a"), measured(tmp_path / "a")
    found = re.search(r"best simple method \(fitted once, not a network\), (.*?), reaches ([\d.]+) %, ([\d.]+)", said)
    assert found[1].startswith(TITLES["lda"])
    shown = [float(found[2]), float(found[3])]
    assert shown == pytest.approx([pooled["lda"], pooled[TFT] - pooled["lda"]], abs=0.0051)
    ahead = skilled(dict(zip(rows(TFT, "svm"), (0.4, 0.9), strict=True)))
    said, (pooled, _) = answer(ahead, tmp_path / "b"), measured(tmp_path / "b")
    network = f"the best network, {TITLES[TFT]}, reaches {pooled[TFT]:.2f} %"
    assert (
        f"{TITLES['svm']} (re-run, one-vs-one) is itself a simple method (fitted once, not a network); {network}"
        in said
    )
    alone = answer(sweep(*rows(TFT)), tmp_path / "c")
    assert "No simple method (fitted once, not a network) was run beside it; --model comparison runs those" in alone


def test_a_row_that_is_no_whole_result_is_not_ranked_and_says_why(tmp_path):
    network, other, oracle = [*rows(TFT, ATFNN), *rows("dtpm", selection="oracle")]
    simple = dataclasses.replace(rows("svm")[0], transductive=True)
    made = skilled({network: 0.5, other: 0.9, oracle: 0.95, simple: 0.92})
    entries = {k: v for k, v in made.entries.items() if k[:2] != (other, "c")}
    said = answer(dataclasses.replace(made, entries=entries), tmp_path)
    assert said.startswith(f"{TITLES[TFT]} reaches a UAR of ")
    listed = said[said.index("Not ranked, because they are no whole results:") :]
    assert re.search(r"ATFNN, [\d.]+ % \(7 of 8 folds\)", listed)
    assert re.search(r"DTPM[^;]*, [\d.]+ % \(chosen on the test speakers themselves: an upper bound\)", listed)
    assert re.search(r"§, [\d.]+ % \(its scores may depend on what is scored beside an utterance\)", listed)
    few = {k: v for k, v in made.entries.items() if k[0] in (network, other) and k[:2] != (other, "c")}
    made = dataclasses.replace(made, configurations=(network, other), entries=few)
    assert "Not ranked, because it is no whole result: ATFNN, " in answer(made, tmp_path / "one")


@pytest.mark.parametrize(("done", "wanted"), [(1, "Only 1 of 8 folds is in"), (2, "Only 2 of 8 folds are in")])
def test_a_single_row_with_gaps_says_how_many_folds_are_in(tmp_path, done, wanted):
    (row,) = rows(TFT)
    results = sweep(row, without=tuple((fold, 0) for fold in FOLDS[done:]))
    assert f"{wanted}: this is not the whole result." in answer(results, tmp_path)


def test_where_no_row_is_whole_the_highest_stands_first_and_all_say_why(tmp_path):
    made = skilled(dict(zip(rows(TFT, ATFNN), (0.9, 0.5), strict=True)))
    entries = {k: v for k, v in made.entries.items() if k[1] != "c"}
    said = answer(dataclasses.replace(made, entries=entries), tmp_path)
    assert f"{TITLES[TFT]} reaches the highest UAR" in said
    assert re.search(r"No row is a whole result: .*\(7 of 8 folds\); ATFNN, [\d.]+ % \(7 of 8 folds\)\.", said)


def test_rows_without_a_fold_are_named(tmp_path):
    first, second = rows(TFT, ATFNN)
    made = sweep(first, second)
    entries = {k: v for k, v in made.entries.items() if k[0] == first}
    assert "No fold is done yet of ATFNN." in answer(dataclasses.replace(made, entries=entries), tmp_path / "a")
    assert answer(dataclasses.replace(made, entries={}), tmp_path / "b").startswith("No fold is done yet.")


def test_ablations_say_what_each_part_is_worth_and_whether_the_speakers_show_it(tmp_path):
    whole, *parts = [dataclasses.replace(rows(TFT)[0], ablation=a) for a in ("T+F+TF", "T+F", "F+TF")]
    made = skilled({whole: 0.95, parts[0]: 0.3, parts[1]: 0.94})
    said = answer(made, tmp_path / "a")
    folds = read(tmp_path / "a", "folds.csv")
    means = 100 * folds.groupby("ablation").uar.mean()
    found = re.search(
        r"each minus the whole model as mean of folds: F\+TF ([+−][\d.]+) points and T\+F ([+−][\d.]+)", said
    )
    shown = [float(text.replace("−", "-")) for text in found.groups()]
    assert shown == pytest.approx([means[a] - means["T+F+TF"] for a in ("F+TF", "T+F")], abs=0.0051)
    assert "T+F differs significantly (Holm p < 0.05)." in said
    few = skilled({dataclasses.replace(row, folds=FOLDS[:4], folds_total=4): 0.5 for row in (whole, *parts)})
    assert "4 speakers cannot show such differences: the smallest possible p is 0.25 after Holm's" in answer(
        few, tmp_path / "b"
    )


def test_each_database_has_its_own_answer(tmp_path):
    shares = {row: 0.5 for name in ("casia", "emodb") for row in rows(TFT, ATFNN, database=name)}
    page = page_of(skilled(shares), tmp_path)
    found = re.search(r'<h2 id="answer">(.*?)</section>', page, flags=re.DOTALL)[1]
    assert re.findall(r"<h3>(.*?)</h3>", found) == ["EmoDB, leave-one-speaker-out", "CASIA, leave-one-speaker-out"] or (
        re.findall(r"<h3>(.*?)</h3>", found) == ["CASIA, leave-one-speaker-out", "EmoDB, leave-one-speaker-out"]
    )


def test_caveats_take_the_place_of_what_is_missing_only_where_nothing_is(tmp_path):
    (row,) = rows(TFT, remark="first 2 s of each utterance")
    whole, part = page_of(sweep(row), tmp_path / "a"), page_of(sweep(row, without=(("c", 0), ("e", 0))), tmp_path / "b")
    assert '<h2 id="missing">Caveats</h2>' in whole
    assert "What is missing" not in whole
    assert '<h2 id="missing">What is missing</h2>' in part
    assert "speakers c, e: not finished" in words(part)
    for page in (whole, part):
        assert "EmoDB: first 2 s of each utterance." in words(page)
        assert "One seed: how much the numbers move with another is not known." in words(page)


def test_the_page_goes_from_the_answer_over_table_and_figures_to_folded_details(tmp_path):
    made = searched(skilled(dict(zip(rows(TFT, ATFNN), (0.9, 0.5), strict=True))))
    page = page_of(made, tmp_path)
    order = [page.index(f'id="{name}"') for name in ("answer", "printed-comparison", "figures", "details", "paired")]
    assert order == sorted(order)
    before, after = page.split('<h2 id="details">')
    assert before.count("<table") == 1
    assert "<details" not in before
    depth, unfolded = 0, 0
    for tag in re.findall(r"</?details|<table", after):
        depth += {"<details": 1, "</details": -1}.get(tag, 0)
        unfolded += tag == "<table" and depth == 0
    assert unfolded == 0


def test_every_file_beside_the_page_that_it_names_is_there(tmp_path):
    page = page_of(searched(sweep(*rows(TFT, ATFNN))), tmp_path)
    linked = {unquote(link) for link in re.findall(r'href="([^"#:]+)"', page)}
    assert {"comparison.tex", "details.md", "predictions.csv", "paired.csv"} <= linked
    assert all((tmp_path / name).is_file() for name in linked)


# ------------------------------------------------------------------------------------------------- chosen settings


def table_of(page: str, name: str) -> list[list[str]]:
    found = re.search(rf'<table id="{name}">(.*?)</table>', page, flags=re.DOTALL)[1]
    found = re.sub(r'<span class="narrow">.*?</span>|<caption.*?</caption>', "", found)
    return [
        [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", found, flags=re.DOTALL)
    ]


def test_every_setting_that_a_search_chose_stands_in_a_table_fold_by_hyperparameter(tmp_path):
    (row,) = rows(TFT, selection="nested", folds=("03", "08"))
    tried = [
        Tried(state="finished", validation_uar=v, epochs=4, hyperparameters={"learning_rate": rate, "channels": c})
        for v, rate, c in ((0.4, 0.01, 8), (0.6, 0.00212345, 16))
    ]
    studies = [
        History(configuration=row, folds=("03",), tried=tuple(tried), importances={}),
        History(configuration=row, folds=("08",), tried=tuple(tried[:1]), importances={}),
    ]
    page = page_of(dataclasses.replace(sweep(row), histories=tuple(studies)), tmp_path)
    folds = read(tmp_path, "folds.csv").set_index("fold").uar
    head, *lines = table_of(page, "chosen-1")
    assert head[:3] == ["Test speaker", "learning_rate", "channels"]
    assert lines == [
        ["03", "0.00212", "16", "60.00", f"{100 * folds['03']:.2f}", "4", "2 finished"],
        ["08", "0.01", "8", "40.00", f"{100 * folds['08']:.2f}", "4", "1 finished"],
    ]
    assert "told where a study finished 30 settings or more; here each finished 1 to 2." in words(page)


def test_without_the_studies_the_final_trials_tell_what_was_chosen(tmp_path):
    (row,) = rows(TFT, selection="nested", folds=("03",))
    page = page_of(sweep(row), tmp_path)
    head, line = table_of(page, "chosen-1")
    assert "learning_rate" in head
    assert line[head.index("learning_rate")] == "0.0005"
    fixed = page_of(sweep(*rows(TFT, folds=("03",))), tmp_path / "fixed")
    assert "chosen-1" not in fixed


def test_importances_are_told_from_thirty_finished_settings_on(tmp_path):
    (row,) = rows(TFT, selection="nested", folds=("03",))

    def study(finished: int, pruned: int) -> History:
        states = ["finished"] * finished + ["pruned"] * pruned
        tried = tuple(
            Tried(state=s, validation_uar=0.5 if s == "finished" else None, epochs=1, hyperparameters={"channels": 8})
            for s in states
        )
        return History(configuration=row, folds=("03",), tried=tried, importances={"channels": 0.75, "dropout": 0.25})

    few = page_of(dataclasses.replace(sweep(row), histories=(study(29, 40),)), tmp_path / "few")
    enough = page_of(dataclasses.replace(sweep(row), histories=(study(30, 0),)), tmp_path / "enough")
    assert "PED-ANOVA" not in few
    assert "finished 30 settings or more; here 29." in words(few)
    told = "mean of 1 study that finished at least 30 settings): channels 75.00 %, dropout 25.00 %."
    assert told in words(enough)
    assert history.with_told_importances((study(29, 40),))[0].importances == {}


def test_a_failed_fold_is_not_in_the_answer_but_in_what_is_missing(tmp_path):
    (row,) = rows(TFT)
    results = sweep(row, without=(("c", 0),))
    results.entries[row, "c", 0] = failure(row, "c", 0, "the loss was not finite in epoch 3")
    page = page_of(results, tmp_path)
    assert "speaker c: failed: the loss was not finite in epoch 3" in words(page)
    assert record(row, "a", 0).scores.utterances
    assert "Only 7 of 8 folds are in" in words(page)


@pytest.mark.full
def test_a_page_of_twelve_methods_on_ten_folds_weighs_less_than_five_megabytes(tmp_path):
    models = (TFT, ATFNN, "svm", "lda", "gmm", "hmm", "rgsr", "hu_svm", "ga_bel", "dnn_elm", "dtpm", "cnn_lstm")
    emotions = tuple("abcdefg")
    made = rows(*models, folds=tuple(f"{n:02d}" for n in range(10)), emotions=emotions)
    write.write(trained(sweep(*made, size=60)), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 5e6
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3 * 12
    assert "Of 12 methods on EmoDB" in words(page)
