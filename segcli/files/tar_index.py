"""What lies where in a tar: an index of offsets, so that any member is read at once, in any order."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from segcli.errors import InputError
from segcli.files.image_names import is_litter


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a tar."""

    name: str
    offset: int  # of its first byte
    length: int


def members(archive: Path) -> list[Member]:
    """The regular files in an uncompressed tar, in their order. Raises InputError for a compressed or damaged one."""
    try:
        with tarfile.open(archive, "r:") as tar:
            return [
                Member(info.name, info.offset_data, info.size)
                for info in tar
                if info.isreg() and not is_litter(info.name.rpartition("/")[2])
            ]
    except tarfile.ReadError as error:
        raise InputError(
            f"{archive}: not an uncompressed tar ({error}); compressed ones cannot be read from the middle: unpack it"
        ) from error
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"{archive}: cannot be read ({error}); copy it again") from error
