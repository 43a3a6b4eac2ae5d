"""Pickle's instructions, interpreted. What they make: None, booleans, numbers, text, bytes (as views of the file),
tuples, lists, dictionaries, and what the functions that the caller allows return.

Of an instruction the module `pickletools` says what it does. Left out are those no weights need: objects of classes,
the registry of extensions, buffers outside of the file, sets.

Nothing is trusted: every length is held against what is left of the file before it is used, memo indices are keys of a
dictionary and cost nothing, and the number of instructions is bounded, so that memory is a small multiple of the file.
"""

from __future__ import annotations

import codecs
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

MOST_INSTRUCTIONS = 3_000_000  # 4,000 tensors with an optimiser's state take 300,000
_LONGEST_LINE = 1 << 30  # bytes; protocol 0 writes an array as one
_MOST_DIGITS = 40
_MOST_BYTES_OF_A_NUMBER = 16


class Damaged(Exception):
    """A pickle that breaks off, or is none."""


class RefusedPickle(Exception):
    """A pickle that asks for something that is no array; the message is its name."""


@dataclass(frozen=True)
class Name:
    """A function or class the file names, which is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


Functions = Mapping[tuple[str, str], Callable[..., Any]]
_MARK = object()


def run(
    data: bytes | mmap, functions: Functions, persistent: Callable[[Any], Any] | None = None, start: int = 0
) -> tuple[Any, int]:
    """The value of the pickle that begins at `start`, and where it ends.

    functions: what it may call, by (module, name). A value with a method `build` takes the state that a file gives it;
    the state of any other is dropped, as attributes of containers are. persistent: turns the reference of something
    outside of the pickle into a value.
    Raises Damaged and RefusedPickle.
    """
    machine = _Machine(data, functions, persistent, start)
    for _ in range(MOST_INSTRUCTIONS):
        code = machine.take(1)[0]
        if code == pickle.STOP[0]:
            return machine.pop(), machine.at
        step = _STEPS.get(code)
        if step is None:
            raise Damaged(f"the instruction {code:#04x} at byte {machine.at - 1:,} has no place in weights")
        step(machine)
    raise Damaged(f"more than {MOST_INSTRUCTIONS:,} instructions")


class _Machine:
    """A stack and a memo."""

    def __init__(
        self, data: bytes | mmap, functions: Functions, persistent: Callable[[Any], Any] | None, start: int
    ) -> None:
        self.raw = data
        self.data = memoryview(data)
        self.functions = functions
        self.persistent = persistent
        self.at = start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    # ------------------------------------------------------------------------------------------------- reading bytes

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.data) - self.at:
            raise Damaged(f"breaks off at byte {self.at:,}, where {count:,} more are announced")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def line(self) -> str:
        """Up to the end of a line, which the instructions of protocol 0 have for their argument."""
        stop = self.raw.find(b"\n", self.at, self.at + _LONGEST_LINE)
        if stop < 0:
            raise Damaged(f"a line at byte {self.at:,} does not end")
        text = bytes(self.take(stop - self.at))
        self.take(1)
        return _decoded(text, "latin-1")

    def text(self, length: int, encoding: str = "utf-8") -> str:
        return _decoded(bytes(self.take(length)), encoding)

    def integer(self, length: int) -> int:
        if length > _MOST_BYTES_OF_A_NUMBER:
            raise Damaged(f"a number of {length:,} bytes")
        return int.from_bytes(self.take(length), "little", signed=True)

    # ------------------------------------------------------------------------------------------------------- the stack

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Damaged(f"takes a value at byte {self.at - 1:,} where there is none")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise Damaged(f"no {kind.__name__} at byte {self.at - 1:,} to put something into")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """The values since the last mark, which goes with them."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise Damaged(f"no mark before byte {self.at - 1:,}")

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    # ---------------------------------------------------------------------------------------------- longer instructions

    def set_items(self, pairs: list[Any]) -> None:
        table = self.top(dict)
        if len(pairs) % 2:
            raise Damaged(f"a key without a value at byte {self.at - 1:,}")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Hashes of others may take for ever, or be made to be alike.
            if not (isinstance(key, str) or key is None or (isinstance(key, int) and abs(key) < 2**31)):
                raise Damaged(f"a key of a table is of the kind {type(key).__name__}")
            table[key] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise Damaged(f"recalls value {index:,}, which it has not kept")
        self.stack.append(self.memo[index])

    def keep(self, index: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise Damaged(f"keeps a value at byte {self.at - 1:,} where there is none")
        self.memo[index] = self.stack[-1]

    def named(self, name: Any, module: Any) -> Name:
        if not isinstance(name, str) or not isinstance(module, str):
            raise Damaged(f"a name at byte {self.at - 1:,} that is no text")
        found = Name(module, name)
        if (module, name) not in self.functions:
            raise RefusedPickle(str(found))
        return found

    def call(self) -> Any:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise RefusedPickle(f"a call of a {type(function).__name__}")
        try:
            return self.functions[function.module, function.name](*arguments)
        except TypeError as error:  # the number of arguments; the functions check their kinds
            raise Damaged(f"{function} with arguments it does not take") from error

    def build(self) -> None:
        state = self.pop()
        if not self.stack or self.stack[-1] is _MARK or isinstance(self.stack[-1], Name):
            raise Damaged(f"gives a state to nothing at byte {self.at - 1:,}")
        build = getattr(self.stack[-1], "build", None)
        if build is not None:
            build(state)

    def refer(self, reference: Any) -> Any:
        if self.persistent is None:
            raise RefusedPickle("a value outside of the file")
        return self.persistent(reference)


def _decoded(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise Damaged(f"text that is not in {encoding}") from error


def _whole(line: str) -> Any:
    """Protocol 0 writes booleans as the numbers 00 and 01."""
    if line in ("00", "01"):
        return line == "01"
    try:
        if len(line) > _MOST_DIGITS:
            raise ValueError
        return int(line.removesuffix("L"))
    except ValueError as error:
        raise Damaged("a line that is no number") from error


def _real(line: str) -> float:
    try:
        return float(line)
    except ValueError as error:
        raise Damaged("a line that is no number") from error


def _quoted(line: str) -> str:
    """Text between quotation marks, as Python 2 writes it."""
    if len(line) < 2 or line[0] not in "\"'" or line[-1] != line[0]:
        raise Damaged("a line that is no text")
    try:
        return codecs.escape_decode(line[1:-1].encode("latin-1"))[0].decode("latin-1")
    except ValueError as error:
        raise Damaged("a line that is no text") from error


def _escaped(line: str) -> str:
    return _decoded(line.encode("latin-1"), "raw-unicode-escape")


_Step = Callable[[_Machine], Any]
# Instructions that put one value onto the stack ...
_VALUES: dict[bytes, _Step] = {
    pickle.MARK: lambda m: _MARK,
    pickle.NONE: lambda m: None,
    pickle.NEWTRUE: lambda m: True,
    pickle.NEWFALSE: lambda m: False,
    pickle.BININT: lambda m: m.number("<i"),
    pickle.BININT1: lambda m: m.number("<B"),
    pickle.BININT2: lambda m: m.number("<H"),
    pickle.LONG1: lambda m: m.integer(m.number("<B")),
    pickle.LONG4: lambda m: m.integer(m.number("<I")),
    pickle.INT: lambda m: _whole(m.line()),
    pickle.LONG: lambda m: _whole(m.line()),
    pickle.BINFLOAT: lambda m: m.number(">d"),
    pickle.FLOAT: lambda m: _real(m.line()),
    pickle.STRING: lambda m: _quoted(m.line()),
    pickle.UNICODE: lambda m: _escaped(m.line()),
    pickle.SHORT_BINUNICODE: lambda m: m.text(m.number("<B")),
    pickle.BINUNICODE: lambda m: m.text(m.number("<I")),
    pickle.BINUNICODE8: lambda m: m.text(m.number("<Q")),
    pickle.SHORT_BINSTRING: lambda m: m.text(m.number("<B"), "latin-1"),
    pickle.BINSTRING: lambda m: m.text(m.number("<I"), "latin-1"),
    pickle.SHORT_BINBYTES: lambda m: m.take(m.number("<B")),
    pickle.BINBYTES: lambda m: m.take(m.number("<I")),
    pickle.BINBYTES8: lambda m: m.take(m.number("<Q")),
    pickle.BYTEARRAY8: lambda m: m.take(m.number("<Q")),
    pickle.EMPTY_TUPLE: lambda m: (),
    pickle.EMPTY_LIST: lambda m: [],
    pickle.EMPTY_DICT: lambda m: {},
    pickle.TUPLE: lambda m: tuple(m.marked()),
    pickle.TUPLE1: lambda m: m.last(1),
    pickle.TUPLE2: lambda m: m.last(2),
    pickle.TUPLE3: lambda m: m.last(3),
    pickle.LIST: lambda m: m.marked(),
    pickle.GLOBAL: lambda m: _global(m),
    pickle.STACK_GLOBAL: lambda m: m.named(m.pop(), m.pop()),
    pickle.REDUCE: lambda m: m.call(),
    pickle.NEWOBJ: lambda m: m.call(),
    pickle.BINPERSID: lambda m: m.refer(m.pop()),
}
# ... and those that do something else.
_ACTIONS: dict[bytes, _Step] = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.FRAME: lambda m: m.take(8),  # how a writer cut the file into reads, which means nothing here
    pickle.POP: lambda m: m.pop(),
    pickle.POP_MARK: lambda m: m.marked(),
    pickle.BUILD: lambda m: m.build(),
    pickle.APPEND: lambda m: _append(m, [m.pop()]),
    pickle.APPENDS: lambda m: _append(m, m.marked()),
    pickle.SETITEM: lambda m: m.set_items(list(m.last(2))),
    pickle.SETITEMS: lambda m: m.set_items(m.marked()),
    pickle.GET: lambda m: m.recall(_whole(m.line())),
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    pickle.PUT: lambda m: m.keep(_whole(m.line())),
    pickle.BINPUT: lambda m: m.keep(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.keep(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.keep(len(m.memo)),
    pickle.DICT: lambda m: _table(m),
}


def _global(machine: _Machine) -> Name:
    module, name = machine.line(), machine.line()
    return machine.named(name, module)


def _append(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(values)


def _table(machine: _Machine) -> None:
    pairs = machine.marked()
    machine.stack.append({})
    machine.set_items(pairs)


def _pushing(value: _Step) -> _Step:
    return lambda machine: machine.stack.append(value(machine))


_STEPS = {code[0]: _pushing(value) for code, value in _VALUES.items()} | {
    code[0]: action for code, action in _ACTIONS.items()
}
