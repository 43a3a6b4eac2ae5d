"""Every kind of `--save`, one image at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np

from segcli.codecs.jpeg import LONGEST_SIDE, encode_jpeg
from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.codecs.png import encode_png
from segcli.errors import OutputError, UsageError
from segcli.results.files import write_file, write_folder
from segcli.results.ledger import CocoPanoptic, CocoResults
from segcli.results.plan import Photo
from segcli.results.record import image_record, record_text, segment_records
from segcli.segments import Segments
from segcli.types import LabelSet, Task

SaveKind = Literal["overlay", "png", "json", "coco", "coco-panoptic", "cutout", "masks"]
SAVE_KINDS: tuple[SaveKind, ...] = get_args(SaveKind)

# The record is written last: where it is, everything else is.
_SUFFIXES: dict[SaveKind, str] = {
    "cutout": ".cutouts",
    "masks": ".masks",
    "png": ".png",
    "overlay": ".overlay.jpg",
    "json": ".json",
}
_LEDGERS: dict[SaveKind, str] = {"coco": "predictions.json", "coco-panoptic": "panoptic.json"}
_NONE_8, _NONE_16 = 255, 65_535  # semantic maps: no class


def photo_targets(out: Path, kinds: Collection[SaveKind], photo: Photo) -> dict[SaveKind, Path]:
    """The files and folders below `out` that belong to one photo alone."""
    beside = out / photo.stem.parent
    targets = {kind: beside / f"{photo.stem.name}{suffix}" for kind, suffix in _SUFFIXES.items() if kind in kinds}
    if "coco-panoptic" in kinds:
        targets["coco-panoptic"] = out / "panoptic" / photo.stem.parent / f"{photo.stem.name}.png"
    return targets


def run_targets(out: Path, kinds: Collection[SaveKind]) -> dict[SaveKind, Path]:
    """The files below `out` that cover all photos of a run."""
    return {kind: out / name for kind, name in _LEDGERS.items() if kind in kinds}


def refuse_collisions(out: Path, kinds: Collection[SaveKind], photos: Sequence[Photo]) -> None:
    """Raise UsageError if a result would replace an input, or two photos would be written to one place."""
    inputs = {os.path.normcase(os.path.abspath(photo.path)) for photo in photos}
    seen: dict[str, Photo] = {}
    for photo in photos:
        for path in photo_targets(out, kinds, photo).values():
            place = os.path.normcase(os.path.abspath(path))
            if place in inputs:
                raise UsageError(f"{path}: a result would replace this input; choose another --out")
            if seen.setdefault(place, photo) is not photo:
                other = seen[place].path
                raise UsageError(f"{path}: {other} and {photo.path} would both be written here; run them apart")


class Writer:
    """Writes what was asked for below one folder, keeping the source tree.

    Args:
        out: the folder; made when first needed.
        kinds: what to write.
        photos: every photo of the run, as planned together.
        task, labels: what the segments to come answer, and their classes.
        run: what every record says of the run: {"model": …, "input": …, "rule": …}.
        draw: photo and segments -> the overlay picture; needed for "overlay".
        overwrite: replace results that are there.
        skip_existing: keep them, and write what is missing.

    Raises:
        UsageError: a kind that the task has no answer for, or results that would replace an input.
        OutputError: a file for all images is there already, and neither overwrite nor skip_existing is set.
    """

    def __init__(
        self,
        out: Path,
        kinds: Collection[SaveKind],
        photos: Sequence[Photo],
        *,
        task: Task,
        labels: LabelSet,
        run: Mapping[str, Any],
        draw: Callable[[np.ndarray, Segments], np.ndarray] | None = None,
        overwrite: bool = False,
        skip_existing: bool = False,
    ) -> None:
        if "coco-panoptic" in kinds and task != "panoptic":
            raise UsageError(f"--save coco-panoptic needs --task panoptic, not {task}")
        if "coco" in kinds and task == "semantic":
            raise UsageError("--save coco needs scores, which --task semantic does not have; use --save png")
        if "overlay" in kinds and draw is None:
            raise ValueError("overlays need a function that draws them")
        self.needs_image = "overlay" in kinds or "cutout" in kinds
        self._out, self._kinds, self.run, self._draw = out, frozenset(kinds), run, draw
        self._overwrite, self._skip = overwrite, skip_existing
        # A data set's maps have one depth, whatever classes a photo shows.
        self._semantic_dtype: type = np.uint8 if max(labels.ids, default=0) < _NONE_8 else np.uint16
        refuse_collisions(out, kinds, photos)
        how = {"overwrite": overwrite, "resume": skip_existing}
        ledgers = run_targets(out, kinds)
        self._coco = CocoResults(ledgers["coco"], **how) if "coco" in ledgers else None
        self._panoptic = CocoPanoptic(ledgers["coco-panoptic"], labels, **how) if "coco-panoptic" in ledgers else None
        for ledger in (self._coco, self._panoptic):
            if ledger:
                ledger.check_ids(photo.image_id for photo in photos)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError:
            if error is None:  # a full disk has already been told
                raise

    # -------------------------------------------------------------------------------------------------- what

    def targets(self, photo: Photo) -> dict[SaveKind, Path]:
        """The files and folders that belong to one photo alone."""
        return photo_targets(self._out, self._kinds, photo)

    def existing(self, photo: Photo) -> list[Path]:
        """Those of a photo's targets that are there already."""
        return [path for path in self.targets(photo).values() if os.path.lexists(path)]

    def is_complete(self, photo: Photo) -> bool:
        """Whether nothing is left to write for a photo."""
        ledgers = [ledger for ledger in (self._coco, self._panoptic) if ledger]
        return all(photo.image_id in ledger.done for ledger in ledgers) and all(
            path.exists() for path in self.targets(photo).values()
        )

    # ------------------------------------------------------------------------------------------------- write

    def write(
        self,
        photo: Photo,
        image: np.ndarray | None,
        segments: Segments,
        *,
        unthresholded: Segments | None = None,
        timings: Mapping[str, float],
    ) -> list[Path]:
        """Write everything for one photo; returns its own files and folders (those for all photos come with `close`).

        Args:
            image: uint8 RGB [H, W, 3]; may be None unless `needs_image`.
            segments: what is shown.
            unthresholded: what `coco` gets instead, so that the evaluator sees the low scores too.
            timings: milliseconds by step, for the record.

        Raises:
            OutputError: results are there (and neither overwrite nor skip_existing is set), or cannot be written.
        """
        existing = self.existing(photo)
        if existing and not (self._overwrite or self._skip):
            raise OutputError(f"{existing[0]}: exists; replace it with --overwrite or keep it with --skip-existing")
        written = []
        targets = self.targets(photo)
        if self._panoptic and photo.image_id not in self._panoptic.done:
            path = targets["coco-panoptic"]
            write_file(path, encode_panoptic_png(_id_map(segments)))
            self._panoptic.add(*_panoptic_entries(photo, segments, path.relative_to(self._out / "panoptic")))
            written.append(path)
        if self._coco and photo.image_id not in self._coco.done:
            self._coco.add(
                photo.image_id, (segments if unthresholded is None else unthresholded).to_coco(photo.image_id)
            )
        for kind in _SUFFIXES:
            if kind not in targets or (targets[kind] in existing and not self._overwrite):
                continue
            path = targets[kind]
            if kind == "masks":
                write_folder(path, _mask_files(segments))
            elif kind == "cutout":
                assert image is not None
                write_folder(path, _cutout_files(image, segments))
            else:
                write_file(path, self._encode(kind, photo, image, segments, timings))
            written.append(path)
        return written

    def close(self) -> list[Path]:
        """Bring the files for all images into their final form; returns them."""
        return [ledger.close() for ledger in (self._coco, self._panoptic) if ledger]

    def _encode(
        self,
        kind: SaveKind,
        photo: Photo,
        image: np.ndarray | None,
        segments: Segments,
        timings: Mapping[str, float],
    ) -> bytes:
        if kind == "json":
            run = {**_place_of(photo.path, self.targets(photo)[kind]), **self.run}
            return record_text(image_record(photo.file_name, segments, run, timings)).encode()
        if kind == "overlay":
            assert image is not None
            assert self._draw is not None
            if max(segments.size) > LONGEST_SIDE:
                raise OutputError(
                    f"{self.targets(photo)[kind]}: JPEG holds at most {LONGEST_SIDE:,} pixels a side, this photo is "
                    f"{segments.size[1]}×{segments.size[0]}; leave overlay out of --save"
                )
            return encode_jpeg(self._draw(image, segments))
        if segments.task == "panoptic":
            return encode_panoptic_png(_id_map(segments))
        if segments.task == "semantic":
            return self._semantic_png(segments)
        return encode_png(_id_map(segments).astype(np.uint16))

    def _semantic_png(self, segments: Segments) -> bytes:
        none = _NONE_8 if self._semantic_dtype is np.uint8 else _NONE_16
        ids: np.ndarray = np.array([none, *segments.category_ids()], dtype=self._semantic_dtype)
        return encode_png(_id_map(segments), lambda rows: np.take(ids, rows))


def _place_of(photo: Path, record: Path) -> dict[str, str]:
    """{"photo": its path from the folder of its record}, by which it is found again when both are moved together;
    nothing for a photo that came on stdin."""
    if not os.path.isfile(photo):
        return {}
    try:
        place = Path(os.path.relpath(photo.resolve(), record.parent.resolve()))
    except ValueError:  # another drive
        place = photo.resolve()
    return {"photo": place.as_posix()}


def _id_map(segments: Segments) -> np.ndarray:
    return segments.map if segments.map is not None else segments.id_map()


def _panoptic_entries(photo: Photo, segments: Segments, png: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image and the annotation of one photo in COCO's panoptic format."""
    keys = ("id", "category_id", "area", "bbox", "score", "isthing")
    infos = [{key: record[key] for key in keys} | {"iscrowd": 0} for record in segment_records(segments)]
    height, width = segments.size
    return (
        {"id": photo.image_id, "file_name": photo.file_name, "height": height, "width": width},
        {"image_id": photo.image_id, "file_name": png.as_posix(), "segments_info": infos},
    )


def _mask_files(segments: Segments) -> Iterator[tuple[str, bytes]]:
    for index in range(len(segments)):
        yield _segment_name(segments, index), encode_png(segments.mask(index))


def _cutout_files(image: np.ndarray, segments: Segments) -> Iterator[tuple[str, bytes]]:
    """Each segment inside its box; what is transparent is black too, so that nothing of the rest is passed on."""
    for index in range(len(segments)):
        x, y, mask = segments.crop(index)
        if not mask.size:
            continue
        cut = np.zeros((*mask.shape, 4), dtype=np.uint8)
        cut[..., 3] = mask * np.uint8(255)
        np.copyto(cut[..., :3], image[y : y + mask.shape[0], x : x + mask.shape[1]], where=mask[..., None])
        yield _segment_name(segments, index), encode_png(cut)


def _segment_name(segments: Segments, index: int) -> str:
    """ "007-traffic-light.png": the segment's id, and its class in characters every file system takes."""
    name = segments.label_set[int(segments.labels[index])].name
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return "-".join([f"{index + 1:03d}", *words])[:60] + ".png"
