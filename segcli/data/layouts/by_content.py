"""Which of two folders holds the label maps, where their names are unusual: told by what is in them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.data.layouts.folders import LABEL_SUFFIXES, files_in, subfolders
from segcli.data.layouts.shared_names import paired
from segcli.errors import InputError, UsageError
from segcli.files.image_names import IMAGE_SUFFIXES

_WORDS = re.compile(r"mask|label|annot|segm|instance|truth|trimap|semantic|(?:^|[^a-z])(?:gt|seg|anno)(?:$|[^a-z])")
_MOST_FOLDERS, _SAMPLE = 6, 6
_PAIRED = 0.9  # share of the files that have one of the same name in the other folder
_FLAT = 0.9  # share of a label map's pixels that are as their neighbours: photos have grain


def told_apart(home: Path) -> tuple[Path, Path] | None:
    """(folder of images, folder of label maps) in a folder, whose files pair up by their names; None if there are none.

    Raises UsageError if several pairs of folders could be meant.
    """
    children = [child for child in subfolders(home) if files_in(child, IMAGE_SUFFIXES, deep=True)]
    if not 2 <= len(children) <= _MOST_FOLDERS:
        return None
    labels = [child for child in children if _WORDS.search(child.name.lower())]
    labels = labels if 0 < len(labels) < len(children) else list(filter(_holds_label_maps, children))
    images = [child for child in children if child not in labels]
    pairs = [(photos, maps) for maps in labels for photos in images if _pair_up(photos, maps)]
    if len(pairs) > 1:
        listed = ", ".join(f"{photos.name}/ with {maps.name}/" for photos, maps in pairs)
        raise UsageError(
            f"{home}: several folders could hold the label maps ({listed}); say which in dataset.toml: "
            '[train] images = "…", labels = "…"'
        )
    return pairs[0] if pairs else None


def _pair_up(images: Path, labels: Path) -> bool:
    photos, maps = files_in(images, IMAGE_SUFFIXES, deep=True), files_in(labels, LABEL_SUFFIXES, deep=True)
    try:
        found = paired(photos, images, maps, labels)
    except UsageError:
        return False
    return bool(maps) and len(found.pairs) >= _PAIRED * min(len(photos), len(maps))


def _holds_label_maps(folder: Path) -> bool:
    files = files_in(folder, LABEL_SUFFIXES, deep=True)
    return bool(files) and all(map(_is_flat, files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]))


def _is_flat(file: Path) -> bool:
    """Whether a picture is of few values, each in large areas."""
    try:
        pixels = read_label_map(file)
    except InputError:
        return False
    same = pixels[:, 1:] == pixels[:, :-1]
    return bool(np.mean(same.all(axis=-1) if same.ndim == 3 else same) >= _FLAT)
