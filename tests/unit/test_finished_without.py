"""What is finished needs neither a model's file or package nor what its features need: the same command works."""

import importlib
import json
import shutil
import sys

import pytest

from tests.helpers.own_models import NETWORK, install, write
from tests.helpers.sweeps import tables_of
from tfser import models
from tfser.leaks import command as leaks
from tfser.models import BUILT_IN, MODELS, Estimator, sources
from tfser.planning import declarations, own_models
from tfser.planning.settings import settings_of
from tfser.sweep import command as sweep_command

pytestmark = pytest.mark.usefixtures("few_draws", "blank_figures")

FEATURES = """
import dataclasses
import os

import numpy as np

from tfser.features.base import Extractor, FeatureSet


@dataclasses.dataclass(frozen=True)
class Power(Extractor):
    id = "power"
    bands = 16

    def __call__(self, waveform):
        frames = waveform.samples[0][: waveform.samples.shape[1] // 160 * 160].reshape(-1, 160)
        spectrum = np.abs(np.fft.rfft(frames, axis=1))[:, 1:17]
        return np.log(spectrum + 1e-6).astype(np.float32)


def missing(settings):
    return [] if os.path.exists(os.environ["POWER"]) else ["power needs its weights, which are not there"]


POWER = FeatureSet(name="power", meaning="powers", hyperparameters={}, extractor=lambda s: Power(), missing=missing)
"""
WITH_FEATURES = FEATURES + NETWORK.replace('title="My', 'features=POWER,\n    title="My').replace(', "n_mels": 16', "")


def forget():
    """Forget every model that was named, as a new process would."""
    for known in (MODELS, models._BY_SOURCE, own_models._TOLD):
        for key, value in list(known.items()):
            if value not in BUILT_IN:
                del known[key]


@pytest.fixture
def own(tiny_manifest, tmp_path, monkeypatch):
    """The words of a sweep of a model in a file, which reads features of its own."""
    monkeypatch.setenv("POWER", str(write(tmp_path, mine=WITH_FEATURES) / "mine.py"))
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--in-process", "--fold", "anna"]
    return [*words, "--model", f"{tmp_path}/mine.py:Mine"]


@pytest.mark.parametrize(
    "more",
    [
        ["--ablation", "all"],
        pytest.param(["--trials", "2", "--epochs", "1"], marks=pytest.mark.full),
    ],
)
def test_a_finished_sweep_is_repeated_and_planned_without_the_models_file(own, more, tmp_path, capsys):
    assert sweep_command.main([*own, *more]) == 0
    (folder,) = [path.parent for path in (tmp_path / "out").glob("*/summary.csv")]
    tables, first = tables_of(folder), capsys.readouterr().out
    (tmp_path / "mine.py").unlink()
    forget()
    assert sweep_command.main([*own, *more, "--plan"]) == 0
    plan = capsys.readouterr().out
    assert "(its file is not there)" in plan
    assert "Every trial is finished, so that nothing is trained" in plan
    forget()
    shutil.rmtree(folder)
    assert sweep_command.main([*own, *more]) == 0
    assert "Trained 0 trials" in capsys.readouterr().out
    assert tables_of(folder) == tables
    assert first.splitlines()[0] == plan.splitlines()[0], "the sweep has the same name"


@pytest.mark.full
def test_what_is_left_to_train_is_refused_without_the_file_before_anything_starts(own, tmp_path, capsys):
    assert sweep_command.main([*own, "--name", "s"]) == 0
    (tmp_path / "mine.py").unlink()
    forget()
    before = sorted(tmp_path.rglob("*"))
    for words in (["--seeds", "2"], ["--seeds", "2", "--plan"]):
        capsys.readouterr()
        assert sweep_command.main([*own, "--name", "s", *words]) == 2
        said = capsys.readouterr().err
        assert f"mine.py:Mine: there is no file {tmp_path}/mine.py; put it back" in said
        assert "1 of 2 final trials are still to be trained" in said
        assert "tfser collect s" in said
        assert "nothing was started" in said
    assert sorted(tmp_path.rglob("*")) == before
    for typed in (f"{tmp_path}/mime.py:Mine", f"{tmp_path}/other/mine.py:Mine", f"{tmp_path}/mine.py:Other"):
        assert sweep_command.main([*own[:-1], typed, "--name", "s"]) == 2, "another file was never trained"
        assert "tfser models new FILE.py" in capsys.readouterr().err


@pytest.mark.full
def test_what_an_installed_model_has_finished_is_shown_after_its_package_is_gone(
    tiny_manifest, tmp_path, monkeypatch, capsys
):
    site = install(tmp_path / "site")
    words = [str(tiny_manifest), "--out", str(tmp_path / "out"), "--in-process", "--fold", "anna", "--name", "s"]
    words += ["--model", "Mine"]
    with monkeypatch.context() as there:
        there.syspath_prepend(str(site))
        assert sweep_command.main(words) == 0
    tables = tables_of(tmp_path / "out" / "s")
    for module in ("their_models", "their_models.net"):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    forget()
    capsys.readouterr()
    assert sweep_command.main([*words, "--plan"]) == 0
    assert "(it is not installed)" in capsys.readouterr().out
    assert sweep_command.main(words) == 0
    assert "Trained 0 trials" in capsys.readouterr().out
    assert tables_of(tmp_path / "out" / "s") == tables
    assert sweep_command.main([*words, "--seeds", "2"]) == 2
    assert "Mine: it is not installed; install its package again" in capsys.readouterr().err
    assert sweep_command.main([*words[:-1], "Mien"]) == 2
    assert "--model: no 'Mien'" in capsys.readouterr().err


@pytest.mark.full
def test_the_last_source_is_the_one_that_is_remembered(own, tmp_path, capsys):
    for edit in ("", "# edited\n"):
        (tmp_path / "mine.py").write_text(WITH_FEATURES + edit)
        assert sweep_command.main(own) == 0
    digest = sources.read(own[-1]).digest
    (tmp_path / "mine.py").unlink()
    forget()
    capsys.readouterr()
    assert sweep_command.main([*own, "--plan"]) == 0
    assert f"Mine is mine.py:Mine, source {digest} (its file is not there)" in capsys.readouterr().out


def test_features_that_cannot_be_made_here_refuse_only_what_is_left_to_train(own, tmp_path, monkeypatch, capsys):
    assert sweep_command.main([*own, "--name", "s"]) == 0
    monkeypatch.setenv("POWER", str(tmp_path / "gone"))
    shutil.rmtree(tmp_path / "out" / ".tfser" / "features")
    capsys.readouterr()
    assert sweep_command.main([*own, "--name", "s"]) == 0
    assert "Trained 0 trials" in capsys.readouterr().out
    assert sweep_command.main([*own, "--name", "s", "--plan"]) == 0
    for words in (["--name", "s", "--seeds", "2"], ["--name", "t", "--set", "width=5"]):
        assert sweep_command.main([*own, *words]) == 2
        assert "Mine: power needs its weights, which are not there" in capsys.readouterr().err
    for entry in (tmp_path / "out" / ".tfser" / "ledger").glob("*/*.json"):
        entry.unlink()
    assert sweep_command.main([*own, "--name", "s"]) == 2, "the ledger has lost it"


def test_leaks_that_are_measured_are_shown_without_the_models_file(own, tmp_path, capsys):
    words = [word for word in own if word not in ("--fold", "anna")] + ["--leak", "epoch", "--name", "s"]
    assert leaks.main(words) == 0
    table = (tmp_path / "out" / "leaks-s" / "leaks.csv").read_bytes()
    (tmp_path / "mine.py").unlink()
    forget()
    shutil.rmtree(tmp_path / "out" / "leaks-s")
    assert leaks.main(words) == 0
    assert (tmp_path / "out" / "leaks-s" / "leaks.csv").read_bytes() == table
    capsys.readouterr()
    assert leaks.main([*words, "--leak", "random_split"]) == 2
    assert "put it back" in capsys.readouterr().err


@pytest.mark.parametrize("model", BUILT_IN, ids=lambda model: model.name)
def test_a_declaration_that_was_kept_as_json_has_every_setting_and_none_of_the_code(model):
    again = declarations.from_dict(json.loads(json.dumps(declarations.to_dict(model))))
    assert type(again) is type(model)
    assert settings_of(again) == settings_of(model)
    for name in ("name", "title", "paper", "reruns", "ablations", "parts", "cost", "published", "ours", "features"):
        assert getattr(again, name) == getattr(model, name), name
    if isinstance(again, Estimator):
        assert again.transductive == model.transductive
    else:
        assert (again.epochs, again.any_length) == (model.epochs, model.any_length)
    with pytest.raises(LookupError):
        again.build("full", {}, 0)
