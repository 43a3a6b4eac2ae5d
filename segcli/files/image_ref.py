"""Where the bytes of one picture lie: in a file of its own, or inside an archive, a table or another file.

What a dataset's record and a source of predictions hold instead of a path. Pictures inside other files are read from
there: nothing is unpacked to the disk.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segcli.errors import InputError, cut

MOST_BYTES = 1 << 31  # of one encoded picture; those with 250 million pixels of 16 bits have 1.5 billion
_MOST_STREAMED = 1 << 30  # of one that comes out of a compression or a pipe, and may have no end
_PIECE = 1 << 20
_SMALL_PIECE = 4096  # of compressions that are unpacked a piece at a time, whatever that makes


class ImageRef(ABC):
    """One picture that has not been read yet. Small, hashable and picklable: it goes to every worker."""

    __slots__ = ()

    @property
    @abstractmethod
    def place(self) -> Path:
        """The path it is known by, for names and messages: that of its file, or a path inside of what holds it."""

    @property
    @abstractmethod
    def file(self) -> Path:
        """The file on the disk that holds its bytes: what is watched for changes."""

    @abstractmethod
    def read(self) -> bytes:
        """The picture as it is encoded. Raises InputError: missing, not readable, or empty."""

    @property
    def path(self) -> Path | None:
        """Its file, if it has one of its own that can be linked to or copied."""
        return None

    @property
    def name(self) -> str:
        """Its file name, without folders."""
        return self.place.name

    def __str__(self) -> str:
        return str(self.place)


@dataclass(frozen=True, slots=True)
class FileRef(ImageRef):
    """A picture in a file of its own."""

    location: str  # text, as a Path takes four times the memory, and there may be millions

    @property
    def place(self) -> Path:
        return Path(self.location)

    @property
    def file(self) -> Path:
        return Path(self.location)

    @property
    def path(self) -> Path | None:
        return Path(self.location)

    def read(self) -> bytes:
        return read_file(self.location, self.location)

    def __str__(self) -> str:
        return self.location


@dataclass(frozen=True, slots=True)
class MemberRef(ImageRef):
    """A picture whose bytes lie as they are in a larger file, such as an uncompressed tar."""

    archive: str
    member: str  # its path inside
    offset: int  # of its first byte in the archive
    length: int

    @property
    def place(self) -> Path:
        return Path(self.archive, self.member)

    @property
    def file(self) -> Path:
        return Path(self.archive)

    def read(self) -> bytes:
        return read_part(self.file, self.offset, self.length, str(self))


@dataclass(frozen=True, slots=True)
class ZipRef(ImageRef):
    """A picture in a zip archive."""

    archive: str
    member: str  # its path inside

    @property
    def place(self) -> Path:
        return Path(self.archive, self.member)

    @property
    def file(self) -> Path:
        return Path(self.archive)

    def read(self) -> bytes:
        import lzma
        import zipfile
        import zlib

        try:
            with zipfile.ZipFile(self.archive) as archive:
                info = archive.getinfo(self.member)
                if info.file_size > _MOST_STREAMED:
                    raise too_large(str(self), info.file_size, _MOST_STREAMED)
                plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                with archive.open(info) as stream:
                    data = read_bounded(stream, str(self), _PIECE if plain else _SMALL_PIECE)
        # NotImplementedError: a compression that zipfile does not know; RuntimeError: a password is needed
        except (
            OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError,
            EOFError, ValueError, OverflowError,
        ) as error:  # fmt: skip
            raise InputError(
                f"{self}: cannot be read from the archive ({cut(error)}); download or pack it again"
            ) from error
        return checked(data, str(self))


def read_file(path: str | Path, name: str, *, pipe: bool = False) -> bytes:
    """All bytes of a file. pipe: it may be a pipe, as one is only where the user names it.

    Raises InputError: missing, not readable, empty, no regular file, or too large for a picture.
    """
    try:
        state = regular(path, name, pipe=pipe)
        if state.st_size > MOST_BYTES:
            raise too_large(name, state.st_size)
        if stat.S_ISREG(state.st_mode):
            return checked(Path(path).read_bytes(), name)
        with Path(path).open("rb") as stream:
            return checked(read_bounded(stream, name), name)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: a folder, not a file") from None
    except PermissionError:
        raise InputError(f"{name}: not readable; check its permissions") from None
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{name!r}: no file can have this name ({error})") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error


def regular(path: str | Path, name: str, *, pipe: bool = False) -> os.stat_result:
    """What the system says of a file. Raises InputError for a device, which has no end, and for a pipe, which may never
    begin, unless there may be one; OSError and ValueError as `os.stat`.
    """
    state = os.stat(path)
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(state.st_mode) and not (pipe and stat.S_ISFIFO(state.st_mode)):
        raise InputError(f"{name}: a {'pipe' if stat.S_ISFIFO(state.st_mode) else 'device'}, not a file")
    return state


def read_bounded(stream: IO[bytes], name: str, piece: int = _PIECE) -> bytes:
    """All bytes of a stream, in pieces. Raises InputError if they are too many for a picture."""
    data = io.BytesIO()
    while part := stream.read(piece):
        if data.tell() + len(part) > _MOST_STREAMED:
            raise too_large(name, data.tell() + len(part), _MOST_STREAMED)
        data.write(part)
    return data.getvalue()


def too_large(name: str, size: int, most: int = MOST_BYTES) -> InputError:
    """The error for more bytes than an encoded picture can have."""
    return InputError(f"{name}: {size / 1e9:.1f} GB or more, above the limit of {most / 1e9:.1f} GB; cut it into tiles")


def read_part(file: Path, offset: int, length: int, name: str) -> bytes:
    """Some bytes of a file. Raises InputError: missing, not readable, shorter than that, or too large for a picture."""
    if length > MOST_BYTES:
        raise too_large(name, length)
    try:
        with file.open("rb") as stream:
            if offset + length <= os.fstat(stream.fileno()).st_size:
                stream.seek(offset)
                return checked(stream.read(length), name)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: cannot be read ({cut(error)})") from error
    raise InputError(f"{name}: {file.name} has changed or is cut short; start again, or copy it again")


def checked(data: bytes, name: str) -> bytes:
    """The same bytes. Raises InputError if there are none."""
    if not data:
        raise InputError(f"{name}: empty (0 bytes); copy or export it again")
    return data
