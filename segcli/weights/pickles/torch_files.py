"""What `torch.save` writes: since PyTorch 1.6 a ZIP of a pickle and the storages' bytes, before that one after the
other. Read lazily: of a checkpoint with an optimiser in it only the tensors that are asked for come into memory.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from segcli.weights.pickles.arrays import Ignored, functions, shape_of
from segcli.weights.pickles.machine import Damaged, Functions, Name, RefusedPickle, run

_MAGIC = 0x1950A86A20F9469CFC6C  # of the older format
_PROTOCOL = 1001
_MOST_OF_A_PICKLE = 256 * 2**20  # bytes of one without the numbers
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Constants that stand beside the weights.
_CONSTANTS = ("device", "Size", *(str(dtype).removeprefix("torch.") for dtype in _STORAGES.values()))


@dataclass(frozen=True, eq=False)
class Storage:
    """`count` numbers somewhere in the file. read: gets them, [count]."""

    dtype: torch.dtype
    count: int
    read: Callable[[], Tensor]

    @cached_property
    def numbers(self) -> Tensor:
        """[count]; a byte of a boolean may be anything in a file."""
        found = self.read()
        return found != 0 if self.dtype == torch.bool else found.view(self.dtype)


@dataclass(frozen=True, eq=False)
class Lazy:
    """A tensor that is read when it is asked for."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size_in_bytes(self) -> int:
        """Size of its numbers."""
        return prod(self.shape) * self.storage.dtype.itemsize

    def tensor(self) -> Tensor:
        """Its numbers. Raises Damaged if they are not in the file."""
        return self.storage.numbers.as_strided(self.shape, self.stride, self.offset).contiguous()

    def build(self, state: Any) -> None:
        """Attributes that somebody hung on it."""


def read_torch(path: Path) -> tuple[Any] | None:
    """The content of a file of `torch.save`, in a tuple of one; None if it is not one.

    Raises Damaged and RefusedPickle as `machine.run`, OSError.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        return (_Zip(path).content(),)
    data = mapped(path)
    return (_Old(data).content(),) if _is_old(data) else None


def mapped(path: Path) -> mmap.mmap | bytes:
    """A file's bytes, of which those come into memory that are looked at. Raises OSError."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _is_old(data: mmap.mmap | bytes) -> bool:
    """Whether the first of several pickles is the magic number."""
    return data[2:14] == b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


class _Zip:
    """The present format. Entries must be stored as they are: what is packed could unpack to any size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        # NotImplementedError: a version or compression that zipfile does not know
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
            raise Damaged(f"its ZIP directory is damaged: {str(error)[:80]}") from error
        self.entries = {entry.filename: entry for entry in self.zip.infolist()}
        if len(self.entries) != len(self.zip.infolist()):
            raise Damaged("two files of one name in its ZIP")
        size = path.stat().st_size
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in self.entries.values()):
            raise Damaged("packed files in its ZIP, which torch.save does not write")
        if any(entry.file_size != entry.compress_size for entry in self.entries.values()) or (
            sum(entry.file_size for entry in self.entries.values()) > size
        ):
            raise Damaged("sizes in its ZIP that are larger than the file")
        pickles = [name for name in self.entries if PurePosixPath(name).name == "data.pkl"]
        if len(pickles) != 1:
            raise Damaged("no data.pkl in its ZIP")
        self.root = pickles[0].removesuffix("data.pkl")

    def content(self) -> Any:
        if self._bytes("byteorder", 16, b"little") != b"little":
            raise Damaged("written on a big-endian machine")
        data = self._bytes("data.pkl", _MOST_OF_A_PICKLE)
        return run(data, _functions(), self._storage)[0]

    def _bytes(self, name: str, most: int, default: bytes | None = None) -> bytes:
        entry = self.entries.get(self.root + name)
        if entry is None and default is not None:
            return default
        if entry is None or entry.file_size > most:
            raise Damaged(f"no {name[:40]} of a fitting size in its ZIP")
        try:
            return self.zip.read(entry)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, struct.error, EOFError) as error:
            raise Damaged(f"{name[:40]} in its ZIP is damaged: {str(error)[:80]}") from error

    def _storage(self, reference: Any) -> Storage:
        dtype, key, count = _reference(reference)
        entry = self.entries.get(f"{self.root}data/{key}")
        if entry is None or entry.file_size != count * dtype.itemsize:
            raise Damaged(f"{count:,} numbers of {dtype} that are not in its ZIP")

        def read() -> Tensor:
            return _tensor_of(self._bytes(f"data/{key}", entry.file_size))

        return Storage(dtype, count, read)


class _Old:
    """The older format: magic number, version, facts of the system, content, keys of the storages, the storages."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data = data
        self.places: dict[str, tuple[int, int]] = {}  # key -> start, bytes
        self.told: dict[str, tuple[torch.dtype, int]] = {}

    def content(self) -> Any:
        at, parts = 0, []
        for persistent in (None, None, None, self._storage, None):
            value, at = run(self.data, _functions(), persistent, at)
            parts.append(value)
        magic, protocol, system, content, keys = parts
        if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(keys, list):
            raise Damaged("not the older format of PyTorch that it begins as")
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise Damaged("written on a big-endian machine")
        for key in keys:
            if not isinstance(key, str) or key not in self.told or len(self.data) - at < 8:
                raise Damaged("keys of storages that are none")
            dtype, count = self.told[key]
            (stored,) = struct.unpack_from("<q", self.data, at)
            size = count * dtype.itemsize
            if stored != count or size > len(self.data) - at - 8:
                raise Damaged(f"{count:,} numbers of {dtype} that are not in it")
            self.places[key] = (at + 8, size)
            at += 8 + size
        if at != len(self.data):
            raise Damaged(f"{len(self.data) - at:,} bytes after its end")
        return content

    def _storage(self, reference: Any) -> Storage:
        dtype, key, count = _reference(reference)
        if self.told.setdefault(key, (dtype, count)) != (dtype, count):
            raise Damaged("a storage of two sizes")

        def read() -> Tensor:
            if key not in self.places:
                raise Damaged("a storage without bytes")
            start, size = self.places[key]
            return _tensor_of(memoryview(self.data)[start : start + size])

        return Storage(dtype, count, read)


def _tensor_of(data: bytes | memoryview) -> Tensor:
    """Bytes as numbers of one byte each, as a copy."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if len(data) else torch.zeros(0, dtype=torch.uint8)


def _reference(value: Any) -> tuple[torch.dtype, str, int]:
    """("storage", type, key, device, count) and, in the older format, None."""
    if (
        not isinstance(value, tuple)
        or len(value) not in (5, 6)
        or value[0] != "storage"
        or value[5:] not in ((), (None,))
    ):
        raise RefusedPickle("a reference that is no storage")
    _, kind, key, _, count = value[:5]
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in _STORAGES:
        raise RefusedPickle("a storage of another type")
    if not isinstance(key, str) or len(key) > 40 or type(count) is not int or not 0 <= count < 2**48:
        raise Damaged("a storage whose key or size is none")
    return _STORAGES[kind.name], key, count


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> Lazy:
    """`_rebuild_tensor`: a view of a storage that lies inside of it, and is not larger."""
    if not isinstance(storage, Storage):
        raise RefusedPickle("a tensor of no storage")
    shape, steps = shape_of(size), shape_of(stride)
    if len(shape) != len(steps) or type(offset) is not int or offset < 0:
        raise Damaged("a tensor whose shape, strides and offset do not go together")
    count = prod(shape)
    last = offset + sum((side - 1) * step for side, step in zip(shape, steps, strict=True)) if count else offset - 1
    if last >= storage.count or count > storage.count:
        raise Damaged(f"a tensor of {count:,} numbers outside of its storage of {storage.count:,}")
    return Lazy(storage, offset, shape, steps)


def _parameter(data: Any, *others: Any) -> Lazy:
    if not isinstance(data, Lazy):
        raise RefusedPickle("a parameter of no tensor")
    return data


def _not_called(*values: Any) -> Any:
    raise RefusedPickle("a type of storage, called")


def _functions() -> Functions:
    utils = {("torch._utils", name): _tensor for name in ("_rebuild_tensor", "_rebuild_tensor_v2")}
    types = {("torch", name): _not_called for name in _STORAGES}
    constants = {("torch", name): Ignored for name in _CONSTANTS}
    return {**functions(), **utils, ("torch._utils", "_rebuild_parameter"): _parameter, **types, **constants}
