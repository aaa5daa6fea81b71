"""The last lines of a start: the report first, then at most ten, however much there is to say."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.helpers.results import configuration, failure
from tests.helpers.sweeps import arguments
from tfser import collect
from tfser.execution.worker_usage import Usage
from tfser.search.history import History, Tried
from tfser.sweep import command as sweep_command
from tfser.sweep import wrap_up
from tfser.sweep.printer import Printer

ROW = configuration()
REASON = "the loss was nan\nin epoch 3"


def schedule_with(failures: int, undecided: int) -> SimpleNamespace:
    """All that the last lines read of a schedule, with everything that they can say."""
    return SimpleNamespace(
        ledger=SimpleNamespace(damaged=()),
        finished=False,
        waiting=3,
        failures=[
            SimpleNamespace(spec=made.spec, outcome=made, configuration=ROW, trained=True)
            for made in (failure(ROW, str(number), 0, REASON) for number in range(failures))
        ],
        undecided=[SimpleNamespace(name=f"study {number}", deploy=False) for number in range(undecided)],
        studies=(),
        trained=40,
        there={"a"},
        epochs_saved=12,
    )


def shown(failures: int, undecided: int = 0) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    usage = Usage(busy_s=9.0, first=0.0, last=10.0, looks=[(0.0, 1)])
    wrap_up.say_trials(Printer(console), schedule_with(failures, undecided), usage, 60.0)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("failures", "undecided"), [(0, 0), (1, 0), (2, 0), (3, 0), (5, 40), (200, 3)])
def test_however_many_trials_failed_they_take_six_lines_and_four_are_left_for_places(failures, undecided):
    lines = shown(failures, undecided)
    assert len(lines) <= 6
    assert any(line.startswith("Trained 40 trials in") for line in lines)
    assert any("Workers busy" in line and "spared 12 epochs" in line for line in lines)


def test_what_is_not_named_is_counted_and_where_to_find_it_is_said():
    lines = shown(7, 2)
    assert lines[0].startswith("The tables lack 3 trials")
    assert lines[1].endswith("the loss was nan in epoch 3")
    assert lines[2].startswith("and 8 more; ")  # 7 failures and 2 studies, of which one is named
    assert any("failed: emodb 1 " in line for line in shown(2))
    assert not any("more;" in line for line in shown(2))


def test_choices_of_many_searches_point_to_the_reports_table():
    tried = (Tried(state="finished", validation_uar=0.5, epochs=2, hyperparameters={"dropout": 0.1}),)
    studies = [History(configuration=ROW, folds=(str(n),), tried=tried, importances={}) for n in range(6)]

    def said(count: int) -> list[str]:
        console = Console(file=io.StringIO(), width=80)
        wrap_up.say_chosen(Printer(console), studies[:count])
        return console.file.getvalue().splitlines()

    assert len(said(4)) == 4
    assert said(4)[0] == "chosen for emodb 0 T+F+TF: dropout 0.1 (validation UAR 50.00 % at epoch 2)"
    assert said(5)[4:] == ["and 1 more search: report.html has a table of what each chose"]
    assert said(6)[4:] == ["and 2 more searches: report.html has a table of what each chose"]


def last_lines(text: str) -> list[str]:
    lines = text.rstrip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("Report: ")]
    assert len(starts) == 1
    return lines[starts[0] :]


@pytest.mark.full
def test_a_sweep_and_a_collection_end_with_the_report_and_at_most_ten_lines(tiny_manifest, tmp_path, capsys):
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "s")) == 0
    first, *others = last_lines(capsys.readouterr().out)
    assert Path(first.removeprefix("Report: ")) == tmp_path / "s" / "report.html"
    assert 0 < len(others) <= 10
    assert sum("report.html" in line for line in others) == 0
    assert any(line.startswith("Trained 4 trials in") for line in others)
    assert any(line.startswith("Tables and figures: ") for line in others)
    assert collect.main(["s", "--storage", str(tmp_path / ".tfser"), "--out", str(tmp_path / "again")]) == 0
    lines = last_lines(capsys.readouterr().out)
    assert lines == [
        f"Report: {tmp_path / 'again' / 's' / 'report.html'}",
        f"Tables and figures: {tmp_path / 'again' / 's'}",
    ]


def test_a_collection_of_many_sweeps_names_eight_reports_and_counts_the_rest(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    collect._say_places(console, [tmp_path / str(number) for number in range(20)])
    lines = console.file.getvalue().splitlines()
    assert lines[0] == f"Report: {tmp_path / '0' / 'report.html'}"
    assert len(lines) == 10
    assert lines[8] == "and 12 more reports in the folders beside them"
    assert lines[9] == "Tables and figures: beside each report"
