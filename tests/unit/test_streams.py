"""Every command prints what it has to say on an output that lacks some of its letters."""

import importlib
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny import SET_SMALL, write_tiny
from tfser.__main__ import COMMANDS, main
from tfser.text import streams

NAMES = {"calm": "平静", "glad": "gai é", "tense": "紧张"}


class Output(io.TextIOWrapper):
    """A stream of an encoding, as strict as Python opens it."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    @property
    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


def said(monkeypatch, encoding, command, *words):
    """Exit code, output and errors of a command."""
    out, err = Output(encoding), Output(encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = importlib.import_module(COMMANDS[command][0]).main([str(word) for word in words])
        return code, out.text, err.text


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    path = write_tiny(tmp_path_factory.mktemp("names"))
    text = path.read_text(encoding="utf-8")
    for old, new in NAMES.items():
        text = text.replace(f",{old},", f",{new},")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("utf-8", marks=pytest.mark.full)])
def test_a_sweep_its_tables_and_its_models_are_shown_on_any_output(manifest, tmp_path, monkeypatch, encoding):
    monkeypatch.setattr("tfser.report.figures.every.of_rows", lambda *arguments: {})
    monkeypatch.setattr("tfser.report.figures.every.over_rows", lambda *arguments: [])
    fixed = ["--in-process", "--fold", "anna", "--epochs", "1", "--set", *SET_SMALL, "--name", "x"]
    model = ["--model", "time_frequency_transformer"]
    code, out, err = said(monkeypatch, encoding, "sweep", manifest, "--out", tmp_path, *fixed, *model)
    assert code == 0, err
    assert out.isascii() == (encoding == "ascii")
    code, out, _ = said(monkeypatch, encoding, "collect", "--out", tmp_path)
    assert code == 0
    file = manifest.parent / "anna" / "calm0.wav"
    code, out, _ = said(monkeypatch, encoding, "predict", "x", file, "--results", tmp_path)
    assert code == 0
    assert "平静 %" in out if encoding == "utf-8" else "\\u5e73\\u9759 %" in out
    code, out, _ = said(monkeypatch, encoding, "predict", "x", file, "--json", "--results", tmp_path)
    assert code == 0
    assert json.loads(out)["emotions"] == sorted(NAMES.values())


@pytest.mark.parametrize("command", ["sweep", "collect", "leaks", "predict", "attention", "databases", "models"])
def test_a_refusal_is_shown_on_any_output(tmp_path, monkeypatch, command):
    words = {"databases": ["check"], "models": ["describe"]}.get(command, [])
    out = tmp_path / "愤怒"
    places = {"predict": ["--results", out], "attention": ["--results", out], "databases": [], "models": []}
    place = places.get(command, ["--out", out])
    code, _, err = said(monkeypatch, "ascii", command, *words, "愤怒\udcff", *place)
    assert code != 0
    assert "\\u6124\\u6012" in err


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "61.20 +- 3.10 + - 2 x 3 ... \\xe9 \\u5e73 \\udcff\n"),
        ("latin-1", "61.20 ± 3.10 + - 2 × 3 ... é \\u5e73 \\udcff\n"),
        ("cp1252", "61.20 ± 3.10 † – 2 × 3 … é \\u5e73 \\udcff\n"),
        ("utf-8", "61.20 ± 3.10 † – 2 × 3 … é 平 \\udcff\n"),
    ],
)
def test_our_signs_are_printed_as_ascii_and_what_else_an_output_lacks_as_numbers(monkeypatch, encoding, expected):
    out = Output(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    streams.take_any_text()
    print("61.20 ± 3.10 † – 2 × 3 … é 平 \udcff")
    assert out.text == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["completion", "bash"],
        pytest.param(["databases", "list"], marks=pytest.mark.full),
        pytest.param(["models", "list", "--json"], marks=pytest.mark.full),
        pytest.param(["sweep", "synthetic", "--plan", "--in-process"], marks=pytest.mark.full),
    ],
)
def test_a_command_whose_reader_has_left_ends_in_silence(words, tmp_path):
    """As after ``| head``, whose end no command has to wait for."""
    code = "import sys; sys.stdin.read(); from tfser.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as child:
        child.stdout.close()
        _, err = child.communicate()
    assert child.returncode == 0
    assert "rror" not in err.decode()


def interrupted(*_):
    raise KeyboardInterrupt


def as_module(name):
    """Run ``python -m`` a module in this process; returns its exit code."""
    with pytest.raises(SystemExit) as end:
        runpy.run_module(name, run_name="__main__")
    return end.value.code


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_ends_every_command_in_a_word(name, monkeypatch, capsys):
    monkeypatch.setattr(f"{COMMANDS[name][0]}.main", interrupted)
    monkeypatch.setattr(sys, "argv", ["tfser", name])
    assert main() == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("collect", "predict")])
def test_an_interrupt_ends_every_module_in_a_word(name, monkeypatch, capsys):
    monkeypatch.setattr(f"{COMMANDS[name][0]}.main", interrupted)
    assert as_module(f"tfser.{name}") == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


@pytest.mark.parametrize("name", ["collect", "predict"])
def test_an_interrupt_ends_a_module_that_is_one_file_in_a_word(name, monkeypatch, capsys):
    monkeypatch.setattr("tfser.text.streams.take_any_text", interrupted)
    monkeypatch.delitem(sys.modules, f"tfser.{name}", raising=False)
    assert as_module(f"tfser.{name}") == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


@pytest.mark.parametrize("words", [["sweep", "synthetic"], ["databases", "list"]])
def test_an_interrupt_while_a_command_is_imported_ends_it_in_a_word(words, monkeypatch, capsys):
    monkeypatch.setattr("tfser.__main__.importlib.import_module", interrupted)
    monkeypatch.setattr(sys, "argv", ["tfser", *words])
    assert main() == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["tfser", "--help"], 1),
        (["tfser", "completion", "bash"], 1),
        (["tfser", "completion", "--help"], 1),
        (["tfser.completion", "bash"], 1),
        (["tfser", "nonsense"], 2),
        pytest.param(["tfser", "databases", "list"], 1, marks=pytest.mark.full),
        pytest.param(["tfser", "models", "list", "--json"], 1, marks=pytest.mark.full),
    ],
)
def test_an_output_whose_disk_is_full_is_a_sentence_and_no_success(words, code, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == code
    said = done.stderr.decode()
    assert (said == "standard output cannot be written: No space left on device\n") == (code == 1)
    assert "rror" not in said


def test_what_a_full_disk_did_not_take_is_said_once_the_work_is_done(monkeypatch, tmp_path, capfd):
    done = tmp_path / "done"
    code = f"""
import sys
from pathlib import Path
from pathlib import Path
from tfser.text import ending, streams

def command():
    streams.take_any_text()
    for _ in range(10000):
        print("a line of a log")
    Path({str(done)!r}).touch()
    return 0

sys.exit(ending.ended(command))
"""
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            assert subprocess.run([sys.executable, "-c", code], stdout=full).returncode == 1
        assert done.exists()
        assert capfd.readouterr().err == "standard output cannot be written: No space left on device\n"
