"""A sweep whose nodes, workers, drivers and tracking server are killed at random moments.

Runs the real command again and again until it ends by itself, and watches the ledger from outside meanwhile.
"""

from __future__ import annotations

import atexit
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from mlflow import MlflowClient

from tests.helpers.clusters import Cluster, MlflowServer, Node, environment
from tests.helpers.sweeps import SPACE

KINDS = ("node", "worker", "driver", "mlflow")
"""What can be disturbed: a node and a worker process are killed while they train, the driver is killed and started
again, the tracking server is killed or frozen for a while."""

SET = ["n_mels=16", "segment_frames=32", "channels=2", "feed_forward=8"]
SET += ["time_frequency_feed_forward=8", "time_frequency_heads=2", "batch_size=32"]
NAME = "disturbed"


def words(out: Path, *more: str, ablations: Sequence[str] = ("T+F",)) -> list[str]:
    """A small search on the built-in database: 2 settings and a final trial for each of 4 folds, per ablation."""
    model = ["--model", "time_frequency_transformer", "--ablation", *ablations]
    search = ["--trials", "2", "--space", str(SPACE), "--epochs", "4", "--deterministic", "--name", NAME]
    return ["synthetic", "--out", str(out), *model, *search, "--set", *SET, *more]


@cache
def undisturbed(ablations: tuple[str, ...] = ("T+F",)) -> Path:
    """Run the same sweep in one process, once per test run; return its folder, which is the reference."""
    out = Path(tempfile.mkdtemp(prefix="undisturbed-"))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    call = [sys.executable, "-m", "tfser.sweep", *words(out, "--in-process", ablations=ablations)]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def tables_of(out: Path) -> dict[str, bytes]:
    """Every file that the numbers fill."""
    return {
        path.name: path.read_bytes()
        for path in sorted((out / NAME).iterdir())
        if path.name not in ("sweep.json", "report.html")
    }


@dataclass(slots=True)
class Disturbance:
    """One thing that happened."""

    sweep: int
    kind: str
    detail: str
    moment_s: float
    """After the sweep's first start."""
    trials_finished: int
    """Entries in the ledger at that moment."""


class Watch:
    """Looks at a ledger from outside, all the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: dict[str, tuple[int, bytes]] = {}
        """Trial to its entry as it was when it was first seen: time of the last change, content."""
        self.changed: list[str] = []
        """Trials whose entry was another one later."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ended.wait(0.1):
            self._look()
        self._look()

    def _look(self) -> None:
        for path in self._folder.glob("*/*.json"):
            now = path.stat().st_mtime_ns, path.read_bytes()
            if self.seen.setdefault(path.stem, now) != now:
                self.seen[path.stem] = now
                self.changed.append(path.stem)

    def end(self) -> None:
        """Look a last time."""
        self._ended.set()
        self._thread.join()


class DisturbedSweep:
    """One sweep with storage of its own.

    Args:
        number: the sweep's, for messages.
        cluster: where it runs; a node that is killed is replaced by a new one.
        server: the tracking server, which holds only this sweep's runs.
        out: the folder of its tables and storage.
        rng: draws the moments.
        ablations: as in ``words``.
    """

    def __init__(
        self,
        number: int,
        cluster: Cluster,
        server: MlflowServer,
        out: Path,
        rng: random.Random,
        ablations: Sequence[str] = ("T+F",),
    ) -> None:
        self.number, self.cluster, self.server, self.out, self._rng = number, cluster, server, out, rng
        more = ["--address", cluster.address, "--tracking-uri", server.uri]
        self._call = [sys.executable, "-m", "tfser.sweep", *words(out, *more, ablations=ablations)]
        out.mkdir(parents=True, exist_ok=True)
        self.log = out / "driver.log"
        self.happened: list[Disturbance] = []
        self.ledger = Watch(out / ".tfser" / "ledger")
        self._began = time.monotonic()
        self._driver = self._started()

    def run(self, kinds: Sequence[str], pause_s: tuple[float, float]) -> list[str]:
        """Run it to its end; return the kinds of disturbance that it left no time for.

        Args:
            kinds: what happens, in this order.
            pause_s: the least and the most time from a start or a disturbance to the next one.
        """
        left = list(kinds)
        try:
            while left and self._sleep(self._rng.uniform(*pause_s)) and self._disturb(left[0]):
                left.pop(0)
            self._wait()
            # MLflow may have been down when it ended: the next start logs what is missing, and trains nothing.
            before = self.log.stat().st_size
            self._driver = self._started()
            self._wait()
            self.said_last = self.log.read_bytes()[before:].decode()
        finally:
            self._driver.kill()
            self._driver.wait()
            self.ledger.end()
        return left

    def problems(self, reference: Mapping[str, bytes]) -> list[str]:
        """Every way in which it differs from an undisturbed one.

        Args:
            reference: ``tables_of`` the undisturbed one.
        """
        found = tables_of(self.out) if (self.out / NAME).is_dir() else {}
        differing = [name for name in {**reference, **found} if found.get(name) != reference.get(name)]
        problems = [f"other bytes in {name}" for name in sorted(differing)]
        if self._driver.returncode != 0:
            problems.append(f"the last start ended with {self._driver.returncode}")
        if "Trained 0 trials" not in self.said_last:
            problems.append("the last start trained something")
        problems.extend(f"trial {trial} was trained again after it was finished" for trial in self.ledger.changed)
        client = MlflowClient(tracking_uri=self.server.uri)
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=10_000)
        counted = Counter(run.data.tags["tfser.trial_id"] for run in runs if "tfser.trial_id" in run.data.tags)
        problems.extend(
            f"trial {trial} has {count} runs in MLflow" for trial, count in sorted(counted.items()) if count > 1
        )
        entries = set(self.ledger.seen)
        problems.extend(f"trial {trial} is not in MLflow" for trial in sorted(entries - set(counted)))
        problems.extend(f"trial {trial} is in MLflow and not in the ledger" for trial in sorted(set(counted) - entries))
        problems.extend(
            f"run {run.info.run_id} is {run.info.status} in MLflow" for run in runs if run.info.status != "FINISHED"
        )
        return problems

    def nodes_seen(self) -> set[str]:
        """Ray's names of the nodes that trained the ledger's trials."""
        return {json.loads(content)["machine"]["node"] for _, content in self.ledger.seen.values()}

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._call, env=self.cluster.driver_environment(), stdout=log, stderr=log, start_new_session=True
            )

    def _sleep(self, seconds: float) -> bool:
        """Whether the sweep still runs after that time."""
        end = time.monotonic() + seconds
        while self._driver.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        return self._driver.poll() is None

    def _wait(self, limit_s: float = 900.0) -> None:
        if self._sleep(limit_s):
            raise TimeoutError(
                f"the sweep did not end within {limit_s:g} s:\n{self.log.read_text(encoding='utf-8')[-3000:]}"
            )

    def _training(self) -> list[tuple[Node, psutil.Process]]:
        """The worker processes that train at this moment."""
        return [
            (node, process) for node in self.cluster.workers for process in node.workers("ray::ResourceTrainable.train")
        ]

    def _disturb(self, kind: str) -> bool:
        """Do it; false where the sweep ended before."""
        training = self._training()
        while kind in ("node", "worker") and not training:
            if not self._sleep(0.2):
                return False
            training = self._training()
        moment_s, finished = time.monotonic() - self._began, len(self.ledger.seen)
        if kind == "node":
            node, _ = self._rng.choice(training)
            detail = f"node {node.number}, {len(node.processes())} processes"
            node.kill()
            self.cluster.add()
        elif kind == "worker":
            node, process = self._rng.choice(training)
            detail = f"process {process.pid} of node {node.number}"
            process.kill()
        elif kind == "driver":
            detail = f"process {self._driver.pid}"
            self._driver.kill()
            self._driver.wait()
            self._driver = self._started()
        else:
            away_s, frozen = self._rng.uniform(2.0, 8.0), self._rng.random() < 0.5
            detail = f"{'frozen' if frozen else 'killed'} for {away_s:.1f} s"
            (self.server.freeze if frozen else self.server.kill)()
            self._sleep(away_s)
            (self.server.thaw if frozen else self.server.start)()
        self.happened.append(Disturbance(self.number, kind, detail, round(moment_s, 1), finished))
        return True
