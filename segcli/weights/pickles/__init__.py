"""Pickled weights, read without Python's unpickler: an interpreter that can make nothing but numbers, text, containers
and arrays.

    content = read_weights(path)      # .pkl of detectron2, .pth and .bin of PyTorch

A pickle is a program. The interpreter (`machine.py`) knows its instructions, and the functions a program may call are
the dozen that rebuild arrays (`arrays.py`) and tensors (`torch_files.py`): own functions under those names, which check
every length, type and place before anything is built. No code, class or import named by a file is ever reached.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from segcli.errors import CheckpointError, InputError, cut, kind_of
from segcli.files.image_ref import regular
from segcli.weights.pickles.arrays import Array, functions
from segcli.weights.pickles.machine import Damaged, RefusedPickle, run
from segcli.weights.pickles.torch_files import Lazy, mapped, read_torch

__all__ = ["read_weights", "tensors"]

_COPIES = 4  # tensors may share numbers, but of an honest file not many do


def read_weights(path: Path) -> Any:
    """What a file of pickled weights holds: containers whose arrays are `Array` (NumPy) or `Lazy` (PyTorch), each of
    which `tensor()` turns into a tensor.

    The format is told by the content, not by the name. Raises CheckpointError for a file that is damaged or that asks
    for anything else.
    """
    try:
        regular(path, str(path))  # a device has no end
        found = read_torch(path)
        return _plain(path) if found is None else found[0]
    except InputError as error:
        raise CheckpointError(str(error)) from error
    except RefusedPickle as error:
        raise CheckpointError(
            f"{path}: asks for {cut(error, 80)}, and segcli loads nothing but arrays; if you trust it, load "
            "it in Python and save {'model': {name: array}} alone"
        ) from error
    except Damaged as error:
        raise CheckpointError(f"{path}: not a readable pickle ({error}); fetch it again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: needs more memory than there is") from error


def _plain(path: Path) -> Any:
    data = mapped(path)
    content, end = run(data, functions())
    if end != len(data):  # which nobody has written: a file of another kind, or a hole of any size
        raise Damaged(f"{len(data) - end:,} bytes after its end")
    return content


def tensors(table: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a table that `read_weights` gave. Raises CheckpointError for one that holds anything else."""
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
        raise CheckpointError(f"{path}: holds something other than a dictionary of tensors")
    for name, value in table.items():
        if not isinstance(value, Array | Lazy):
            raise CheckpointError(f"{path}: {cut(name, 80)} is {kind_of(value)}, not an array of numbers")
    found: dict[str, Tensor] = {}
    left = _COPIES * path.stat().st_size
    try:
        for name, value in table.items():
            left -= value.size_in_bytes
            if left < 0:
                raise Damaged("more numbers in its tensors than in the file")
            found[name] = value.tensor()
    except Damaged as error:
        raise CheckpointError(f"{path}: {cut(name, 80)} is damaged ({error}); fetch it again") from error
    return found
