"""AP of masks and boxes is pycocotools', on made-up cases, on COCO's annotations and on real predictions."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.codecs.rle import RLE
from segcli.metrics import InstanceMetric, count_image
from segcli.metrics.bootstrap import mean
from segcli.segments import Segments
from segcli.types import CocoObjects, Label, LabelSet
from tests.parity import official
from tests.parity.official import LABELS, Case, cases, coco_evaluation, coco_files, coco_numbers, same

coco_mask = pytest.importorskip("pycocotools.mask")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def check(metric: InstanceMetric, dataset: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Every number over all classes and of each class."""
    report = metric.compute()
    for kind, prefix in (("segm", ""), ("bbox", "box ")):
        theirs = coco_numbers(coco_evaluation(dataset, results, kind))
        same(report.summary, {prefix + name: value for name, value in theirs.items()})
        for row in report.table:
            theirs = coco_numbers(coco_evaluation(dataset, results, kind, category=row["id"]))
            same(row, {prefix + name: value for name, value in theirs.items()})


def counted(case: Case, **options: int) -> InstanceMetric:
    metric = InstanceMetric(LABELS, **options)
    for segments, truth in case:
        metric.update(segments, truth)
    return metric


@settings(max_examples=40)
@given(cases("instance", side=6))
def test_tiny_images(case: Case) -> None:
    check(counted(case), *coco_files(case, LABELS))


@settings(max_examples=15)
@given(cases("instance", side=130))
def test_small_medium_and_large(case: Case) -> None:
    check(counted(case), *coco_files(case, LABELS))


@settings(max_examples=20)
@given(cases("instance", side=6))
def test_max_dets(case: Case) -> None:
    """pycocotools prints −1 for any limit but 100; its precision and recall arrays hold the answer."""
    dataset, results = coco_files(case, LABELS)
    summary = counted(case, max_dets=2).compute().summary
    evaluation = coco_evaluation(dataset, results, "segm", max_dets=2)
    precision, recall = evaluation.eval["precision"][:, :, :, 0, -1], evaluation.eval["recall"][:, :, 0, -1]
    for name, array in (("AP", precision), ("AP50", precision[0]), ("AR@2", recall)):
        same(summary, {name: float(array[array > -1].mean()) if (array > -1).any() else math.nan})


def test_more_than_100_instances() -> None:
    """Only the last 60 of 160 predictions are right: invisible at 100, and AP is nowhere −1 at 500."""
    masks = [np.zeros((40, 40), dtype=bool) for _ in range(160)]
    for index, mask in enumerate(masks):
        mask[(index // 20) * 4 : (index // 20) * 4 + 3, (index % 20) * 2 : (index % 20) * 2 + 2] = True
    segments = official.prediction("instance", (40, 40), masks, [0] * 160, [1 - index / 200 for index in range(160)])
    truth = official.Picture("1", np.array(masks[100:]), np.zeros(60, dtype=np.int64), np.zeros(60, dtype=bool))
    case = [(segments, truth)]
    assert counted(case).compute().value == 0
    report = counted(case, max_dets=500).compute()
    evaluation = coco_evaluation(*coco_files(case, LABELS), "segm", max_dets=500)
    same(report.summary, {"AP": float(evaluation.eval["precision"][:, :, 1, 0, -1].mean())})  # dog, cat
    assert 0.2 < report.value < 0.4
    assert report.summary["AR@500"] == 1
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    assert evaluation.stats[0] == -1


def stated(case: Case, first_id: int) -> tuple[Case, dict[str, Any], list[dict[str, Any]]]:
    """The case as a COCO file states it, its annotations numbered from `first_id`: (case, dataset, results)."""
    dataset, results = coco_files(case, LABELS)
    for number, annotation in enumerate(dataset["annotations"], start=first_id):
        annotation["id"] = number
    zero = next((entry["category_id"] for entry in dataset["annotations"] if entry["id"] == 0), None)
    pictures = []
    for segments, truth in case:
        own = tuple(entry for entry in dataset["annotations"] if entry["image_id"] == int(truth.image_id))
        pictures.append((segments, replace(truth, stated=CocoObjects(own, zero))))
    return pictures, dataset, results


@settings(max_examples=40)
@given(cases("instance", side=6), st.sampled_from([0, 0, -1, 1]))
def test_annotation_id_zero(case: Case, first_id: int) -> None:
    """pycocotools never credits annotation 0; neither do the dataset's number, ranks' parts of it, or its counts."""
    case, dataset, results = stated(case, first_id)
    parts = [counted(case[::2]), counted(case[1::2])]
    parts[0].merge(parts[1])
    check(parts[0], dataset, results)
    things = [label.id for label in LABELS if label.isthing]
    in_order = sorted(case, key=lambda pair: int(pair[1].image_id))  # which decides between equal scores
    counts = [count_image(segments, truth, LABELS).counts for segments, truth in in_order]
    whole = mean(InstanceMetric.resample(counts, things, np.ones((1, len(case)), dtype=np.int64)))
    same({"AP": float(whole[0])}, {"AP": parts[0].compute().value})


def test_annotation_id_zero_in_plain_sight() -> None:
    """One object, found exactly: AP is 0 if its id is 0, and 1 with any other id."""
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 2:6] = True
    segments = official.prediction("instance", (8, 8), [mask], [0], [0.9])
    truth = official.Picture("1", mask[None], np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
    for first_id, expected in ((0, 0.0), (1, 1.0)):
        case, dataset, results = stated([(segments, truth)], first_id)
        assert counted(case).compute().value == pytest.approx(expected)
        assert coco_numbers(coco_evaluation(dataset, results, "segm"))["AP"] == pytest.approx(expected)


def coco_sample(shared_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """60 COCO images with polygons and crowd regions; results made from them: shifted, missed, doubled, confused."""
    from pycocotools.coco import COCO

    file = shared_dir / "data/coco/instances_val.json"
    dataset = json.loads(file.read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
    rng, ids, results = np.random.default_rng(0), [entry["id"] for entry in dataset["categories"]], []
    for annotation in dataset["annotations"]:
        for _ in range(rng.integers(0, 3)):
            mask = np.roll(coco.annToMask(annotation), int(rng.integers(-4, 5)), axis=1)
            rle = coco_mask.encode(np.asfortranarray(mask))
            category = annotation["category_id"] if rng.random() < 0.8 else int(rng.choice(ids))
            entry = {"image_id": annotation["image_id"], "category_id": category, "score": float(rng.random())}
            results.append(entry | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}})
    return dataset, results


def as_images(
    image: dict[str, Any], annotations: list[dict[str, Any]], results: list[dict[str, Any]], labels: LabelSet
) -> tuple[Segments, official.Picture]:
    """One image of the files as segcli holds it; the truth says what its file states."""
    size, place = (image["height"], image["width"]), {label.id: index for index, label in enumerate(labels)}
    own = tuple(entry for entry in annotations if entry["image_id"] == image["id"])
    found = sorted((entry for entry in results if entry["image_id"] == image["id"]), key=lambda entry: -entry["score"])
    segments = Segments(
        "instance",
        size,
        labels,
        np.array([place[entry["category_id"]] for entry in found], dtype=np.int64),
        np.array([entry["score"] for entry in found]),
        rles=tuple(RLE.from_coco(entry["segmentation"]) for entry in found),
        given_boxes=np.array([entry["bbox"] for entry in found]) if found and "bbox" in found[0] else None,
    )
    nothing = np.zeros((0, *size), dtype=bool)
    picture = official.Picture(str(image["id"]), nothing, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
    return segments, replace(picture, stated=CocoObjects(own, None))


@pytest.mark.parametrize("boxes", [False, True])
def test_coco_annotations(shared_dir: Path, boxes: bool) -> None:
    """The files as they are; results with a box beside the mask are of the box's area, as in pycocotools."""
    dataset, results = coco_sample(shared_dir)
    if boxes:
        for entry in results:
            entry["bbox"] = (coco_mask.toBbox(entry["segmentation"]) + np.array([0, 0, 9, 9])).tolist()
    labels = LabelSet(tuple(Label(entry["id"], entry["name"], True) for entry in dataset["categories"]))
    parts = [InstanceMetric(labels), InstanceMetric(labels)]
    for number, image in enumerate(dataset["images"]):
        parts[number % 2].update(*as_images(image, dataset["annotations"], results, labels))
    parts[0].merge(parts[1])
    report = parts[0].compute()
    for kind, prefix in (("segm", ""), ("bbox", "box ")):
        theirs = coco_numbers(coco_evaluation(dataset, results, kind))
        same(report.summary, {prefix + name: value for name, value in theirs.items()})
    assert 0.1 < report.value < 0.9


def test_real_predictions(facade: tuple[LabelSet, list[dict[str, Any]]]) -> None:
    labels, pictures = facade
    case = [(picture["instance"], picture["truth"]) for picture in pictures]
    metric = InstanceMetric(labels)
    for segments, truth in case:
        metric.update(segments, truth)
    check(metric, *coco_files(case, labels))
    assert metric.compute().value > 0
