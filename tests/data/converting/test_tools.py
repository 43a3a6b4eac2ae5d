"""Out to the tools that people draw with, and back: the same pixels, classes and images, also to their own readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segcli.codecs.brush import decode_brush, encode_brush
from segcli.codecs.outlines import parts, simplified
from segcli.codecs.polygons import fill
from segcli.codecs.rle import encode
from segcli.data.converting.convert import Written, write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.records import DatasetInfo
from segcli.errors import UsageError

SIZE = (40, 56)


def masks() -> list[tuple[int, np.ndarray]]:
    """A disc, a ring (with a hole), and an object in two parts: classes 1, 2 and 1."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = (x - 12) ** 2 + (y - 12) ** 2 < 64
    ring = ((x - 36) ** 2 + (y - 16) ** 2 < 100) & ((x - 36) ** 2 + (y - 16) ** 2 > 25)
    two = ((y > 30) & (y < 36)) & (((x > 4) & (x < 14)) | ((x > 20) & (x < 28)))
    return [(1, disc), (2, ring), (1, two)]


@pytest.fixture
def source(tmp_path: Path) -> DatasetInfo:
    """Two images with run-length masks."""
    images, rows = [], []
    (tmp_path / "in").mkdir()
    for number in (7, 9):
        Image.fromarray(np.full((*SIZE, 3), 20 * number, np.uint8)).save(tmp_path / f"in/ä {number}.png")
        images.append({"id": number, "file_name": f"ä {number}.png", "height": SIZE[0], "width": SIZE[1]})
        for label, mask in masks():
            rows.append({"id": len(rows) + 1, "image_id": number, "category_id": label, "iscrowd": 0,
                         "segmentation": encode(mask).to_coco()})  # fmt: skip
    categories = [{"id": 1, "name": 'a & "b"'}, {"id": 2, "name": "größe"}]
    (tmp_path / "in/a.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return detect(tmp_path / "in", training=False)


def objects(info: DatasetInfo) -> list[tuple[str, str, str]]:
    """(image, class, pixels) of every object, in no order."""
    found = []
    for split in info.splits:
        for record, sample in zip(info.splits[split], open_split(info, split), strict=True):
            names = [info.labels[i].name for i in sample.labels.tolist()]
            found += [(record.image.name, name, str(rle.counts.tolist()))
                      for name, rle in zip(names, sample.rles, strict=True)]  # fmt: skip
    return sorted(found)


def converted(source: DatasetInfo, to: str, **options: object) -> tuple[Path, Written]:
    out = source.root.parent / to
    return out, write_dataset(source, out, writer_for(to, source, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("to", ["labelme", "cvat", "label-studio"])
def test_there_and_back_not_a_pixel_moves(source: DatasetInfo, to: str) -> None:
    out, written = converted(source, to)
    back = detect(out, training=False)
    assert back.format == to
    assert objects(back) == objects(source)
    assert not any(amount for amount, _ in written.losses.values())


def test_images_for_editing_are_copies(source: DatasetInfo) -> None:
    """A tool that saves in place leaves the originals as they are."""
    out, _ = converted(source, "labelme")
    photo = next(out.glob("*.png"))
    before = (source.root / photo.name).read_bytes()
    photo.write_bytes(b"edited")
    assert (source.root / photo.name).read_bytes() == before


def test_coco_as_polygons(source: DatasetInfo) -> None:
    """No run lengths; the hole is kept, by a seam."""
    out, written = converted(source, "coco", as_polygons=True)
    raw = json.loads((out / "annotations/instances.json").read_text())
    assert all(isinstance(row["segmentation"], list) for row in raw["annotations"])
    assert objects(detect(out, training=False)) == objects(source)
    assert written.changes["holes are cut into polygons by seams of no width"] == (2, 2)


def test_a_tolerance_is_kept(source: DatasetInfo) -> None:
    """Fewer points, and no pixel further from the mask's outline than that."""
    exact, loose = (converted(source, "geojson", tolerance=t)[0] if t else None for t in (0, 1.0))
    assert exact is None
    rings = [
        ring
        for feature in json.loads(next((loose or Path()).glob("geojson/*.geojson")).read_text())["features"]
        for part in ([feature["geometry"]["coordinates"]] if feature["geometry"]["type"] == "Polygon"
                     else feature["geometry"]["coordinates"])
        for ring in part
    ]  # fmt: skip
    assert max(map(len, rings)) < 24
    with pytest.raises(UsageError, match="--tolerance: not for --to voc"):
        writer_for("voc", source, tolerance=1)


def test_geojson_as_shapely_reads_it(source: DatasetInfo) -> None:
    """Valid shapes of the masks' areas, holes and parts kept."""
    shapely = pytest.importorskip("shapely.geometry")
    out, _ = converted(source, "geojson")
    raw = json.loads((out / "geojson/ä 7.geojson").read_text(encoding="utf-8"))
    shapes = [shapely.shape(feature["geometry"]) for feature in raw["features"]]
    assert all(shape.is_valid for shape in shapes)
    assert [shape.area for shape in shapes] == [mask.sum() for _, mask in masks()]
    assert [feature["properties"]["classification"]["name"] for feature in raw["features"]][1] == "größe"


def test_rois_as_roifile_reads_them(source: DatasetInfo) -> None:
    roifile = pytest.importorskip("roifile")
    out, _ = converted(source, "imagej-roi")
    rois = roifile.roiread(out / "rois/ä 7.zip")
    areas: dict[str, int] = {}
    for roi in rois:
        mask = fill([roi.coordinates().astype(float)], SIZE)
        areas[roi.name[:4]] = areas.get(roi.name[:4], 0) + int(mask.sum())
    assert list(areas.values()) == [mask.sum() for _, mask in masks()]


def test_labelme_as_labelme_reads_it(source: DatasetInfo) -> None:
    labelme = pytest.importorskip("labelme.utils.shape")
    out, _ = converted(source, "labelme")
    raw = json.loads((out / "ä 7.json").read_text(encoding="utf-8"))
    polygon = next(shape for shape in raw["shapes"] if shape["shape_type"] == "polygon")
    seen = labelme.shape_to_mask(SIZE, polygon["points"], "polygon")
    assert abs(int(seen.sum()) - int(masks()[0][1].sum())) <= 60  # it paints every pixel that the outline touches


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_parts_and_brushes_are_the_mask(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.6
    again = np.zeros_like(mask)
    for outline, holes in parts(mask):
        again ^= fill([outline], mask.shape)
        for hole in holes:
            again ^= fill([hole], mask.shape)
    assert np.array_equal(again, mask)
    assert np.array_equal(decode_brush(encode_brush(mask), mask.shape), mask)


def test_a_simplified_outline_stays_near() -> None:
    turns = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.stack([50 + 40 * np.cos(turns), 50 + 40 * np.sin(turns)], axis=1)
    fewer = simplified(circle, 1.0)
    assert 3 <= len(fewer) < 40
    assert np.abs(np.hypot(*(fewer - 50).T) - 40).max() < 0.01


@pytest.mark.parametrize("packed", [[], [1, 2, 3], "x", [256] * 40, [0] * 40])
def test_a_brush_that_is_none_is_refused(packed: object) -> None:
    with pytest.raises(ValueError, match="brush"):
        decode_brush(packed, (4, 5))  # type: ignore[arg-type]
