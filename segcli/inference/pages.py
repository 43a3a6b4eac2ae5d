"""Each page of a TIFF, or frame of a GIF or WebP, as a picture of its own."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from segcli.codecs.image import OWN_LIMIT, open_header
from segcli.errors import InputError
from segcli.files.image_ref import ImageRef, read_file
from segcli.inference.sources import Source

_SUFFIXES = (".tif", ".tiff", ".gif", ".webp")


@dataclass(frozen=True, slots=True)
class PageRef(ImageRef):
    """One page of a file."""

    location: str
    page: int  # from 0
    count: int  # of the file's pages

    @property
    def place(self) -> Path:
        """As its results are called: stack-p001.tif is the first page; so many digits that names sort by page."""
        path, digits = Path(self.location), max(3, len(str(self.count)))
        return path.with_name(f"{path.stem}-p{self.page + 1:0{digits}}{path.suffix}")

    @property
    def file(self) -> Path:
        return Path(self.location)

    def read(self) -> bytes:
        """The page alone: of a TIFF its own bytes, of other files the whole frame as PNG."""
        data = read_file(self.location, str(self))
        try:
            return _tiff_page(data, self.page) if data[:2] in (b"II", b"MM") else _frame(data, self.page, str(self))
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything on malformed data
            raise InputError(f"{self}: damaged or truncated ({error}); copy or export it again") from error

    def __str__(self) -> str:
        return f"{self.location}, page {self.page + 1}"


def pages_of(sources: Iterable[Source]) -> Iterator[Source]:
    """Every page of the files that have several, in their places; all other pictures as they are."""
    for source in sources:
        count = _count(source)
        if count == 1:
            yield source
            continue
        for page in range(count):
            ref = PageRef(str(source.path), page, count)
            yield replace(source, path=ref.place, data=ref)


def _count(source: Source) -> int:
    """The pages of a file; 1 for what lies inside of another file, and for what the reader has to complain of."""
    if source.data is not None or source.missing or source.path.suffix.lower() not in _SUFFIXES:
        return 1
    if not source.path.is_file():  # a pipe is read once
        return 1
    try:
        return int(getattr(open_header(read_file(source.path, str(source)), str(source)), "n_frames", 1))
    except Exception:  # Pillow's parsers raise nearly anything on malformed data
        return 1


def _frame(data: bytes, page: int, name: str) -> bytes:
    encoded = io.BytesIO()
    with OWN_LIMIT, open_header(data, name) as image:
        image.seek(page)
        image.convert("RGBA").save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _tiff_page(data: bytes, page: int) -> bytes:
    """The same file with one page: its header leads to that page's directory, which leads to no other."""
    order = "<" if data[:2] == b"II" else ">"
    large = struct.unpack_from(f"{order}H", data, 2)[0] == 43  # BigTIFF: wider offsets and counts
    start, offset, count, entry = (8, "Q", "Q", 20) if large else (4, "I", "H", 12)

    def following(place: int) -> int:
        """Where a directory keeps the offset of the next one."""
        return int(place + struct.calcsize(f"{order}{count}")) + entry * _at(place, count)

    def _at(place: int, kind: str) -> int:
        return int(struct.unpack_from(f"{order}{kind}", data, place)[0])

    here = _at(start, offset)
    for _ in range(page):
        here = _at(following(here), offset)
    alone = bytearray(data)
    struct.pack_into(f"{order}{offset}", alone, start, here)
    struct.pack_into(f"{order}{offset}", alone, following(here), 0)
    return bytes(alone)
