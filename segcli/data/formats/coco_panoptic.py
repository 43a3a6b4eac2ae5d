"""COCO panoptic: a JSON file that lists segments, and one PNG an image whose colours are the segments' ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.image_places import with_slashes
from segcli.codecs.panoptic_png import read_panoptic_png
from segcli.data.coco.files import annotation_files, image_files, merged_categories, records, truth_folder
from segcli.data.coco.packing import whole_number
from segcli.data.coco.packs import Pack, facts_of, pack, read_piece, stated
from segcli.data.records import Fault, Found, Record, Stated, as_ranges
from segcli.data.settings import FILE_NAME, Settings
from segcli.data.truth import MapTruth
from segcli.errors import InputError, UsageError
from segcli.types import Label

FORMAT = "coco-panoptic"
SOUGHT = "COCO JSON"
WRITTEN_AS = "coco-panoptic"
PLACES: tuple[str, ...] = ("images", "labels", "annotations")
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False


def probe(root: Path, settings: Settings) -> str | None:
    """The annotation files, in a few words; None if there are none."""
    files = annotation_files(root, settings, "panoptic")
    return ", ".join(file.name for file in files.values()) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for broken annotations, and for classes that do not say thing or stuff."""
    files = annotation_files(root, settings, "panoptic")
    packs = {split: pack(file, "panoptic", _piece) for split, file in files.items()}
    splits: dict[str, list[Record]] = {}
    folders: list[Path] = []
    faults: list[Fault] = []
    for number, (split, packed) in enumerate(packs.items()):
        annotated = [image for image in packed.images if image.has_annotations]
        if len(annotated) < len(packed.images):
            count = len(packed.images) - len(annotated)
            message = f"{packed.source.name}: {count} images without an annotation are left out"
            faults.append(Fault("unannotated", message, count))
        photos = image_files(root, settings, split, packed.source, [image.file_name for image in annotated])
        splits[split] = records(packed, number, photos, annotated)
        few = annotated[:: len(annotated) // 20 or 1]
        names = [read_piece(packed.data, *image.place)[1][0]["file_name"] for image in few]
        folders.append(truth_folder(root, settings, split, packed.source, names))
    labels = settings.label_set(
        [_label(row, packs, settings) for row in merged_categories(packs)], next(iter(files.values()))
    )
    return Found(
        FORMAT,
        f"COCO panoptic: {probe(root, settings)}",
        splits,
        labels,
        ("panoptic", "semantic", "instance"),
        PanopticReader(tuple(packed.data for packed in packs.values()), tuple(folders)),
        faults=tuple(faults),
    )


def _piece(annotation: dict[str, Any]) -> dict[str, Any]:
    segments = [
        {"id": whole_number(row, "id"), "category_id": whole_number(row, "category_id")}
        | {"iscrowd": int(row.get("iscrowd", 0))}
        | facts_of(row)
        for row in annotation["segments_info"]
    ]
    return {"file_name": with_slashes(str(annotation["file_name"])), "segments": segments}


def _label(row: dict[str, Any], packs: dict[str, Pack], settings: Settings) -> Label:
    if "isthing" not in row and not settings.knows_kind(row["name"]):
        file = next(iter(packs.values())).source
        raise UsageError(
            f'{file}: category {row["name"]!r} does not say whether it is a thing ("isthing" is missing); '
            f'list the countable classes in {FILE_NAME}: things = ["…"]'
        )
    color = row.get("color")
    color = (int(color[0]), int(color[1]), int(color[2])) if isinstance(color, list) and len(color) == 3 else None
    return Label(row["id"], row["name"], bool(row.get("isthing", False)), color)


@dataclass(frozen=True)
class PanopticReader:
    """Reads a segment list from a pack and the id map beside it. One pack and one folder of PNGs a split."""

    packs: tuple[Path, ...]
    folders: tuple[Path, ...]

    def _annotation(self, record: Record) -> tuple[Path, list[dict[str, Any]]]:
        assert isinstance(record.truth, tuple)
        number, offset, length = record.truth
        annotation = read_piece(self.packs[number], offset, length)[1][0]
        return self.folders[number] / annotation["file_name"], annotation["segments"]

    def files(self, record: Record) -> list[Path]:
        """The id map."""
        return [self._annotation(record)[0]]

    def stated(self, record: Record) -> list[Stated]:
        """What the file says of each segment, in the order of `read`."""
        return [stated(f"segment {row['id']}", row) for row in self._annotation(record)[1]]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """The segments; pixels of id 0 are void."""
        file, segments = self._annotation(record)
        if not file.is_file():
            raise InputError(f"{file}: no such file (id map of {record.image.name})")
        ids = read_panoptic_png(file)
        if ids.shape != size:
            raise InputError(
                f"{file}: {ids.shape[1]}×{ids.shape[0]} pixels, its image {size[1]}×{size[0]}; they must be equal"
            )
        numbers = np.array([segment["id"] for segment in segments], dtype=np.int64)
        return MapTruth(
            _numbered(ids, numbers, file),
            np.array([segment["category_id"] for segment in segments], dtype=np.int64),
            np.array([segment["iscrowd"] for segment in segments], dtype=bool),
        )


def _numbered(ids: np.ndarray, numbers: np.ndarray, file: Path) -> np.ndarray:
    """Segment ids -> positions in `numbers` plus 1, int16; id 0 -> -1 (void). Other ids are an error."""
    top = int(numbers.max(initial=0))
    unknown, void = -2, -1
    # Ids may be any 24-bit colour: zeros() of that length costs nothing until touched, unlike sorting the pixels.
    table = np.zeros(top + 2, dtype=np.int16)  # stored shifted by -unknown, so that untouched entries mean unknown
    table[0] = void - unknown
    table[numbers] = np.arange(1, len(numbers) + 1) - unknown
    table[top + 1] = 0
    if top < 0xFFFFFF:
        ids = np.minimum(ids, top + 1)
    positions = table[ids]
    if not positions.all():
        strange = np.unique(read_panoptic_png(file)[positions == 0])
        shown = ", ".join(str(value) for value in strange[:5])
        raise UsageError(
            f"{file}: holds segment id {shown}, which its annotation does not list "
            f"(listed: {as_ranges(numbers.tolist())}); "
            "the PNG and the JSON are not of one export"
        )
    positions += np.int16(unknown)
    return positions
