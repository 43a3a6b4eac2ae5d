"""Reading the authors' files, each of which should be what its name says."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segcli.errors import CheckpointError
from segcli.weights.pickles import read_weights, tensors

# File names end in the first digits of a hash of the file: detectron2's .pkl of its MD5, PyTorch's .pth of its SHA-256.
_NAMED = {"md5": re.compile(r"[_-]([0-9a-f]{6})\.pkl"), "sha256": re.compile(r"[_-]([0-9a-f]{8})\.pth")}
_LARGEST = 1 << 34  # bytes of a damaged file that is hashed all the same: a hole of a terabyte is not
_PLACES = ("model", "state_dict")  # of the tensors, in files of detectron2 and DETR, of PyTorch Lightning
_COMPILED = "_orig_mod."  # in names of modules that were compiled


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
            f"{path} is {'a folder' if path.is_dir() else 'not there'}; give the authors' .pkl, .pth, .bin or .ckpt"
        )
    try:
        content = read_weights(path)
    except CheckpointError:
        if path.stat().st_size <= _LARGEST:
            _check_name(path, _digests(path))  # which says why it cannot be read
        raise
    digests = _digests(path)
    named = _check_name(path, digests)
    places = [content.get(name) for name in _PLACES] if isinstance(content, dict) else []
    state = next((place for place in places if isinstance(place, dict)), content)
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path}: holds no table of tensors, neither in {' nor '.join(_PLACES)} nor by itself")
    prefixes = (digests["md5"][:6], digests["sha256"][:8])
    found = {name.replace(_COMPILED, ""): tensor for name, tensor in tensors(state, path).items()}
    return Original(path, found, prefixes, named)


def _digests(path: Path) -> dict[str, str]:
    hashes = {kind: hashlib.new(kind) for kind in _NAMED}
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            for of_kind in hashes.values():
                of_kind.update(piece)
    return {kind: of_kind.hexdigest() for kind, of_kind in hashes.items()}


def _check_name(path: Path, digests: dict[str, str]) -> bool:
    """Whether the name says the hash; CheckpointError if it says another."""
    for kind, pattern in _NAMED.items():
        if (match := pattern.search(path.name)) is None:
            continue
        if not digests[kind].startswith(match[1]):
            raise CheckpointError(
                f"{path}: the name says its {kind.upper()} begins with {match[1]}, but it is "
                f"{digests[kind][: len(match[1])]}…: an incomplete download? Fetch it again, "
                "or rename the file if these digits are no hash"
            )
        return True
    return False
