"""An S3-compatible server on this machine: what the tests of storage behind a URI talk to."""

import logging
import os

import pytest

BUCKET = "tfser-test"


@pytest.fixture(scope="session")
def s3_server():
    """The address of the server."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed (pip install 'tfser[dev]')")
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'tfser[s3]')")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def credentials(patch, address):
    """What a client needs, as a cluster's machines have it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("AWS_ENDPOINT_URL", address)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path, request):
    """A folder of its own in the bucket, as a URI; this machine's copies go to a folder of the test."""
    import botocore.session

    credentials(monkeypatch, s3_server)
    # Made for every test: the server shares its memory with moto's mocks in this process, and each of those empties it.
    botocore.session.get_session().create_client("s3").create_bucket(Bucket=BUCKET)
    monkeypatch.setenv("TFSER_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').rstrip(']')}"
