"""`tfser models check`: one suite over the models that are built in, the templates, and a bad model of each sort."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from tests.helpers.bad_models import ESTIMATOR, builds, fits, forward, returns, scores
from tests.helpers.own_models import NETWORK
from tfser import models_command
from tfser.models import BUILT_IN, templates
from tfser.models_command import conformance
from tfser.models_command.conformance import Asked, examine

pytestmark = pytest.mark.usefixtures("blank_figures")


def checked(typed, ablation=None):
    """What the suite finds in this process: (check, status, words) of each finding that is not ok, and all it told."""
    told = []
    examine(Asked(typed=str(typed), ablation=ablation), told.append)
    found = [line["finding"] for line in told if "finding" in line]
    return [(f["check"], f["status"], f["said"]) for f in found if f["status"] != "ok"], told


def checked_text(folder, text):
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return checked(f"{folder}/mine.py:Mine")[0]


# ------------------------------------------------------------------ models that keep the rules


SMALLER = {
    **{"maps": 8, "maps_1": 4, "maps_2": 4, "maps_3": 4, "first_maps": 4, "channels": 8, "encoder_channels": 4},
    **{"linear": 16, "hidden": 16, "lstm_hidden": 8, "gru_hidden": 8, "conv_layers": 2},
    **{"feed_forward": 16, "time_frequency_feed_forward": 16, "gaussians": 2, "updates": 20},
}
"""Defaults of settings in place of the published ones, with which some networks take minutes."""


def smaller(model):
    own = {name: replace(h, default=SMALLER.get(name, h.default)) for name, h in model.hyperparameters.items()}
    return replace(model, hyperparameters=own)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "ablation"),
    [(model.name, ablation) for model in BUILT_IN for ablation in model.ablations],
)
def test_nothing_is_wrong_with_a_model_that_is_built_in(name, ablation, monkeypatch):
    monkeypatch.setattr(conformance, "BUILT_IN", [smaller(model) for model in BUILT_IN])
    found, told = checked(name, ablation)
    assert [each for each in found if each[1] == "wrong"] == []
    assert any("digest" in line for line in told), "every check was reached"


@pytest.mark.parametrize("estimator", [False, pytest.param(True, marks=pytest.mark.full)])
def test_nothing_is_wrong_with_a_template(estimator, tmp_path):
    name = templates.write(tmp_path / "mine.py", estimator=estimator)
    found, told = checked(f"{tmp_path}/mine.py:{name}")
    assert [each[:2] for each in found] == ([("fit", "remark")] if estimator else [])
    assert any("digest" in line for line in told)


@pytest.mark.full
@pytest.mark.parametrize("text", [NETWORK, ESTIMATOR])
def test_nothing_is_wrong_with_the_models_that_the_bad_ones_are_made_of(text, tmp_path):
    found = checked_text(tmp_path, text)
    assert [each[:2] for each in found] == ([] if text == NETWORK else [("state", "remark")])


# ------------------------------------------------------------------ one bad model of each sort

FORK = "[os.waitpid(pid, 0) for pid in [os.fork() or os._exit(0)]]"
BAD = {
    "wrong shape": (
        returns("logits[:, :, None]"),
        ("output", "wrong", "forward returned shape (2, 4, 1) for 2 segments and 4 emotions; it has to be floating-"),
    ),
    "one logit too many": (
        NETWORK.replace("nn.Linear(width, emotions)", "nn.Linear(width, emotions + 1)"),
        ("output", "wrong", "forward returned shape (2, 5) for 2 segments and 4 emotions"),
    ),
    "four emotions whatever is asked": (
        NETWORK.replace("nn.Linear(width, emotions)", "nn.Linear(width, 4)"),
        ("output", "wrong", "forward returned shape (2, 4) for 2 segments and 7 emotions"),
    ),
    "no batch of one": (
        returns("logits.squeeze(0)"),
        ("output", "wrong", "forward returned shape (4,) for 1 segment and 4 emotions"),
    ),
    "no tensor": (returns("(logits, x)"), ("output", "wrong", "forward returned a tuple for 2 segments")),
    "NaN at once": (
        returns("logits * float('nan')"),
        ("output", "wrong", "8 of 8 logits are NaN or infinite in a forward pass before training"),
    ),
    "NaN in training": (
        returns("logits * float('nan') if self.training else logits"),
        ("training", "wrong", "the loss was nan in epoch 1 of 1"),
    ),
    "raises": (
        forward("raise KeyError('not today')"),
        ("output", "wrong", "KeyError: 'not today' (mine.py, line 14: `raise KeyError('not today')`)"),
    ),
    "leaves": (forward("sys.exit(3)"), ("output", "wrong", "line 14: `sys.exit(3)`); it asked to end the process")),
    "not deterministic": (
        forward("x = x + os.urandom(1)[0] / 1e3 * self.training"),
        ("same seed", "wrong", "two trainings with one seed in one process differ"),
    ),
    "random at scoring": (
        returns("logits * torch.rand(())"),
        ("scored alone", "wrong", "two passes over one batch differ in eval mode"),
    ),
    "depends on the batch": (
        returns("logits - 5 * logits.mean(dim=0)"),
        ("scored alone", "wrong", "the scores of an utterance depend on what is scored beside it, by up to "),
    ),
    "state that is not saved": (
        forward("self.kept = getattr(self, 'kept', 1) + self.training; x = x * self.kept"),
        ("state", "wrong", "scores otherwise: something is learnt that is neither a parameter nor a buffer"),
    ),
    "a parameter without gradient": (
        NETWORK.replace("        self.outer", "        self.unused = nn.Linear(2, 2)\n        self.outer", 1),
        ("gradients", "remark", "2 of 6 parameters get no gradient, so they are never trained: unused.weight, unused"),
    ),
    "a range that cannot be built": (
        NETWORK.replace("low=2", "low=-2"),
        ("settings", "wrong", "with width=-2: mine.py, line 10: RuntimeError: "),
    ),
    "prints": (
        forward("print('here'); print('there')"),
        ("prints", "remark", "lines (first: 'here'); in a sweep they go to the worker's log"),
    ),
    "warns": (
        forward("import warnings; warnings.warn('slow today')"),
        ("warnings", "remark", "UserWarning: slow today"),
    ),
    "forks": (builds(FORK), ("processes", "wrong", "a trial has one CPU, and its workers run side by side already")),
    "starts threads": (
        forward("import threading; threading.Thread(target=int).start()"),
        ("processes", "remark", "threads; a trial has one CPU"),
    ),
    "seeds": (
        forward("torch.manual_seed(0)"),
        ("seeds", "wrong", "calls torch.manual_seed in mine.py, line 14: that undoes the trial's seed"),
    ),
    "the same weights for every seed": (
        NETWORK.replace("        self.inner", "        import torch; torch.manual_seed(1)\n        self.inner", 1),
        ("same seed", "remark", "the weights before training are the same with another seed"),
    ),
    "changes its input": (forward("x.mul_(2)"), ("output", "remark", "forward changes its input in place")),
    "changes the folder": (
        forward("os.chdir('/')"),
        ("surroundings", "remark", "changes the working folder (os.chdir)"),
    ),
    "changes the environment": (
        forward("os.environ['MINE_WAS_HERE'] = '1'"),
        ("surroundings", "remark", "changes the environment (MINE_WAS_HERE)"),
    ),
    "declares nonsense": (
        NETWORK.replace("default=4, low=2", "default=1, low=2"),
        ("declaration", "wrong", "hyperparameters: width: its default 1 is not within 2 to 8"),
    ),
    "refuses its own defaults": (
        NETWORK.replace("    build=build,", "    build=build, problems=lambda a, s: ['width: too odd'],"),
        ("build", "wrong", "problems refuses its defaults: width: too odd"),
    ),
    "fails when it is read": ("1 / 0\n" + NETWORK, ("declaration", "wrong", "mine.py, line 1: ZeroDivisionError")),
    "estimator: wrong shape": (
        scores("p[:, :2]"),
        ("scores", "wrong", "predict_proba returned shape (40, 2) for 40 utterances and 4 classes"),
    ),
    "estimator: NaN": (
        scores("p * np.nan"),
        ("scores", "wrong", "the probabilities of 40 of 40 utterances hold one that is not finite"),
    ),
    "estimator: raises": (
        fits("raise KeyError('not today')"),
        ("fit", "wrong", "fit raised KeyError: 'not today' (mine.py, line 14: `raise KeyError('not today')`)"),
    ),
    "estimator: not deterministic": (
        fits("X = [x + np.random.default_rng().normal() for x in X]"),
        ("same seed", "wrong", "two fits with one seed in one process differ"),
    ),
    "estimator: depends on the others": (
        scores("(p + p.mean(axis=0)) / 2"),
        ("scores", "wrong", "the scores of an utterance depend on what is scored beside it"),
    ),
    "estimator: prints": (fits("print('fitting')"), ("prints", "remark", "lines (first: 'fitting')")),
    "estimator: forks": (fits(FORK), ("processes", "wrong", "set n_jobs=1")),
    "estimator: changes its input": (fits("X[0][:] = 0"), ("inputs", "remark", "fit changes X in place")),
    "estimator: its state stays behind": (
        ESTIMATOR,
        ("state", "remark", "so that predict fits it again: it holds types"),
    ),
    "estimator: a value that scikit-learn refuses": (
        "from sklearn.svm import SVC\n"
        + ESTIMATOR.replace("low=0.5", "low=-1.0").replace("Means(settings", "Of(settings")
        + "\nclass Of(SVC):\n    def __init__(self, C=1.0):\n        super().__init__(C=C)\n"
        "    def fit(self, X, y):\n        return super().fit(vectors(X), y)\n"
        "    def decision_function(self, X):\n        return super().decision_function(vectors(X))\n",
        ("settings", "wrong", "with sharpness=-1.0: fit raised InvalidParameterError"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("sort", BAD)
def test_a_bad_model_is_told_with_the_right_words(sort, tmp_path):
    text, (check, status, said) = BAD[sort]
    folder = os.getcwd()
    found = checked_text(tmp_path, text)
    assert [words for name, how, words in found if (name, how) == (check, status) and said in words], found
    assert (os.getcwd(), "MINE_WAS_HERE" in os.environ) == (folder, False), "what it changed is put back"


def test_a_setting_that_problems_refuses_in_words_is_no_fault(tmp_path):
    refuses = "problems=lambda a, s: ['width: at least 2'] if s['width'] < 2 else [],"
    text = NETWORK.replace("low=2", "low=-2").replace("build=build,", f"build=build, {refuses}")
    assert checked_text(tmp_path, text) == []


# ------------------------------------------------------------------ the command, and models that end their process


def said(capsys, *words):
    code = models_command.main(["check", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.full
def test_a_model_that_ends_its_process_is_told_with_file_and_line_and_the_command_goes_on(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(forward("os._exit(3)"), encoding="utf-8")
    code, out, _ = said(capsys, f"{tmp_path}/mine.py:Mine", "--ablation", "full")
    assert code == 1
    assert "  wrong   output: the process of the check ended with exit code 3 (os._exit?)" in out
    assert "Mine: 1 thing is wrong; mend the model, then: tfser models check " in out


@pytest.mark.full
def test_a_model_that_hangs_is_ended_and_told_with_its_line_and_what_a_sweep_has_against_it(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(forward("time.sleep(1000)"), encoding="utf-8")
    code, out, _ = said(capsys, f"{tmp_path}/mine.py:Mine", "--ablation", "full", "--timeout", "5")
    assert code == 1
    assert "output: the checks took longer than 5 s at mine.py, line 14 in forward; --timeout" in out
    assert "--trial-timeout SECONDS ends a trial that hangs" in out


@pytest.mark.full
def test_numbers_that_depend_on_the_order_of_a_set_are_found_in_another_process(tmp_path, capsys):
    order = "x = x * (1 + [*{'a', 'b', 'c', 'd', 'e', 'f', 'g'}].index('a'))"
    (tmp_path / "mine.py").write_text(forward(order), encoding="utf-8")
    code, out, _ = said(capsys, f"{tmp_path}/mine.py:Mine", "--ablation", "full")
    assert code == 1
    assert "  wrong   same seed in another process: two processes with one seed differ; the order of a set" in out


@pytest.mark.full
def test_each_ablation_is_checked_and_told_as_json_that_no_print_breaks(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("print('read')\n" + forward("os.write(1, b'here')"), encoding="utf-8")
    code, out, _ = said(capsys, f"{tmp_path}/mine.py:Mine", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["model"], told["kind"]) == (0, True, "Mine", "network")
    assert [one["name"] for one in told["ablations"]] == ["full", "small"]
    assert {check["status"] for one in told["ablations"] for check in one["checks"]} == {"ok", "remark"}


@pytest.mark.full
def test_a_request_that_is_wrong_is_refused(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(NETWORK, encoding="utf-8")
    for words, why in (
        ([f"{tmp_path}/mine.py:Mein"], "did you mean 'Mine'?"),
        ([f"{tmp_path}/none.py:Mine"], "there is no file"),
        (["atfn"], "did you mean 'atfnn'?"),
        ([f"{tmp_path}/mine.py:Mine", "--ablation", "fall"], "--ablation: no 'fall'"),
    ):
        code, out, err = said(capsys, *words)
        assert (code, out) == (2, "")
        assert why in err
