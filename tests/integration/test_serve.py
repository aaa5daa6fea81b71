"""A logged model behind ``mlflow models serve``, asked over HTTP on the loopback interface."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.ports import free_port
from tests.helpers.tiny import SET_SMALL
from tfser import predict
from tfser.sweep import command

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
"""How long a busy machine may take to start the server."""


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    """The results of a sweep with one final trial."""
    out = tmp_path_factory.mktemp("served")
    words = [
        "--out",
        str(out),
        "--in-process",
        "--name",
        "served",
        "--fold",
        "bert",
        "--epochs",
        "1",
        "--model",
        "time_frequency_transformer",
    ]
    assert command.main([str(tiny_manifest), *words, "--set", *SET_SMALL]) == 0
    return out


@contextlib.contextmanager
def serving(model, uri):
    """The address of a server of that model, typed as a person types it."""
    port = free_port()
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": uri,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    words = ["models", "serve", "-m", model, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [str(scripts / "mlflow"), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        started = time.monotonic()
        while True:
            assert server.poll() is None, server.stdout.read().decode()
            assert time.monotonic() - started < PATIENCE_S, "the server did not start"
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer,
            ):
                assert answer.status == 200
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.communicate()


def ask(address, contents):
    """(status, answer) for the bytes of audio files."""
    records = [{"audio": base64.b64encode(content).decode()} for content in contents]
    request = urllib.request.Request(
        address,
        json.dumps({"dataframe_records": records}).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_served_model_answers_audio_with_the_scores_that_predict_prints(done, tiny_manifest, tmp_path, capsys):
    assert predict.main(["served", "--log-model", "--results", str(done)]) == 0
    said = capsys.readouterr().out
    (model,) = set(re.findall(r"models:/m-[0-9a-f]+", said))
    (uri,) = re.findall(r"MLFLOW_TRACKING_URI=(\S+)", said)
    wave, rate = soundfile.read(tiny_manifest.parent / "carl" / "glad1.wav")
    soundfile.write(
        tmp_path / "other.flac", np.interp(np.arange(0, len(wave), 0.5), np.arange(len(wave)), wave), 2 * rate
    )
    files = [*sorted((tiny_manifest.parent / "bert").glob("*.wav")), tmp_path / "other.flac"]
    assert predict.main(["served", *map(str, files), "--json", "--results", str(done)]) == 0
    printed = json.loads(capsys.readouterr().out)["files"]
    expected = [
        {"emotion": file["emotion"], **{f"p_{emotion}": p for emotion, p in file["p"].items()}} for file in printed
    ]
    contents = [file.read_bytes() for file in files]
    with serving(model, uri) as address:
        assert ask(address, contents) == (200, {"predictions": expected})
        with ThreadPoolExecutor(4) as pool:  # the server answers in threads of one process
            together = list(pool.map(lambda content: ask(address, [content]), contents))
        assert together == [(200, {"predictions": [one]}) for one in expected]
        status, refusal = ask(address, [contents[0], b"not audio"])
        assert status == 400
        assert "row 1: unreadable: cannot be decoded" in refusal["message"]
        assert "Traceback" not in json.dumps(refusal)
        assert ask(address, contents[:1])[0] == 200, "a refusal leaves the server as it was"
