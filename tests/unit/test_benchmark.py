"""The benchmark runs and writes what it promises. Nothing here looks at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tfser.benchmark import command, figures, gpu

ROOT = Path(__file__).parents[2]
KEYS = {"name", "value", "unit", "baseline", "ratio", "n", "spread"}


@pytest.mark.full
def test_the_quick_run_writes_one_object_per_figure(tmp_path):
    file = tmp_path / "new" / "figures.json"
    # In a process of its own: it starts a Ray, whose token a process reads once.
    words = [sys.executable, "-m", "tfser.benchmark", "--quick", "--json", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(file.read_text(encoding="utf-8"))
    assert len(written) >= 2 * len(command.MEASURES)
    for figure in written:
        assert figure.keys() == KEYS
        assert figure["name"]
        assert figure["unit"]
        assert figure["n"] == figures.QUICK.repeats
        assert all(figure[key] > 0 for key in ("value", "baseline", "ratio"))
        assert figure["spread"] >= 0
        assert figure["name"] in done.stdout
    assert len({figure["name"] for figure in written}) == len(written)


@pytest.mark.full
def test_measuring_leaves_the_process_as_it_was(capsys):
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    assert command.main(["--quick", "--only", "features", "training"]) == 0
    assert "features of 12 utterances" in capsys.readouterr().out
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (threads, cores)


def test_a_figure_is_the_median_of_ratios_taken_in_turn():
    figure = figures.figure("x", "s", [2.0, 30.0, 4.0], [1.0, 10.0, 4.0])
    assert (figure.value, figure.baseline, figure.ratio, figure.n, figure.spread) == (4.0, 4.0, 2.0, 3, 2.0)


def test_a_file_that_cannot_be_written_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command.main(["--quick", "--json", str(tmp_path / "file" / "x.json")]) == 2
    error = capsys.readouterr().err
    assert "file" in error
    assert "Traceback" not in error


def test_wrong_words_end_with_2(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--fast"])
    assert end.value.code == 2
    assert "--quick" in capsys.readouterr().err


@pytest.mark.full
def test_a_machine_without_a_gpu_is_told_so_and_what_needs_one_runs_on_its_cpu(capsys):
    if not torch.cuda.is_available():
        assert gpu.measure(figures.QUICK) == []
        assert "PyTorch sees no GPU here" in capsys.readouterr().err
    found = gpu.figures(figures.QUICK, torch.device("cpu"))
    assert len({figure.name for figure in found}) == len(found) == 2 * 4 + 1
    assert all(figure.value > 0 and figure.ratio > 0 for figure in found)
    assert found[-1].unit == "h"


def test_the_projected_tables_have_the_papers_folds_ablations_and_epochs():
    table = next(t for t in gpu.TABLES if (t.model, t.database) == ("time_frequency_transformer", "casia"))
    # 1200 utterances of 2 s have 3 segments of 80 frames; 3 of 4 speakers train: 4 folds x 4 ablations x 1000 epochs.
    assert table.segments(80) == 1200 * 3 * 3 / 4 * 4 * 4 * 1000
    assert {(t.model, t.database) for t in gpu.TABLES} == {
        *(("time_frequency_transformer", name) for name in ("iemocap", "casia")),
        *(("atfnn", name) for name in ("iemocap", "abc", "casia")),
    }
