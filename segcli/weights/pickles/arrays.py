"""NumPy's arrays in a pickle: the functions NumPy names there, as far as plain numbers need them."""

from __future__ import annotations

import re
from argparse import Namespace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcli.errors import shown
from segcli.weights.pickles.machine import Damaged, Functions, Name, RefusedPickle

_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
_MOST_DIMENSIONS = 32


class Type:
    """A `numpy.dtype` of plain numbers: float, signed, unsigned, boolean, of at most eight bytes."""

    def __init__(self, code: Any, *others: Any) -> None:
        match = _NUMBERS.fullmatch(code) if isinstance(code, str) else None
        if match is None:
            raise RefusedPickle(f"numpy.dtype of {shown(code, 20)}")
        self.boolean = match[1] == "b1"
        self.code = "u1" if self.boolean else match[1]
        self.order = code[0] if code[0] in "<>" else "="

    def build(self, state: Any) -> None:
        """Of a dtype's state only the byte order; one with fields, parts or objects is refused."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise RefusedPickle("numpy.dtype with a state of another kind")
        if any(part is not None for part in state[2:5]):
            raise RefusedPickle("numpy.dtype with fields")
        self.order = state[1] if state[1] in "<>" else "="

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)

    def array(self, data: Any, shape: Any, fortran: bool) -> np.ndarray:
        """The numbers in some bytes, a view of them; their count must be the shape's."""
        sides = shape_of(shape)
        raw = _latin1(data) if isinstance(data, str) else data
        if not isinstance(raw, bytes | memoryview):
            raise RefusedPickle(f"an array of {type(data).__name__}")
        if prod(sides) * self.dtype.itemsize != len(raw):
            raise Damaged(f"an array of {'×'.join(map(str, sides))} numbers with {len(raw):,} bytes")
        array = np.frombuffer(raw, self.dtype).reshape(sides, order="F" if fortran else "C")
        return array != 0 if self.boolean else array


class Array:
    """An array of NumPy that a pickle makes in one step and fills in the next."""

    def __init__(self, array: np.ndarray | None = None) -> None:
        self.array = array

    def build(self, state: Any) -> None:
        """The state of `ndarray.__setstate__`: version, shape, type, order, bytes."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], Type):
            raise Damaged("an array whose state is none")
        _, shape, kind, fortran, data = state
        self.array = kind.array(data, shape, fortran is True)

    @property
    def size_in_bytes(self) -> int:
        """Size of its numbers."""
        return 0 if self.array is None else self.array.nbytes

    def tensor(self) -> Tensor:
        """Its numbers, as a copy. Raises Damaged if the file never filled it."""
        if self.array is None:
            raise Damaged("an array without content")
        return torch.from_numpy(np.array(self.array, dtype=self.array.dtype.newbyteorder("="), order="C"))


class Ignored:
    """What stands beside the weights in a file, such as a training's options: its state is dropped."""

    def __init__(self, *values: Any) -> None:
        pass

    def build(self, state: Any) -> None:
        pass


def shape_of(value: Any) -> tuple[int, ...]:
    """A tuple of sides, or Damaged."""
    if not isinstance(value, tuple) or len(value) > _MOST_DIMENSIONS:
        raise Damaged("a shape that is no tuple of sides")
    if not all(type(side) is int and 0 <= side < 2**48 for side in value):
        raise Damaged("a shape with a side that is no count")
    return value


def _latin1(text: Any = "", encoding: Any = "latin1") -> bytes:
    """The bytes of an array, which older protocols write as text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedPickle("_codecs.encode of something else")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise Damaged("bytes that are none") from error


def _bytes(*values: Any) -> bytes:
    if values:
        raise RefusedPickle("bytes of something")
    return b""


def _table(*values: Any) -> dict[Any, Any]:
    """`OrderedDict`; Python 2 gives it its content as a list of pairs."""
    if not values:
        return {}
    pairs = values[0]
    if len(values) > 1 or not isinstance(pairs, list):
        raise RefusedPickle("OrderedDict of something else")
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise RefusedPickle("OrderedDict of something else")
    return {pair[0]: pair[1] for pair in pairs}


def _reconstruct(kind: Any, *others: Any) -> Array:
    if kind != Name("numpy", "ndarray"):
        raise RefusedPickle("an array of another class")
    return Array()


def _buffer(data: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    if not isinstance(kind, Type) or order not in ("C", "F", "K"):
        raise Damaged("an array whose type or order is none")
    array = kind.array(data, shape, order == "F")
    if axes is not None:
        if not isinstance(axes, tuple) or sorted(map(str, axes)) != sorted(map(str, range(array.ndim))):
            raise Damaged("an array whose axes are none")
        array = array.transpose(axes)
    return Array(array)


def _scalar(kind: Any, data: Any) -> Array:
    if not isinstance(kind, Type):
        raise Damaged("a number whose type is none")
    return Array(kind.array(data, (), False))


def _not_called(*values: Any) -> Any:
    raise RefusedPickle("numpy.ndarray, called")


def functions() -> Functions:
    """Under the names that NumPy 1 and 2 write, and Python 2 and 3."""
    cores = ("numpy.core", "numpy._core")
    return (
        {(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in cores}
        | {(f"{core}.multiarray", "scalar"): _scalar for core in cores}
        | {(f"{core}.numeric", "_frombuffer"): _buffer for core in cores}
        | {("numpy", "ndarray"): _not_called, ("numpy", "dtype"): Type}
        | {("collections", "OrderedDict"): _table, ("_codecs", "encode"): _latin1}
        | {(module, "bytes"): _bytes for module in ("builtins", "__builtin__")}
        | {(Namespace.__module__, Namespace.__name__): Ignored}  # DETR's training keeps its options in one
    )
