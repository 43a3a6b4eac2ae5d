"""Folders behind URLs: what is new is sent whole, what has gone is removed, names alone are fetched."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segcli.errors import OutputError, UsageError
from segcli.files.remote_folder import RemoteFolder, staged, url_of

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def url() -> Iterator[str]:
    """Of a folder in memory in which a file is."""
    system = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"
    system.pipe({f"{root}/out/a/old.txt": b"old", f"{root}/out/names.txt": b"names", f"{root}/other.txt": b"other"})
    yield f"memory:/{root}/out"
    system.rm(root, recursive=True)


def there(url: str) -> dict[str, bytes]:
    system, root = fsspec.core.url_to_fs(url)
    return {name[len(root) :].lstrip("/"): system.cat_file(name) for name in system.find(root)}


def test_urls_and_paths() -> None:
    assert url_of(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    assert url_of(Path("file:///tmp/a")) == "file:///tmp/a"
    assert [url_of(Path(name)) for name in ("a/b", "/a:b/c", "C:/a", "a:", "./s3:/x")] == [None] * 4 + ["s3://x"]


def test_what_changes_here_changes_there(url: str) -> None:
    with staged(url) as folder:
        folder.fetch(lambda name: name == "names.txt")
        assert (folder.local / "names.txt").read_bytes() == b"names"
        assert (folder.local / "a" / "old.txt").read_bytes() == b""  # its name is enough
        (folder.local / "early.txt").write_bytes(b"early")
        folder.send([folder.local / "early.txt"])
        (folder.local / "a" / "new.txt").write_bytes(b"new")
        (folder.local / ".segcli.lock").write_bytes(b"mine")
        (folder.local / ".shard-0.json").write_bytes(b"{}")
        (folder.local / "names.txt").unlink()
    assert not folder.local.exists()
    assert there(url) == {"a/old.txt": b"old", "a/new.txt": b"new", "early.txt": b"early", ".shard-0.json": b"{}"}


def test_work_that_is_interrupted_is_there(url: str) -> None:
    def work() -> None:
        with staged(url) as folder:
            (folder.local / "done.txt").write_bytes(b"done")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert there(url)["done.txt"] == b"done"


def test_a_file_that_cannot_be_sent_is_told(url: str) -> None:
    class Full(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
        def put_file(self, local: str, remote: str, **options: Any) -> None:
            if local.endswith("big.txt"):
                raise OSError("the store is full")
            super().put_file(local, remote, **options)

    def work() -> None:
        with staged(url) as folder:
            folder._system = Full()
            for name in ("big.txt", "small.txt"):
                (folder.local / name).write_bytes(b"content")

    with pytest.raises(OutputError, match=r"/out/big.txt: cannot be written \(the store is full\)"):
        work()
    assert there(url).keys() == {"a/old.txt", "names.txt", "small.txt"}


def test_what_is_no_place_for_results(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plain URLs"):
        RemoteFolder("simplecache::s3://bucket/x", tmp_path)
    for bad in ("nosuch://x/y", "http://127.0.0.1:9/x"):
        with pytest.raises(OutputError, match=f"^{bad}: cannot be written to"):
            RemoteFolder(bad, tmp_path)
