"""CVAT's own XML, for images or for video (1.1): polygons, masks, boxes and ellipses of all images in one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from segcli.codecs.rle import encode
from segcli.data.coco.made import Drawn, drawn_pack, found_of
from segcli.data.layouts.folders import files_in, split_of
from segcli.data.numbers import finite, shown, side, whole
from segcli.data.records import Found
from segcli.data.settings import Settings
from segcli.errors import UsageError, cut

FORMAT = "cvat"
SOUGHT = "CVAT XML (annotations.xml)"
WRITTEN_AS = "cvat"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("semantic-png", "instance-png")
IS_LABEL_MAPS = False
_HEAD = 4096  # bytes in which a file of CVAT says what it is
_PART = 1 << 16  # bytes parsed at a time
_ELLIPSE = np.linspace(0, 2 * np.pi, 64, endpoint=False)
_WITHOUT_AREA = {"polyline", "points", "tag", "skeleton", "cuboid", "attribute"}


def _files(root: Path) -> list[Path]:
    return [file for folder in (root, root / "annotations") for file in files_in(folder, frozenset({".xml"}))[:20]
            if _is_cvat(file)]  # fmt: skip


def _is_cvat(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    lost = file.name == "annotations.xml" and b"<" not in head  # empty or overwritten: `load` says so
    return lost or (b"<annotations" in head and any(own in head for own in (b"<version>1.1", b"<image ", b"<track ")))


def probe(root: Path, settings: Settings) -> str | None:
    """The XML files' names; None if there are none."""
    return ", ".join(file.name for file in _files(root)) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset; the subsets that CVAT tells are its splits. Raises UsageError for broken XML."""
    files = _files(root)
    packs = [drawn_pack(file, FORMAT, _parsed) for file in files]
    of_files = [split_of(file.stem) or "all" for file in files]  # datumaro writes a file a subset

    def split_of_image(number: int, image: str) -> str:
        subset = image.split("|")[0]
        return split_of(subset) or ("all" if subset else of_files[number])

    return found_of(root, settings, FORMAT, f"CVAT XML: {probe(root, settings)}", packs, split_of_image)


class _Elements(ElementTree.TreeBuilder):
    """Hands over every element that is complete. Raises ValueError for a document type: CVAT writes none, and entities
    come with it, which may stand for other files or for gigabytes.
    """

    def __init__(self, take: Callable[[ElementTree.Element], None]) -> None:
        super().__init__()
        self._take = take

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type")

    def end(self, tag: str) -> ElementTree.Element:
        element = super().end(tag)
        self._take(element)
        return element


def _parsed(file: Path) -> Drawn:
    drawn = Drawn()
    size = file.stat().st_size
    frame: tuple[int | None, int | None] = (None, None)  # the size of a video's
    frames: set[str] = set()  # those that are listed

    def take(element: ElementTree.Element) -> None:
        nonlocal frame
        if element.tag == "label" and element.findtext("name"):
            drawn.class_of(str(element.findtext("name")).strip())
        elif element.tag == "original_size":
            frame = (side(element.findtext("height")), side(element.findtext("width")))
        elif element.tag == "image":
            _take_image(element, drawn, size)
            element.clear()
        elif element.tag == "track":
            _take_track(element, drawn, frames, frame, size)
            element.clear()

    parser = ElementTree.XMLParser(target=_Elements(take))
    try:
        with file.open("rb") as stream:
            while part := stream.read(_PART):
                parser.feed(part)
        parser.close()
    # LookupError: an encoding that is none; AssertionError: the builder's, for a file that is cut short
    except (ElementTree.ParseError, ValueError, LookupError, AssertionError, RecursionError) as error:
        raise UsageError(f"{file}: not valid XML of CVAT ({cut(error)}); export it again") from error
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error})") from error
    return drawn


def _take_image(element: ElementTree.Element, drawn: Drawn, file_size: int) -> None:
    number = f"{element.get('subset') or ''}|{element.get('id') or len(drawn.images)}"
    size = (side(element.get("height")), side(element.get("width")))
    row = {"id": number, "file_name": element.get("name"), "height": size[0], "width": size[1]}
    drawn.images.append(row)
    groups: dict[tuple[str, str], dict[str, Any]] = {}  # polygons of a class in one group are one object to CVAT
    for shape in element:
        name = (shape.get("label") or "").strip()
        if shape.tag in _WITHOUT_AREA or not name:
            continue
        try:
            fields, group = _fields(shape, size, drawn, file_size), shape.get("group_id", "0")
            if shape.tag == "polygon" and group not in ("", "0"):
                known = groups.setdefault((name, group), fields)
                if known is not fields:
                    known["segmentation"] += fields["segmentation"]
                    continue
            drawn.add(number, name, **fields)
        except (ValueError, KeyError) as error:
            drawn.add(number, name, unusable=f"a {shape.tag} that cannot be read ({error})")


def _take_track(
    element: ElementTree.Element,
    drawn: Drawn,
    frames: set[str],
    size: tuple[int | None, int | None],
    file_size: int,
) -> None:
    """An object of a video: its shape in each frame that shows it. Frames are exported as frame_000000.PNG and on."""
    name = (element.get("label") or "").strip()
    for shape in element:
        if shape.tag in _WITHOUT_AREA or not name or shape.get("outside") == "1":
            continue
        image = f"|frame {shape.get('frame')}"
        try:
            number = whole(shape.get("frame"), "frame")
            if image not in frames:
                frames.add(image)
                row = {"id": image, "file_name": f"frame_{number:06d}.PNG", "height": size[0], "width": size[1]}
                drawn.images.append(row)
            drawn.add(image, name, **_fields(shape, size, drawn, file_size))
        except (ValueError, KeyError) as error:
            drawn.add(image, name, unusable=f"a {shape.tag} that cannot be read ({error})")


def _fields(
    shape: ElementTree.Element, size: tuple[int | None, int | None], drawn: Drawn, file_size: int
) -> dict[str, Any]:
    """The outline of a shape. Raises ValueError or KeyError for what is missing or no number."""
    if shape.tag == "polygon":
        points = [
            finite(number, "a coordinate") for pair in shape.attrib["points"].split(";") for number in pair.split(",")
        ]
        return {"segmentation": [points]}
    if shape.tag == "box":
        x0, y0, x1, y1 = (finite(shape.attrib[key], key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if finite(shape.get("rotation", 0), "rotation") % 360 == 0:
            return {"bbox": [x0, y0, x1 - x0, y1 - y0]}
        across, down = (
            np.array([x0 - x1, x1 - x0, x1 - x0, x0 - x1]) / 2,
            np.array([y0 - y1, y0 - y1, y1 - y0, y1 - y0]) / 2,
        )
        return {"segmentation": [_turned(shape, ((x0 + x1) / 2, (y0 + y1) / 2), across, down)]}
    if shape.tag == "ellipse":
        x, y, rx, ry = (finite(shape.attrib[key], key) for key in ("cx", "cy", "rx", "ry"))
        return {"segmentation": [_turned(shape, (x, y), rx * np.cos(_ELLIPSE), ry * np.sin(_ELLIPSE))]}
    if shape.tag == "mask":
        drawn.decoding(_box(shape)[2] * _box(shape)[3], file_size)
        return {"segmentation": _mask(shape, size)}
    raise ValueError("a shape that segcli does not know")


def _turned(
    shape: ElementTree.Element, center: tuple[float, float], across: np.ndarray, down: np.ndarray
) -> list[float]:
    """The polygon of points [N] that lie `across` and `down` from a center, turned as the shape says: clockwise."""
    turn = np.deg2rad(finite(shape.get("rotation", 0), "rotation"))
    x = center[0] + across * np.cos(turn) - down * np.sin(turn)
    y = center[1] + across * np.sin(turn) + down * np.cos(turn)
    return np.stack([x, y], axis=1).round(3).ravel().tolist()


def _box(shape: ElementTree.Element) -> tuple[int, int, int, int]:
    """left, top, width and height of a mask. Raises ValueError or KeyError."""
    left, top, width, height = (whole(shape.attrib[key], key) for key in ("left", "top", "width", "height"))
    if min(left, top, width, height) < 0:
        raise ValueError("its box is negative")
    return left, top, width, height


def _mask(shape: ElementTree.Element, size: tuple[int | None, int | None]) -> dict[str, Any]:
    """CVAT's run lengths go along the rows of the mask's box, zeros first."""
    left, top, width, height = _box(shape)
    if size[0] is None or size[1] is None:
        raise ValueError("its image has no stated size")
    if left + width > size[1] or top + height > size[0]:
        raise ValueError("it lies outside of its image")
    counts = [whole(count.strip(), "rle") for count in shape.attrib["rle"].split(",")]
    total = sum(counts)  # of Python's numbers, which have no end to wrap round at
    if min(counts) < 0 or total > width * height:
        raise ValueError(f"run lengths of {width}×{height} pixels have {shown(total)}")
    flat = np.zeros(width * height, dtype=bool)
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    flat[: len(runs)] = runs
    return encode(flat.reshape(height, width), (size[0], size[1]), (left, top)).to_coco()
