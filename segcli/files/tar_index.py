"""What lies where in a tar: an index of offsets, so that any member is read at once, in any order."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from segcli.errors import InputError, cut
from segcli.files.image_names import is_litter
from segcli.files.image_ref import regular

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a tar."""

    name: str
    offset: int  # of its first byte
    length: int


def members(archive: Path) -> list[Member]:
    """The regular files in an uncompressed tar, in their order; nothing of links, devices and files with holes.

    Raises InputError for a compressed or damaged one, and for a member that reaches beyond the end.
    """
    try:
        size = regular(archive, str(archive)).st_size
        with tarfile.open(archive, "r:") as tar:
            found = [
                Member(info.name, info.offset_data, info.size)
                for info in tar
                if info.type in _REGULAR and not info.sparse and not is_litter(info.name.rpartition("/")[2])
            ]
    except tarfile.ReadError as error:
        raise InputError(
            f"{archive}: not a whole, uncompressed tar ({cut(error)}); copy one that was cut short again; a compressed "
            "one cannot be read from the middle: unpack it, or pack it without -z"
        ) from error
    # tarfile calls itself for every header that extends the next, and takes numbers and lengths as they come.
    except (OSError, tarfile.TarError, ValueError, OverflowError, RecursionError, IndexError, MemoryError) as error:
        raise InputError(f"{archive}: cannot be read ({cut(error)}); copy it again") from error
    for member in found:
        if member.length < 0 or member.offset + member.length > size:
            raise InputError(f"{archive}: {member.name} reaches beyond its end; copy it again")
    return found
