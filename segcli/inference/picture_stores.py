"""Pictures that are not files on this machine: in archives, in tables, behind URLs, in lists."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from segcli.errors import InputError, UsageError
from segcli.files.image_names import is_image_name
from segcli.files.image_ref import FileRef, ImageRef, MemberRef, ZipRef, checked, read_bounded, read_file, regular
from segcli.files.remote_folder import fsspec
from segcli.files.remote_folder import line as short
from segcli.files.tables import CellRef, count_rows, schema
from segcli.files.tar_index import members


@dataclass(frozen=True, slots=True)
class UrlRef(ImageRef):
    """A picture behind a URL that fsspec opens: s3://, gs://, hf://, https://, memory://, …"""

    url: str

    @property
    def place(self) -> Path:
        return Path(self.url)

    @property
    def file(self) -> Path:
        return Path(self.url)

    def read(self) -> bytes:
        opened = fsspec().open
        try:
            with opened(self.url, "rb") as file:
                return checked(read_bounded(file, self.url), self.url)
        except InputError:
            raise
        except Exception as error:  # every store has exceptions of its own
            raise InputError(f"{self.url}: cannot be read ({short(error)})") from error

    def __str__(self) -> str:
        return self.url


def pictures_in(name: str) -> Iterator[ImageRef]:
    """The pictures in a store, in its order; a URL of a folder gives those in it, sorted.

    Raises InputError for a file that cannot be read, UsageError for one without pictures.
    """
    if "://" in name:
        found = _behind(name)
    else:
        reader = {".tar": _in_tar, ".zip": _in_zip, ".parquet": _in_table, ".jsonl": _in_list}
        found = reader.get(Path(name).suffix.lower(), _in_tar)(name)  # which refuses a compressed one
    count = 0
    for count, picture in enumerate(found, start=1):  # noqa: B007
        yield picture
    if not count:
        raise UsageError(f"{name}: holds no images")


def _in_tar(name: str) -> Iterator[ImageRef]:
    for member in members(Path(name)):
        if is_image_name(PurePosixPath(member.name).name):
            yield MemberRef(name, member.name, member.offset, member.length)


def _in_zip(name: str) -> Iterator[ImageRef]:
    try:
        regular(name, name)
        with zipfile.ZipFile(name) as archive:
            for member in archive.infolist():
                if not member.is_dir() and is_image_name(PurePosixPath(member.filename).name):
                    yield ZipRef(name, member.filename)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise InputError(f"{name}: not a readable zip archive ({short(error)}); download or pack it again") from error


def _in_table(name: str) -> Iterator[ImageRef]:
    columns = schema(Path(name))
    column = next((field.name for field in columns if _holds_pictures(field.type)), None)
    if column is None:
        raise UsageError(
            f"{name}: no column of bytes or of structs with bytes; its columns are {', '.join(columns.names)[:200]}"
        )
    for row in range(count_rows(Path(name))):
        yield CellRef(name, column, row, f"{row:08d}")


def _holds_pictures(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_pictures(field.type) for field in kind)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _in_list(name: str) -> Iterator[ImageRef]:
    """The "image" of every line, as failures.jsonl has them."""
    try:
        text = read_file(name, name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: cannot be read ({short(error)})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            image = json.loads(line)["image"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f'{name}: line {number} is not {{"image": PATH}}; correct or remove it') from error
        if not isinstance(image, str) or "\0" in image:
            raise InputError(f'{name}: line {number} is not {{"image": PATH}}; correct or remove it')
        yield UrlRef(image) if "://" in image else FileRef(image)


def _behind(url: str) -> Iterator[ImageRef]:
    opened = fsspec().core.url_to_fs
    try:
        system, path = opened(url)
        if not system.isdir(path):
            yield UrlRef(url)
            return
        found = sorted(system.find(path))
    except Exception as error:  # every store has exceptions of its own
        raise InputError(f"{url}: cannot be opened ({short(error)})") from error
    yield from (UrlRef(system.unstrip_protocol(file)) for file in found if is_image_name(PurePosixPath(file).name))
