"""One bad row costs one row; what can be read without doubt is read, in whichever of the usual ways it is written."""

from __future__ import annotations

import contextlib
import json
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segcli.codecs.rle import RLE
from segcli.data.checking.check import check
from segcli.data.checking.mend import mended
from segcli.data.checking.scan import scan
from segcli.data.coco.rows import outline
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.numbers import finite, flag, shown, whole
from segcli.errors import SegcliError, UsageError

SQUARE = [2, 2, 8, 2, 8, 8, 2, 8]  # 36 pixels
RUNS = {"size": [10, 12], "counts": [22, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 42]}  # the same pixels
BYTES = RUNS | {"counts": str(RLE.from_coco(RUNS).to_coco()["counts"].encode())}
Change = Callable[[dict[str, Any]], object]


def coco(root: Path, change: Change = lambda raw: None) -> Path:
    """Four images with three squares each, of classes 1, 1 and 2, in one file."""
    (root / "images").mkdir(parents=True)
    raw: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    for number in range(4):
        Image.fromarray(np.full((10, 12, 3), 40 * number, np.uint8)).save(root / "images" / f"p{number}.png")
        raw["images"].append({"id": number, "file_name": f"p{number}.png", "width": 12, "height": 10})
        for category, shape in ((1, SQUARE), (1, [9, 0, 12, 0, 12, 9]), (2, SQUARE)):
            row = {"id": len(raw["annotations"]) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
            raw["annotations"].append(row | {"segmentation": [shape]})
    change(raw)
    (root / "annotations.json").write_text(json.dumps(raw))
    return root


def of_first(**fields: Any) -> Change:
    """The first annotation with other fields."""
    return lambda raw: raw["annotations"][0].update(fields)


def of_all(segmentation: Any) -> Change:
    return lambda raw: [row.update(segmentation=segmentation) for row in raw["annotations"]]


def areas(root: Path) -> list[int]:
    info = detect(root, training=False)
    return [rle.area for split in info.splits for sample in open_split(info, split) for rle in sample.rles]


PAIRS = [[2, 2], [8, 2], [8, 8], [2, 8]]


@pytest.mark.parametrize(
    "segmentation",
    [
        SQUARE, [SQUARE], [[SQUARE]], [[[SQUARE]]], PAIRS, [PAIRS], [[PAIRS]], json.dumps([SQUARE]), json.dumps(PAIRS),
        [str(v) for v in SQUARE], [{"x": x, "y": y} for x, y in PAIRS], [SQUARE, []], [SQUARE, [1, 1]],
        RUNS, [RUNS], json.dumps(RUNS), BYTES, [BYTES], [RUNS, RUNS], RUNS | {"size": ["10", 12.0]},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_to_write_one_outline_is_read(tmp_path: Path, segmentation: Any) -> None:
    assert areas(coco(tmp_path, of_all(segmentation))) == [36] * 12


@pytest.mark.parametrize(
    "change",
    [
        of_first(iscrowd=None), of_first(iscrowd="false"), of_first(iscrowd="0"), of_first(iscrowd=False),
        lambda raw: raw["annotations"][0].pop("iscrowd"), of_first(category_id="1"), of_first(image_id=0.0),
        of_first(image_id="0"), of_first(id=None), of_first(id=[1]), of_first(id={}), of_first(area="x", bbox=[1]),
        of_first(bbox=[0, 0, 10**400, 1]), lambda raw: [image.update(width=-1, height=-1) for image in raw["images"]],
        lambda raw: [image.update(width="12.0", height="10") for image in raw["images"]],
        lambda raw: [image.update(width=None, height=0) for image in raw["images"]],
        lambda raw: [image.update(width="", height=[]) for image in raw["images"]],
        lambda raw: raw.update(annotations={str(row["id"]): row for row in raw["annotations"]}),
        lambda raw: raw.update(images={str(row["id"]): row for row in raw["images"]}),
        lambda raw: raw.update(categories={"1": "a", "2": {"name": "b"}}),
        lambda raw: raw["categories"][0].update(supercategory=["x"]),
        lambda raw: raw["images"].append(dict(raw["images"][0])),
        lambda raw: [i.update(coco_url=f"http://x/images/{i.pop('file_name')}") for i in raw["images"]],  # LVIS
    ],
)  # fmt: skip
def test_what_is_said_in_another_way_is_read(tmp_path: Path, change: Change) -> None:
    """12 objects, none of them a crowd, and nothing to complain of."""
    info = detect(coco(tmp_path, change), training=False)
    assert not [fault for fault in info.faults if fault.kind == "bad-row"]
    truths = [sample.truth for sample in open_split(info, "all")]
    assert sum(len(truth.labels) for truth in truths) == 12
    assert not any(truth.crowd.any() for truth in truths)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_first(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "odd number"),
        (of_first(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "not a number"),
        (of_first(segmentation=[[1, 2, 3, 4, 5, None]]), "coordinate of a polygon is null"),
        (of_first(segmentation=[[1, 2, 3, 4, 5, 1e300]]), "coordinate of a polygon is 1e+300"),
        (of_first(segmentation=7), '"segmentation" is 7; expected polygons or run lengths'),
        (of_first(segmentation=True), '"segmentation" is true'),
        (
            of_first(segmentation={"all_points_x": [1], "all_points_y": [2]}),
            "an object of 'all_points_x', 'all_points_y'",
        ),
        (of_first(segmentation="polygon"), "\"segmentation\" is 'polygon'"),
        (of_first(segmentation="[[1, 2"), "a text that is not JSON"),
        (of_first(segmentation=RUNS | {"counts": [5, 5]}), "120 pixels has 10"),
        (of_first(segmentation=RUNS | {"counts": "b'%'"}), "run-length mask"),
        (of_first(segmentation={"size": [10**9, 10**9], "counts": [10**18]}), "run lengths are of"),
        (of_first(segmentation={"size": [10, 12], "counts": [2**63, 2**63 + 120]}), '"counts"'),
        (of_first(category_id=2**63), '"category_id" is 9223372036854775808'),
        (of_first(category_id="disc"), "\"category_id\" is 'disc'; expected a whole number"),
        (of_first(category_id=9), "category 9 is not listed (listed: 1–2)"),
        (of_first(iscrowd="perhaps"), '"iscrowd"'),
        (of_first(image_id=77), "its image is not listed"),
        (of_first(image_id=[0]), '"image_id" is a list of 1'),
        (of_first(image_id=None), '"image_id" is missing'),
        (lambda raw: raw["annotations"].__setitem__(0, 7), "a row is 7; expected an object"),
        (lambda raw: raw["annotations"][0].pop("category_id"), '"category_id" is missing'),
    ],
)
def test_one_bad_row_costs_one_row(tmp_path: Path, change: Change, says: str) -> None:
    """Left out alone, counted with its reason and place; a copy without it has nothing to complain of."""
    root = coco(tmp_path / "data", change)
    info = detect(root)
    report = check(info)
    [finding] = report.of_kind("bad-row")
    assert says in finding.message
    assert "1 row is left out" in finding.message
    assert sum(split.objects for split in report.splits) == 11
    assert sum(split.objects for split in scan(info).splits) == 11
    write_dataset(mended(info, report), tmp_path / "clean", writer_for("coco", info))
    clean = check(detect(tmp_path / "clean"))
    assert not clean.of_kind("bad-row")
    assert sum(split.objects for split in clean.splits) == 11


def test_a_class_without_a_name_is_called_by_its_number(tmp_path: Path) -> None:
    info = detect(coco(tmp_path, lambda raw: raw["categories"][0].update(name=None)))
    assert info.labels.names == ["class 1", "b"]
    assert "annotations.json: category 1 has no name; called 'class 1'" in info.notes
    assert not info.faults


def test_training_refuses_a_class_that_is_misread(tmp_path: Path) -> None:
    """Five of eight outlines of a class are more than half; four are not."""

    def spoil(count: int) -> Change:
        rows = [0, 1, 3, 4, 6][:count]
        return lambda raw: [raw["annotations"][row].update(segmentation=[[1, 2, 3]]) for row in rows]

    assert sum(split.objects for split in scan(detect(coco(tmp_path / "some", spoil(4)))).splits) == 8
    bad = detect(coco(tmp_path / "most", spoil(5)))
    assert check(bad).of_kind("bad-row")[0].amount == 5
    with pytest.raises(UsageError, match=r"5 of 8 rows of class 'a' cannot be used, more than 50%.*--fix OUT"):
        scan(bad)


def test_outlines_that_cannot_be_read_are_never_taken_as_boxes(tmp_path: Path) -> None:
    def boxes(segmentation: Any) -> Change:
        return lambda raw: [row.update(segmentation=segmentation, bbox=[2, 2, 6, 6]) for row in raw["annotations"]]

    with pytest.raises(UsageError, match="none of its 12 outlines can be read; the first: annotation 1 of image 0"):
        detect(coco(tmp_path / "text", boxes("outline")))
    info = detect(coco(tmp_path / "boxes", boxes([[2, 2, 6, 6]])))
    assert info.tasks == ("detect",)
    assert "12 outlines are no polygons but a box (4 numbers) in place of a polygon: taken as boxes" in info.notes[0]


def test_a_name_that_leaves_the_dataset_is_not_followed(tmp_path: Path) -> None:
    """Unless dataset.toml names the folder that the images lie in."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    Image.new("RGB", (12, 10)).save(outside / "x.png")
    for number, name in enumerate(["../elsewhere/x.png", str(outside / "x.png")]):
        root = coco(tmp_path / f"data{number}", lambda raw, name=name: raw["images"][0].update(file_name=name))
        places = [record.image.place for record in detect(root, training=False).splits["all"]]
        assert all(place.is_relative_to(root) for place in places)
        assert not places[0].exists()
    (root / "dataset.toml").write_text(f'[train]\nannotations = "annotations.json"\nimages = "{outside}"\n')
    assert detect(root, training=False).splits["train"][0].image.place == outside / "x.png"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts", "x", "y"]), inner),
    max_leaves=12,
)


@given(value=JSON)
@settings(max_examples=300, deadline=None)
def test_whatever_a_field_holds_is_read_or_refused_in_words(value: Any) -> None:
    for read in (outline, lambda v: whole(v, "x"), lambda v: finite(v, "x"), lambda v: flag(v, "x")):
        with contextlib.suppress(ValueError):
            read(value)
    assert len(shown(value)) < 100


FIELDS = ["id", "image_id", "category_id", "segmentation", "iscrowd", "file_name", "width", "height", "name", "bbox",
          "area", "supercategory", "license"]  # fmt: skip


@given(seed=st.integers(0, 10**6), value=JSON)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_any_field_ends_in_a_traceback(tmp_path: Path, seed: int, value: Any) -> None:
    draw = random.Random(seed)

    def spoil(raw: dict[str, Any]) -> None:
        table = draw.choice(["images", "annotations", "categories"])
        row = draw.randrange(len(raw[table]))
        if draw.random() < 0.1:
            raw[table][row] = value
        else:
            raw[table][row][draw.choice(FIELDS)] = value

    root = coco(tmp_path / uuid.uuid4().hex, spoil)
    with contextlib.suppress(SegcliError):
        info = detect(root)
        check(info)
        write_dataset(info, root.with_name(root.name + "-out"), writer_for("coco", info))
