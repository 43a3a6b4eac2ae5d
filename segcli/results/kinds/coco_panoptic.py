"""`--save coco-panoptic`: COCO's panoptic format, one JSON file for all photos and a PNG for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.files.writing import write_file
from segcli.results.kinds.kind import Answer, SaveKind, SaveRun
from segcli.results.ledger import CocoPanoptic

if TYPE_CHECKING:
    from segcli.results.plan import Photo
    from segcli.segments import Segments

_KEYS = ("id", "category_id", "area", "bbox", "score", "isthing")


class CocoPanopticFiles(SaveKind):
    """panoptic.json, and the id maps in the folder panoptic/ beside it."""

    name = "coco-panoptic"
    about = "COCO panoptic JSON and PNGs"
    tasks = ("panoptic",)
    files = ("panoptic.json",)

    @classmethod
    def target(cls, out: Path, photo: Photo) -> Path:
        return out / "panoptic" / photo.stem.parent / f"{photo.stem.name}.png"

    def __init__(self, run: SaveRun) -> None:
        super().__init__(run)
        self._index = CocoPanoptic(run.file(self.files[0]), run.labels, **run.ledger_options())
        self.ledgers = (self._index,)

    def write(self, answer: Answer, path: Path | None) -> None:
        from segcli.codecs.panoptic_png import encode_panoptic_png

        assert path is not None
        write_file(path, encode_panoptic_png(answer.segments.ids()))
        if answer.photo.image_id not in self._index.done:
            self._index.add(*_entries(answer.photo, answer.segments, path.relative_to(self.run.out / "panoptic")))


def _entries(photo: Photo, segments: Segments, png: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image and the annotation of one photo in COCO's panoptic format."""
    from segcli.results.record import segment_records

    infos = [{key: record[key] for key in _KEYS} | {"iscrowd": 0} for record in segment_records(segments)]
    height, width = segments.size
    return (
        {"id": photo.image_id, "file_name": photo.file_name, "height": height, "width": width},
        {"image_id": photo.image_id, "file_name": png.as_posix(), "segments_info": infos},
    )
