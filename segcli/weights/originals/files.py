"""Reading the authors' files: pickles of NumPy arrays, of which nothing but arrays is ever made."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcli.errors import CheckpointError

# File names end in the first digits of a hash of the file: detectron2's .pkl of its MD5, PyTorch's .pth of its SHA-256.
_NAMED = {"md5": re.compile(r"[_-]([0-9a-f]{6})\.pkl"), "sha256": re.compile(r"[_-]([0-9a-f]{8})\.pth")}


@dataclass(frozen=True)
class Original:
    """An authors' file as read. digests: the first digits of its hashes, as file names give them.

    named: whether the file's name says its hash, so that it is known to be whole.
    """

    path: Path
    state: dict[str, Tensor]
    digests: tuple[str, ...]
    named: bool


def read_original(path: Path) -> Original:
    """Raises CheckpointError for a file that is damaged, holds anything but arrays, or is not what its name says."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}; give the authors' .pkl or .pth"
        )
    digests = {kind: _digest(path, kind) for kind in _NAMED}
    named = _check_name(path, digests)
    content = _unpickle(path) if path.suffix == ".pkl" else _torch_load(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path}: holds no table of tensors, neither in 'model' nor by itself")
    prefixes = (digests["md5"][:6], digests["sha256"][:8])
    return Original(path, {str(name): _tensor(path, name, value) for name, value in state.items()}, prefixes, named)


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _check_name(path: Path, digests: dict[str, str]) -> bool:
    """Whether the name says the hash; CheckpointError if it says another."""
    for kind, pattern in _NAMED.items():
        if (match := pattern.search(path.name)) is None:
            continue
        if not digests[kind].startswith(match[1]):
            raise CheckpointError(
                f"{path}: the name says its {kind.upper()} begins with {match[1]}, but it is "
                f"{digests[kind][: len(match[1])]}…: a download that broke off? Fetch it again, "
                "or rename the file if these digits are no hash"
            )
        return True
    return False


# ------------------------------------------------------------------------------------------------------- two formats


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """What `_codecs.encode` is needed for: the bytes of an array, written as text by the older protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _numpy_functions() -> dict[tuple[str, str], Any]:
    """What rebuilds arrays, under the names NumPy 1 and 2 write."""
    found: dict[tuple[str, str], Any] = {}
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer")):
        function = getattr(importlib.import_module(f"numpy._core.{module}"), name)
        found |= {(f"numpy.{core}.{module}", name): function for core in ("core", "_core")}
    return found


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that makes arrays and plain containers, and refuses by name whatever else a file asks for."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote them, and detectron2 reads them
        self.allowed = _ALLOWED | _numpy_functions()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise _Refused(f"{module}.{name}")
        return self.allowed[module, name]


class _Refused(Exception):
    """A pickle asks for something that is no array."""


def _unpickle(path: Path) -> Any:
    def read() -> Any:
        with path.open("rb") as file:
            return _ArraysOnly(file).load()

    return _guarded(path, read)


def _torch_load(path: Path) -> Any:
    def read() -> Any:
        # DETR's training keeps its options in one; it is a container, no code.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)

    return _guarded(path, read)


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle can raise anything
        refused = str(error) if isinstance(error, _Refused) else _refused_by_torch(error)
        if refused:
            raise CheckpointError(
                f"{path}: asks for {refused}, and segcli makes nothing but arrays of a file; if you trust it, load it "
                "in Python and save {'model': {name: array}} alone"
            ) from error
        line = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{path}: not a readable pickle ({line}); fetch it again") from error


def _refused_by_torch(error: Exception) -> str:
    found = re.search(r"(?:Unsupported (?:global: GLOBAL|class)|GLOBAL) ([\w.]+)", str(error))
    return found[1] if found else ""


def _tensor(path: Path, name: object, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
        native = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("="), copy=False).reshape(value.shape)
        return torch.from_numpy(native.copy() if not native.flags.writeable else native)
    what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise CheckpointError(f"{path}: {name} is {what}, not an array of numbers")
