"""COCO panoptic: a JSON file that lists segments, and one PNG an image whose colours are the segments' ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segcli.codecs.panoptic_png import read_panoptic_png
from segcli.data.coco.files import (
    annotation_files,
    image_files,
    merged_categories,
    merged_rows,
    named_files,
    records,
    refuse_rivals,
    truth_folder,
)
from segcli.data.coco.packs import Pack, PackedImage, pack, read_piece, stated
from segcli.data.coco.rows import panoptic_piece
from segcli.data.numbers import counted, file_name, flag
from segcli.data.records import Fault, Found, Record, Stated, as_ranges
from segcli.data.settings import FILE_NAME, Settings
from segcli.data.truth import VOID, LeftOut, MapTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_places import confined, led_out
from segcli.types import Label, Task

FORMAT = "coco-panoptic"
SOUGHT = "COCO JSON"
WRITTEN_AS = "coco-panoptic"
PLACES: tuple[str, ...] = ("images", "labels", "annotations")
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")


def probe(root: Path, settings: Settings) -> str | None:
    """The annotation files, in a few words; None if there are none."""
    return named_files(annotation_files(root, settings, "panoptic"), root)


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for broken annotations, and for classes that do not say thing or stuff."""
    files = annotation_files(root, settings, "panoptic")
    packs = [(split, pack(file, "panoptic", piece)) for split, of_split in files.items() for file in of_split]
    refuse_rivals(packs, "panoptic")
    splits: dict[str, list[Record]] = {}
    folders: list[Path] = []
    faults: list[Fault] = []
    notes: list[str] = []
    for number, (split, packed) in enumerate(packs):
        notes += [f"{packed.source.name}: {what}" for what in packed.nameless]
        annotated = annotated_images(packed, faults)
        file_names = [image.file_name for image in annotated]
        photos = image_files(root, settings, split, packed.source, file_names)
        notes += led_out(packed.source.name, root, zip(file_names, photos, strict=True), split)
        before = splits.setdefault(split, [])
        before += records(number, photos, annotated, before)
        few = annotated[:: len(annotated) // 20 or 1]
        named = [(read_piece(packed.data, *image.place)[1][0]["file_name"], image.file_name) for image in few]
        names = [list(of_image) for of_image in zip(*(map_names(*pair) for pair in named), strict=True)]
        folders.append(truth_folder(root, settings, split, packed.source, names))
    every = [packed for _, packed in packs]
    source = every[0].source
    labels = settings.label_set([label_of(row, source, settings) for row in merged_categories(every)], source)
    return Found(
        FORMAT,
        f"COCO panoptic: {probe(root, settings)}",
        splits,
        labels,
        TASKS,
        PanopticReader(tuple(packed.data for packed in every), tuple(folders)),
        notes=tuple(notes),
        faults=tuple(faults),
        rows=merged_rows(every),
    )


def annotated_images(packed: Pack, faults: list[Fault]) -> list[PackedImage]:
    """The images that have an annotation; what is wrong with the others and with rows is added to the faults."""
    faults += packed.faults()
    annotated = [image for image in packed.images if image.has_annotations]
    if count := len(packed.images) - len(annotated):
        images = counted(count, "image without an annotation is", "images without an annotation are")
        message = f"{packed.source.name}: {images} left out"
        faults.append(Fault("unannotated", message, count))
    return annotated


def piece(annotation: dict[str, Any]) -> dict[str, Any]:
    """What a pack keeps of one image's annotation. Raises ValueError for one that cannot be read."""
    name = annotation.get("file_name")
    return {"file_name": None if name is None else confined(file_name(name))} | panoptic_piece(annotation)


def map_names(name: str | None, photo: str) -> tuple[str, str, str, str]:
    """What the id map of a photo may be called: as its annotation says, without the folders of another machine, as a
    PNG (some tools name the photo there), or as its photo is."""
    name = name or photo
    plain = PurePosixPath(name).name
    ids = [PurePosixPath(confined(path)).stem + ".png" for path in (name, photo)]
    return name, plain, ids[0], ids[1]


def label_of(row: dict[str, Any], source: Path, settings: Settings) -> Label:
    """A category of a file as a class. Raises UsageError for one that does not say whether it is a thing."""
    if "isthing" not in row and not settings.knows_kind(row["name"]):
        raise UsageError(
            f'{source}: category {row["name"]!r} does not say whether it is a thing ("isthing" is missing); '
            f'list the countable classes in {FILE_NAME}: things = ["…"]'
        )
    color = row.get("color")
    is_colour = isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)
    try:
        isthing = flag(row.get("isthing"), "isthing")
    except ValueError as error:
        raise UsageError(f"{source}: category {row['name']!r}: {error}") from error
    return Label(row["id"], row["name"], isthing, tuple(color) if color and is_colour else None)


@dataclass(frozen=True)
class PanopticReader:
    """Reads a segment list from a pack and the id map beside it. One pack and one folder of PNGs a split."""

    packs: tuple[Path, ...]
    folders: tuple[Path, ...]

    def _annotation(self, record: Record) -> tuple[Path, dict[str, Any]]:
        assert isinstance(record.truth, tuple)
        number, offset, length = record.truth
        annotation = read_piece(self.packs[number], offset, length)[1][0]
        names = map_names(annotation["file_name"], record.name or record.image.name)
        files = [self.folders[number] / name for name in names if not name.lower().endswith((".jpg", ".jpeg"))]
        return next((file for file in files if file.is_file()), files[0]), annotation

    def files(self, record: Record) -> list[Path]:
        """The id map."""
        return [self._annotation(record)[0]]

    def stated(self, record: Record) -> list[Stated]:
        """What the file says of each segment, in the order of `read`."""
        return [stated(f"segment {row['id']}", row) for row in self._annotation(record)[1]["segments"]]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """The segments; pixels of id 0, and of ids that are not listed, are void."""
        file, annotation = self._annotation(record)
        segments = annotation["segments"]
        if not file.is_file():
            raise InputError(f"{file}: no such file (id map of {record.image.name})")
        ids = read_panoptic_png(file)
        if ids.shape != size:
            raise InputError(
                f"{file}: {ids.shape[1]}×{ids.shape[0]} pixels, its image {size[1]}×{size[0]}; they must be equal"
            )
        numbers = np.array([segment["id"] for segment in segments], dtype=np.int64)
        positions, strange = _numbered(ids, numbers)
        strange = sorted(set(strange) - {number for _, number in annotation["lost"]})
        if len(strange) > len(segments):
            raise UsageError(
                f"{file}: holds segment id {', '.join(map(str, strange[:5]))}, which its annotation does not list "
                f"(listed: {as_ranges(numbers.tolist())}); the PNG and the JSON do not come from the same export"
            )
        return MapTruth(
            positions,
            np.array([segment["category_id"] for segment in segments], dtype=np.int64),
            np.array([segment["iscrowd"] for segment in segments], dtype=bool),
            tuple(LeftOut("a segment id that its annotation does not list", f"{file}: id {n}") for n in strange),
        )


def _numbered(ids: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Segment ids -> (positions in `numbers` plus 1, int16, void for id 0 and ids that are not there; these ids)."""
    top = int(numbers.max(initial=0))
    unknown, void = -2, VOID
    # Ids may be any 24-bit colour: zeros() of that length costs nothing until touched, unlike sorting the pixels.
    table = np.zeros(top + 2, dtype=np.int16)  # stored shifted by -unknown, so that untouched entries mean unknown
    table[0] = void - unknown
    table[numbers] = np.arange(1, len(numbers) + 1) - unknown
    table[top + 1] = 0
    positions = table[np.minimum(ids, top + 1) if top < 0xFFFFFF else ids]
    strange: list[int] = []
    if not positions.all():
        strange = np.unique(ids[positions == 0]).tolist()
        positions[positions == 0] = void - unknown
    positions += np.int16(unknown)
    return positions, strange
