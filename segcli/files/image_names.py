"""What the names of files tell: pictures, clips, and what other programs left behind. Standard library only."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif",
})  # fmt: skip
"""The endings that folders are searched for, everywhere. A file that is named by the user is opened whatever it is."""

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv",
    ".f4v", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".dv", ".h264", ".h265", ".hevc", ".ivf",
)  # fmt: skip
"""The endings of files that FFmpeg reads as video."""

_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information"})
_STEERING = frozenset({"Cc", "Zl", "Zp"})  # Unicode's control signs, line and paragraph separators


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is a picture, and not one that a system hid there."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not is_litter(name)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or one of those that Windows and macOS leave beside data."""
    return name.startswith(".") or name.lower() in _LITTER


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a folder; a link that goes round in circles is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a file or a folder (or a link that leads nowhere, which is told when it is read),
    and no pipe or device: they may never begin or end.
    """
    try:
        return entry.is_file() or entry.is_dir() or not os.path.exists(entry.path)
    except OSError:
        return True


def same_letters(name: str) -> str:
    """A name in one spelling of its letters: é is one sign or e and an accent (as macOS writes), ß is ss."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def decoded(name: str) -> str:
    """A name without the percent signs of an address: "my%20photo.jpg" is "my photo.jpg"."""
    return unquote(name) if "%" in name else name


def printable(name: str) -> str:
    """A name that every screen, file and hash takes: bytes of a file name that are not UTF-8 are written as \\xe9."""
    if _is_text(name):
        return name
    # Bytes of a file name lie at U+DC80 … U+DCFF; other halves of a sign come from JSON, which may hold them alone.
    signs = (f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)
    return "".join(c if not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in signs)


def in_one_line(name: str) -> str:
    """A name that is one line wherever it is printed: signs that steer a screen, such as newlines, become blanks."""
    name = printable(name)
    if not any(unicodedata.category(c) in _STEERING for c in name):
        return name
    return " ".join("".join(" " if unicodedata.category(c) in _STEERING else c for c in name).split())


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
