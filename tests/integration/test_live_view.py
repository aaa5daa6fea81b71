"""A sweep in a terminal of its own: recorded, resized, interrupted with Ctrl-C, planned and gone on with as a log."""

import re
import subprocess
import sys

import pytest

from tests.helpers.sweeps import search_arguments
from tests.helpers.terminal import Recording, Screen, columns

pytestmark = pytest.mark.full

MOST_S = 15.0
"""Most seconds without a movement. In the simulated time of the unit tests it is 5; a test machine may be busy."""


@pytest.mark.parametrize("how", [("--in-process",), ("--trial-gpus", "0")], ids=["in process", "on Ray"])
def test_a_sweep_moves_shows_its_epochs_takes_a_resize_and_goes_on_after_ctrl_c(tiny_manifest, tmp_path, how):
    words = search_arguments(tiny_manifest, tmp_path, "--fold", "anna", "--ablation", "T+F", *how)
    words[words.index("--epochs") + 1] = "300"
    command = [sys.executable, "-m", "tfser.sweep", *words]
    with Recording(command, (100, 30)) as recording:
        assert recording.until(lambda: re.search(r"search anna.* +[1-9]\d* of 300 +[\d.]+ %", recording.text))
        recording.resize(60, 12)
        resized = len(recording.events)

        def fits():
            """Whether what was drawn last, after frames that were under way, is as narrow as the terminal is now."""
            drawn = Screen()
            drawn.write("".join(text for _, text in recording.events[resized:][-3:]))
            return "trials done" in drawn.text and max(map(columns, drawn.text.splitlines())) < 60

        assert recording.until(fits)
        recording.type(b"\x03")
        assert recording.ended() == 130
    times = [0.0, *(at for at, _ in recording.events)]
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < MOST_S
    assert "Training, " in recording.text
    assert "".join(text for _, text in recording.events[:3]).startswith(("\r\x1b[2Kloading", "\x1b[?25l", "\r\x1b[2K"))
    screen = recording.screen
    assert screen.cursor_shown
    assert "trials done" in screen.text
    assert "What was finished is kept; the same command goes on from there (sweep s)." in screen.text
    words[words.index("--epochs") + 1] = "300"
    with Recording([*command, "--plan"], (80, 30)) as planned:
        assert planned.ended() == 0
        assert "Sweep s" in planned.screen.text
        assert planned.screen.cursor_shown
    log = subprocess.run([*command, "--plan"], capture_output=True, text=True, check=True)
    assert "\x1b" not in log.stdout + log.stderr


def test_a_dumb_terminal_gets_the_lines_of_a_log(tiny_manifest, tmp_path):
    words = search_arguments(tiny_manifest, tmp_path, "--fold", "anna", "--ablation", "T+F", "--in-process")
    with Recording([sys.executable, "-m", "tfser.sweep", *words], env={"TERM": "dumb"}) as recording:
        assert recording.ended() == 0
    assert "[6/6] final" in recording.text
    assert "\x1b" not in recording.text
