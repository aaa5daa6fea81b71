"""What a shell completes after ``tfser``: commands, options and names, without importing torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfser
from tests.helpers.own_models import NETWORK, write
from tfser.commands import COMMANDS
from tfser.completion import catalogue, command, contents
from tfser.completion.complete import flat, parser
from tfser.databases import KNOWN
from tfser.models import BUILT_IN, MODELS
from tfser.planning.settings import hyperparameters
from tfser.trial import PROTOCOLS

HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "sklearn", "scipy", "matplotlib")
BREAKS = " \t\n\"'><=;|&(:"
"""Bash's COMP_WORDBREAKS: what it replaces begins after the last of them."""


@pytest.fixture(scope="module")
def known():
    """The catalogue, as the process that writes it makes it."""
    return json.loads(json.dumps(contents.contents()))


@pytest.fixture(scope="module")
def cache(known, tmp_path_factory):
    """A folder that holds the catalogue of this state of the package, for the processes that complete."""
    folder = tmp_path_factory.mktemp("cache")
    catalogue._write(folder / f"names-{catalogue._state()}.json", json.dumps(known))
    return folder


@pytest.fixture
def complete(cache, tmp_path):
    """What bash is offered for a command line whose end is the cursor: the protocol of its ``complete -F``."""

    def ask(line, shell="bash", **more):
        env = {name: value for name, value in os.environ.items() if name != "TFSER_DATA"} | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_SHELL": shell,
            "_ARGCOMPLETE_IFS": "\013",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "_ARGCOMPLETE_COMP_WORDBREAKS": BREAKS,
            "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
            "TFSER_CACHE": str(cache),
            **more,
        }
        (tmp_path / "said").write_bytes(b"")
        code = "import sys; from tfser.__main__ import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        said = (tmp_path / "said").read_text(encoding="utf-8")
        return [word.strip() for word in said.split("\013") if word.strip()]

    return ask


def test_the_catalogue_holds_every_name_and_every_option(known):
    assert set(known["commands"]) == set(COMMANDS)
    assert set(known["databases"]) == set(known["folds"]) == set(KNOWN)
    assert set(known["models"]) >= {model.name for model in BUILT_IN}
    for model in BUILT_IN:
        assert known["models"][model.name]["ablations"] == list(model.ablations)
        assert set(known["models"][model.name]["settings"]) == set(hyperparameters(model.name))
    assert known["words"]["protocol"] == list(PROTOCOLS)
    for name in COMMANDS:
        said = {word for option in known["commands"][name]["options"] for word in option["options"]}
        assert said == {word for action in contents._parser(name)._actions for word in action.option_strings} - {
            "-h",
            "--help",
        }


def test_the_parser_that_completes_reads_what_each_command_reads(known):
    made = parser(known)
    words = ["sweep", "synthetic", "tiny.csv", "--model", "svm", "atfnn", "--set", "a=1", "--set", "b=2", "--plan"]
    read = flat(made.parse_args(words))
    assert (read.databases, read.model, read.fixed, read.plan) == (
        ["synthetic", "tiny.csv"],
        ["svm", "atfnn"],
        ["a=1", "b=2"],
        True,
    )
    assert made.parse_args(["models", "describe", "svm", "--json"]).name == "svm"
    assert made.parse_args(["predict", "run", "a.wav", "b.wav"]).files == ["a.wav", "b.wav"]


def test_what_answers_a_shell_imports_nothing_that_takes_long():
    code = (
        "import sys, argparse; from tfser.completion import complete, names\n"
        "known = {'folds': {}, 'default_models': [], 'models': {}, 'every_model': ''}\n"
        "asked = argparse.Namespace(databases=['nothing.csv'], data=None, protocol=None)\n"
        "names.of('sweep', 'fold')(known, '', asked)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_options_and_their_words_are_completed(complete):
    assert set(complete("tfser ")) == set(COMMANDS)
    assert complete("tfser swe") == ["sweep"]
    assert set(complete("tfser sweep synthetic --vali")) == {"--validation-folds"}
    assert {"--model", "--set", "--plan"} <= set(complete("tfser sweep synthetic --"))
    assert set(complete("tfser sweep synthetic --protocol ")) == set(PROTOCOLS)
    assert set(complete("tfser leaks synthetic --leak e")) == {"epoch"}
    assert set(complete("tfser completion ")) == set(command.SHELLS)
    assert complete("tfser sweep synthetic --epochs ") == []


def test_models_are_completed_with_files_and_the_models_in_them(complete, tmp_path):
    names = {model.name for model in BUILT_IN}
    write(tmp_path, mine=NETWORK)
    offered = set(complete("tfser sweep synthetic --model "))
    assert offered >= names | {"comparison", "mine.py:"}
    assert set(complete("tfser sweep synthetic --model svm at")) == {"atfnn"}
    assert complete("tfser sweep synthetic --model mine.py:") == ["Mine"]
    assert complete("tfser models describe tim") == ["time_frequency_transformer"]
    assert "comparison" not in complete("tfser models check ")


def test_ablations_are_those_of_the_models_that_are_typed(complete):
    of = {name: {*MODELS[name].ablations, "all"} for name in ("atfnn", "time_frequency_transformer", "svm")}
    assert set(complete("tfser sweep synthetic --model atfnn --ablation ")) == of["atfnn"]
    assert set(complete("tfser sweep synthetic --ablation ")) == of["atfnn"] | of["time_frequency_transformer"]
    assert set(complete("tfser sweep synthetic --model svm --ablation ")) == of["svm"]
    assert set(complete("tfser models check atfnn --ablation T")) == {"TFNN"}


def test_settings_are_those_of_the_models_and_their_words_follow_the_sign(complete):
    known = set(hyperparameters("atfnn"))
    assert set(complete("tfser sweep synthetic --model atfnn --set ")) == {f"{name}=" for name in known}
    assert complete("tfser sweep synthetic --model atfnn svm --set atf") == ["atfnn."]
    assert set(complete("tfser sweep x --model atfnn svm --set atfnn.")) == {f"atfnn.{name}=" for name in known}
    words = complete("tfser sweep synthetic --model atfnn --set dropout=0.1 class_weights=")
    assert set(words) == {"none", "balanced"}  # after the sign, as bash replaces no more
    assert complete("tfser sweep synthetic --model atfnn svm --set atfnn.class_weights=b") == ["balanced"]
    assert complete("tfser sweep synthetic --model atfnn --set batch_size=") == []


def test_databases_and_their_folds_are_completed_where_they_can_be_read(complete, tiny_manifest, tmp_path):
    assert set(complete("tfser databases check ")) >= set(KNOWN)
    shutil.copy(tiny_manifest, tmp_path / "mine.csv")
    assert {"synthetic", "mine.csv"} <= set(complete("tfser sweep "))
    assert set(complete("tfser sweep synthetic --fold ")) == set(tfser.load_database("synthetic").speakers)
    assert set(complete(f"tfser sweep {tiny_manifest} --fold ")) == {"anna", "bert", "carl", "dora"}
    published = {str(speaker) for speaker in KNOWN["emodb"].info.expected_speakers}
    assert set(complete("tfser sweep emodb --fold ")) == published
    assert complete("tfser sweep nothing.csv --fold ") == []


def test_runs_are_completed_and_what_their_table_holds(complete, tmp_path):
    (tmp_path / "results" / "mysweep").mkdir(parents=True)
    table = "trial_id,database,model,ablation,fold,seed\nab,tiny,atfnn,TFNN,anna,0\ncd,tiny,atfnn,TFNN,bert,0\n"
    (tmp_path / "results" / "mysweep" / "folds.csv").write_text(table, encoding="utf-8")
    (tmp_path / "results" / ".tfser" / "rows").mkdir(parents=True)
    (tmp_path / "results" / ".tfser" / "rows" / "other.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a.wav").write_bytes(b"")
    assert set(complete("tfser collect ")) == {"mysweep", "other", "tiny"}
    assert set(complete("tfser predict ")) >= {"mysweep"}
    assert complete("tfser predict mysweep --fold ") == ["anna", "bert"]
    assert complete("tfser attention mysweep --ablation ") == ["TFNN"]
    assert complete("tfser predict mysweep ") == ["a.wav"]


def test_zsh_and_fish_are_told_what_each_name_is(complete):
    for shell, sign in (("zsh", ":"), ("fish", "\t")):
        fields = {"_ARGCOMPLETE_DFS": "\t"} if shell == "fish" else {}
        (said,) = complete("tfser sweep synthetic --model tim", shell=shell, **fields)
        assert said == f"time_frequency_transformer{sign}Time-Frequency Transformer"


def test_a_changed_package_gets_a_catalogue_of_its_own_and_old_ones_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TFSER_CACHE", str(tmp_path))
    runs = []

    def stand_in(words, **options):
        runs.append(words)
        assert "COMP_LINE" not in options["env"]
        return subprocess.CompletedProcess(words, 0, json.dumps({"made": len(runs)}), "")

    monkeypatch.setenv("COMP_LINE", "tfser ")
    monkeypatch.setattr(subprocess, "run", stand_in)
    monkeypatch.setattr(catalogue, "_state", lambda: "a")
    assert catalogue.read() == catalogue.read() == {"made": 1}
    for state in "bcdefg":
        monkeypatch.setattr(catalogue, "_state", lambda state=state: state)
        catalogue.read()
    assert len(runs) == 7
    assert len(list(tmp_path.iterdir())) == 1 + catalogue._KEPT
    assert catalogue.read() == {"made": 7}
    (tmp_path / "names-g.json").write_text("{", encoding="utf-8")  # damaged
    assert catalogue.read() == {"made": 8}


def test_a_file_of_the_package_that_changes_changes_the_state(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("a = 1\n", encoding="utf-8")
    monkeypatch.setattr(tfser, "__file__", str(tmp_path / "__init__.py"))
    before = catalogue._state()
    assert catalogue._state() == before
    (tmp_path / "one.py").write_text("a = 10\n", encoding="utf-8")
    assert catalogue._state() != before


@pytest.mark.parametrize("shell", command.SHELLS)
def test_the_script_of_each_shell_is_printed(shell, cache, monkeypatch, capsys):
    monkeypatch.setenv("TFSER_CACHE", str(cache))
    assert command.main([shell]) == 0
    script = capsys.readouterr().out
    assert "_ARGCOMPLETE" in script
    assert "tfser" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_shell_that_is_not_known_is_refused_with_those_that_are(capsys):
    assert command.main(["bahs"]) == 2
    assert capsys.readouterr().err == "SHELL: no 'bahs'; there are bash, fish, zsh (did you mean 'bash'?)\n"


@pytest.mark.full
@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_itself_completes_with_the_script(cache, tmp_path):
    script = subprocess.run(
        [sys.executable, "-m", "tfser", "completion", "bash"],
        env={**os.environ, "TFSER_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "tfser").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tfser "$@"\n', encoding="utf-8")
    (tmp_path / "tfser").chmod(0o755)
    ask = (
        'COMP_LINE="tfser sweep synthetic --model tim"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9\n'
        "_python_argcomplete tfser\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TFSER_CACHE": str(cache)}
    done = subprocess.run(["bash"], input=f"{script}\n{ask}", env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "time_frequency_transformer", done.stderr


@pytest.mark.full
def test_the_first_question_makes_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.setenv("TFSER_CACHE", str(tmp_path))
    made = catalogue.read()
    assert set(made["commands"]) == set(COMMANDS)
    assert [path.name for path in tmp_path.iterdir()] == [f"names-{catalogue._state()}.json"]
    assert Path(tfser.__file__).is_file()
