"""Large JSON files, an element at a time: what a file holds is never in memory at once.

A results file is one long array, or an object with long arrays in it, or an object on each line (`.jsonl`). `walk`
yields the elements with their places in the file, so that an index of places is all that has to be kept, and
`read_elements` reads some again. A file in UTF-16 is brought to UTF-8 in memory first.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from segcli.errors import InputError
from segcli.files.image_ref import regular
from segcli.files.json_file import parse_json
from segcli.files.text import encoding_of

_CHUNK = 1 << 20
_WHOLE = 32 << 20  # bytes of a file that is parsed at once: a tenth less time than walking it, 4 to 7 times the memory
_MOST_AT_ONCE = 1 << 30  # bytes of one in UTF-16 or UTF-32, which cannot be walked
_MOST_TO_CONVERT = 1 << 28  # bytes of a file that is not in UTF-8
LINES = (".jsonl", ".ndjson")  # an object a line
_SPACE = " \t\n\r"
_LONGEST = 1 << 28  # an element that does not end within this is an array or string that was never closed
_NEAR = 16  # characters of a literal or number that the end of a chunk may have cut


@dataclass(frozen=True)
class Element:
    """One element of a top-level array (key None) or of an array in the top-level object, or another value of it
    (place None)."""

    key: str | None
    value: Any
    place: tuple[int, int] | None  # offset and length in bytes


def walk(file: Path) -> Iterator[Element]:
    """The elements of a JSON file's arrays, in the order of the file; other values of a top-level object whole.

    Raises:
        InputError: not readable, empty, or not JSON; with the line and column.
    """
    try:
        with _opened(file) as stream:
            walker = _Walker(file, stream)
            yield from walker.lines() if file.suffix.lower() in LINES else walker.document()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error


def _opened(file: Path) -> BinaryIO:
    """A file in UTF-8, whatever it is stored in. Raises OSError, and InputError for a pipe or a device."""
    state = regular(file, str(file))
    stream = file.open("rb")
    encoding = encoding_of(stream.read(4))
    stream.seek(0)
    if encoding == "utf-8" or state.st_size > _MOST_TO_CONVERT:
        return stream
    with stream:
        return io.BytesIO(_converted(file, encoding, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=1)
def _converted(file: Path, encoding: str, size: int, changed: int) -> bytes:
    """The bytes in UTF-8; kept, as its elements are asked for one after the other. What is no text stays as it is."""
    raw = file.read_bytes()
    try:
        return raw.decode(encoding).encode()
    except UnicodeError:
        return raw


def damage(file: Path) -> str | None:
    """What keeps a file from being JSON, with its name and the place; None if it is whole."""
    try:
        for _ in elements(file):
            pass
    except InputError as error:
        return str(error)
    return None


def elements(file: Path) -> Iterator[Element]:
    """As `walk`, without places (all are (0, 0)): files that are small, or not in UTF-8, are parsed at once."""
    try:
        regular(file, str(file))
        with file.open("rb") as stream:
            is_utf8 = encoding_of(stream.read(4)) == "utf-8"
            stream.seek(0)
            at_once = file.stat().st_size <= (_WHOLE if is_utf8 else _MOST_AT_ONCE)
            document = parse_json(stream.read(), str(file)) if at_once else None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except InputError:
        document = None  # the walk says where and what
    if not isinstance(document, dict | list):
        yield from walk(file)
        return
    for key, value in document.items() if isinstance(document, dict) else [(None, document)]:
        if isinstance(value, list):
            yield from (Element(key, row, (0, 0)) for row in value)
        else:
            yield Element(key, value, None)


def read_elements(file: Path, places: Iterable[tuple[int, int]]) -> list[Any]:
    """Elements again, by their places. Raises InputError if the file has changed since."""
    try:
        with _opened(file) as stream:
            return [json.loads(_piece(stream, *place)) for place in places]
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: changed while it was read ({error}); start again") from error


def _piece(stream: BinaryIO, offset: int, length: int) -> bytes:
    stream.seek(offset)
    return stream.read(length)


class _Walker:
    """A window on the file. Bytes are read as Latin-1, in which a character is a byte and JSON's own signs are
    themselves: places are exact, and only values are decoded as UTF-8."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self.stream = file, stream
        self.text, self.at, self.base, self.ended = "", 0, 0, False
        self.decoder = json.JSONDecoder()

    def document(self) -> Iterator[Element]:
        if self.text_starts_with_mark():
            self.at += 3
        first = self.peek()
        if first == "[":
            yield from self.array(None)
        elif first == "{":
            yield from self.members()
        elif not first:
            raise InputError(f"{self.file}: empty; export it again")
        elif encoding_of(self.text[:4].encode("latin-1")) != "utf-8":
            raise InputError(f"{self.file}: not valid JSON in UTF-8; export it again, or save it as UTF-8")
        else:
            raise self.wrong("holds neither an array nor an object", self.at)
        if self.peek():
            raise self.wrong("goes on after its end; files of an object a line are called .jsonl", self.at)

    def text_starts_with_mark(self) -> bool:
        """A byte order mark, which some editors put first."""
        self.more()
        return self.text.startswith("\xef\xbb\xbf")

    def lines(self) -> Iterator[Element]:
        """One value after the other, as if they were in an array."""
        if self.text_starts_with_mark():
            self.at += 3
        if not self.peek():
            raise InputError(f"{self.file}: empty; export it again")
        while self.peek():
            value, place = self.value()
            yield Element(None, value, place)

    def members(self) -> Iterator[Element]:
        """The keys of the top-level object."""
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                raise self.wrong("a key in quotes is missing", self.at)
            key, _ = self.value()
            self.expect(":")
            if self.peek() == "[":
                yield from self.array(key)
            else:
                value, _ = self.value()
                yield Element(key, value, None)
            if self.expect(",}") == "}":
                return

    def array(self, key: str | None) -> Iterator[Element]:
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.peek()
            value, place = self.value()
            yield Element(key, value, place)
            if self.expect(",]") == "]":
                return

    def expect(self, signs: str) -> str:
        """One of these signs, which is passed."""
        sign = self.peek()
        if not sign or sign not in signs:
            raise self.wrong(f"{' or '.join(repr(s) for s in signs)} is missing", self.at)
        self.at += 1
        return sign

    def peek(self) -> str:
        """The next sign that is not space; empty at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def more(self) -> bool:
        """Drop what is passed and read on, more at a time the longer an element is; False at the end of the file."""
        chunk = self.stream.read(max(_CHUNK, len(self.text) - self.at))
        self.base += self.at
        self.text = self.text[self.at :] + chunk.decode("latin-1")
        self.at = 0
        self.ended = not chunk
        return not self.ended

    def value(self) -> tuple[Any, tuple[int, int]]:
        """The value that begins here, and its place."""
        while True:
            try:
                value, stop = self.decoder.raw_decode(self.text, self.at)
                if self.ended or stop < len(self.text) - _NEAR:  # a number may go on behind the window's end
                    break
            except RecursionError as error:
                raise self.wrong("nested too deeply", self.at) from error
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                cut = open_string or error.pos >= len(self.text) - _NEAR
                if self.ended or not cut or len(self.text) - self.at > _LONGEST:
                    raise self.wrong(error.msg[0].lower() + error.msg[1:], error.pos, cut=open_string) from error
            except ValueError as error:
                raise self.wrong("a number of thousands of digits", self.at) from error
            self.more()
        raw = self.text[self.at : stop]
        place = (self.base + self.at, stop - self.at)
        self.at = stop
        if not raw.isascii():
            try:
                value = json.loads(raw.encode("latin-1").decode())
            except UnicodeDecodeError as error:
                raise self.wrong("is not UTF-8", place[0] - self.base + error.start) from error
        return value, place

    def wrong(self, what: str, at: int, *, cut: bool = False) -> InputError:
        """An error that names the line and column, both from 1. cut: whether the text may have lost its end."""
        offset = self.base + at
        lines, last, seen = 1, -1, 0
        self.stream.seek(0)
        while seen < offset and (chunk := self.stream.read(min(_CHUNK, offset - seen))):
            lines += chunk.count(b"\n")
            if (newline := chunk.rfind(b"\n")) >= 0:
                last = seen + newline
            seen += len(chunk)
        remedy = (
            "; the file is cut short: copy or export it again" if self.ended and (cut or at >= len(self.text)) else ""
        )
        return InputError(f"{self.file}: not valid JSON, line {lines}, column {offset - last}: {what}{remedy}")
