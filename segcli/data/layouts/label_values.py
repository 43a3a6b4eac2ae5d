"""Label maps as numbers: which values a map holds, colours as class ids, ids as positions. Each is one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import is_grey, read_label_map
from segcli.data.cache import cache_dir, digest, read_json, signature, write_json
from segcli.data.truth import VOID
from segcli.errors import InputError, UsageError
from segcli.types import Label

_DENSE = 1 << 24  # values below are counted in a table, larger ones by sorting


def values_of(label_map: np.ndarray) -> np.ndarray:
    """The distinct values of an integer map, ascending, int64."""
    if label_map.size and (label_map.min() < 0 or label_map.max() >= _DENSE):
        return np.unique(label_map).astype(np.int64)
    return np.flatnonzero(np.bincount(label_map.ravel()))


def numbered(label_map: np.ndarray, present: np.ndarray, void: Sequence[int]) -> np.ndarray:
    """Values of a map -> their positions in `present` plus 1, int32; `void` values -> -1, all others -> 0."""
    top = int(present.max(initial=0))
    if int(label_map.min(initial=0)) < 0 or max(top, int(label_map.max(initial=0))) >= _DENSE:
        places = np.searchsorted(present, label_map).clip(0, max(0, len(present) - 1))
        result = np.where(present[places] == label_map, places + 1, 0) if len(present) else np.zeros_like(label_map)
        return np.where(np.isin(label_map, void), VOID, result).astype(np.int32)
    table = np.zeros(int(label_map.max(initial=0)) + 1, dtype=np.int32)
    fitting = present < len(table)
    table[present[fitting]] = np.flatnonzero(fitting) + 1
    table[[value for value in void if 0 <= value < len(table)]] = VOID
    return table[label_map]


def colours_to_ids(picture: np.ndarray, labels: Sequence[Label], file: Path, numbers: Sequence[int] = ()) -> np.ndarray:
    """uint8 [H, W, 3] -> int32 class ids [H, W], by the colours the classes declare.

    numbers: a grey picture of these alone is no picture of colours, but of ids in three equal channels, unless it has
    only colours of classes.

    Raises UsageError for a picture of colours where none are declared, or with other colours.
    """
    table = _colour_table(tuple((label.id, label.color) for label in labels if label.color))
    codes = _codes(picture)
    places = table[codes]
    if not places.all():
        if is_grey(picture) and np.isin(values_of(picture[..., 0]), numbers).all():
            return picture[..., 0].astype(np.int32)
        strange = np.unique(codes[places == 0])
        shown = ", ".join(f"({c >> 16}, {(c >> 8) & 255}, {c & 255})" for c in strange[:4].tolist())
        if not any(label.color for label in labels):
            raise UsageError(
                f"{file}: a label map of colours ({shown}, …) and no declaration of what they mean; "
                "give each class its color in dataset.toml ([[classes]] id, name, color), or a class_dict.csv "
                "(name, r, g, b)"
            )
        raise UsageError(
            f"{file}: colour {shown} belongs to no class ({sum(bool(label.color) for label in labels)} colours are "
            "declared); declare it, or export the label map without smoothing"
        )
    ids = np.array([0] + [label.id for label in labels if label.color], dtype=np.int32)
    return ids[places]


def numbered_colours(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> int32 [H, W]: black is 0, every other colour a number of its own."""
    codes = _codes(picture)
    seen = np.zeros(1 << 24, dtype=bool)
    seen[codes] = seen[0] = True
    present = np.flatnonzero(seen)
    table = np.zeros(1 << 24, dtype=np.int32)
    table[present] = np.arange(len(present))
    return table[codes]


def _codes(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 0].astype(np.int32) << 16) | (picture[..., 1].astype(np.int32) << 8) | picture[..., 2]


@lru_cache(maxsize=2)
def _colour_table(colours: tuple[tuple[int, tuple[int, int, int]], ...]) -> np.ndarray:
    """24-bit colour -> position plus 1. 32 MB that are never touched, but for the pages of a few colours."""
    table = np.zeros(1 << 24, dtype=np.int16)
    for position, (_, (red, green, blue)) in enumerate(colours):
        table[(red << 16) | (green << 8) | blue] = position + 1
    return table


def survey(files: Sequence[Path]) -> dict[int, str]:
    """value -> one file that holds it, over all label maps; read in threads, remembered as long as no file changes.

    Unreadable files are passed over here: the scan names them. Raises UsageError for a map of colours.
    """
    return _surveyed("values", files, _values_in)


def greys_are_colours(files: Sequence[Path], labels: Sequence[Label]) -> bool:
    """Whether grey label maps hold the declared greys of classes, such as black and white, and not their ids: some of
    the values are no id, and all of them are greys. Asked of all maps at once: one that is black could be either.
    """
    greys = {label.color[0]: label.id for label in labels if label.color and len(set(label.color)) == 1}
    if all(grey == id_ for grey, id_ in greys.items()):
        return False
    values = _surveyed("greys", files, _greys_in).keys()
    return values <= greys.keys() and not values <= {label.id for label in labels}


def palettes_are_colours(files: Sequence[Path], labels: Sequence[Label], ignore: Sequence[int]) -> bool:
    """Whether palette files mean the declared colours of classes, and not their indices: some of the indices are no id,
    and every colour is declared. Asked of all maps at once."""
    colours = {(r << 16) | (g << 8) | b for label in labels if label.color for r, g, b in (label.color,)}
    indices = _surveyed("indices", files, _indices_in).keys()
    if not indices or indices <= {label.id for label in labels} | set(ignore):
        return False
    return _surveyed("colours", files, _colours_in).keys() <= colours


def _surveyed(kind: str, files: Sequence[Path], read: Callable[[Path], list[int]]) -> dict[int, str]:
    kept = cache_dir() / f"{kind}-{digest(*files[:1], len(files), signature(files))}.json"
    known = read_json(kept)
    if known is None:
        found: dict[int, str] = {}
        with ThreadPoolExecutor() as pool:
            for file, values in zip(files, pool.map(read, files), strict=True):
                for value in values:
                    found.setdefault(value, str(file))
        known = {str(value): file for value, file in found.items()}
        write_json(kept, known)
    return {int(value): file for value, file in sorted(known.items(), key=lambda item: int(item[0]))}


def _values_in(file: Path) -> list[int]:
    try:
        label_map = read_label_map(file)
    except InputError:
        return []
    if label_map.ndim == 3:
        colours_to_ids(label_map, (), file)
    return [int(value) for value in values_of(label_map)]


def _greys_in(file: Path) -> list[int]:
    try:
        picture = read_label_map(file, colours="grey")
    except InputError:
        return []
    return [int(value) for value in values_of(picture[..., 0])] if is_grey(picture) else []


def _indices_in(file: Path) -> list[int]:
    return [int(value) for value in values_of(read_label_map(file))] if _is_palette(file) else []


def _colours_in(file: Path) -> list[int]:
    return [int(code) for code in np.unique(_codes(read_label_map(file, colours="all")))] if _is_palette(file) else []


def _is_palette(file: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode == "P"
    except (OSError, ValueError, SyntaxError):
        return False


def check_size(label_map: np.ndarray, size: tuple[int, int], file: Path) -> None:
    """Raise InputError unless a label map is as large as its image."""
    if label_map.shape[:2] != size:
        raise InputError(
            f"{file}: {label_map.shape[1]}×{label_map.shape[0]} pixels, its image {size[1]}×{size[0]}; "
            "they must be equal"
        )
