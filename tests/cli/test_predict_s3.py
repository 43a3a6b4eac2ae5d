"""Sources and results in S3, which moto plays on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segcli.cli import app
from tests.cli.conftest import Predict, photo
from tests.cli.test_predict_remote import here, there

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import fsspec

    moto = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    type(system).clear_instance_cache()
    system.mkdir("bucket")
    yield "s3://bucket"
    moto.stop()
    type(system).clear_instance_cache()


def test_from_bucket_to_bucket(predict: Predict, bucket: str) -> None:
    import fsspec

    for name in ("a.png", "b.png", "c.png"):
        photo(Path("photos") / name)
    system = fsspec.filesystem("s3")
    system.put("photos", "bucket/photos", recursive=True)
    kinds = ("--save", "png,coco,jsonl")
    assert predict("photos", "--out", "out", *kinds).exit_code == 0
    for shard in ("0/2", "1/2"):
        done = predict(f"{bucket}/photos", "--out", f"{bucket}/out", *kinds, "--shard", shard)
        assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, ["results", "merge", f"{bucket}/out"]).exit_code == 0
    assert there(f"{bucket}/out") == here("out")
    again = predict(f"{bucket}/photos", "--out", f"{bucket}/out", "--save", "png", "--skip-existing")
    assert "nothing left to do" in again.stderr
    no = predict(f"{bucket}/photos", "--out", "s3://nowhere/out")
    assert (no.exit_code, no.stderr.count("\n")) == (1, 1), no.output
    assert no.stderr.startswith("segcli: error: s3://nowhere/out: cannot be written to (")
