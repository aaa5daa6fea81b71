"""--fast says what it stands for, refuses what contradicts it, and never trains on CPUs. No GPU is needed here."""

import json

import pytest
import ray
import torch

from tfser.errors import RequestError
from tfser.execution.on_ray import environment, tune_runner
from tfser.models import MODELS, compiled_rank_one
from tfser.planning.settings import published_settings
from tfser.sweep import command, hours
from tfser.sweep.options import parse
from tfser.sweep.request import checked

NARROW = ["--set", "atfnn.lstm_hidden=4", "channels=4", "n_mels=16", "segment_frames=16", "atfnn.band_group=4"]
BOTH = ["--model", "time_frequency_transformer", "atfnn", *NARROW]


@pytest.fixture(autouse=True)
def with_a_compiler(monkeypatch):
    monkeypatch.setattr(compiled_rank_one, "missing", list)


@pytest.fixture
def with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


@pytest.fixture
def without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def sweep_of(manifest, *words):
    return checked(parse([str(manifest), *words]))


@pytest.mark.usefixtures("with_a_gpu")
def test_it_is_the_same_request_as_its_parts_typed_out(tiny_manifest):
    fast = sweep_of(tiny_manifest, "--fast", *BOTH)
    typed = sweep_of(tiny_manifest, *BOTH, "precision=bfloat16", "atfnn.attention_kernel=compiled", "--captured")
    specs = [
        {spec.trial_id: spec for study in sweep.plan.studies for spec in study.final_specs(study.base, 1).values()}
        for sweep in (fast, typed)
    ]
    assert specs[0] == specs[1]
    assert {spec.settings["precision"] for spec in specs[0].values()} == {"bfloat16"}
    kernels = {(spec.model, spec.settings.get("attention_kernel")) for spec in specs[0].values()}
    assert kernels == {("time_frequency_transformer", None), ("atfnn", "compiled")}
    assert fast.options.captured
    assert fast.options.trial_gpus is None
    assert fast.lacking == ()
    plain = sweep_of(tiny_manifest, *BOTH)
    assert plain.name != fast.name
    assert not plain.options.captured


@pytest.mark.usefixtures("with_a_gpu")
def test_the_first_lines_and_the_plan_say_what_it_stands_for(tiny_manifest, capsys, tmp_path):
    words = [str(tiny_manifest), "--out", str(tmp_path), "--fast", "--epochs", "1", *BOTH]
    lines = command.describe(checked(parse(words)))
    at = lines.index("--fast stands for:")
    assert [line.strip().split(" (")[0] for line in lines[at + 1 : at + 5]] == [
        "--set precision=bfloat16",
        "--set attention_kernel=compiled",
        "--captured",
        "--trial-gpus auto",
    ]
    assert "time_frequency_transformer, atfnn; part of their trial ids" in lines[at + 1]
    assert "atfnn; part of their trial ids" in lines[at + 2]
    assert "from the gathering to the optimiser, replayed as a CUDA graph" in lines[at + 3]
    assert not any("stands for" in line for line in command.describe(sweep_of(tiny_manifest, *BOTH)))


@pytest.mark.usefixtures("without_a_gpu")
def test_the_plan_is_shown_without_a_gpu_and_then_refused(tiny_manifest, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(hours, "segment_seconds", lambda study: 0.001)
    words = [str(tiny_manifest), "--out", str(tmp_path), "--fast", "--epochs", "1", "--model"]
    words += ["time_frequency_transformer", "--set", "channels=4", "n_mels=16", "segment_frames=16"]
    assert command.main([*words, "--plan"]) == 2
    shown = capsys.readouterr()
    assert "--fast stands for:" in shown.out
    assert "networks train on CPUs" not in shown.out
    assert command.main([*words, "--plan", "--json"]) == 2
    (needed,) = json.loads(capsys.readouterr().out)["missing"]["needed"]
    assert needed.startswith("--fast: it is for a GPU, and torch")
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert "finds none on this machine" in said
    assert "--address" in said
    assert "leave --fast out" in said
    assert not (tmp_path / ".tfser" / "ledger").exists()


def test_a_gpu_that_only_emulates_bfloat16_is_refused(tiny_manifest, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    (line,) = sweep_of(tiny_manifest, "--fast", *BOTH).lacking
    assert line == "--fast: it trains in bfloat16, which Old GPU computes only by emulation; leave --fast out"


@pytest.mark.usefixtures("without_a_gpu")
def test_a_cluster_is_not_judged_by_the_machine_that_asks(tiny_manifest):
    sweep = sweep_of(tiny_manifest, "--fast", "--address", "head:6379", *BOTH)
    assert sweep.lacking == ()


@pytest.mark.usefixtures("with_a_gpu")
@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (["--together", "4"], "leave out --together 4, or --fast"),
        (["--in-process"], "--in-process trains one at a time; leave one of the two out"),
        (["--trial-gpus", "0"], "--trial-gpus 0 trains on CPUs; leave one of the two out"),
        (["--trial-gpus", "1"], "--trial-gpus 1 gives each a whole one"),
        (["--set", "precision=float32"], "it fixes precision=bfloat16, and --set precision=float32 of atfnn"),
        (
            ["--set", "atfnn.attention_kernel=library"],
            "it fixes attention_kernel=compiled, and --set attention_kernel=",
        ),
        (["--set", "dropout=0.1"], "--fast: atfnn with dropout 0.1"),
    ],
)
def test_what_contradicts_it_is_refused_in_a_line_each(tiny_manifest, beside, said):
    with pytest.raises(RequestError) as error:
        sweep_of(tiny_manifest, "--fast", "--model", "atfnn", *NARROW, *beside)
    (line,) = error.value.problems
    assert line.startswith("--fast: ")
    assert said in line


@pytest.mark.usefixtures("with_a_gpu")
def test_what_says_the_same_or_less_may_stand_beside_it(tiny_manifest):
    beside = ["precision=bfloat16", "--captured", "--trial-gpus", "0.25"]
    assert sweep_of(tiny_manifest, "--fast", *BOTH, *beside).options.trial_gpus == 0.25


@pytest.mark.usefixtures("with_a_gpu")
def test_estimators_alone_have_no_use_for_it_and_are_left_as_they_are_beside_networks(tiny_manifest):
    with pytest.raises(RequestError, match="--fast: svm is fitted on CPUs; it is for networks"):
        sweep_of(tiny_manifest, "--fast", "--model", "svm")
    sweep = sweep_of(tiny_manifest, "--fast", "--model", "svm", "atfnn")
    svm = [study for study in sweep.plan.studies if study.configuration.model == "svm"]
    assert svm
    assert all(study.base == published_settings("svm") for study in svm)


@pytest.mark.parametrize(
    ("cpus", "may_come", "share", "said"),
    [
        (
            4.0,
            False,
            None,
            "the cluster has none; say --trial-gpus X if GPU nodes are still to join, or leave --fast out",
        ),
        (4.0, True, None, "its GPU nodes are not up yet"),
        (0.0, False, None, "it has no worker yet"),
        (4.0, True, 0.25, ""),
    ],
)
def test_a_cluster_without_gpus_never_trains_on_its_cpus(monkeypatch, cpus, may_come, share, said):
    told = []
    monkeypatch.setattr(environment, "reach", lambda address: None)
    monkeypatch.setattr(tune_runner.open_doors, "open_to_anyone", lambda address: "")
    monkeypatch.setattr(tune_runner.RayTuneRunner, "_connect", lambda self, address, workers: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": cpus} if cpus else {})
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": cpus}}])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(tune_runner, "may_get", lambda ray, kind: may_come)

    def joined():
        return tune_runner.RayTuneRunner("head:6379", trial_gpus=share, only_gpus=True, say=told.append)

    if said:
        with pytest.raises(RequestError, match=said) as error:
            joined()
        assert "trains on CPUs" not in str(error.value)
    else:
        assert joined().device == "gpu"
        assert told == ["No node with a GPU is up, and trials wait for one (--trial-gpus 0.25)"]


def test_a_local_ray_without_a_gpu_never_trains_on_its_cpus(monkeypatch):
    monkeypatch.setattr(environment, "secure_local_ray", lambda: None)
    monkeypatch.setattr(environment, "reach", lambda address: None)
    monkeypatch.setattr(tune_runner.RayTuneRunner, "_connect", lambda self, address, workers: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(RequestError, match="--fast: Ray finds no GPU on this machine"):
        tune_runner.RayTuneRunner(None, only_gpus=True)


def test_a_model_declares_fast_settings_that_it_has():
    for name, model in MODELS.items():
        for setting, value in getattr(model, "fast", {}).items():
            assert MODELS[name].hyperparameters[setting].problem(value) is None
            assert MODELS[name].hyperparameters[setting].default != value


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["--model", "atfnn", "--together", "4"], "warning: --together 4 (atfnn): at the published sizes"),
        (["--model", "atfnn", "--together", "4", "--set", "channels=4"], ""),
        (["--model", "atfnn"], ""),
        pytest.param(
            ["--model", "time_frequency_transformer", "--together", "2", "--trials", "2"], "", marks=pytest.mark.full
        ),
    ],
)
def test_trainings_as_one_at_published_sizes_are_warned_of(tiny_manifest, words, warned):
    lines = [line for line in command.describe(sweep_of(tiny_manifest, *words)) if "--together" in line]
    assert [line.startswith(warned) for line in lines] == [True] * bool(warned)
