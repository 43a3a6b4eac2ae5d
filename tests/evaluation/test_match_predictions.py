"""Whose prediction is it? By file name, id, or number in the name; what fits nothing is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.codecs.png import encode_png
from segcli.codecs.rle import encode
from segcli.data.records import DatasetInfo, Record
from segcli.errors import UsageError
from segcli.evaluation.dataset import open_data, open_tasks
from segcli.evaluation.from_files import of_predictions
from segcli.evaluation.match_predictions import Matched, match, truth_of
from segcli.files.image_ref import FileRef
from segcli.results.readers import open_predictions
from segcli.types import Task
from tests.data.layouts import LABELS, THINGS, coco_instance, scenes, semantic, things_only

RLE = encode(np.ones((40, 56), dtype=bool)).to_coco()


def entry(image_id: int | str, **changes: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 7, "segmentation": RLE, "score": 0.05} | changes


def info(*records: tuple[str, str], task: Task = "instance", **others: list[tuple[str, str]]) -> DatasetInfo:
    """A dataset whose split "val" holds these (image id, file)."""
    splits = {
        name: [Record(id_, FileRef(f"/data/{file}"), None) for id_, file in pairs]
        for name, pairs in (*others.items(), ("val", list(records)))
    }
    reader: Any = None
    return DatasetInfo(Path("/data"), "x", "found", task, (task,), LABELS, LABELS, splits, reader)


def found(tmp_path: Path, data: DatasetInfo, *rows: dict[str, Any]) -> Matched:
    (tmp_path / "results.json").write_text(json.dumps(rows))
    return match(open_predictions(tmp_path / "results.json"), data, "val")


@pytest.mark.parametrize(
    ("ids", "records"),
    [
        ([12, 7], [("7", "b.jpg"), ("12", "a.jpg")]),  # the dataset's own ids
        (["12", "7"], [("7", "b.jpg"), ("12", "a.jpg")]),  # … as text
        (["a.jpg", "b"], [("7", "b.jpg"), ("12", "a.jpg")]),  # names, with or without their ending
        (["x\\a.jpg", "Y%C3%BC.JPG"], [("0", "yü.jpg"), ("1", "x/a.jpg")]),  # … as other systems spell them
        ([12.0, 7.0], [("7", "b.jpg"), ("12", "a.jpg")]),  # … as pandas writes numbers
        (["x/a.jpg", "y/a.jpg"], [("0", "y/a.jpg"), ("1", "x/a.jpg")]),  # … told apart by their folders
        ([139, 25], [("1", "000000000025.jpg"), ("2", "COCO_val2014_000000000139.jpg")]),  # numbers in COCO's names
        ([2, 1], [("1", "2.jpg"), ("2", "1.jpg")]),  # ids go before numbers in names
    ],
)
def test_images(ids: list[int | str], records: list[tuple[str, str]], tmp_path: Path) -> None:
    """The first prediction is of the second record."""
    assert found(tmp_path, info(*records), *map(entry, ids)).places == {1: 0, 0: 1}


def test_ids_that_could_be_numbers_in_names_are_told(tmp_path: Path) -> None:
    data = info(*((str(number + 1), f"00000{number}.jpg") for number in range(4)))
    matched = found(tmp_path, data, entry(1), entry(2), entry(3))
    assert matched.places == {0: 0, 1: 1, 2: 2}
    assert "(1: 000000.jpg or 000001.jpg)" in matched.warnings[0]
    assert not found(tmp_path, data, *map(entry, (1, 2, 3, 4))).warnings


def test_an_id_of_several_parts_is_none(tmp_path: Path) -> None:
    data = info(("1", "a.jpg"), ("2", "b.jpg"))
    second = [Record(f"1-{number}", FileRef(f"/data/{number}.jpg"), (1, 0, 0)) for number in (1, 2)]
    data.splits["val"].extend(second)
    with pytest.raises(UsageError, match="image 1 could be several, as parts of the data number their images alike"):
        found(tmp_path, data, entry(1))
    assert found(tmp_path, data, entry("2.jpg")).places == {3: 0}


def test_images_of_other_splits_and_without_a_prediction(tmp_path: Path) -> None:
    data = info(("1", "a.jpg"), ("2", "b.jpg"), ("3", "c.jpg"), train=[("8", "d.jpg"), ("9", "e.jpg")])
    matched = found(tmp_path, data, entry(1), entry(8), entry(9))
    assert matched.places == {0: 0}
    assert matched.notes[:2] == (
        "left out: 2 predictions of images of other splits, such as 8",
        "2 of 3 images have no prediction and count as empty, such as b.jpg",
    )
    first = match(matched.predictions, data, "val", images=2)
    assert "1 of 2 images have no prediction and count as empty, such as b.jpg" in first.notes


def test_truth_that_does_not_serve_the_predictions(tmp_path: Path) -> None:
    """Nobody typed --task: it is the predictions'."""
    (tmp_path / "results.json").write_text(json.dumps([entry(1)]))
    predictions, root = open_predictions(tmp_path / "results.json"), semantic(tmp_path / "data", scenes())
    remedy = "results.json: its predictions are instance, and the annotations in .* serve semantic; .* --task semantic"
    with pytest.raises(UsageError, match=remedy), truth_of(predictions, root):
        open_data(root, predictions.task, None, "val")


def test_classes_by_name_are_said_aloud(tmp_path: Path) -> None:
    """Panoptic JSON names its classes: ids of another numbering are no obstacle."""
    categories = [{"id": 0, "name": "box", "isthing": 1}, {"id": 1, "name": "Sky", "isthing": 0}]
    rows = [{"image_id": 1, "file_name": "1.png", "segments_info": [{"id": 1, "category_id": 0}]}]
    (tmp_path / "1.png").write_bytes(encode_png(np.ones((2, 2, 3), dtype=np.uint8)))
    (tmp_path / "found.json").write_text(json.dumps({"annotations": rows, "categories": categories}))
    matched = match(open_predictions(tmp_path / "found.json"), info(("1", "a.jpg"), task="panoptic"), "val")
    assert matched.classes.index.tolist() == [1, 2]
    assert any("matched by name, as the ids differ" in note for note in matched.notes)


@pytest.mark.parametrize(
    ("rows", "data", "message"),
    [
        ([entry(5)], info(("1", "a.jpg")), "a prediction of image 5, which /data does not have; give the dataset that"),
        (
            [entry("a.jpg"), entry("a")],
            info(("1", "a.jpg")),
            "a.jpg and a are both predictions of /data/a.jpg; keep one of them",
        ),
        (
            [entry("a.jpg")],
            info(("1", "x/a.jpg"), ("2", "y/a.jpg")),
            "a.jpg: 2 images of the data have this name; keep their folders",
        ),
        (
            [entry(8)],
            info(("1", "a.jpg"), train=[("8", "d.jpg")]),
            "no prediction belongs to the split val; they belong to others, such as 8",
        ),
        ([entry(1, category_id=3)], info(("1", "a.jpg")), "category id 3|no class in common"),
        (
            [entry(1)],
            info(("1", "a.jpg"), task="panoptic"),
            "COCO results can be scored for --task instance or detect, not panoptic",
        ),
    ],
)
def test_what_does_not_fit(rows: list[dict[str, Any]], data: DatasetInfo, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        found(tmp_path, data, *rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("least", "warned"), [(0.05, False), (0.3, True)])
def test_thresholded_instances(least: float, warned: bool, tmp_path: Path) -> None:
    matched = found(tmp_path, info(("1", "a.jpg")), entry(1, score=0.9), entry(1, score=least))
    assert bool(matched.warnings) == warned
    assert not warned or "no instance has a score below 0.3" in matched.warnings[0]


def test_nothing_found_at_all(tmp_path: Path) -> None:
    """An empty results file is an answer: AP 0."""
    matched = found(tmp_path, info(("1", "a.jpg")))
    assert matched.places == {}
    assert matched.notes == ("1 of 1 images have no prediction and count as empty, such as a.jpg",)


# ---------------------------------------------------------------------------------------------------- images that fail


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return coco_instance(tmp_path / "data", things_only(scenes(train=1, val=3)), THINGS)


def test_a_bad_prediction_costs_its_image_alone(data: Path, tmp_path: Path) -> None:
    """An RLE of another size is named; the other images are scored."""
    images = json.loads(next(data.rglob("*val*.json")).read_text())["images"]
    small = {"size": [2, 3], "counts": [0, 6]}
    rows = [entry(images[0]["id"]), entry(images[1]["id"], segmentation=small), entry(images[2]["id"])]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    dataset = open_data(data, "instance", None, "val")
    matched = match(open_predictions(tmp_path / "results.json"), dataset, "val")
    evaluation = of_predictions(matched, dataset, "val", open_tasks(dataset, "val", ("instance",)))
    assert [evaluated.number for evaluated in evaluation.run()] == [0, 2]
    assert len(evaluation.failed) == 1
    assert f"image {images[1]['id']}: a mask of 3×2 pixels, the image has 56×40" in evaluation.failed[0]


def test_instances_without_scores_have_no_order(data: Path, tmp_path: Path) -> None:
    """`predict --save masks` writes no scores: nothing that AP could rank."""
    images = json.loads(next(data.rglob("*val*.json")).read_text())["images"]
    folder = tmp_path / "found" / f"{Path(images[0]['file_name']).stem}.masks"
    folder.mkdir(parents=True)
    (folder / "001-box.png").write_bytes(encode_png(np.ones((40, 56), dtype=bool)))
    dataset = open_data(data, "instance", None, "val")
    matched = match(open_predictions(tmp_path / "found"), dataset, "val")
    evaluation = of_predictions(matched, dataset, "val", open_tasks(dataset, "val", ("instance",)))
    list(evaluation.run())
    assert "has instances without scores, which AP ranks them by; predict with --save coco" in evaluation.failed[0]
