"""Where the bytes of one picture lie: in a file of its own, or inside an archive, a table or another file.

What a dataset's record and a source of predictions hold instead of a path. Pictures inside other files are read from
there: nothing is unpacked to the disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from segcli.errors import InputError


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
        import zipfile

        try:
            with zipfile.ZipFile(self.archive) as archive:
                return checked(archive.read(self.member), str(self))
        # NotImplementedError: a compression that zipfile does not know; RuntimeError: a password is needed
        except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{self}: cannot be read from the archive ({error}); download or pack it again") from error


def read_file(path: str | Path, name: str) -> bytes:
    """All bytes of a file. Raises InputError: missing, not readable, or empty."""
    try:
        return checked(Path(path).read_bytes(), name)
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


def read_part(file: Path, offset: int, length: int, name: str) -> bytes:
    """Some bytes of a file. Raises InputError: missing, not readable, or shorter than that."""
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
    if len(data) != length:
        raise InputError(f"{name}: {file.name} has changed or is cut short; start again, or copy it again")
    return checked(data, name)


def checked(data: bytes, name: str) -> bytes:
    """The same bytes. Raises InputError if there are none."""
    if not data:
        raise InputError(f"{name}: empty (0 bytes); copy or export it again")
    return data
