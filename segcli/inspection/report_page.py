"""The page of `segcli viz report`: photos and masks, reduced to a size that can be shared, with tables and curves.

Every mask is COCO's run-length form on the grid of the photo as the page shows it. The masks of an image are one
compressed block (6 KB for ten segments on 512×512 pixels: as small as its id map in PNG), which holds overlapping
instances and maps alike.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segcli.class_names import is_background
from segcli.codecs.image import read_image, resize
from segcli.codecs.signature import SIGNATURE
from segcli.errors import InputError, OutputError, SegcliError
from segcli.files.writing import write_file, write_folder
from segcli.inspection.gallery import Gallery, GalleryItem
from segcli.render.colours import class_colours, segment_colours
from segcli.render.error_map import KIND_COLOURS, KIND_OPACITY, KINDS
from segcli.render.page import block, render_page
from segcli.segments import Segments
from segcli.types import LabelSet, Task

MOST_IN_A_FILE = 200
"""Images in a single-file page; a page with more has a folder beside it."""

_FILE_BYTES = 38_000_000  # of 40 MB; the rest is for the index, scripts and tables
_PICTURE_BYTES = 10_000_000  # of those, at most, for pictures that are shown as they are
_SIDES = (1280, 1024, 800, 640, 512, 400, 320, 240, 160)  # pixels of a photo's long side; the first that fits
_SMALL = 360  # and of the photos on cards, where a folder holds both
_QUALITY = 82
_OURS = re.compile(r"\d{5}\.(jpg|small\.jpg|css)|picture-\d+\.(png|jpg)")


@dataclass(frozen=True)
class ReportTable:
    """Values by row; None where there is none. columns: names; percent: those whose values 0…1 are shown times 100."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    percent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Report:
    """What a page is made from.

    subtitle: what else is said at its head than the number of images and the task. gallery: images with their segments;
    None for a page without. values: an image's metric, 0…1, by its name.
    curves: as tables.js draws them. pictures: (caption, file), shown as they are. facts: name and value.
    """

    title: str
    subtitle: str
    gallery: Gallery | None = None
    metric: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    tables: Sequence[ReportTable] = ()
    curves: Sequence[dict[str, Any]] = ()
    pictures: Sequence[tuple[str, Path]] = ()
    facts: Sequence[tuple[str, str]] = ()
    task: Task | None = None  # None: that of the segments; boxes are shown as the masks of their pixels


@dataclass(frozen=True)
class _PackedImage:
    """An image, ready to be written: its line of the index, the photo as JPEG, its masks in base64."""

    index: dict[str, Any]
    photo: bytes
    small: bytes
    masks: str
    task: Task | None = None


def folder_of(page: Path) -> Path:
    """Where a page's images go if they are many."""
    return page.with_name(f"{page.stem}_files")


def write_report(report: Report, page: Path, *, problem: Callable[[str], None], advance: Callable[[int], None]) -> None:
    """Write the page, and its folder if there are more than `MOST_IN_A_FILE` images; an older page's folder goes.

    problem: told of each image that cannot be shown; the page lists it. advance: called after every image.
    Raises OutputError if the page cannot be written, or a folder is in its place that is not a report's; InputError if
    not one image can be shown, and nothing else either.
    """
    items = list(report.gallery.items) if report.gallery else []
    pictures = list(_pictures(report.pictures))
    index: list[dict[str, Any]] = []
    tasks: list[Task | None] = []
    blocks: list[str] = []
    many = len(items) > MOST_IN_A_FILE

    def packed() -> Iterator[_PackedImage]:
        spent = sum(len(data) for _, _, data in pictures)
        budget = math.inf if many else 3 / 4 * (_FILE_BYTES - spent) / max(len(items), 1)  # base64 takes 4/3
        for item in items:
            image = _pack(item, report, budget, small=many, problem=problem)
            index.append(image.index)
            tasks.append(image.task)
            yield image
            advance(1)

    folder = folder_of(page)
    if many:
        _check_ours(folder)
        write_folder(folder, _files(packed(), pictures))
    else:
        blocks += [block(f"image-{number}", [_data_url(image.photo, "jpg"), image.masks])
                   for number, image in enumerate(packed())]  # fmt: skip
        blocks += [block(f"picture-{n}", _data_url(data, suffix)) for n, (_, suffix, data) in enumerate(pictures)]
    task = report.task or next((task for task in tasks if task is not None), None)
    head = _head(report, index, task, pictures, folder.name if many else None)
    if items and not (report.tables or report.curves or pictures) and all("problem" in image for image in index):
        if many:
            shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"none of the {len(items)} images can be shown, so no page is written")
    write_file(page, render_page(report.title, head, blocks, folder=many))
    if not many and _is_ours(folder):  # of the page that was here before
        shutil.rmtree(folder, ignore_errors=True)


def _files(images: Iterator[_PackedImage], pictures: Sequence[tuple[str, str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for number, image in enumerate(images):
        if image.photo:
            yield f"{number:05d}.jpg", image.photo
            yield f"{number:05d}.small.jpg", image.small
        yield f"{number:05d}.css", f'#masks-{number}{{--masks:"{image.masks}"}}\n'.encode()
    for number, (_, suffix, data) in enumerate(pictures):
        yield f"picture-{number}.{suffix}", data


def _check_ours(folder: Path) -> None:
    """Raise OutputError if a folder is to be replaced that holds anything but a report's images."""
    if not folder.exists():
        return
    strange = None if not folder.is_dir() else next((f for f in folder.iterdir() if not _OURS.fullmatch(f.name)), None)
    if not folder.is_dir() or strange:
        raise OutputError(f"{strange or folder}: is where the page's images would go; choose another --out")


def _is_ours(folder: Path) -> bool:
    """Whether a folder that is there holds a report's images, at least one, and nothing else."""
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return bool(names) and all(map(_OURS.fullmatch, names))


def _head(
    report: Report,
    index: list[dict[str, Any]],
    task: Task | None,
    pictures: Sequence[tuple[str, str, bytes]],
    folder: str | None,
) -> dict[str, Any]:
    gallery = report.gallery
    labels = gallery.labels if gallery else LabelSet(())
    return {
        "title": report.title,
        "subtitle": report.subtitle,
        "folder": folder,
        "task": task,
        "scored": bool(gallery and gallery.scored),
        "truth": bool(gallery and gallery.view == "compare"),
        "threshold": gallery.threshold if gallery else 0,
        "metric": report.metric,
        "classes": [
            {"name": label.name, "colour": colour, "thing": label.isthing}
            | ({"background": True} if is_background(label.name) else {})
            for label, colour in zip(labels, _hex(class_colours(labels)), strict=True)
        ],
        "kinds": [
            {"name": name, "colour": colour, "opacity": opacity}
            for name, colour, opacity in zip(KINDS, _hex(KIND_COLOURS), _shares(KIND_OPACITY), strict=True)
        ],
        "images": index,
        "tables": [_table(table) for table in report.tables],
        "curves": list(report.curves),
        "pictures": [{"caption": caption, "suffix": suffix} for caption, suffix, _ in pictures],
        "facts": [list(fact) for fact in report.facts],
    }


def _table(table: ReportTable) -> dict[str, Any]:
    numeric = [all(isinstance(row[n], int | float | None) for row in table.rows) for n in range(len(table.columns))]
    columns = [
        {
            "name": f"{name} (%)" if name in table.percent else name,
            "numeric": is_number,
            "percent": name in table.percent,
        }
        for name, is_number in zip(table.columns, numeric, strict=True)
    ]
    return {"title": table.title, "columns": columns, "rows": table.rows}


# -------------------------------------------------------------------------------------------------------------- images


def _pack(
    item: GalleryItem, report: Report, budget: float, *, small: bool, problem: Callable[[str], None]
) -> _PackedImage:
    """One image within so many bytes (photo and masks); one that cannot be read becomes a line that says why."""
    try:
        shown = item.read()
    except SegcliError as error:
        problem(str(error))
        nothing = zlib.compress(b'{"size":[1,1],"prediction":null,"truth":null}')
        index = {"name": item.name, "width": 4, "height": 3, "problem": str(error)}
        return _PackedImage(index, b"", b"", base64.b64encode(nothing).decode())
    sides = {"prediction": shown.segments} | ({"truth": shown.truth} if shown.truth is not None else {})
    height, width = shown.image.shape[:2]
    index = {"name": item.name, "width": width, "height": height, "value": report.values.get(item.name)}
    records = {name: _index(segments) for name, segments in sides.items()}
    photo, masks = _fitting(shown.image, sides, records, budget)
    thumbnail = _jpeg(_within(shown.image, _SMALL)) if small else b""
    return _PackedImage(index | records, photo, thumbnail, masks, shown.segments.task)


def _index(segments: Segments) -> dict[str, Any]:
    """What filters, sorting and tables need to know of segments; areas are pixels of the original."""
    scores = [None if math.isnan(score) else round(score, 4) for score in segments.scores.tolist()]
    return {
        "labels": segments.labels.tolist(),
        "scores": scores if any(score is not None for score in scores) else None,
        "areas": segments.areas().tolist(),
    }


def _fitting(
    image: np.ndarray, sides: dict[str, Segments], records: dict[str, dict[str, Any]], budget: float
) -> tuple[bytes, str]:
    """(photo, masks in base64), as large as the budget allows, at most `_SIDES[0]` pixels a side."""
    largest = min(max(image.shape[:2]), _SIDES[0])
    for side in (largest, *(side for side in _SIDES if side < largest)):
        image = _within(image, side)
        size = (int(image.shape[0]), int(image.shape[1]))
        photo, masks = _jpeg(image), _masks({name: own.sampled(size) for name, own in sides.items()}, records)
        if len(photo) + len(masks) * 3 / 4 <= budget:
            break
    return photo, masks


def _within(image: np.ndarray, side: int) -> np.ndarray:
    """A picture shrunk so that neither side has more pixels."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    return resize(image, (max(1, round(scale * image.shape[0])), max(1, round(scale * image.shape[1]))))


def _masks(segments: dict[str, Segments], records: dict[str, dict[str, Any]]) -> str:
    sides = {}
    for name, own in segments.items():
        runs = [rle.to_coco()["counts"] for rle in own.to_rles()]
        sides[name] = records[name] | {"colours": _hex(segment_colours(own)), "masks": runs}
    size = next(iter(segments.values())).size
    record = {"size": [int(side) for side in size], "prediction": None, "truth": None} | sides
    return base64.b64encode(zlib.compress(json.dumps(record, separators=(",", ":")).encode(), 9)).decode()


def _pictures(files: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, str, bytes]]:
    """(caption, suffix, content): a small file as it is, a large one as JPEG."""
    share = _PICTURE_BYTES / max(len(files), 1)
    for caption, file in files:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
        if file.suffix == ".png" and len(data) <= share / 2:
            yield caption, "png", data
            continue
        image = read_image(data, name=str(file))
        for side in _SIDES:
            data = _jpeg(_within(image, side))
            if len(data) <= share:
                break
        yield caption, "jpg", data


def _jpeg(image: np.ndarray) -> bytes:
    """A third of what `codecs.jpeg` writes for looking at closely: a page holds hundreds."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, comment=SIGNATURE)
    return buffer.getvalue()


def _data_url(data: bytes, suffix: str) -> str:
    kind = "jpeg" if suffix == "jpg" else suffix
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else ""


def _hex(colours: np.ndarray) -> list[str]:
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colours.tolist()]


def _shares(opacity: np.ndarray) -> list[float]:
    """Of the strongest: the page's slider sets how strong that is."""
    return [round(share, 3) for share in (opacity / opacity.max()).tolist()]
