"""What COCO files say beside the objects: licences, sources, dates. It goes along where COCO is written again."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segcli.data.coco.files import Kind, annotation_files
from segcli.data.formats import coco_instance, coco_panoptic
from segcli.data.numbers import identity, whole
from segcli.data.records import DatasetInfo, Record
from segcli.data.settings import read_settings
from segcli.files.json_stream import elements

_KINDS: dict[str, Kind] = {coco_instance.FORMAT: "instance", coco_panoptic.FORMAT: "panoptic"}
_OF_IMAGES = {"id", "file_name", "height", "width"}
_OF_OBJECTS = {"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "isthing"}
_OF_LISTS = {"image_id", "file_name", "segments_info"}
_OF_CLASSES = {"id", "name", "isthing", "color"}


@dataclass
class Extras:
    """head: "info" and "licenses". classes: other fields of a category, by its id. left: other fields of annotations,
    which are not written, and how often they were there.
    """

    head: dict[str, Any] = field(default_factory=dict)
    classes: dict[int, dict[str, Any]] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    _images: list[dict[str, dict[str, Any]]] = field(default_factory=list)  # by file, as splits may share ids

    def of(self, record: Record) -> dict[str, Any]:
        """The other fields of an image."""
        if not self._images or not isinstance(record.truth, tuple):
            return {}
        return self._images[record.truth[0]].get(record.image_id, {})

    @property
    def notes(self) -> tuple[str, ...]:
        """What gets lost, in words."""
        if not self.left:
            return ()
        fields = ", ".join(f"{name} ({count:,}×)" for name, count in self.left.most_common())
        return (f"lost: fields of annotations beside class, mask, area and box: {fields}",)

    def take(self, file: Path) -> None:
        """Read the next annotation file. Raises InputError if it cannot be read."""
        images: dict[str, dict[str, Any]] = {}
        licenses: list[dict[str, Any]] = []
        for element in elements(file):
            if element.key == "info" and not element.place:
                self.head.setdefault("info", element.value)
            if not isinstance(element.value, dict) or not element.place:
                continue
            with contextlib.suppress(ValueError):  # rows that cannot be used were left out, and counted
                self._take_row(str(element.key), element.value, images, licenses)
        changed = self._add_licenses(licenses)
        for fields in images.values():
            if isinstance(fields.get("license"), int | str) and fields["license"] in changed:
                fields["license"] = changed[fields["license"]]
        self._images.append(images)

    def _take_row(
        self, key: str, row: dict[str, Any], images: dict[str, dict[str, Any]], licenses: list[dict[str, Any]]
    ) -> None:
        if key == "images":
            images[identity(row.get("id"), "id")] = _without(row, _OF_IMAGES)
        elif key == "categories":
            self.classes.setdefault(whole(row.get("id"), "id"), _without(row, _OF_CLASSES))
        elif key == "licenses" and isinstance(row.get("id"), int | str):
            licenses.append(row)
        elif key == "annotations" and isinstance(row.get("segments_info"), list):
            self.left.update({str(name) for name in row} - _OF_LISTS)
            for segment in row["segments_info"]:
                if isinstance(segment, dict):
                    self.left.update(segment.keys() - _OF_OBJECTS)
        elif key == "annotations":
            self.left.update(row.keys() - _OF_OBJECTS)

    def _add_licenses(self, rows: list[Any]) -> dict[Any, int]:
        """-> ids that mean another licence in a file before: old -> new."""
        known = self.head.setdefault("licenses", []) if rows else []
        changed: dict[Any, int] = {}
        for row in rows:
            if row in known:
                continue
            ids = {other["id"] for other in known}
            if row["id"] in ids:
                changed[row["id"]] = max(ids) + 1
                row = row | {"id": changed[row["id"]]}
            known.append(row)
        return changed


def extras_of(info: DatasetInfo) -> Extras:
    """Of all annotation files of a dataset, in the order of its reader; nothing if it is not COCO."""
    extras = Extras()
    if kind := _KINDS.get(info.format):
        settings = read_settings(info.root)
        files = annotation_files(info.root, settings, kind)
        for of_split in (files or annotation_files(info.root, replace(settings, everywhere=True), kind)).values():
            for file in of_split:
                extras.take(file)
    return extras


def _without(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
