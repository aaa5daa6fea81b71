"""Models that are not built in: how their files are read, what is refused, and what identifies their trials."""

import csv
import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from tests.helpers.bad_models import IN_A_SWEEP, write_bad
from tests.helpers.own_models import NETWORK, install, write
from tests.helpers.sweeps import read, tables_of
from tfser import collect, models, models_command, predict
from tfser.attention import command as attention
from tfser.errors import RequestError
from tfser.execution.on_ray import worker
from tfser.leaks import command as leaks
from tfser.models import BUILT_IN, MODELS, find, sources
from tfser.models.templates import model_name
from tfser.planning import own_models
from tfser.planning.settings import hyperparameters
from tfser.sweep import command as sweep_command
from tfser.sweep.options import parse
from tfser.sweep.request import check

pytestmark = pytest.mark.usefixtures("few_draws", "blank_figures")


@pytest.fixture(autouse=True)
def _registry():
    yield
    forget()


def forget():
    """Forget every model that was named, as a new process would."""
    for known in (MODELS, models._BY_SOURCE, own_models._TOLD):
        for key, value in list(known.items()):
            if value not in BUILT_IN:
                del known[key]


def refused(folder, text, typed="mine.py:Mine", **files):
    """What is said of a file, without the name of its folder."""
    write(folder, mine=text, **files)
    with pytest.raises(RequestError) as error:
        own_models.get(str(folder / typed))
    return [problem.replace(f"{folder}{os.sep}", "") for problem in error.value.problems]


# ------------------------------------------------------------------ what a file is


def test_a_file_is_identified_by_its_text_and_by_that_of_the_modules_beside_it_that_it_imports(tmp_path):
    files = {
        "mine": f"import helper\n\n\ndef later():\n    from parts import late\n    return late.VALUE\n{NETWORK}",
        "helper": "import other\n",
        "other": "VALUE = 1\n",
        "unused": "VALUE = 1\n",
    }
    write(tmp_path / "a", **files)
    write(tmp_path / "a" / "parts", __init__="", late="VALUE = 2\n")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, same = (own_models.get(f"{tmp_path / folder}/mine.py:Mine") for folder in ("a", "b"))
    assert [path for path, _ in one.files] == ["mine.py", "helper.py", "other.py", "parts/__init__.py", "parts/late.py"]
    assert one.digest == same.digest
    assert re.fullmatch("[0-9a-f]{16}", one.digest)
    found = {one.digest}
    for path in ("mine.py", "helper.py", "other.py", "parts/late.py"):
        text = (tmp_path / "b" / path).read_text()
        (tmp_path / "b" / path).write_text(text + "# edited\n")
        found.add(own_models.get(f"{tmp_path / 'b'}/mine.py:Mine").digest)
        (tmp_path / "b" / path).write_text(text)
    assert len(found) == 5, "every module that is imported counts"
    (tmp_path / "b" / "unused.py").write_text("VALUE = 3\n")
    (tmp_path / "b" / "mine.py").write_bytes((tmp_path / "b" / "mine.py").read_bytes().replace(b"\n", b"\r\n"))
    assert own_models.get(f"{tmp_path / 'b'}/mine.py:Mine").digest == one.digest


def test_two_files_that_import_a_helper_of_one_name_each_get_their_own_also_in_functions(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    write(tmp_path / "elsewhere", helper="VALUE = 'elsewhere'\n")
    code = "import helper\nfrom helper import VALUE\n\n\ndef later():\n    import helper\n    return helper.VALUE\n"
    made = {}
    for name in ("a", "b"):
        write(tmp_path / name, mine=code + NETWORK.replace('"Mine"', f'"{name}"'), helper=f"VALUE = {name!r}\n")
        made[name] = own_models.get(f"{tmp_path / name}/mine.py:Mine")
    for name, source in made.items():
        module = sys.modules[f"tfser_model_{source.digest}"]
        assert (module.helper.VALUE, module.VALUE, module.later()) == (name, name, name)
    assert importlib.import_module("helper").VALUE == "elsewhere"
    assert not [path for path in sys.path if Path(path) in (tmp_path / "a", tmp_path / "b")]
    assert not list(tmp_path.glob("[ab]/__pycache__"))
    del sys.modules["helper"]


def test_packages_beside_relative_imports_and_a_checkout_of_tfser_beside_are_read_as_python_would(tmp_path):
    code = (
        "from .helper import ONE\nimport parts.inner as inner\nimport parts.inner\nfrom parts import *\n"
        "def later():\n    from parts.inner import up\n    return ONE, inner.TWO, parts.inner.TWO, up()\n"
    )
    write(tmp_path, mine=code + NETWORK, helper="ONE = 1\n")
    write(
        tmp_path / "parts", __init__="from . import inner\n", inner="import mine\nTWO = 2\ndef up(): return mine.ONE\n"
    )
    write(tmp_path / "tfser", __init__="raise SystemExit('this is not tfser')\n")
    source = own_models.get(f"{tmp_path}/mine.py:Mine")
    assert sys.modules[f"tfser_model_{source.digest}"].later() == (1, 2, 2, 1)
    assert "tfser/__init__.py" not in dict(source.files)


def test_errors_of_a_person_s_code_are_told_with_file_line_and_text(tmp_path):
    assert refused(tmp_path / "a", "x = 1\ndef f(:\n") == ["mine.py, line 2: invalid syntax (`def f(:`)"]
    assert refused(tmp_path / "b", "import torch\n\nx = torch.nonesuch\n") == [
        "mine.py, line 3: AttributeError: module 'torch' has no attribute 'nonesuch' (`x = torch.nonesuch`)"
    ]
    (said,) = refused(tmp_path / "c", "import helper\n", helper="\nimport not_installed_here\n")
    assert said.startswith("helper.py, line 2: there is no module 'not_installed_here' here; install it")
    (said,) = refused(tmp_path / "d", "import sys\nsys.exit(1)\n")
    assert said.startswith("mine.py, line 2: SystemExit: 1")
    assert refused(tmp_path / "e", "import helper\nx = (\n", helper="y = [\n") == [
        "mine.py, line 2: '(' was never closed (`x = (`)"
    ], "what is not parsed imports nothing"
    (said,) = refused(tmp_path / "f", NETWORK.replace("title=", "title_="))
    assert "TypeError: Network.__init__() got an unexpected keyword argument 'title_'" in said


def test_a_file_that_is_not_there_not_utf_8_or_behind_a_uri_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=rf"there is no file mine.py in {tmp_path}; tfser models new FILE.py"):
        own_models.get("mine.py:Mine")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(RequestError, match="a submitted job sees the files of the head and those of its --working-dir"):
        own_models.get("mine.py:Mine")
    with pytest.raises(RequestError, match="a model is never read from a URI"):
        own_models.get("s3://bucket/mine.py:Mine")
    (tmp_path / "mine.py").write_bytes(b"x = 1\n# \xe9\n")
    with pytest.raises(RequestError, match="mine.py, line 2: this is not UTF-8"):
        own_models.get("mine.py:Mine")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(RequestError, match=r"there is no file folder\.py"):
        own_models.get("folder.py:Mine")


def test_a_name_that_is_missing_or_no_model_is_refused_with_those_there_are(tmp_path):
    other = NETWORK + 'Other = Network(name="Other", title="O", build=build)\n'
    assert refused(tmp_path, other, "mine.py") == ["name one of its models: mine.py:Mine, mine.py:Other"]
    assert refused(tmp_path, other, "mine.py:") == ["name one of its models: mine.py:Mine, mine.py:Other"]
    assert refused(tmp_path, other, "mine.py:Mnie") == [
        "mine.py: no 'Mnie'; there are Mine, Other (did you mean 'Mine'?)"
    ]
    assert refused(tmp_path, other, "mine.py:Layers") == [
        "Layers is the class Layers, not a tfser.models.Network or Estimator; there are Mine, Other"
    ]
    (said,) = refused(tmp_path, "from tfser.models.atfnn import MODEL\n", "mine.py:MODEL")
    assert "not a tfser.models.Network or Estimator" in said or "built-in" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (('name="Mine"', 'name="atfnn"'), "its name atfnn is that of a built-in model"),
        (('name="Mine"', 'name="../evil"'), "its name '../evil' becomes a part of file names"),
        (('ablations=("full", "small")', "ablations=()"), "ablations: there is none; name the full model first"),
        (('ablations=("full", "small")', 'ablations="full"'), "ablations: 'full' is not a tuple of names"),
        (('parts={"full"', 'parts={"ful"'), "parts: no 'ful'; there are full, small (did you mean 'full'?)"),
        (("default=4", "default=99"), "hyperparameters: width: its default 99 is not within 2 to 8"),
        (('{"width"', '{"batch_size"'), "hyperparameters: batch_size is a setting of training already"),
        (('{"width"', '{"n_mels"'), "hyperparameters: n_mels is a setting of features already"),
        (('{"width"', '{"epochs"'), "hyperparameters: tfser has another meaning for epochs"),
        (('"batch_size": 8', '"batchsize": 8'), "published: no 'batchsize' (did you mean 'batch_size'?)"),
        (('"batch_size": 8', '"batch_size": 0'), "published: batch_size: 0 is not within 2 to 65536"),
        (("ablations=", 'features="log_mell", ablations='), "features: no 'log_mell'; there are"),
        (("epochs_where_silent=2", "epochs_where_silent=0"), "epochs_where_silent: 0 is not a whole number from 1"),
        (('title="My method"', "title=None"), "title: None is no text"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_a_declaration_that_cannot_be_meant_is_refused(tmp_path, changed, said):
    assert changed[0] in NETWORK
    assert any(problem.startswith(said) for problem in refused(tmp_path, NETWORK.replace(*changed)))


def test_everything_that_is_wrong_with_a_declaration_is_said_at_once(tmp_path):
    text = NETWORK.replace("default=4", "default=1").replace('"batch_size": 8', '"lr": 8').replace("My method", " ")
    assert [problem.partition(":")[0] for problem in refused(tmp_path, text)] == [
        "title",
        "hyperparameters",
        "published",
    ]


# ------------------------------------------------------------------ installed packages


def test_an_installed_package_is_a_model_by_its_name_with_version_and_files_in_the_digest(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(install(tmp_path)))
    source = own_models.get("Mine")
    assert (source.files, source.package.distribution, source.package.version) == ((), "their-models", "1.0")
    assert find("Mine", source.digest).title == "My method"
    assert models_command.main(["list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert (listed["Mine"]["from"], listed["Mine"]["source"]) == ("their-models 1.0", source.digest)
    with pytest.raises(RequestError, match=r"no 'Mien' \(did you mean 'Mine'.*\?\); tfser models list names all \d+"):
        own_models.get("Mien")
    digests = {source.digest}
    for text, version in ((NETWORK, "1.1"), (NETWORK + "# edited\n", "1.0")):
        install(tmp_path, text, version)
        importlib.invalidate_caches()
        sources._package_digest.cache_clear()
        digests.add(sources._of_entry_point(sources.installed()["Mine"]).digest)
    assert len(digests) == 3
    sys.modules.pop("their_models", None)
    sys.modules.pop("their_models.net", None)


def test_a_worker_with_another_version_of_the_package_refuses_its_trials_and_names_node_and_versions(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(install(tmp_path)))
    source = own_models.get("Mine")
    assert worker._unusable([source]) == ""
    install(tmp_path, version="2.0")
    importlib.invalidate_caches()
    said = worker._unusable([source])
    assert "the driver has their-models 1.0" in said
    assert f"node {worker.socket.gethostname()} has their-models 2.0" in said
    shutil.rmtree(tmp_path / "their_models-2.0.dist-info")
    importlib.invalidate_caches()
    assert "has none; install it on every node" in worker._unusable([source])
    sys.modules.pop("their_models", None)
    sys.modules.pop("their_models.net", None)


# ------------------------------------------------------------------ what a request makes of it


@pytest.fixture
def asked(tiny_manifest):
    """Checks a sweep of the model in a folder, beside further words."""

    def checked(folder, *words):
        own = ["--out", str(folder / "out"), "--model", f"{folder}/mine.py:Mine"]
        return check(parse([str(tiny_manifest), *own, *words]))

    return checked


def test_the_source_is_in_the_ids_of_trials_and_in_the_names_of_studies_and_not_in_those_of_sweeps(asked, tmp_path):
    write(tmp_path)
    one = asked(tmp_path, "--trials", "1")
    (tmp_path / "mine.py").write_text(NETWORK + "# edited\n")
    other = asked(tmp_path, "--trials", "1")
    assert one.name == other.name
    for first, second in zip(one.plan.studies, other.plan.studies, strict=True):
        assert first.name != second.name
        assert first.question == second.question, "the same settings are tried first"
        (mine, *_), (theirs, *_) = ([*s.final_specs(s.base, 2).values()] for s in (first, second))
        assert mine.trial_id != theirs.trial_id
        assert mine.source == one.request.sources["Mine"]
    assert {c.key for c in one.plan.configurations}.isdisjoint(c.key for c in other.plan.configurations)
    (source,) = one.sources
    assert source.digest == one.request.sources["Mine"] != other.request.sources["Mine"]


def test_a_space_that_is_not_given_is_made_of_the_declared_ranges_and_said(asked, tmp_path):
    more = (
        '"wide": Hyperparameter(default=16, low=1, high=100, help=""), '
        '"narrow": Hyperparameter(default=0.5, low=0.0, high=1.0, help=""), '
        '"gate": Hyperparameter(default=True, help=""), '
        '"form": Hyperparameter(default="b", choices=("a", "b"), help=""), '
        '"open": Hyperparameter(default=1, low=1, help="")}'
    )
    write(tmp_path, mine=NETWORK.replace('help="units")}', f'help="units"), {more}'))
    sweep = asked(tmp_path, "--trials", "2", "--set", "Mine.gate=false")
    space = sweep.plan.studies[0].space
    assert [(d.name, d.kind, d.values, d.log) for d in space.dimensions] == [
        ("width", "int", (2, 8), False),
        ("wide", "int", (1, 100), True),
        ("narrow", "float", (0.0, 1.0), False),
        ("form", "choice", ("a", "b"), False),
        ("learning_rate", "float", (1e-4, 1e-2), True),
    ]
    assert space.fixed == {"gate": False}
    said = "\n".join(sweep_command.describe(sweep))
    assert "no --space file is given, so its declared ranges are searched: width 2 to 8, wide 1 to 100 (log)" in said
    assert f"Mine is mine.py:Mine, source {sweep.request.sources['Mine']}" in said


def test_a_space_file_searches_a_model_by_its_name(asked, tmp_path):
    write(tmp_path)
    own_models.get(f"{tmp_path}/mine.py:Mine")
    (tmp_path / "space.yaml").write_text("model: Mine\nsearch:\n  width: {choice: [2, 4]}\n")
    sweep = asked(tmp_path, "--trials", "1", "--space", str(tmp_path / "space.yaml"))
    assert [d.values for d in sweep.plan.studies[0].space.dimensions] == [(2, 4)]
    (tmp_path / "space.yaml").write_text("model: Mine\nsearch:\n  width: {choice: [2, 99]}\n")
    with pytest.raises(RequestError, match="99 is not within 2 to 8"):
        asked(tmp_path, "--trials", "1", "--space", str(tmp_path / "space.yaml"))


def test_a_setting_can_be_given_to_one_model_and_to_all(asked, tmp_path):
    write(tmp_path)
    words = ["time_frequency_transformer", "--set", "batch_size=16", "Mine.batch_size=4", "Mine.width=6", "channels=2"]
    sweep = asked(tmp_path, *words)
    base = {study.configuration.model: study.base for study in sweep.plan.studies}
    assert (base["Mine"]["batch_size"], base["Mine"]["width"]) == (4, 6)
    assert base["time_frequency_transformer"]["batch_size"] == 16
    with pytest.raises(RequestError) as refusal:
        asked(tmp_path, "--set", "Mine.widthh=6", "Mein.width=6", "Mine.batch_size=x", "learnin_rate=1", "zzz=1")
    assert sorted(refusal.value.problems) == [
        "--set Mein.width: model: no 'Mein'; there are Mine (did you mean 'Mine'?); "
        "before the dot stands one of --model",
        "--set Mine.batch_size: 'x' is not a whole number",
        "--set: no 'learnin_rate' (did you mean 'learning_rate'?); tfser models describe Mine lists them all",
        "--set: no 'widthh' (did you mean 'width'?); tfser models describe Mine lists them all",
        "--set: no 'zzz'; tfser models describe Mine lists them all",
    ]


def test_what_cannot_be_built_is_refused_before_anything_starts_with_the_line_for_each_ablation(tmp_path, capsys):
    broken = NETWORK.replace("    return Layers(", '    assert ablation == "small", "no full one"\n    return Layers(')
    write(tmp_path, mine=broken)
    words = ["synthetic", "--out", str(tmp_path / "out"), "--model", f"{tmp_path}/mine.py:Mine", "--in-process"]
    assert sweep_command.main([*words, "--ablation", "all"]) == 2
    error = capsys.readouterr().err
    assert "Mine full: mine.py, line 18: AssertionError: no full one" in error
    assert "Mine small" not in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    write(tmp_path, mine=NETWORK.replace("return Layers(", "return str("))
    assert sweep_command.main(words) == 2
    assert "Mine full: mine.py, line 18: TypeError: str()" in capsys.readouterr().err
    write(
        tmp_path, mine=NETWORK + "\n\nimport dataclasses\nMine = dataclasses.replace(Mine, problems=lambda a, s: 1 / 0)"
    )
    assert sweep_command.main(words) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_building_once_in_planning_leaves_the_random_state_alone(asked, tmp_path):
    text = NETWORK.replace("        self.inner =", "        assert float(torch.zeros(1)) == 0\n        self.inner =")
    write(tmp_path, mine=f"import torch\n{text}")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    asked(tmp_path)
    assert torch.equal(torch.rand(2), expected)


def test_two_models_of_one_name_and_a_file_that_fails_are_said_together(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", mine=NETWORK + "# another\n")
    write(tmp_path / "c", mine="import nothing_of_this_name\n")
    models = [f"{tmp_path}/{folder}/mine.py:Mine" for folder in "abc"]
    with pytest.raises(RequestError) as refusal:
        check(
            parse(
                [
                    "synthetic",
                    "--out",
                    str(tmp_path / "out"),
                    "--model",
                    *models,
                    "crnn",
                    "--seeds",
                    "0",
                    "--set",
                    "width=3",
                ]
            )
        )
    said = "\n".join(refusal.value.problems)
    assert "its model is called Mine, and so is that of mine.py:Mine; give one another name" in said
    assert "mine.py, line 1: there is no module 'nothing_of_this_name' here" in said
    assert "--model: no 'crnn' (did you mean 'acrnn'?); tfser models list names all" in said
    assert "--seeds: 0 is below 1" in said
    assert "--set" not in said, "which settings there are is not known"


# ------------------------------------------------------------------ a sweep


def words_of(manifest, folder, *more, name="s"):
    """A sweep of a person's own network beside nothing, on the small database."""
    words = [str(manifest), "--out", str(folder / "out"), "--in-process", "--name", name]
    return [*words, "--model", f"{folder}/mine.py:Mine", *more]


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    """A finished sweep of both ablations of a network in a file."""
    folder = write(tmp_path_factory.mktemp("own"))
    assert sweep_command.main(words_of(tiny_manifest, folder, "--ablation", "all", "--fold", "anna", "bert")) == 0
    return folder


def rows_of(done, table="folds"):
    with (done / "out" / "s" / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest_of(done):
    return rows_of(done, "summary")[0]["settings"].split('"source": "')[1][:16]


def test_the_tables_name_the_model_its_file_and_its_digest(done):
    folder, digest = done / "out" / "s", digest_of(done)
    assert "My method (ours)" in (folder / "comparison.md").read_text()
    text = (folder / "details.md").read_text()
    assert f"My method is mine.py:Mine, source {digest}." in text
    assert "Large-Part" in text
    assert digest in (folder / "report.html").read_text()
    assert json.loads((folder / "sweep.json").read_text())["sources"] == {
        "Mine": {"model": "mine.py:Mine", "digest": digest}
    }
    assert set(read(folder, "summary.csv").model) == {"Mine"}


@pytest.mark.full
def test_collect_needs_neither_the_file_nor_the_ledger(done, tmp_path):
    """From the ledger, and from MLflow alone, in a process that never saw the model."""
    shutil.copytree(done / "out", tmp_path / "out")
    forget()
    before = tables_of(done / "out" / "s")
    shutil.rmtree(tmp_path / "out" / "s")
    assert collect.main(["s", "--out", str(tmp_path / "out")]) == 0
    assert tables_of(tmp_path / "out" / "s") == before
    uri = f"sqlite:///{done / 'out' / '.tfser' / 'mlflow.db'}"
    assert collect.main(["s", "--out", str(tmp_path / "elsewhere"), "--tracking-uri", uri]) == 0
    assert tables_of(tmp_path / "elsewhere" / "s") == before


def test_mlflow_names_the_source_of_every_run(done):
    client = MlflowClient(tracking_uri=f"sqlite:///{done / 'out' / '.tfser' / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'tfser/%'")]
    runs = client.search_runs(experiments, max_results=1000)
    assert len(runs) == 2 + 4
    assert {run.data.tags["tfser.source"] for run in runs} == {digest_of(done)}
    assert not any(run.outputs.model_outputs for run in runs if run.outputs), "no code of a person's own is logged"


@pytest.mark.full
def test_an_edit_trains_anew_and_back_finds_everything_with_the_first_tables_to_the_byte(
    tiny_manifest, tmp_path, capsys
):
    write(tmp_path)
    words = words_of(tiny_manifest, tmp_path, "--fold", "anna", "bert")
    tables = []
    for text, trained in ((NETWORK, 2), (NETWORK.replace(".relu()", ".tanh()"), 2), (NETWORK, 0)):
        (tmp_path / "mine.py").write_text(text)
        assert sweep_command.main(words) == 0
        assert f"Trained {trained} trials" in capsys.readouterr().out
        tables.append(tables_of(tmp_path / "out" / "s"))
    assert tables[0] == tables[2] != tables[1]
    assert len(read(tmp_path / "out" / "s", "summary.csv")) == 1
    for more in (
        [],
        ["--tracking-uri", f"sqlite:///{tmp_path}/out/.tfser/mlflow.db", "--storage", str(tmp_path / "none")],
    ):
        assert collect.main(["s", "--out", str(tmp_path / "again"), *more]) == (0 if more else 2)
    assert tables_of(tmp_path / "again" / "s") == tables[0]


@pytest.mark.full
def test_two_sources_of_one_model_in_two_sweeps_are_two_rows_that_their_names_tell_apart(
    tiny_manifest, tmp_path, capsys
):
    for name, text in (("one", NETWORK), ("two", NETWORK + "# edited\n")):
        write(tmp_path, mine=text)
        assert sweep_command.main(words_of(tiny_manifest, tmp_path, "--fold", "anna", name=name)) == 0
    assert collect.main(["tiny", "--out", str(tmp_path / "out")]) == 0
    summary = read(tmp_path / "out" / "tiny", "summary.csv")
    digests = sorted(json.loads(settings)["source"] for settings in summary.settings)
    assert len(set(digests)) == 2
    text = (tmp_path / "out" / "tiny" / "comparison.md").read_text()
    assert all(f"(ours, source {digest})" in text for digest in digests)


@pytest.mark.full
def test_an_error_of_the_forward_pass_fails_its_trials_alone_with_the_traceback_in_the_log(
    tiny_manifest, tmp_path, capsys
):
    fails = NETWORK.replace(
        "        return self.outer", '        raise RuntimeError("not today")\n        return self.outer'
    )
    write(tmp_path, mine=fails)
    words = words_of(tiny_manifest, tmp_path, "--fold", "anna", "--epochs", "1")
    assert sweep_command.main([*words, "--plan"]) == 0
    assert "how long it takes is not known" in capsys.readouterr().out
    assert sweep_command.main(words) == 1
    out = capsys.readouterr().out
    assert "RuntimeError: not today" in out
    (log,) = (tmp_path / "out" / ".tfser" / "logs").glob("*.log")
    assert f'File "{tmp_path}/mine.py", line 14, in forward' in log.read_text()
    assert 'raise RuntimeError("not today")' in log.read_text()


LATE = "        if self.training:\n            import late\n\n            late.__name__\n        return self.outer"


@pytest.mark.full
@pytest.mark.parametrize(
    ("late", "said"),
    [
        ("\nraise RuntimeError('not in training')\n", "RuntimeError: not in training"),
        ("import no_such_package\n", "No module named 'no_such_package'"),
        ("open('/no/such/weights')\n", "No such file or directory: '/no/such/weights'"),
    ],
    ids=["raises", "imports", "opens"],
)
def test_what_a_module_raises_that_is_imported_in_training_is_no_fault_of_the_machine(
    tiny_manifest, tmp_path, capsys, late, said
):
    text = NETWORK.replace("        return self.outer", LATE)
    write(tmp_path, mine=text, late=late)
    assert sweep_command.main(words_of(tiny_manifest, tmp_path, "--fold", "anna", "--epochs", "1")) == 1
    assert said in capsys.readouterr().out
    (log,) = (tmp_path / "out" / ".tfser" / "logs").glob("*.log")
    assert f'File "{tmp_path}/late.py", line {late.count(chr(10))}, in <module>' in log.read_text()


def test_a_full_disk_that_a_person_s_code_runs_into_is_a_fault_of_the_machine(tiny_manifest, tmp_path, capsys):
    full = "        raise OSError(28, 'No space left on device')\n        return self.outer"
    write(tmp_path, mine=NETWORK.replace("        return self.outer", full))
    assert sweep_command.main(words_of(tiny_manifest, tmp_path, "--fold", "anna", "--epochs", "1")) == 1
    assert not (tmp_path / "out" / ".tfser" / "logs").exists()
    assert "No space left on device" in "".join(capsys.readouterr())


# ------------------------------------------------------------------ predict, attention, leaks


def predicted(capsys, *words):
    code = predict.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_predict_runs_the_file_that_is_named_and_was_trained_and_no_other(done, tiny_manifest, tmp_path, capsys):
    row = next(row for row in rows_of(done) if row["ablation"] == "full")
    speech = tiny_manifest.parent / row["fold"] / "calm0.wav"
    ask = [row["trial_id"], speech, "--results", done / "out"]
    code, out, _ = predicted(capsys, *ask, "--model", f"{done}/mine.py:Mine", "--json")
    assert code == 0
    recorded = next(
        line
        for line in rows_of(done, "predictions")
        if (line["trial_id"], line["utterance"]) == (row["trial_id"], f"{row['fold']}/calm0.wav")
    )
    (file,) = json.loads(out)["files"]
    assert {f"p_{emotion}": p for emotion, p in file["p"].items()} == {
        key: float(value) for key, value in recorded.items() if key.startswith("p_")
    }
    code, out, err = predicted(capsys, *ask)
    assert (code, out) == (2, "")
    assert f"its weights are of Mine, source {row_digest(row)}" in err
    assert "--model FILE.py:Mine" in err
    edited = write(tmp_path, mine=NETWORK.replace(".relu()", ".tanh()"))
    now = own_models.get(f"{edited}/mine.py:Mine").digest
    code, out, err = predicted(capsys, *ask, "--model", f"{edited}/mine.py:Mine")
    assert (code, out) == (2, "")
    assert f"source {row_digest(row)}, and mine.py:Mine has source {now} now" in err
    code, out, err = predicted(capsys, *ask, "--model", f"{tmp_path}/gone.py:Mine")
    assert (code, out) == (2, "")
    assert "there is no file" in err
    assert "Traceback" not in err


def row_digest(row):
    return json.loads(row["settings"])["source"]


def test_a_model_that_is_not_built_in_is_not_logged_to_mlflow_and_attention_wants_its_file(done, tiny_manifest, capsys):
    trial = rows_of(done)[0]["trial_id"]
    own = ["--model", f"{done}/mine.py:Mine"]
    code, _, err = predicted(capsys, trial, "--results", done / "out", *own, "--log-model")
    assert code == 2
    assert "--log-model: a server would have to run the code of a model that is not built in" in err
    file = str(tiny_manifest.parent / "anna" / "calm0.wav")
    look = [trial, "--results", str(done / "out"), "--file", file]
    assert attention.main(look) == 2
    assert "name the file that was trained" in capsys.readouterr().err
    assert attention.main([*look, *own]) == 2
    assert "Mine has no attention to show" in capsys.readouterr().err


def test_the_command_that_repeats_a_trial_names_its_file(done, capsys):
    trial = rows_of(done)[0]["trial_id"]
    assert collect.main(["s", "--out", str(done / "out"), "--repeat", trial]) == 0
    out = capsys.readouterr().out
    assert f"--model {done}/mine.py:Mine --ablation" in out


@pytest.mark.full
def test_leaks_measures_a_model_of_a_person_s_own(tiny_manifest, tmp_path, capsys):
    write(tmp_path)
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--in-process", "--leak", "epoch", "--name", "x"]
    assert leaks.main([*words, "--model", f"{tmp_path}/mine.py:Mine", "--fold", "anna"]) == 0
    text = (tmp_path / "out" / "leaks-x" / "leaks.md").read_text()
    assert "What leaks are worth: My method full" in text
    assert f"My method is mine.py:Mine, source {own_models.get(f'{tmp_path}/mine.py:Mine').digest}." in text


# ------------------------------------------------------------------ features of its own


EXTRACTOR = """
from dataclasses import dataclass
import numpy as np
from tfser.models import FeatureSet

@dataclass(frozen=True)
class Halves:
    bands: int
    id = "halves"
    channels = 1
    vector = False
    dtype = "float32"
    hop_s = 0.01
    first_s = 0.0
    window_s = 0.02
    band_centres_hz = None

    def __call__(self, waveform):
        x = waveform.samples[0]
        count = len(x) // 160
        rows = np.abs(x[: count * 160]).reshape(count, -1)[:, : self.bands]
        return rows.astype(np.float32)

OWN = FeatureSet(
    name="halves", meaning="loudness", extractor=lambda settings: Halves(int(settings["halves"])),
    hyperparameters={"halves": Hyperparameter(default=16, low=1, high=100, help="values")},
)
"""


@pytest.mark.full
def test_a_file_may_bring_an_extractor_whose_features_an_edit_makes_anew(tiny_manifest, tmp_path, capsys):
    own = NETWORK.replace("\nMine =", f"{EXTRACTOR}\nMine =").replace('"n_mels": 16', '"halves": 8')
    own = own.replace('title="My method",', 'title="My method", features=OWN,')
    for text in (own, own.replace("np.abs(", "1 + np.abs(")):
        write(tmp_path, mine=text)
        assert sweep_command.main(words_of(tiny_manifest, tmp_path, "--fold", "anna", "--epochs", "1")) == 0
    folders = sorted(path.name for path in (tmp_path / "out" / ".tfser" / "features").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("halves-") for name in folders)
    write(tmp_path, mine=own.replace("return rows.astype", "return rows[0].astype"))
    assert sweep_command.main(words_of(tiny_manifest, tmp_path, "--fold", "anna", "--epochs", "1")) == 2
    assert "the extractor returned the shape (8,), not (rows, 8)" in capsys.readouterr().err
    write(tmp_path, mine=own.replace("count = len(x) // 160", "count = len(x) // None"))
    assert sweep_command.main(words_of(tiny_manifest, tmp_path, "--fold", "anna", "--epochs", "1")) == 2
    error = capsys.readouterr().err
    assert "mine.py, line" in error
    assert "TypeError" in error
    assert "Traceback" not in error


# ------------------------------------------------------------------ templates


def test_new_writes_a_file_that_says_what_to_change_and_what_to_type_and_never_replaces_one(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert models_command.main(["new", "my_net.py"]) == 0
    out = capsys.readouterr().out
    assert "tfser sweep synthetic --model my_net.py:MyNet\n" in out
    text = (tmp_path / "my_net.py").read_text()
    assert text.count("# change") >= 8
    assert "Mine" not in text
    assert "mine.py" not in text
    assert own_models.get("my_net.py:MyNet").name == "MyNet"
    assert models_command.main(["new", "my_net.py"]) == 2
    assert "it is there already and stays as it is" in capsys.readouterr().err
    assert (tmp_path / "my_net.py").read_text() == text
    for wrong, said in (("my_net", "ends in .py"), ("nowhere/x.py", "there is no folder nowhere")):
        assert models_command.main(["new", wrong]) == 2
        assert said in capsys.readouterr().err
    assert models_command.main(["new", "svm.py", "--estimator"]) == 0
    assert "Estimator(" in (tmp_path / "svm.py").read_text()
    compile((tmp_path / "svm.py").read_text(), "svm.py", "exec")


def test_a_file_s_name_becomes_a_legal_name_of_a_model():
    assert [model_name(stem, "Network = Estimator") for stem in ("network", "atfnn", "none", "2d cnn", "überNet")] == [
        "NetworkModel",
        "AtfnnModel",
        "NoneModel",
        "Model2dCnn",
        "BerNet",
    ]


def test_describe_tells_every_setting_of_a_file_s_model(tmp_path, capsys):
    write(tmp_path)
    assert models_command.main(["describe", f"{tmp_path}/mine.py:Mine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    settings = {
        row["name"]: (row["default"], row["low"], row["high"], row["meaning"]) for row in told["hyperparameters"]
    }
    assert settings["width"] == (4, 2, 8, "units")
    assert settings["batch_size"][0] == 8
    assert settings.keys() == hyperparameters("Mine").keys()
    assert told["from"] == "mine.py:Mine"
    assert told["ablations"][0]["parameters"] == 16 * 4 + 4 + 4 * 4 + 4
    assert models_command.main(["describe", f"{tmp_path}/mine.py:Mein"]) == 2
    assert "did you mean 'Mine'?" in capsys.readouterr().err


def test_an_estimator_is_described_without_epochs_and_parameters(tmp_path, capsys):
    text = (
        "from sklearn.svm import SVC\nfrom tfser.models import Estimator, Hyperparameter\n"
        "Mine = Estimator(name='Mine', title='SVM', build=lambda a, s, seed: SVC(C=s['c']),\n"
        "    hyperparameters={'c': Hyperparameter(default=1.0, low=0.1, high=10.0, help='C')})\n"
    )
    write(tmp_path, mine=text)
    assert models_command.main(["describe", f"{tmp_path}/mine.py:Mine"]) == 0
    out = capsys.readouterr().out
    assert "epochs" not in out
    assert "parameters" not in out.casefold()
    assert "estimator" in out
    write(tmp_path, mine=text.replace("SVC(C=s['c'])", "SVC"))
    assert models_command.main(["describe", f"{tmp_path}/mine.py:Mine"]) in (0, 2)
    write(tmp_path, mine=text.replace("SVC(C=s['c'])", "object()"))
    assert models_command.main(["describe", f"{tmp_path}/mine.py:Mine"]) == 2
    assert "build returned a object, which has no fit" in capsys.readouterr().err


# ------------------------------------------------------------------ bad models in a sweep


@pytest.mark.full
def test_bad_models_fail_their_own_trials_with_the_reason_and_the_others_go_on(tiny_manifest, tmp_path, capsys):
    named = write_bad(tmp_path)
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--in-process", "--name", "s", "--model", *named]
    words += ["--fold", "anna", "--ablation", "full", "--epochs", "1"]
    assert sweep_command.main(words) == 1
    out = " ".join(capsys.readouterr().out.split())
    entries = [json.loads(path.read_text()) for path in (tmp_path / "out" / ".tfser" / "ledger").glob("*/*.json")]
    ends = {entry["spec"]["model"]: entry.get("reason") for entry in entries}
    assert ends.keys() == IN_A_SWEEP.keys()
    for name, (_, reason) in IN_A_SWEEP.items():
        assert (ends[name] is None) == (reason is None), ends[name]
        assert reason is None or (reason in ends[name] and reason in out)


def test_what_a_file_prints_does_not_break_the_json_of_a_description(tmp_path, capsys):
    prints = "print('{')\n" + NETWORK.replace("    return Layers", "    print('[')\n    return Layers")
    write(tmp_path, mine=prints)
    assert models_command.main(["describe", f"{tmp_path}/mine.py:Mine", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["name"] == "Mine"
    assert "{" in said.err
