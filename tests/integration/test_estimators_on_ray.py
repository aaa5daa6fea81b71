"""Estimators on a Ray of their own: a fit that hangs is ended, and the others go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODEL = """
import itertools

import skops.io  # what it imports must not count as its time
from sklearn.dummy import DummyClassifier

from tfser.models import Estimator


class Hanging(DummyClassifier):
    def fit(self, X, y, groups):
        if "bert" not in groups:
            sum(itertools.repeat(0))  # in C code that holds Python's lock
        return super().fit(X, y)


HANGING = Estimator(name="hanging", title="Hanging", build=lambda ablation, settings, seed: Hanging())
"""

HANGS = """
import json, sys
from pathlib import Path

import pytest

from tfser.databases import load
from tfser.execution.on_ray.tune_runner import RayTuneRunner
from tfser.execution.run_trial import Task
from tfser.execution.schedule import Schedule
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import of
from tfser.planning import own_models, plan
from tfser.planning.request import Request
from tfser.planning.settings import extractor
from tfser.storage.ledger import Ledger
from tests.helpers.tiny import write_tiny

folder = Path(sys.argv[1])
source = own_models.get(str(folder / "hanging.py") + ":HANGING")
database = load(str(write_tiny(folder / "tiny")), None)
digests = audio_digests(database)
request = Request(models=("hanging",), sources={"hanging": source.digest})
made = plan.make(request, [database], lambda d: d.digest(digests), {})
schedule = Schedule(made, Ledger(folder / "ledger"), None)

def task(spec):
    pack = FeatureStore(folder / "features").ensure(database, digests, extractor(of(spec), spec.settings))
    return Task(spec=spec, pack=pack.path, storage=folder, limit_s=10.0)

said = []
runner = RayTuneRunner(None, trial_gpus=0.0, workers=1, sources=[source], say=said.append)
try:
    runner.run(schedule, task)
finally:
    runner.close()
ends = {key[1]: getattr(end, "reason", "done") for key, end in schedule.ends.items()}
print(json.dumps({"ends": ends, "said": said}))
"""


@pytest.mark.full
def test_a_fit_that_hangs_in_c_code_is_recorded_as_failed_once_and_the_other_folds_go_on(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    (tmp_path / "hanging.py").write_text(MODEL, encoding="utf-8")
    words = [sys.executable, "-c", HANGS, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["ends"].pop("bert").startswith("it took longer than --trial-timeout 10 s; type a larger one")
    assert told["ends"] == {"anna": "done", "carl": "done", "dora": "done"}
    assert told["said"] == [], "a trial whose time is up is not tried again"
    assert len(list((tmp_path / "ledger").glob("*/*.json"))) == 4
