"""Supervisely, Darwin (V7), VoTT, and a mask an object; `written/` holds what the tools themselves wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.data.checking.check import check
from segcli.data.detect import detect
from segcli.errors import UsageError
from tests.data.formats.test_other_tools import counted, photo, save

WRITTEN = Path(__file__).parent / "written"
SQUARE = [[2, 2], [12, 2], [12, 12], [2, 12]]


def unpack(tool: str, root: Path) -> Path:
    """A project as a tool wrote it, with three photos."""
    for name, raw in json.loads((WRITTEN / f"{tool}.json").read_text())["files"].items():
        write(root / name, raw)
    return root


def write(file: Path, raw: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(raw))


def sizes(root: Path, **how: Any) -> dict[str, int]:
    return {split: len(records) for split, records in detect(root, training=False, **how).splits.items()}


def supervisely(root: Path) -> Path:
    for number in range(3):
        save(root / f"ds0/img/p{number}.png", photo(number))
    return unpack("supervisely", root)


def darwin(root: Path) -> Path:
    for number in range(3):
        save(root / "images" / ("valid" if number == 2 else "") / f"p{number}.png", photo(number))
    return unpack("darwin", root)


def test_supervisely(tmp_path: Path) -> None:
    """Polygons with holes and bitmaps have the pixels that Supervisely's own code draws; rectangles are no outlines,
    and lines nothing; a tag says the split of an image."""
    info = detect(supervisely(tmp_path), training=False)
    areas = json.loads((WRITTEN / "supervisely.json").read_text())["areas"]
    assert (info.format, info.labels.names) == ("supervisely", ["box", "disc", "frame"])
    assert {split: len(records) for split, records in info.splits.items()} == {"all": 2, "val": 1}
    assert counted(info) == {"box": [areas["box"]] * 2, "disc": [areas["disc"]] * 3}
    assert [(finding.kind, finding.amount) for finding in info.faults] == [("no-mask", 3)]


def test_supervisely_of_another_export(tmp_path: Path) -> None:
    """Corners between pixels, several parts, x.json beside x.png, a broken file and a broken figure."""
    supervisely(tmp_path)
    (tmp_path / "meta.json").unlink()
    part = {"exterior": [[2.5, 2.5], [6.5, 2.5], [6.5, 6.5], [2.5, 6.5]], "interior": []}
    figures = [
        {"classTitle": "box", "geometryType": "polygon", "points": part},
        {"classTitle": "box", "geometryType": "multipolygon", "parts": [part, {"exterior": [*SQUARE[:2], [12, 4]]}]},
        {"classTitle": "disc", "geometryType": "bitmap", "bitmap": {"data": "AAAA", "origin": [0, 0]}},
    ]
    size = {"height": 20, "width": 30}
    (tmp_path / "ds0/ann/p0.png.json").unlink()
    write(tmp_path / "ds0/ann/p0.json", {"size": size, "tags": [], "objects": figures})
    (tmp_path / "ds0/ann/p1.png.json").write_text("{")
    info = detect(tmp_path, training=False)
    assert sum(map(len, info.splits.values())) == 2
    assert counted(info)["box"] == [16, 30, 105]
    report = check(info, threads=1)
    messages = " ".join(finding.message for finding in report.of_kind("bad-row"))
    assert all(words in messages for words in ("a bitmap that cannot be read", "p1.png.json: not valid JSON"))


def test_darwin(tmp_path: Path) -> None:
    """Polygons, one with a hole, two masks of a layer; boxes are no outlines; the folder in V7 says the split."""
    info = detect(darwin(tmp_path), training=False)
    assert (info.format, info.labels.names) == ("darwin", ["box", "disc", "frame"])
    assert {split: len(records) for split, records in info.splits.items()} == {"all": 2, "val": 1}
    assert counted(info) == {"box": [91, 91, 100], "disc": [3, 8]}
    assert [(finding.kind, finding.amount) for finding in info.faults] == [("no-mask", 3)]


def test_darwin_of_version_1(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photo(0))
    points = [{"x": x, "y": y} for x, y in SQUARE]
    hole = [{"x": x, "y": y} for x, y in ((5, 5), (8, 5), (8, 8), (5, 8))]
    image = {"width": 30, "height": 20, "original_filename": "a.png", "filename": "a.png", "path": "/"}
    rows = [
        {"name": "box", "polygon": {"path": points}},
        {"name": "box", "complex_polygon": {"path": [points, hole]}},
        {"name": "disc", "ellipse": {"center": {"x": 15, "y": 10}, "radius": {"x": 5, "y": 4}, "angle": 0}},
        {"name": "disc", "polygon": {"path": points[:2]}},
    ]
    write(tmp_path / "a.json", {"dataset": "d", "image": image, "annotations": rows})
    write(tmp_path / "b.json", {"dataset": "d", "image": {**image, "original_filename": None}, "annotations": 3})
    info = detect(tmp_path, training=False)
    assert counted(info)["box"] == [91, 100]
    assert abs(counted(info)["disc"][0] - np.pi * 20) < 4
    assert len(check(info, threads=1).of_kind("bad-row")) == 2


def vott_asset(number: int, regions: list[dict[str, Any]]) -> dict[str, Any]:
    asset = {"format": "png", "id": f"{number:032x}", "name": f"p{number}.png", "type": 1, "state": 2}
    asset |= {"path": f"file:C:/Users/me/photos/p{number}.png", "size": {"width": 30, "height": 20}}
    return {"asset": asset, "regions": regions, "version": "2.1.0"}


def vott_regions() -> list[dict[str, Any]]:
    box = {"left": 2, "top": 2, "width": 10, "height": 10}
    polygon = {"id": "a", "type": "POLYGON", "tags": ["box"], "boundingBox": box}
    return [
        polygon | {"points": [{"x": x, "y": y} for x, y in SQUARE]},
        {"id": "b", "type": "RECTANGLE", "tags": ["disc"], "boundingBox": box, "points": []},
    ]


def vott(root: Path) -> Path:
    """Its JSON export: photos and one file side by side."""
    for number in range(3):
        save(root / f"vott-json-export/p{number}.png", photo(number))
    entries = [vott_asset(number, vott_regions()) for number in range(3)]
    raw = {"name": "d", "version": "2.1.0", "tags": [{"name": "box", "color": "#5db300"}]}
    write(root / "vott-json-export/d-export.json", raw | {"assets": {row["asset"]["id"]: row for row in entries}})
    return root


def test_vott(tmp_path: Path) -> None:
    info = detect(vott(tmp_path / "export"), training=False)
    assert info.format == "vott"
    assert counted(info) == {"box": [100] * 3}
    assert [(finding.kind, finding.amount) for finding in info.faults] == [("no-mask", 3)]
    project = tmp_path / "project"
    for number in range(2):
        save(project / f"p{number}.png", photo(number))
        write(project / f"{number:032x}-asset.json", vott_asset(number, [*vott_regions()[:1], {"type": "POLYGON"}]))
    info = detect(project, training=False)
    assert counted(info) == {"box": [100] * 2}
    assert [(finding.kind, finding.amount) for finding in info.faults] == [("bad-row", 2)]


def test_boxes_alone_serve_detection(tmp_path: Path) -> None:
    """Of every tool that draws both."""
    for number in range(3):
        save(tmp_path / f"p{number}.png", photo(number))
    entries = [vott_asset(number, vott_regions()[1:]) for number in range(3)]
    write(tmp_path / "export.json", {"tags": [], "assets": {row["asset"]["id"]: row for row in entries}})
    info = detect(tmp_path, training=False)
    assert (info.task, info.tasks, info.faults) == ("detect", ("detect",), ())
    assert counted(info) == {"disc": [100] * 3}
    with pytest.raises(UsageError, match="possible here: detect"):
        detect(tmp_path, task="instance")


def object_masks(root: Path) -> Path:
    """The original layout of the Data Science Bowl 2018; the first two objects overlap."""
    for number in range(3):
        home = root / "stage1_train" / f"{number:08x}"
        save(home / f"images/{home.name}.png", photo(number))
        for place in range(number + 2):
            mask = np.zeros((20, 30), np.uint8)
            mask[2:6, 2 + 3 * place : 6 + 3 * place] = 255
            save(home / f"masks/{place:04x}.png", mask)
    save(root / "stage1_test/0a/images/0a.png", photo(7))
    return root


def test_a_mask_an_object(tmp_path: Path) -> None:
    """Overlapping masks stay whole; a damaged one costs itself; masks/ID/ beside images/ is the same."""
    info = detect(object_masks(tmp_path / "a"), training=False)
    assert (info.format, sizes(tmp_path / "a")) == ("object-masks", {"train": 3})
    assert counted(info) == {"object": [16] * 9}
    (tmp_path / "a/stage1_train/00000001/masks/0001.png").write_bytes(b"none")
    assert [finding.amount for finding in check(info, threads=1).of_kind("bad-row")] == [1]
    assert detect(tmp_path / "a/stage1_train", training=False).format == "object-masks"
    for number in range(3):
        home = tmp_path / "a/stage1_train" / f"{number:08x}"
        (tmp_path / "b/images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "b/masks").mkdir(exist_ok=True)
        (home / f"images/{home.name}.png").rename(tmp_path / f"b/images/{home.name}.png")
        (home / "masks").rename(tmp_path / f"b/masks/{home.name}")
    save(tmp_path / "b/images/unlabelled.png", photo(9))
    info = detect(tmp_path / "b", training=False)
    assert counted(info) == {"object": [16] * 8}
    assert [(fault.kind, fault.amount) for fault in info.faults] == [("unannotated", 1)]
