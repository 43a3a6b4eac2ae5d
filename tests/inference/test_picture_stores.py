"""Pictures in archives, tables and lists, and behind URLs, are sources like files."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.image import read_image
from segcli.codecs.label_png import read_label_map
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
    with pytest.raises(InputError, match=r"broken\.tar: not a whole, uncompressed tar"):
        values(tmp_path / "broken.tar")
    with tarfile.open(tmp_path / "shard.tar.gz", "w:gz"):
        pass
    with pytest.raises(InputError, match=r"shard\.tar\.gz: .* unpack it, or pack it without -z"):
        values(tmp_path / "shard.tar.gz")


def header(kind: bytes, size: bytes) -> bytes:
    """Of a member of a tar; size as it stands there, in octal or with its first bit set in binary."""
    raw = bytearray(
        b"a.png".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + kind
    )
    raw = raw.ljust(257, b"\0") + b"ustar\00000".ljust(255, b"\0")
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def binary(size: int) -> bytes:
    return (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=size < 0)


@pytest.mark.parametrize(
    "content",
    [
        header(b"0", binary(2**62)) + bytes(2048),
        header(b"0", binary(-300)) + bytes(2048),
        header(b"0", binary(10**11)) + bytes(2048),
        header(b"x", binary(2**62)) + bytes(2048),
        (header(b"L", b"00000000006\0") + b"x.png".ljust(512, b"\0")) * 2000,
        header(b"x", b"00000010000\0") + b"9" * 4090 + b" a=b\n" + bytes(1024),
    ],
    ids=["huge", "negative", "beyond the end", "huge extension", "extensions without end", "a long number"],
)
def test_a_tar_whose_headers_lie_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tar: "):
        find_sources([str(tmp_path / "a.tar")])


def test_links_and_devices_in_a_tar_are_no_pictures(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("d.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
    with pytest.raises(UsageError, match="holds no images"):
        find_sources([str(tmp_path / "a.tar")])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_lies_or_is_damaged_costs_that_picture(compression: int, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("a.png", encoded(3))
    honest = file.read_bytes()
    entry = honest.index(b"PK\1\2")
    for offset, value in (
        (24, b"\xf0\xff\xff\xff"),
        (10, b"c\0"),
        (8, b"\1\0"),
        (42, b"\xff\xff\xff\x7f"),
        (16, b"\0" * 4),
    ):
        file.write_bytes(honest[: entry + offset] + value + honest[entry + offset + len(value) :])
        (source,) = find_sources([str(file)])
        with pytest.raises(InputError, match=r"a\.zip/a\.png: "):
            read_image(source.open(), name=str(source))
    file.write_bytes(honest[:40] + bytes(byte ^ 0x5A for byte in honest[40:80]) + honest[80:])
    (source,) = find_sources([str(file)])
    with pytest.raises(InputError, match=r"a\.zip/a\.png: "):
        read_image(source.open(), name=str(source))


def test_what_has_no_end_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "list.jsonl").write_text(f'{{"image": "/dev/zero"}}\n{{"image": "{tmp_path}/pipe.png"}}\n')
    for source, kind in zip(find_sources([str(tmp_path / "list.jsonl")]), ("device", "pipe"), strict=True):
        with pytest.raises(InputError, match=f"a {kind}, not a file"):
            source.open()
    with pytest.raises(InputError, match="a pipe, not a file"):
        read_label_map(tmp_path / "pipe.png")
    with (tmp_path / "hole.png").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InputError, match=r"hole\.png: 1000\.0 GB or more, above the limit"):
        read_image(tmp_path / "hole.png")


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
    parquet.write_table(pa.table({"image": pa.nulls(1_000_000, pa.binary())}), tmp_path / "nothing.parquet")
    with pytest.raises(InputError, match=r"nothing\.parquet: claims 1,000,000 rows"):
        values(tmp_path / "nothing.parquet")


def test_pictures_of_a_web_server(tmp_path: Path) -> None:
    """One by its address, those of a listing, and one that is not there."""
    pytest.importorskip("aiohttp")
    (tmp_path / "some").mkdir()
    for number in (1, 2):
        (tmp_path / "some" / f"{number}.png").write_bytes(encoded(number))
    (tmp_path / "some" / "notes.txt").write_text("no picture")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/some"
        assert values(f"{url}/2.png") == {"2.png": 2}
        assert values(f"{url}/") == {"1.png": 1, "2.png": 2}
        (source,) = find_sources([f"{url}/3.png"])
        with pytest.raises(InputError, match=r"/some/3\.png: cannot be read"):
            read_image(source.open())
        server.shutdown()
