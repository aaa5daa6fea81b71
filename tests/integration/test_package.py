"""The wheel, used from a folder that is not the checkout."""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tfser import __main__ as tfser_command
from tfser import __version__
from tfser.commands import COMMANDS
from tfser.completion import contents

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's content in its own folder."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, tmp_path, *words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)


@pytest.mark.full
def test_the_wheel_carries_search_spaces_and_published_figures(installed, tmp_path):
    shipped = {p.name for p in (ROOT / "search_spaces").glob("*.yaml")}
    assert {p.name for p in (installed / "tfser" / "_data" / "search_spaces").glob("*.yaml")} == shipped
    where = run(installed, tmp_path, "tfser", "sweep", "synthetic", "--plan")
    assert where.returncode == 0, where.stderr
    assert "12 search and 4 final trials in all" in where.stdout
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from tfser.storage.packaged_files import published\n"
        "print(published())\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(installed / "tfser" / "_data" / "published.yaml")


@pytest.mark.full
def test_the_wheel_holds_no_tests_and_no_results(installed):
    assert {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")} == {"tfser"}


@pytest.mark.full
def test_a_stranger_comes_from_an_empty_folder_to_one_table_of_a_network_and_an_estimator_of_their_own(
    installed, tmp_path
):
    for words in (["mine.py"], ["forest.py", "--estimator"]):
        wrote = run(installed, tmp_path, "tfser", "models", "new", *words)
        assert wrote.returncode == 0, wrote.stderr
        assert f"tfser sweep synthetic --model {words[0]}:{words[0].removesuffix('.py').title()}" in wrote.stdout
    asked = [
        "synthetic",
        "--model",
        "mine.py:Mine",
        "forest.py:Forest",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--fold",
        "ada",
    ]
    ended = run(installed, tmp_path, "tfser", "sweep", *asked, "--set", "Mine.width=8", "--name", "s")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    table = (tmp_path / "results" / "s" / "details.md").read_text(encoding="utf-8")
    for model in ("Mine is mine.py:Mine", "Forest is forest.py:Forest"):
        assert re.search(rf"{model}, source [0-9a-f]{{16}}\.", table), table


@pytest.mark.full
def test_tfser_alone_names_its_commands_and_a_wrong_one_is_refused(installed, tmp_path):
    shown = run(installed, tmp_path, "tfser")
    assert shown.returncode == 0
    assert "sweep" in shown.stdout
    wrong = run(installed, tmp_path, "tfser", "sweap")
    assert wrong.returncode == 2
    assert "no command 'sweap'" in wrong.stderr


def test_the_version_is_the_one_of_the_package():
    shown = subprocess.run(
        [sys.executable, "-m", "tfser", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"tfser {__version__}\n"


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]], ids=" ".join)
def test_what_there_is_fits_on_one_screen_with_three_lines_to_type_first(words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfser", *words])
    assert tfser_command.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    begin = lines.index("Type first") + 1
    first = [line.split("  ")[1] for line in lines[begin : begin + 3]]
    for line in first:
        tfser, command, *others = shlex.split(line)
        assert (tfser, command in COMMANDS) == ("tfser", True)
        assert contents._parser(command).parse_args(others)
    named = {line.split()[0] for line in lines[begin + 3 :] if line.startswith("  ")}
    assert named == set(COMMANDS)


def test_help_of_a_command_is_that_of_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfser", "help", "collect"])
    with pytest.raises(SystemExit) as ended:
        tfser_command.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: tfser collect")


def test_a_wrong_command_is_refused_with_the_near_one(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfser", "sweap"])
    assert tfser_command.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "tfser: no command 'sweap' (did you mean 'sweep'?); tfser alone says what there is\n"


@pytest.mark.full
def test_importing_the_training_part_needs_neither_ray_nor_optuna_nor_mlflow():
    code = (
        "import sys\n"
        "others = ('ray', 'optuna', 'mlflow', 'sklearn', 'matplotlib', 'pandas', 'rich', 'yaml')\n"
        "for name in others: sys.modules[name] = None\n"
        "import tfser.training.training, tfser.models, tfser.features.store\n"
        "import tfser.evaluation.folds, tfser.evaluation.metrics\n"
        "import tfser.storage.ledger, tfser.execution.run_trial\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_importing_tfser_loads_nothing_of_it_and_yet_names_the_functions_for_notebooks():
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import tfser\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert not loaded - {'tfser'} - sys.stdlib_module_names, loaded\n"
        "assert not [name for name in sys.modules if name.startswith('tfser.')]\n"
        "assert {'describe', 'load_database', 'results', 'run'} < set(dir(tfser))\n"
        "assert not hasattr(tfser, 'sweeps')\n"
        "for name in ('torch', 'ray', 'optuna', 'mlflow', 'pandas'): sys.modules[name] = None\n"
        "assert tfser.load_database.__module__ == 'tfser.interface'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.full
def test_the_training_part_of_the_benchmark_runs_with_torch_torchaudio_numpy_and_soundfile_alone(tmp_path):
    """What these packages require themselves is there too."""
    code = (
        "import sys\n"
        "others = ('ray', 'optuna', 'mlflow', 'sklearn', 'matplotlib', 'pandas', 'rich', 'yaml', 'upath', 'PIL')\n"
        "others += ('scipy', 'audformat')\n"
        "for name in others: sys.modules[name] = None\n"
        "from tfser.benchmark.command import main\n"
        "sys.exit(main(['--quick', '--only', 'training', '--json', sys.argv[1]]))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "figures.json")], cwd=ROOT, check=True)
    assert "step, one core, beside the plain form" in (tmp_path / "figures.json").read_text(encoding="utf-8")


def test_a_commit_is_checked_by_what_make_lint_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = (line for line in makefile.splitlines() if "lint-imports" in line)
    linted = [command.strip().replace("$(BIN)", ".venv/bin") for command in line.split("&&")]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local"  # nothing is downloaded
    checked = [hook["entry"] for hook in local["hooks"]]
    assert checked == [command.replace("format --check", "format") for command in linted]
