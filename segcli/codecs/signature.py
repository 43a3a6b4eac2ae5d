"""The mark in every picture that segcli writes, by which its results are told from photos.

A PNG says `Software: segcli` in a text chunk, a JPEG in a comment; both stand at the head of the file, so that a folder
of any size is searched at the cost of a few bytes a file.
"""

from __future__ import annotations

from pathlib import Path

SIGNATURE = "segcli"
PNG_TEXT = b"Software\0" + SIGNATURE.encode()  # of a tEXt chunk
_JPEG = b"\xff\xfe" + (len(SIGNATURE) + 2).to_bytes(2) + SIGNATURE.encode()  # a comment: marker, length, text
_HEAD = 128  # bytes: signature and header of a PNG are 33, a JPEG's header 20


def is_signed(file: Path) -> bool:
    """Whether segcli wrote a PNG or JPEG; False for what cannot be read."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    return b"tEXt" + PNG_TEXT in head if head.startswith(b"\x89PNG") else _JPEG in head
