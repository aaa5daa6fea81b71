"""Measure the CPU time of ten folds of four estimators on EmoDB, inner choice included and extraction aside.

    python four_estimators.py DATA

DATA is the folder that holds ``emodb/``. Needs the extra ``opensmile``.
"""

import resource
import sys
import tempfile
from pathlib import Path

from tfser.benchmark.figures import one_core
from tfser.databases import load
from tfser.execution.run_trial import Task, run
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS
from tfser.planning import plan, request
from tfser.planning.settings import extractor
from tfser.record import Record

ASKED = {"svm": {"set": "ComParE_2016"}, "lda": {"set": "IS09"}, "rgsr": {"set": "ComParE_2016"}, "hu_svm": {}}


def cpu_s() -> float:
    """Return the user and system seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


database = load("emodb", Path(sys.argv[1]))
digests = audio_digests(database)
total = 0.0
with tempfile.TemporaryDirectory() as folder, one_core():
    for model, settings in ASKED.items():
        asked = request.Request(models=(model,), fixed=tuple(settings.items()))
        studies = plan.make(asked, [database], lambda d: d.digest(digests), {}).studies
        specs = [spec for study in studies for spec in study.final_specs(study.base, study.epochs).values()]
        features = extractor(MODELS[model], specs[0].settings)
        pack = FeatureStore(Path(folder) / "features").ensure(database, digests, features)
        begin = cpu_s()
        for spec in specs:
            task = Task(spec=spec, pack=pack.path, storage=Path(folder) / "trials", checkpoint_s=float("inf"))
            assert isinstance(run(task), Record)
        spent = cpu_s() - begin
        total += spent
        print(f"{model} {settings}: {len(specs)} folds, {spent:.1f} CPU s")
print(f"together: {total:.1f} CPU s")
