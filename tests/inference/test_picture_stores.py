"""Pictures in archives, tables and lists, and behind URLs, are sources like files."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.image import read_image
from segcli.errors import InputError, UsageError
from segcli.inference.sources import find_sources


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def values(*names: object) -> dict[str, int]:
    """What the pictures show, by the names that their results will carry."""
    sources = find_sources([str(name) for name in names])
    return {
        source.path.relative_to(source.folder or source.path.parent).as_posix(): int(read_image(source.open())[0, 0, 0])
        for source in sources
    }


def test_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, data in {"b/1.png": encoded(1), "a/2.jpg": encoded(2), "a/2.txt": b"label"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("c/3.png", encoded(3))
    found = values(tmp_path / "shard.tar", tmp_path / "more.zip", tmp_path / "shard.tar")
    assert found == {"b/1.png": 1, "a/2.jpg": 2, "c/3.png": 3}
    (tmp_path / "broken.tar").write_bytes(b"not an archive" * 100)
    with pytest.raises(InputError, match=r"broken\.tar: not an uncompressed tar"):
        values(tmp_path / "broken.tar")


def test_a_list_of_what_failed(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded(7))
    rows = [{"image": str(tmp_path / "one.png"), "error": "…"}]
    (tmp_path / "failures.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert values(tmp_path / "failures.jsonl") == {"one.png": 7}
    (tmp_path / "bad.jsonl").write_text('{"image": "a.png"}\n[]\n')
    with pytest.raises(InputError, match=r"bad\.jsonl: line 2 is not"):
        find_sources([str(tmp_path / "bad.jsonl")])


def test_urls() -> None:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for number in (1, 2):
        system.pipe(f"/photos/{number}.png", encoded(number))
    system.pipe("/photos/notes.txt", b"no picture")
    assert values("memory://photos") == {"1.png": 1, "2.png": 2}
    assert values("memory://photos/2.png") == {"2.png": 2}
    system.mkdir("/empty")
    with pytest.raises(UsageError, match="holds no images"):
        values("memory://empty")
    (source,) = find_sources(["memory://photos/3.png"])
    with pytest.raises(InputError, match=r"memory://photos/3\.png: cannot be read"):
        read_image(source.open())


def test_parquet(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": encoded(number), "path": f"{number}.png"} for number in range(5)]
    table = pa.table({"label": list(range(5)), "image": rows})
    parquet.write_table(table, tmp_path / "part.parquet", row_group_size=2)
    assert values(tmp_path / "part.parquet") == {f"{number:08d}": number for number in range(5)}
    parquet.write_table(table.select(["label"]), tmp_path / "no.parquet")
    with pytest.raises(UsageError, match=r"no column of bytes.*label"):
        values(tmp_path / "no.parquet")
