"""YOLO segmentation: data.yaml, and a text file an image with a class and a polygon in fractions of it on each line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.data.layouts.folders import files_in, folders_below, named, split_folders, subfolders
from segcli.data.numbers import counted, shown, whole
from segcli.data.records import Found, Record, as_ranges
from segcli.data.settings import Settings
from segcli.data.truth import LeftOut, Polygons, ShapeTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_names import IMAGE_SUFFIXES, in_one_line, is_litter, same_letters
from segcli.files.image_places import ImagePlaces, completed, confined, leaves, there, where_there, with_slashes
from segcli.files.image_ref import FileRef
from segcli.files.text import decoded, lines_of, read_plain, read_text
from segcli.types import Label, LabelSet

FORMAT = "yolo-seg"
SOUGHT = "YOLO (data.yaml, or classes.txt with images/ and labels/)"
WRITTEN_AS = "yolo"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_FILES = ("data.yaml", "data.yml", "dataset.yaml")
_YAML = frozenset({".yaml", ".yml"})
_NAME_LISTS = ("classes.txt", "obj.names", "class_names.txt")
_LABEL_FOLDERS = ("labels", "label", "annotations", "txt")
_LOOKED_AT = 40
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SLACK = 0.1  # how far outside of the image a coordinate may be: further out it is no fraction of a side


def _yaml_file(root: Path, everywhere: bool = False) -> Path | None:
    files = {file.name.lower(): file for file in files_in(root, _YAML)}
    found = [files[name] for name in _FILES if name in files] or [f for f in files.values() if _names_and_train(f)]
    if not found and everywhere:  # in a folder of settings, which holds no images itself
        homes = [folder for folder in folders_below(root, 2) if not subfolders(folder)]
        deeper = [file for folder in homes for file in files_in(folder, _YAML) if _names_and_train(file)]
        found = deeper if len(deeper) == 1 else []
    return next(iter(found), None)


def _names_and_train(file: Path) -> bool:
    """Whether a file of another name is one of YOLO's. Raises UsageError for a broken one that names both."""
    try:
        return not is_litter(file.name) and _parsed(file).keys() >= {"names", "train"}
    except (UsageError, InputError):
        try:
            keys = {line.partition(b":")[0] for line in read_plain(file).splitlines()}
        except (OSError, InputError):  # a file that cannot be read, or a pipe, need not be YOLO's
            return False
        if keys >= {b"names", b"train"}:
            raise
        return False


def _parsed(file: Path) -> dict[str, Any]:
    import yaml

    try:
        raw = yaml.safe_load(read_text(file))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        remedy = "; write paths with / and without quotes" if "escape" in str(error.problem) else ""
        raise UsageError(f"{file}: not valid YAML{line} ({str(error.problem or error)[:200]}){remedy}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{file}: not valid YAML ({str(error)[:200].splitlines()[0]}); correct it") from error
    return raw if isinstance(raw, dict) else {}


def _without_yaml(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """(list of class names, what a data.yaml would say) of images with YOLO's labels/*.txt, or text files beside them,
    as Label Studio, LabelImg and CVAT export them.
    """
    outside = split_folders(root)
    homes = [root, root / "labels", *(home / "labels" for home in outside.values())]
    names = next((home / name for home in homes for name in _NAME_LISTS if (home / name).is_file()), None)
    inside = {split: f"images/{folder.name}" for split, folder in split_folders(root / "images").items()}
    for places in (inside or {"train": "images"}, {split: folder.name for split, folder in outside.items()}):
        if names and any(_labelled(root / place) for place in places.values()):
            return names, {**places, "names": lines_of(names)}
    return None


def _labelled(place: Path) -> bool:
    """Whether one of the first images has a text file."""
    folder = place / "images" if (place / "images").is_dir() else place
    images = files_in(folder, IMAGE_SUFFIXES, deep=True)[:_LOOKED_AT]
    return any(file.is_file() for file in _label_files(images))


def probe(root: Path, settings: Settings) -> str | None:
    """The YAML file's name; None if there is none with class names or the training images."""
    file = _yaml_file(root, settings.everywhere)
    if file:
        return file.name if _parsed(file).keys() & {"names", "train"} else None
    found = _without_yaml(root)
    return f"{found[0].name}, images and labels" if found else None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for a YAML file whose folders are not there."""
    file = _yaml_file(root, settings.everywhere)
    listed = _without_yaml(root) if file is None else None
    if file is None and listed is None:
        raise UsageError(f"{root}: no data.yaml here; YOLO data needs one with names, train and val")
    if listed:
        file, raw = listed
    else:
        assert file is not None
        raw = _parsed(file)
    labels = _labels(raw.get("names"), file)
    splits: dict[str, list[Record]] = {}
    notes: list[str] = []
    for split, keys in _SPLITS.items():
        entries: object = next((raw[key] for key in keys if raw.get(key)), [])
        images: list[Path] = []
        for entry in entries if isinstance(entries, list) else [entries]:
            place = _place(root, file, raw, entry, needed=split == "train")
            if place is None:
                notes.append(f"{file.name}: {split} names {str(entry)!r}, which is not there: left out")
            else:
                images += _images(root, raw, place)
        if images:
            splits[split] = [
                Record(_image_id(image, root), FileRef(str(image)), str(label))
                for image, label in zip(images, _label_files(images), strict=True)
            ]
    if splits.get("val") and [r.image for r in splits["val"]] == [r.image for r in splits.get("train", [])]:
        del splits["val"]  # a common shorthand: nothing was set aside
    label_set = settings.label_set(labels, file)
    _refuse_counting_from_one(file, label_set, [str(r.truth) for records in splits.values() for r in records])
    unlabelled = _unlabelled([record for records in splits.values() for record in records])
    if unlabelled:
        have = counted(unlabelled, "image has", "images have")
        notes.append(f"{have} no label file: taken as images without objects, as YOLO does")
    reader = YoloReader(tuple(label_set.ids), settings.boxes)
    what = f"YOLO segmentation: {probe(root, settings)}"
    return Found(
        FORMAT, what, splits, label_set, ("instance",), reader, notes=tuple(notes), train_from=f"as train in {file}"
    )


def _refuse_counting_from_one(file: Path, labels: LabelSet, texts: list[str]) -> None:
    """Raise UsageError if the label files number N classes from 1 to N and the names from 0: read as they are, every
    object would get the name of the next class. A few files are looked into, and all where these leave it open."""
    count = len(labels)
    if sorted(labels.ids) != list(range(count)):
        return
    step = max(1, len(texts) // _LOOKED_AT)
    for some in (texts[::step], texts):
        used = {number for text in some for number in _classes_in(Path(text))}
        if 0 in used or count not in used:
            return
    raise UsageError(
        f"{file}: names {count} class{'es' * (count != 1)}, numbered from 0, but the label files use 1 to {count} and "
        f"never 0; number the names in {file.name} (names: {{1: {labels.names[0]}, …}}), or the labels from 0"
    )


def _classes_in(text: Path) -> set[int]:
    """The class numbers in a label file; what cannot be read is found by the scan."""
    try:
        lines = decoded(read_plain(text)).splitlines()
    except (OSError, UnicodeDecodeError, InputError):
        return set()
    words = (line.split(maxsplit=1)[:1] for line in lines)
    return {int(word[0]) for word in words if word and word[0].isdecimal() and len(word[0]) < 10}


def _labels(names: object, file: Path) -> list[Label]:
    """The classes. Raises UsageError unless `names` is a list of them or a table by their numbers."""
    if isinstance(names, str):  # a list in quotes, or names with commas between
        names = [name.strip(" '\"") for name in names.strip("[] ").split(",")]
    if isinstance(names, dict) and all(type(number) is int for number in names.values()):
        names = {number: name for name, number in names.items()}
    pairs = (
        list(names.items()) if isinstance(names, dict) else list(enumerate(names)) if isinstance(names, list) else []
    )
    try:
        labels = [Label(whole(key, "names"), _class_name(name), isthing=True) for key, name in pairs]
    except ValueError:
        labels = []
    if not labels:
        raise UsageError(f"{file}: names is {shown(names)}; expected the class names, as a list or by number")
    return labels


def _class_name(name: object) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise ValueError("no name")
    return in_one_line(str(name))


def _bases(root: Path, raw: dict[str, Any]) -> list[Path]:
    """What paths may be relative to: `path` of the YAML file, and the file itself."""
    return [*([root / with_slashes(raw["path"])] if isinstance(raw.get("path"), str) else []), root]


def _place(root: Path, file: Path, raw: dict[str, Any], entry: object, *, needed: bool) -> Path | None:
    """Where an entry is: a folder, or a text file that lists images. Exporters write "../" before it too often, and the
    folders of their own machine: then what is there under the end of its path.

    Raises UsageError if it is `needed` and not there.
    """
    if not isinstance(entry, str) or "\0" in entry:
        raise UsageError(f"{file}: a path is {shown(entry)}; expected the name of a folder or of a list of images")
    text = with_slashes(entry)
    tried = [base / part for base in _bases(root, raw) for part in (text, text.removeprefix("../").removeprefix("./"))]
    ends = confined(text).split("/")
    tails = [ends[start:] for start in range(len(ends))]
    tried += [root / "/".join(tail) for tail in tails if len(tail) > 1 or tail[0] in split_folders(root)]
    place = next((candidate for candidate in tried if _exists(candidate)), None)
    if place is None and needed:
        raise UsageError(
            f"{file}: {shown(entry)} is not there (looked at {tried[0]} and {tried[-1]}); correct train in "
            f"{file.name}, or put the images there"
        )
    return place


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _images(root: Path, raw: dict[str, Any], place: Path) -> list[Path]:
    """The images of a folder, or of a list: its lines are relative to it, to the YAML file or to the folder above."""
    if place.is_dir():
        folder = place / "images" if (place / "images").is_dir() else place
        return files_in(folder, IMAGE_SUFFIXES, deep=True)
    lines = [with_slashes(line) for line in lines_of(place)]
    lines = [line if not leaves(line) else confined(line) for line in lines]
    paths = [place.parent / line for line in lines]
    for base in (*_bases(root, raw), root.parent):
        paths = where_there(paths, [base / line for line in lines])
    return completed(place, lines, paths, lambda: ImagePlaces(root))


def _unlabelled(records: list[Record]) -> int:
    """How many images have no label file; of those that are there, as the others are no images without objects."""
    images = there([record.image.place for record in records])
    truths = there([Path(str(record.truth)) for record in records])
    return sum(image and not truth for image, truth in zip(images, truths, strict=True))


def _label_files(images: list[Path]) -> list[Path]:
    """The text file of each image: in the folder called labels in place of the last one called images, else beside it.
    Letters may be in another case. One that is nowhere is named as it ought to be.
    """
    listed: dict[Path, dict[str, Path]] = {}

    def texts(folder: Path) -> dict[str, Path]:
        if folder not in listed:
            listed[folder] = {same_letters(file.stem): file for file in files_in(folder, frozenset({".txt"}))}
        return listed[folder]

    homes = {image.parent: _label_folder(image.parent) for image in images}
    found = []
    for image in images:
        key = same_letters(image.stem)
        home = homes[image.parent]
        found.append(texts(home).get(key) or texts(image.parent).get(key) or home / f"{image.stem}.txt")
    return found


def _label_folder(folder: Path) -> Path:
    """The folder of the label files of a folder's images."""
    parts = list(folder.parts)
    for position in range(len(parts) - 1, -1, -1):
        if parts[position].lower() in ("images", "image", "imgs", "img"):
            above, below = Path(*parts[:position]), parts[position + 1 :]
            return Path(named(above, _LABEL_FOLDERS) or above / "labels", *below)
    return folder


def _image_id(image: Path, root: Path) -> str:
    try:
        return image.relative_to(root).with_suffix("").as_posix()
    except ValueError:
        return image.with_suffix("").as_posix()


@dataclass(frozen=True)
class YoloReader:
    """Reads one text file an image."""

    ids: tuple[int, ...]
    boxes: bool = False  # rows of boxes are taken as rectangles

    def files(self, record: Record) -> list[Path]:
        """The text file, if there is one."""
        file = Path(str(record.truth))
        return [file] if file.is_file() else []

    def read(self, record: Record, size: tuple[int, int]) -> ShapeTruth:
        """One polygon a line; no file or an empty one means no objects."""
        file = Path(str(record.truth))
        try:
            lines = decoded(read_plain(file)).splitlines() if file.is_file() else []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error}); export it again") from error
        shapes: list[Polygons] = []
        labels: list[int] = []
        left_out: list[LeftOut] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            label: int | None = None
            try:
                label, points = _numbers(line)
                if label not in self.ids:
                    raise ValueError(f"label {label} is not a class of this dataset (allowed: {as_ranges(self.ids)})")
                polygon = _polygon(points, self.boxes)
            except ValueError as error:
                left_out.append(LeftOut(str(error), f"{file}:{number}", label if label in self.ids else None))
                continue
            shapes.append([polygon * (size[1], size[0])])
            labels.append(label)
        crowd = np.zeros(len(labels), dtype=bool)
        return ShapeTruth(size, shapes, np.array(labels, dtype=np.int64), crowd, left_out=tuple(left_out))


def _numbers(line: str) -> tuple[int, np.ndarray]:
    """A row's class and its coordinates. Raises ValueError."""
    words = line.replace(",", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{shown(line.strip())} is not a class number and x y pairs") from None
    if not math.isfinite(values[0]) or values[0] != int(values[0]):
        raise ValueError(f"class {values[0]:g} is not a whole number")
    return int(values[0]), np.array(values[1:])


def _polygon(points: np.ndarray, boxes: bool) -> np.ndarray:
    """Coordinates -> [n, 2], cut off at the image's edges. Raises ValueError for what is no polygon."""
    if len(points) == 4 and np.isfinite(points).all():
        if not boxes:
            raise ValueError("a box (4 numbers), not a polygon of at least 3 x y pairs")
        x, y, w, h = points / (1, 1, 2, 2)
        points = np.array([x - w, y - h, x + w, y - h, x + w, y + h, x - w, y + h])
    if len(points) < 6 or len(points) % 2:
        odd = ", an odd number" if len(points) % 2 else ""
        raise ValueError(f"{len(points)} coordinates{odd}; expected at least 3 x y pairs")
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not a number")
    if points.min() < -_SLACK or points.max() > 1 + _SLACK:
        worst = points[np.abs(points - 0.5).argmax()]
        raise ValueError(f"coordinate {worst:g} is outside of 0–1; YOLO's are fractions of the image")
    return points.reshape(-1, 2).clip(0, 1)
