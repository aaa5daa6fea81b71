"""One number, one text: LaTeX, the page and a terminal print the numbers of Markdown and CSV, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.printed import latex_rows, markdown_rows
from tests.helpers.results import Tables, cell_numbers, papers_sweep, printed, random_results, read
from tfser.execution.results import KEY_COLUMNS, Results
from tfser.report import write

pytestmark = pytest.mark.usefixtures("few_draws", "blank_figures")


@pytest.fixture(scope="module")
def sweeps() -> list[Results]:
    """One with everything, and some with gaps of every kind."""
    return [papers_sweep(), *(random_results(number) for number in range(0, 60, 5))]


@pytest.fixture(scope="module")
def folders(sweeps, tmp_path_factory) -> list[Path]:
    place = tmp_path_factory.mktemp("formats")
    for number, results in enumerate(sweeps):
        write.write(results, place / str(number), pictures=False)
    return [place / str(number) for number in range(len(sweeps))]


@pytest.mark.parametrize("kind", ["comparison", "ablation"])
def test_latex_prints_cell_by_cell_what_markdown_prints(folders, kind):
    """In a column too, where databases stand in lines of their own or below each other."""
    count = 0
    for folder in folders:
        for path in folder.glob(f"{kind}*.tex"):
            stem = path.stem.removesuffix("-column")
            text = path.read_text(encoding="utf-8")
            shown = [["".join(cell.split()) for cell in row] for row in latex_rows(text)]
            lines = markdown_rows(path.with_name(f"{stem}.md").read_text(encoding="utf-8"))
            heads = {"Database", "Architecture"}
            wanted = [row for row in lines if row[0] not in heads and not (row[0] and set(row[0]) <= {"-", ":"})]
            wanted = [["".join(cell.split()) for cell in row] for row in wanted]
            if kind == "ablation":  # in a column the databases of a table may stand below each other
                assert {cell for row in shown for cell in row} == {cell for row in wanted for cell in row}, path
            else:
                widths = [len(row) for row in shown]  # without the column of databases where they have lines
                assert shown == [row[-n:] for row, n in zip(wanted, widths, strict=True)], path
            count += len(shown)
    assert count > (200 if kind == "comparison" else 90)


def test_the_pages_paired_comparisons_are_those_of_paired_csv(folders):
    count = 0
    for folder in folders:
        parser = Tables()
        parser.feed((folder / "report.html").read_text(encoding="utf-8"))
        shown = [row for name, rows in parser.tables.items() if name.startswith("paired-") for row in rows[1:]]
        pairs = read(folder, "paired.csv")
        key = [*KEY_COLUMNS, "other_model", "other_ablation", "other_selection", "other_settings"]
        grouped = [part.set_index("figure") for _, part in pairs.groupby(key, sort=False)]
        assert len(shown) == len(grouped)
        for row, part in zip(shown, grouped, strict=True):
            assert (row[2], row[3]) == (str(part.seeds.iloc[0]), str(part.folds.iloc[0]))
            for cell, figure in ((row[4], "uar_mean"), (row[5], "war_mean")):
                line = part.loc[figure]
                wanted = [100 * line.difference] + [100 * v for v in (line.low, line.high) if not pd.isna(v)]
                numbers = cell_numbers(cell.replace("< ", ""))
                assert numbers[: len(wanted)] == pytest.approx(wanted, abs=0.005 + 1e-9), (row, line)
                ps = [p for p in (line.p, line.p_holm) if not pd.isna(p)]
                assert numbers[len(wanted) :] == pytest.approx([max(p, 0.001) for p in ps], abs=0.0005 + 1e-9), (
                    row,
                    line,
                )
            count += 1
    assert count > 60


def test_a_terminal_prints_no_number_that_is_not_in_the_files(sweeps, folders):
    count = 0
    for results, folder in zip(sweeps, folders, strict=True):
        percents: set[str] = set()
        ps: set[str] = set()
        for name in ("comparison.csv", "ablation.csv"):
            frame = read(folder, name)
            for column in frame.select_dtypes("float"):
                values = frame[column].dropna()
                if column.endswith(("_p", "_p_holm")):
                    ps |= {f"{value + nudge:.3f}" for value in values for nudge in (0, 1e-9, -1e-9)} | {"0.001"}
                percents |= {f"{abs(100 * value + nudge):.2f}" for value in values for nudge in (0, 1e-7, -1e-7)}
        text = re.sub(r"smallest two-sided p is [\d.]*\d", "", printed(results))
        shown = re.findall(r"(?<![\d.])\d+\.\d+(?!\d)", text)
        for number in shown:
            digits = len(number.partition(".")[2])
            if digits in (1, 4) or number == "0.05":  # coverage of intervals, shares of utterances, level of a claim
                continue
            assert number in (percents if digits == 2 else ps), (results.sweep, number)
            count += 1
    assert count > 400
