"""``--model comparison``: what it stands for, what it leaves out and why, and what each model costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.estimators import LOGISTIC, SVM, known
from tests.helpers.tiny import SET_SMALL
from tfser import models
from tfser.errors import RequestError
from tfser.leaks import command as leaks_command
from tfser.models import templates
from tfser.models_command import command as models_command
from tfser.planning import own_models
from tfser.sweep import command, comparison, hours
from tfser.sweep.hours import Estimate
from tfser.sweep.options import parse
from tfser.sweep.request import check

pytestmark = pytest.mark.usefixtures("blank_figures")

EXTRA = "hmmlearn is not installed; the extra hmm adds it"

AGAIN = replace(SVM, title="LLDs+SVM (re-run)", reruns=("LLDs+SVM",), cost={"full": 2.0})
LACKS = replace(LOGISTIC, name="lacks", title="Lacks", problems=lambda ablation, settings: [EXTRA])
UNBUILT = replace(LOGISTIC, name="unbuilt", title="Unbuilt", build=lambda ablation, settings, seed: missing_extra())


def missing_extra():
    raise ImportError("no module that only an extra has")


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """Build in the papers' two models alone, and say what a step costs instead of timing it."""
    monkeypatch.setattr(models, "BUILT_IN", tuple(models.PROPOSED.values()))
    monkeypatch.setattr(hours, "segment_seconds", lambda study: 0.001)
    monkeypatch.setattr(hours, "_frame_seconds", lambda: 0.00001)
    monkeypatch.setattr(comparison, "cores", lambda options: 2)
    monkeypatch.setattr(comparison, "without_gpu", lambda options: True)


NARROW = [f"time_frequency_transformer.{setting}" for setting in SET_SMALL]


def words(manifest, out, *more):
    return [str(manifest), "--out", str(out), "--in-process", "--set", *NARROW, "--epochs", "1", *more]


def test_it_stands_for_every_built_in_model_that_can_run_and_says_why_not_the_others(tiny_manifest, tmp_path, capsys):
    with known(AGAIN, LACKS, UNBUILT):
        assert command.main(words(tiny_manifest, tmp_path, "--model", "comparison", "--plan")) == 0
        out = capsys.readouterr().out
        sweep = check(parse(words(tiny_manifest, tmp_path, "--model", "comparison")))
    assert sweep.request.models == ("time_frequency_transformer", "atfnn", "tiny_svm")
    assert f"left out: Lacks (lacks): {EXTRA}\n" in out
    assert "left out: Unbuilt (unbuilt): " in out
    assert "no module that only an extra has" in out
    assert out.count("left out: ") == 2
    assert not any(tmp_path.iterdir())


def test_each_model_has_a_rough_cost_before_anything_starts_and_how_it_was_estimated(tiny_manifest, tmp_path, capsys):
    few = ("--fold", "anna", "--name", "s")
    first = next(iter(models.PROPOSED.values()))
    with known(AGAIN, LOGISTIC, beside=[first]):
        assert command.main(words(tiny_manifest, tmp_path, "--model", "comparison", "--plan", *few)) == 0
        out = capsys.readouterr().out
        sweep = check(parse(words(tiny_manifest, tmp_path, "--model", "comparison", *few)))
        described = "\n".join(command.describe(sweep))
    costs = out.split("rough costs in time of one CPU core")[1].split("final trial")[0]
    assert "  Time-Frequency Transformer (time_frequency_transformer): about " in costs
    assert "(steps on noise were timed)" in costs
    assert "LLDs+SVM (re-run) (tiny_svm): about 1 s (from the cost per frame that it declares, a guess)" in costs
    assert "Tiny regression (tiny_logistic): not known (it declares no cost; known only once it was fitted)" in costs
    utterances = len(sweep.databases["tiny"].utterances)
    wanted = utterances * 3 / 4 * 2.0 * 0.00001 / 3600  # one trial of four folds; an utterance is one vector
    assert sweep.costs["tiny_svm"].hours == pytest.approx(wanted, rel=1e-12)
    assert "rough costs" in described, "a sweep that trains prints the same lines first"


def test_an_estimator_on_vectors_of_four_times_the_values_costs_twice_as_much(tiny_manifest, tmp_path):
    with known(AGAIN):
        few, many = (
            check(parse([str(tiny_manifest), "--out", str(tmp_path), "--model", "tiny_svm", "--set", f"n_mels={mels}"]))
            for mels in (8, 32)
        )
        costs = [hours.by_model(sweep.plan, sweep.databases)["tiny_svm"].hours for sweep in (few, many)]
    assert costs[1] == pytest.approx(2 * costs[0], rel=1e-12)


def test_a_model_that_would_take_days_without_a_gpu_is_left_out_unless_it_is_named(
    tiny_manifest, tmp_path, capsys, monkeypatch
):
    costs = {
        "atfnn": Estimate(hours=97.0, how="timed"),
        "time_frequency_transformer": Estimate(hours=47.0, how="timed"),
    }
    monkeypatch.setattr(hours, "by_model", lambda plan, databases: {m: costs[m] for m in _models(plan)})

    def asked(*more):
        return check(parse(words(tiny_manifest, tmp_path, "--model", "comparison", *more)))

    left = asked()
    assert left.request.models == ("time_frequency_transformer",)
    assert {c.model for c in left.plan.configurations} == {"time_frequency_transformer"}
    assert left.left_out["atfnn"] == (
        "about 2.02 days on the 2 CPU cores of this machine, and no GPU is used; "
        "--model comparison atfnn trains it all the same"
    )
    assert "left out: ATFNN (atfnn): about 2.02 days" in "\n".join(command.describe(left))
    assert set(asked("atfnn").request.models) == {"time_frequency_transformer", "atfnn"}
    monkeypatch.setattr(comparison, "without_gpu", lambda options: False)
    assert set(asked().request.models) == {"time_frequency_transformer", "atfnn"}
    monkeypatch.setattr(comparison, "without_gpu", lambda options: True)
    costs["time_frequency_transformer"] = Estimate(hours=1e5, how="timed")
    with pytest.raises(RequestError, match="it stands for no model here: atfnn: about 2.02 days"):
        asked()


def _models(plan):
    return dict.fromkeys(c.model for c in plan.configurations)


def test_a_gpu_or_a_cluster_lifts_the_limit(tiny_manifest, tmp_path, monkeypatch):
    monkeypatch.undo()
    options = parse(words(tiny_manifest, tmp_path))
    for cuda, changes, without in (
        (False, {}, True),
        (True, {}, False),
        (True, {"trial_gpus": 0.0}, True),
        (False, {"address": "ray://head:10001"}, False),
    ):
        monkeypatch.setattr(comparison.torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert comparison.without_gpu(replace(options, **changes)) is without


def test_a_model_that_is_named_beside_the_word_is_refused_and_not_left_out(tiny_manifest, tmp_path, capsys):
    with known(AGAIN, LACKS):
        assert command.main(words(tiny_manifest, tmp_path, "--model", "comparison", "lacks")) == 2
    assert f"lacks full: {EXTRA}" in capsys.readouterr().err


def test_the_same_command_names_the_same_sweep_where_more_can_run(tiny_manifest, tmp_path):
    call = words(tiny_manifest, tmp_path, "--model", "comparison")
    with known(AGAIN, LACKS):
        few = check(parse(call))
    with known(AGAIN, LOGISTIC):
        more = check(parse(call))
    assert few.request.models != more.request.models
    assert few.name == more.name
    assert few.name.startswith("tiny-comparison-1epochs-")


@pytest.mark.full
def test_in_a_search_a_model_without_a_search_space_trains_as_it_is(tiny_manifest, tmp_path):
    with known(AGAIN):
        sweep = check(parse([str(tiny_manifest), "--trials", "2", "--model", "comparison", "--epochs", "2"]))
        selections = {c.model: c.selection for c in sweep.plan.configurations}
        assert selections == {"atfnn": "nested", "time_frequency_transformer": "nested", "tiny_svm": "fixed"}
        trials = {s.configuration.model: s.trials for s in sweep.plan.studies}
        assert trials == {"atfnn": 2, "time_frequency_transformer": 2, "tiny_svm": 0}
        with pytest.raises(RequestError, match=r"tiny_svm\.yaml"):
            check(parse([str(tiny_manifest), "--trials", "2", "--model", "tiny_svm"]))


def test_no_model_can_have_the_word_for_its_name(tmp_path, tiny_manifest):
    assert models.COMPARISON not in models.built_in()
    path = tmp_path / "comparison.py"
    name = templates.write(path, estimator=True)
    assert name.casefold() != "comparison"
    path.write_text(path.read_text().replace(f'name="{name}"', 'name="Comparison"'))
    _, refused = own_models.named([f"{path}:{name}"])
    assert "stands for all built-in models" in " ".join(problem for error in refused for problem in error.problems)


def test_leaks_want_one_model_and_not_the_word(tiny_manifest, capsys):
    assert leaks_command.main([str(tiny_manifest), "--model", "comparison"]) == 2
    assert "--model: name one of time_frequency_transformer, atfnn" in capsys.readouterr().err


def test_the_list_of_models_names_the_methods_that_are_only_cited_and_why(capsys):
    with known(AGAIN):
        assert models_command.main(["list"]) == 0
        out = capsys.readouterr().out
        assert models_command.main(["describe", "tiny_svm"]) == 0
        described = capsys.readouterr().out
    for line in (
        "MSA-AL = Model-3_Fusion: half of what it reads are transcripts",
        "DNN-SAli = DNN-HMM_SGMM-Ali.: its alignment comes from subspace Gaussian mixture models",
        "DNN-BN: its own result needs transcripts",
        "ADARL: its architecture",
    ):
        assert f"  {line}" in out
    assert "runs again" in described
    assert "LLDs+SVM" in described
