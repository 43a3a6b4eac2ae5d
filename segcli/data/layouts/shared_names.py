"""Which label file belongs to which image: told by what their names share, not by a list of endings.

Label files are called as their images are, with something more, less or other in the name: `p0.jpg` and `p0_seg.png`,
`mask_p0.png`, `p0_sat.jpg` and `p0_mask.png`. What differs is the same for all files, and is learnt from them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segcli.data.layouts.folders import LABEL_SUFFIXES
from segcli.errors import UsageError

_KNOWN = re.compile(
    r"(_leftImg8bit|_gtFine_label(Train)?Ids|_gtFine_instanceIds|_(L|P|mask|masks|label|labels|gt|seg|img|sat))$"
)
_LABEL_WORDS = frozenset({
    "mask", "masks", "label", "labels", "gt", "seg", "segmentation", "anno", "annos", "annotation", "annotations",
    "annot", "lbl", "target", "groundtruth", "matte", "class", "classes", "instance", "instances",
})  # fmt: skip
_IMAGE_WORDS = frozenset({"img", "image", "im", "photo", "rgb", "sat", "input", "raw", "orig", "original"})
_SAMPLE, _MOST = 20, 4000  # label files that are compared with images, and images they are compared with


def image_key(stem: str) -> str:
    """What an image and its label file have in common: a name without the endings that say which of the two it is."""
    return _KNOWN.sub("", stem)


@dataclass
class Paired:
    """Images and label files that belong together."""

    pairs: dict[Path, Path] = field(default_factory=dict)  # image -> label file
    keys: dict[Path, str] = field(default_factory=dict)  # image -> its name without what says that it is an image
    orphans: list[Path] = field(default_factory=list)  # label files without an image
    difference: str = ""  # how the names differ, if that had to be learnt


def paired(images: Sequence[Path], home: Path, labels: Sequence[Path], label_home: Path) -> Paired:
    """Pair images below `home` with label files below `label_home`: by equal names without the known endings, or, if
    that pairs less than half of them, by what all names differ in.

    Raises UsageError for two label files of one image.
    """
    found = _by_keys(images, home, labels, label_home)
    if 2 * len(found.pairs) >= min(len(labels), len(images)):
        return found
    learnt = _by_difference(images, home, labels, label_home)
    return learnt if learnt is not None and len(learnt.pairs) > len(found.pairs) else found


def divided(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """(images, label files) of pictures in one folder; ([], []) if their names do not tell which is which.

    A label file is called by a word for it (`x_mask`, `mask-x`), or has the name of a photo of another kind
    (`x.jpg`, `x.png`). Nearly every image must have one.
    """
    files = list(files)
    for labels in (_called_labels(files), _lossless_twins(files)):
        images = [file for file in files if file not in labels]
        if not labels or not images:
            continue
        keys = {_bare(file.stem) for file in labels}
        having = sum(_bare(file.stem) in keys for file in images)
        if 2 * having >= len(images) and 2 * having >= len(labels):
            return images, [file for file in files if file in labels]
    return [], []


def _called_labels(files: list[Path]) -> set[Path]:
    return {file for file in files if _words(file.stem) & _LABEL_WORDS and file.suffix.lower() in LABEL_SUFFIXES}


def _lossless_twins(files: list[Path]) -> set[Path]:
    photos = {file.stem for file in files if file.suffix.lower() in (".jpg", ".jpeg", ".webp")}
    return {file for file in files if file.suffix.lower() in (".png", ".tif", ".tiff", ".bmp") and file.stem in photos}


def _parts(stem: str) -> list[str]:
    return [part for part in re.split(r"[_\-. ]+", stem) if part]


def _words(stem: str) -> set[str]:
    """The first and the last word of a name."""
    parts = [part.lower() for part in _parts(stem)]
    return {parts[0], parts[-1]} if len(parts) > 1 else set()


def _bare(stem: str) -> str:
    """A name without the words at its ends that say what it is of."""
    parts = _parts(stem)
    while len(parts) > 1 and parts[-1].lower() in _LABEL_WORDS | _IMAGE_WORDS:
        parts.pop()
    while len(parts) > 1 and parts[0].lower() in _LABEL_WORDS | _IMAGE_WORDS:
        parts.pop(0)
    return "_".join(parts)


def _place(file: Path, home: Path) -> str:
    """A file's path below a folder, without its ending."""
    return file.relative_to(home).with_suffix("").as_posix()


def _key(file: Path, home: Path) -> str:
    place = file.relative_to(home)
    return (place.parent / image_key(place.stem)).as_posix()


def _by_keys(images: Sequence[Path], home: Path, labels: Sequence[Path], label_home: Path) -> Paired:
    """Equal names first: what looks like an ending may be what tells the images apart (eye_L.jpg, eye_R.jpg)."""
    places = {_place(image, home) for image in images}
    by_key: dict[str, Path] = {}
    for file in labels:
        key = _place(file, label_home)
        key = key if key in places else _key(file, label_home)
        if key in by_key:
            raise UsageError(f"{file}: {by_key[key].name} is a label file of the same image; keep one of the two")
        by_key[key] = file
    found = Paired()
    for image in images:
        place, key = _place(image, home), _key(image, home)
        found.keys[image] = place if place in by_key or key in places else key
    for image, key in found.keys.items():
        if (label := by_key.pop(key, None)) is not None:
            found.pairs[image] = label
    found.orphans = list(by_key.values())
    return found


def _by_difference(images: Sequence[Path], home: Path, labels: Sequence[Path], label_home: Path) -> Paired | None:
    """Pairs by the one replacement that turns most label names into names of images."""
    stems = {_place(image, home): image for image in images}
    tried = [_place(label, label_home) for label in labels[:: max(1, len(labels) // _SAMPLE)][:_SAMPLE]]
    votes: Counter[tuple[str, str]] = Counter()
    for label in tried:
        votes.update({_difference(label, image) for image in list(stems)[:_MOST]} - {None})  # type: ignore[arg-type]
    if not votes:
        return None
    (ours, theirs), count = votes.most_common(1)[0]
    if 2 * count < len(tried):
        return None
    found = Paired(keys={image: stem for stem, image in stems.items()})
    taken: dict[Path, Path] = {}
    for file in labels:
        image = next((stems[name] for name in _replaced(_place(file, label_home), ours, theirs) if name in stems), None)
        if image is None:
            found.orphans.append(file)
        elif image in taken:
            raise UsageError(f"{file}: {taken[image].name} is a label file of the same image; keep one of the two")
        else:
            found.pairs[image] = taken[image] = file
    shown = f"{theirs!r} in images" if not ours else f"{ours!r} in label files"
    found.difference = f"{ours!r} in label files is {theirs!r} in images" if ours and theirs else f"{shown} alone"
    return found


def _difference(label: str, image: str) -> tuple[str, str] | None:
    """(what a label's name has, what the image's has in its place); None for names with little in common."""
    start = 0
    while start < min(len(label), len(image)) and label[start] == image[start]:
        start += 1
    end = 0
    while end < min(len(label), len(image)) - start and label[-1 - end] == image[-1 - end]:
        end += 1
    ours, theirs = label[start : len(label) - end], image[start : len(image) - end]
    if any(any(sign.isdigit() for sign in part) and len(part) > 3 for part in (ours, theirs)):
        return None  # numbers are what tells the images apart
    return ours, theirs


def _replaced(label: str, ours: str, theirs: str) -> Iterable[str]:
    """The names that a replacement makes of a label's, the last place first: endings are the rule."""
    for start in range(len(label) - len(ours), -1, -1):
        if label.startswith(ours, start):
            yield label[:start] + theirs + label[start + len(ours) :]
