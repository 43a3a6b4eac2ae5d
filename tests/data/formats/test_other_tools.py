"""What other tools and hubs write: CVAT, Label Studio, Mapillary Vistas, Hugging Face tables, WebDataset tars."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.brush import encode_brush
from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.data.checking.check import check
from segcli.data.checking.scan import scan
from segcli.data.coco.made import Drawn
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.formats.cvat import _parsed
from segcli.data.records import DatasetInfo
from segcli.errors import UsageError

SIZE = (20, 30)


def photo(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def counted(info: DatasetInfo) -> dict[str, list[int]]:
    """class -> the areas of its objects, over all splits."""
    found: dict[str, list[int]] = {}
    for split in info.splits:
        for sample in open_split(info, split):
            for label, rle in zip(sample.labels.tolist(), sample.rles, strict=True):
                found.setdefault(info.labels[label].name, []).append(rle.area)
    return {name: sorted(areas) for name, areas in found.items()}


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>box</name></label><label><name>disc</name></label></labels></task></meta>
<image id="0" name="a/p0.png" subset="Train" width="30" height="20">
 <polygon label="box" points="2.0,2.0;12.0,2.0;12.0,12.0;2.0,12.0" group_id="0"/>
 <polygon label="box" points="20,2;24,2;24,6;20,6" group_id="3"/>
 <polygon label="box" points="20,10;24,10;24,14;20,14" group_id="3"/>
 <mask label="disc" rle="1, 2, 1, 2" left="5" top="13" width="3" height="2"/>
 <polyline label="box" points="1,1;2,2"/><box label="box" xtl="1" ytl="1" xbr="5" ybr="5"/>
 <polygon label="box" points="1,1;x,2;3,3"/><mask label="disc" rle="9" left="28" top="0" width="3" height="3"/>
</image>
<image id="1" name="p1.png" subset="Validation" width="30" height="20">
 <ellipse label="disc" cx="10" cy="10" rx="5" ry="4"/>
</image>
</annotations>"""


def test_cvat_xml(tmp_path: Path) -> None:
    """Polygons, a group as one object, masks, ellipses; a box, a line and two bad rows are left out and counted."""
    save(tmp_path / "images/p0.png", photo(0))
    save(tmp_path / "images/p1.png", photo(1))
    (tmp_path / "annotations.xml").write_text(CVAT)
    info = detect(tmp_path)
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 1, "val": 1}
    assert counted(info)["box"] == [32, 100]
    assert counted(info)["disc"][0] == 4
    assert abs(counted(info)["disc"][1] - np.pi * 20) < 4
    report = check(info)
    assert [finding.amount for finding in report.of_kind("no-mask")] == [1]
    assert len(report.of_kind("bad-row")) == 2


def test_boxes_may_stand_for_outlines(tmp_path: Path) -> None:
    """`boxes = "rectangles"`, of COCO files and of tools whose files are brought into COCO's form."""
    save(tmp_path / "cvat/images/p0.png", photo(0))
    save(tmp_path / "cvat/images/p1.png", photo(1))
    (tmp_path / "cvat/annotations.xml").write_text(CVAT)
    save(tmp_path / "coco/a.png", photo(0))
    shapes = [{"segmentation": [[1, 1, 5, 1, 5, 3, 1, 3]]}, {"segmentation": [], "bbox": [10, 10, 5, 4]}]
    shapes += [{"segmentation": [[2, 2, 6, 6]], "bbox": [20, 2, 6, 6]}, {"bbox": [1, 1, 0, 0]}]
    tables = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1} | shape for i, shape in enumerate(shapes, start=1)],
    }
    (tmp_path / "coco/annotations.json").write_text(json.dumps(tables))
    for before, after, folder in (([32, 100], [16, 32, 100], "cvat"), ([8], [8, 20, 36], "coco")):
        assert sorted(set(counted(detect(tmp_path / folder))["box"])) == before
        (tmp_path / folder / "dataset.toml").write_text('boxes = "rectangles"')
        assert sorted(set(counted(detect(tmp_path / folder))["box"])) == after


def test_a_box_of_cvat_may_be_turned(tmp_path: Path) -> None:
    box = '<box label="car" xtl="4" ytl="8" xbr="16" ybr="10" rotation="90.00"/>'
    image = f'<image id="0" name="p.png" width="30" height="20">{box}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    [row] = _parsed(tmp_path / "a.xml").annotations
    assert row["segmentation"] == [[11, 3, 11, 15, 9, 15, 9, 3]]  # 2 wide and 12 high, around the same (10, 9)


def test_a_long_outline_in_a_table_of_via(tmp_path: Path) -> None:
    """Longer than what Python's csv takes for a field unless it is told to."""
    save(tmp_path / "p.png", photo(0))
    turn = np.linspace(0, 2 * np.pi, 9000, endpoint=False)
    shape = {"name": "polygon", "all_points_x": (10 + 5 * np.cos(turn)).round(4).tolist(),
             "all_points_y": (10 + 5 * np.sin(turn)).round(4).tolist()}  # fmt: skip
    fields = ["p.png", *(json.dumps(part).replace('"', '""') for part in (shape, {"class": "disc"}))]
    head = "filename,region_shape_attributes,region_attributes\n"
    (tmp_path / "via.csv").write_text(head + ",".join(f'"{field}"' for field in fields) + "\n")
    assert abs(counted(detect(tmp_path))["disc"][0] - np.pi * 25) < 3


@pytest.mark.parametrize("before", ["", f"<!-- {'x' * 9000} -->"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities_is_refused(before: str, encoding: str, tmp_path: Path) -> None:
    root = '<!DOCTYPE x [<!ENTITY a "b">]><annotations><version>1.1</version></annotations>'
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>{before}{root}', encoding=encoding)
    with pytest.raises(UsageError, match="declares a document type"):
        _parsed(tmp_path / "a.xml")


@pytest.mark.parametrize(
    "mask",
    [
        f'rle="{",".join(["9007199254740992"] * 2048)}" left="0" top="0" width="64" height="48"',  # 2⁶⁴ in all
        'rle="-5,10" left="0" top="0" width="8" height="8"',
        'rle="0,1" left="-9" top="0" width="8" height="8"',
        'rle="0,100" left="0" top="0" width="8" height="8"',
        'rle="" left="0" top="0" width="8" height="8"',
    ],
)
def test_a_mask_of_cvat_whose_numbers_lie_is_left_out(mask: str, tmp_path: Path) -> None:
    image = f'<image name="a.png" width="64" height="48"><mask label="cat" {mask}/></image>'
    (tmp_path / "a.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    (row,) = _parsed(tmp_path / "a.xml").annotations
    assert row["unusable"].startswith("a mask that cannot be read")


def test_masks_of_more_pixels_than_their_file_can_mean_are_left_out(tmp_path: Path) -> None:
    """Each is there in thirty bytes, and would take seconds and a gigabyte."""
    mask = '<mask label="cat" rle="0,225000000" left="0" top="0" width="15000" height="15000"/>'
    image = f'<image name="a.png" width="15000" height="15000">{mask * 9}</image>'
    drawn = Drawn(_pixels=1_000_000_000)
    (tmp_path / "a.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segcli.data.formats.cvat.Drawn", lambda: drawn)
        _parsed(tmp_path / "a.xml")
    assert len(drawn.annotations) == 9
    assert all("more than this file can hold" in row["unusable"] for row in drawn.annotations)
    with pytest.raises(ValueError, match="more than this file can hold"):
        Drawn().decoding(40_000 * 40_000, 1 << 30)


def label_studio(results: list[dict[str, Any]], short: bool = False) -> str:
    frame = {"original_width": SIZE[1], "original_height": SIZE[0]}
    if short:
        return json.dumps(
            [{"image": "/data/upload/1/0a1b2c3d-my%20p0.png", "id": 1, "label": [r | frame for r in results]}]
        )
    annotation = {"result": [{"value": r, "type": "x", "id": "q"} | frame for r in results]}
    skipped = {"was_cancelled": True, "result": []}
    return json.dumps(
        [{"id": 5, "data": {"image": "/data/local-files/?d=x/my%20p0.png"}, "annotations": [annotation, skipped]}]
    )


@pytest.mark.parametrize("short", [False, True], ids=["JSON", "JSON-MIN"])
def test_label_studio_json(tmp_path: Path, short: bool) -> None:
    """Polygons, brushes and turned rectangles; an upright rectangle has no outline, and one bad row is counted."""
    save(tmp_path / "images/my p0.png", photo(0))
    mask = np.zeros(SIZE, dtype=bool)
    mask[3:7, 20:25] = True
    results = [
        {"points": [[10, 10], [40, 10], [40, 60], [10, 60]], "polygonlabels": ["box"]},
        {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["disc"]},
        {"x": 50, "y": 50, "width": 20, "height": 20, "rotation": 90, "rectanglelabels": ["box"]},
        {"x": 50, "y": 50, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["box"]},
        {"format": "rle", "rle": [1, 2, 3], "brushlabels": ["disc"]},
    ]
    (tmp_path / "export.json").write_text(label_studio(results, short))
    info = detect(tmp_path, training=False)
    assert counted(info) == {"box": [24, 90], "disc": [20]}
    assert {fault.kind for fault in info.faults} == {"bad-row", "no-mask"}


CONFIG = {
    "labels": [
        {"name": "object--box", "readable": "Box", "evaluate": True, "instances": True, "color": [200, 0, 0]},
        {"name": "object--disc", "readable": "Disc", "evaluate": True, "instances": True, "color": [0, 0, 200]},
        {"name": "void--unlabeled", "readable": "Unlabeled", "evaluate": False, "instances": False, "color": [0, 0, 0]},
    ]
}


def vistas(root: Path, panoptic: bool) -> Path:
    (root).mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps(CONFIG))
    for split, count in (("training", 3), ("validation", 1)):
        images, rows = [], []
        for number in range(count):
            name = f"{split[0]}{number}"
            save(root / split / "images" / f"{name}.jpg", photo(number))
            labels = np.full(SIZE, 2, np.uint8)
            labels[2:6, 2:6], labels[10:15, 10:20] = 0, 1
            save(root / split / "labels" / f"{name}.png", labels)
            save(root / split / "instances" / f"{name}.png", labels)
            ids = np.where(labels == 2, 0, labels.astype(np.int32) + 7)
            (root / split / "panoptic").mkdir(exist_ok=True) if panoptic else None
            if panoptic:
                (root / split / "panoptic" / f"{name}.png").write_bytes(encode_panoptic_png(ids))
            images.append({"id": name, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
            segments = [{"id": value + 7, "category_id": value + 1, "iscrowd": 0} for value in (0, 1)]
            rows.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
        categories = [
            {"id": i + 1, "name": row["name"], "isthing": int(i == 0)} for i, row in enumerate(CONFIG["labels"][:2])
        ]
        if panoptic:
            raw = {"images": images, "annotations": rows, "categories": categories}
            (root / split / "panoptic/panoptic_2018.json").write_text(json.dumps(raw))
    return root


def test_mapillary_vistas(tmp_path: Path) -> None:
    """Panoptic where it is; else label maps with the names of config.json, and what is not evaluated as void."""
    info = detect(vistas(tmp_path / "p", panoptic=True))
    assert (info.format, info.task) == ("mapillary-vistas", "panoptic")
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 3, "val": 1}
    assert counted(info) == {"object--box": [16] * 4, "object--disc": [50] * 4}
    info = detect(vistas(tmp_path / "s", panoptic=False))
    assert (info.task, info.labels.names, info.labels[0].color) == ("semantic", ["Box", "Disc"], (200, 0, 0))
    assert scan(info).train.void_share == pytest.approx(1 - 66 / 600)
    assert counted(info) == {"Box": [16] * 4, "Disc": [50] * 4}


def label_map(number: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[2:6, 2:6], labels[10:15, 10 : 15 + number] = 1, 2
    return labels


def same_after_conversion(info: DatasetInfo, out: Path) -> None:
    write_dataset(info, out, writer_for("semantic-png", info))
    assert counted(detect(out, training=False)) == counted(info)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_hugging_face_tables(tmp_path: Path, kind: str) -> None:
    """Pictures and label maps are read from the rows of several groups; nothing is unpacked."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for split, count in (("train", 5), ("validation", 2)):
        rows = [
            {
                "image": {"bytes": png(photo(n)), "path": f"{split}{n}.png"},
                "label": {"bytes": png(label_map(n)), "path": None},
            }
            for n in range(count)
        ]
        table = pa.Table.from_pylist(rows)
        if kind == "parquet":
            (tmp_path / "data").mkdir(exist_ok=True)
            pq.write_table(table, tmp_path / f"data/{split}-00000-of-00001.parquet", row_group_size=2)
        else:
            (tmp_path / split).mkdir()
            file = str(tmp_path / split / "data-00000-of-00001.arrow")
            with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    (tmp_path / "classes.txt").write_text("nothing\nbox\ndisc\n")
    info = detect(tmp_path)
    assert {name: len(records) for name, records in info.splits.items()} == {"train": 5, "val": 2}
    assert counted(info)["disc"] == [25, 25, 30, 30, 35, 40, 45]
    assert np.array_equal(open_split(info, "train")[3].image, photo(3))
    assert scan(info).train.images == 5
    same_after_conversion(info, tmp_path.parent / f"{tmp_path.name}-out")


@pytest.mark.parametrize("classes", [False, True])
def test_hugging_face_lists_of_masks(tmp_path: Path, classes: bool) -> None:
    """An object a mask; one that cannot be read costs itself alone."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = []
    for n in range(4):
        masks = [{"bytes": png((label_map(n) == value) * np.uint8(255)), "path": None} for value in (1, 2)]
        masks += [{"bytes": b"broken", "path": None}] if n == 0 else []
        row: dict[str, Any] = {"image": {"bytes": png(photo(n)), "path": None}, "masks": masks}
        rows.append(row | ({"categories": [0, 1, 1][: len(masks)]} if classes else {}))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-0.parquet", row_group_size=3)
    (tmp_path / "classes.txt").write_text("box\ndisc\n") if classes else None
    info = detect(tmp_path, training=False)
    assert info.task == "instance"
    box, disc = [16] * 4, [25, 30, 35, 40]
    assert counted(info) == ({"box": box, "disc": disc} if classes else {"object": box + disc})
    assert [finding.kind for finding in check(info, threads=1).findings if finding.kind == "bad-row"] == ["bad-row"]
    write_dataset(info, tmp_path.parent / f"{tmp_path.name}-out", writer_for("coco", info))
    assert counted(detect(tmp_path.parent / f"{tmp_path.name}-out", training=False)) == counted(info)


def tar(file: Path, parts: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(file, "w") as archive:
        for name, data in parts:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(("photo_ending", "map_ending"), [("image.png", "mask.png"), ("png", "seg.png")])
def test_webdataset_tars(tmp_path: Path, photo_ending: str, map_ending: str) -> None:
    """Read in any order from the places of their members; a photo without a label map is left out and counted."""
    for split, count in (("train", 4), ("val", 2)):
        parts = [part for n in range(count) for part in
                 ((f"x/{n:03}.{photo_ending}", png(photo(n))), (f"x/{n:03}.{map_ending}", png(label_map(n))),
                  (f"x/{n:03}.json", b"{}"))]  # fmt: skip
        tar(tmp_path / f"{split}-000000.tar", [*parts, ("x/._000.png", b"x"), ("x/odd.image.png", png(photo(9)))])
    info = detect(tmp_path)
    assert {name: len(records) for name, records in info.splits.items()} == {"train": 4, "val": 2}
    assert counted(info)["class 2"] == [25, 25, 30, 30, 35, 40]
    assert np.array_equal(open_split(info, "train")[2].image, photo(2))
    assert sum(fault.kind == "unannotated" for fault in info.faults) == 2
    same_after_conversion(info, tmp_path.parent / f"{tmp_path.name}-out")


def test_cvat_for_video(tmp_path: Path) -> None:
    """A track is an object of each frame that shows it."""
    for number in range(3):
        save(tmp_path / f"images/frame_{number:06d}.PNG", photo(number))
    shapes = "".join(
        f'<polygon frame="{number}" outside="{int(number == 1)}" points="2,2;12,2;12,12;2,12"/>' for number in range(3)
    )
    size = "<original_size><width>30</width><height>20</height></original_size>"
    bad = '<track label="disc"><mask frame="2" rle="9" left="28" top="0" width="3" height="3"/></track>'
    text = f'<version>1.1</version><meta><task>{size}</task></meta><track id="0" label="box">{shapes}</track>{bad}'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{text}</annotations>")
    info = detect(tmp_path, training=False)
    assert sum(map(len, info.splits.values())) == 2
    assert counted(info) == {"box": [100, 100]}
    assert [fault.kind for fault in info.faults] == ["bad-row"]


def test_label_studio_with_labels_apart(tmp_path: Path) -> None:
    """Shape and label are two results of one id, of which that with the label has both; predictions are no truth."""
    save(tmp_path / "images/my p0.png", photo(0))
    points = [[10, 10], [40, 10], [40, 60], [10, 60]]
    (tmp_path / "export.json").write_text(label_studio([{"points": points}, {"points": points, "labels": ["box"]}]))
    assert counted(detect(tmp_path, training=False)) == {"box": [90]}
    raw = json.loads((tmp_path / "export.json").read_text())
    raw[0] |= {"predictions": raw[0]["annotations"], "annotations": []}
    (tmp_path / "export.json").write_text(json.dumps(raw))
    with pytest.raises(UsageError, match="holds predictions and no annotations"):
        detect(tmp_path)
