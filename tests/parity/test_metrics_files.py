"""Prediction files beside a dataset's own files: what `segcli eval --predictions` says is what the official tools say.

The datasets are parts of the real ones; predictions are their truth, moved, thinned out, doubled and confused.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.codecs.label_png import read_label_map
from segcli.codecs.panoptic_png import encode_panoptic_png, read_panoptic_png
from segcli.codecs.png import encode_png
from segcli.codecs.rle import encode
from segcli.evaluation.dataset import open_data, open_tasks
from segcli.evaluation.from_files import of_predictions
from segcli.evaluation.match_predictions import match, tasks_of
from segcli.metrics import COCO_DETS, MetricReport
from segcli.results.readers import open_predictions
from segcli.types import Task
from tests.parity.official import COCO_NAMES, coco_numbers, panoptic_numbers, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
IMAGES = 12


def scored(data: Path, files: Path, task: str | None = None, *, max_dets: int = COCO_DETS) -> dict[Task, MetricReport]:
    """The reports of `segcli eval DATA --predictions FILES --split val --task TASK`."""
    predictions = open_predictions(files, None if task == "all" else task)  # type: ignore[arg-type]
    info = open_data(data, predictions.task if task in (None, "all") else task, None, "val")
    matched = match(predictions, info, "val")
    datasets = open_tasks(info, "val", tasks_of(predictions, info, task))
    evaluation = of_predictions(matched, info, "val", datasets, max_dets=max_dets)
    assert sum(1 for _ in evaluation.run()) == evaluation.images
    evaluation.finish()
    assert not evaluation.failed
    return evaluation.scores.reports()


def part(source: Path, kind: str, target: Path) -> dict[str, Any]:
    """The first images of a real validation split, in a folder of their own; returns its JSON."""
    dataset: dict[str, Any] = json.loads((source / f"{kind}_val.json").read_text())
    dataset["images"] = dataset["images"][:IMAGES]
    ids = {image["id"] for image in dataset["images"]}
    dataset["annotations"] = [entry for entry in dataset["annotations"] if entry["image_id"] in ids]
    (target / "images").mkdir(parents=True)
    for image in dataset["images"]:
        (target / "images" / image["file_name"]).symlink_to(source / "images" / image["file_name"])
    if kind == "panoptic":
        (target / "panoptic_val").symlink_to(source / "panoptic_val")
    (target / f"{kind}_val.json").write_text(json.dumps(dataset))
    return dataset


# ------------------------------------------------------------------------------------------------------------ instances


def confused(masks: list[tuple[int, int, np.ndarray]], classes: list[int], box: bool = False) -> list[dict[str, Any]]:
    """Results made of (image, class, mask): none to two of each, scores with many ties; with a box if `box`."""
    rng, results = np.random.default_rng(0), []
    for image_id, category, mask in masks:
        for _ in range(rng.integers(0, 3)):
            moved = np.roll(mask, rng.integers(-3, 4, 2), axis=(0, 1))
            given = category if rng.random() < 0.8 else int(rng.choice(classes))
            rle = encode(moved)
            entry = {"image_id": image_id, "category_id": given, "score": float(rng.integers(0, 20)) / 20}
            given_box = {"bbox": [float(value) + 0.5 for value in rle.bbox]} if box else {}
            results.append(entry | {"segmentation": rle.to_coco()} | given_box)
    return results


def official(truth: Path, results: list[dict[str, Any]], kind: str, max_dets: int = COCO_DETS) -> Any:
    """pycocotools on the two files, accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes([dict(entry) for entry in results]), kind)
        evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def check_ap(report: MetricReport, truth: Path, results: list[dict[str, Any]]) -> None:
    for kind, prefix in (("segm", ""), ("bbox", "box ")):
        theirs = coco_numbers(official(truth, results, kind))
        same(report.summary, {prefix + name: theirs[name] for name in COCO_NAMES})


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("first_id", [None, 0])
@pytest.mark.parametrize("name", ["coco", "everyday"])
def test_instances(name: str, first_id: int | None, boxes: bool, shared_dir: Path, tmp_path: Path) -> None:
    """Polygons, crowd regions, areas and boxes as the file states them; annotations numbered from 0 as well."""
    coco_mask = pytest.importorskip("pycocotools.coco").COCO()
    dataset = part(shared_dir / "data" / name, "instances", tmp_path)
    if first_id is not None:
        for number, annotation in enumerate(dataset["annotations"], start=first_id):
            annotation["id"] = number
        (tmp_path / "instances_val.json").write_text(json.dumps(dataset))
    coco_mask.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco_mask.createIndex()
    masks = [
        (entry["image_id"], entry["category_id"], coco_mask.annToMask(entry).astype(bool))
        for entry in dataset["annotations"]
    ]
    results = confused(masks, [entry["id"] for entry in dataset["categories"]], boxes)
    (tmp_path / "results.json").write_text(json.dumps(results))
    report = scored(tmp_path, tmp_path / "results.json")["instance"]
    check_ap(report, tmp_path / "instances_val.json", results)
    assert 0.05 < report.value < 0.9


def test_more_nuclei_than_coco_counts(shared_dir: Path, tmp_path: Path) -> None:
    """Instance maps without a COCO file of their own, named images, and more objects than 100: max_dets 500."""
    pytest.importorskip("pycocotools")
    source = shared_dir / "data/nuclei/val"
    (tmp_path / "nuclei/val/images").mkdir(parents=True)
    (tmp_path / "nuclei/val/labels").mkdir()
    (tmp_path / "nuclei/dataset.toml").write_text('format = "instance-png"\n')
    crowded = sorted(source.glob("labels/*.png"), key=lambda file: -file.stat().st_size)[:2]
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    masks = []
    for number, file in enumerate(crowded, start=1):
        image = next((source / "images").glob(f"{file.stem}.*"))
        (tmp_path / "nuclei/val/images" / image.name).symlink_to(image)
        (tmp_path / "nuclei/val/labels" / file.name).symlink_to(file)
        values = read_label_map(file)
        height, width = values.shape
        truth["images"].append({"id": number, "file_name": image.name, "height": height, "width": width})
        for value in np.unique(values[values > 0]):
            rle = encode(values == value)
            entry = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            shape = {"segmentation": rle.to_coco(), "area": rle.area, "bbox": list(rle.bbox)}
            truth["annotations"].append(entry | shape)
            masks.append((number, 1, values == value))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results = confused(masks, [1])
    for score, entry in enumerate(results):
        entry["score"] = 1 / (1 + score)  # no ties: images are ordered by name here, by number there
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    named = [entry | {"image_id": names[entry["image_id"]]} for entry in results]
    (tmp_path / "results.json").write_text(json.dumps(named))
    most = max(Counter(entry["image_id"] for entry in results).values())
    assert most > 100
    for max_dets in (100, 500):
        report = scored(tmp_path / "nuclei", tmp_path / "results.json", max_dets=max_dets)["instance"]
        evaluation = official(tmp_path / "truth.json", results, "segm", max_dets)
        precision, recall = evaluation.eval["precision"][:, :, 0], evaluation.eval["recall"][:, 0]
        same(
            report.summary, {"AP": float(precision[..., 0, -1].mean()), "AP50": float(precision[0, ..., 0, -1].mean())}
        )
        same(report.summary, {f"AR@{max_dets}": float(recall[:, 0, -1].mean())})


# ------------------------------------------------------------------------------------------------------------- panoptic


def changed(entry: dict[str, Any], ids: np.ndarray, classes: list[int]) -> tuple[dict[str, Any], np.ndarray]:
    """A panoptic truth as a prediction with faults: moved, every fourth segment gone, every fifth of another class."""
    rng = np.random.default_rng(entry["image_id"])
    ids, infos = np.roll(ids, rng.integers(-6, 7, 2), axis=(0, 1)), []
    for number, info in enumerate(entry["segments_info"]):
        if number % 4 == 3:
            ids[ids == info["id"]] = 0
        elif (ids == info["id"]).any():
            given = int(rng.choice(classes)) if number % 5 == 4 else info["category_id"]
            infos.append({"id": info["id"], "category_id": given})
    return {"image_id": entry["image_id"], "file_name": entry["file_name"], "segments_info": infos}, ids


@pytest.mark.parametrize("name", ["facade", "everyday"])
def test_panoptic(name: str, shared_dir: Path, tmp_path: Path) -> None:
    """PQ against the dataset's PNG and JSON; turned semantic, mIoU against pixels counted one by one."""
    pytest.importorskip("panopticapi.evaluation")
    dataset = part(shared_dir / "data" / name, "panoptic", tmp_path / "data")
    classes = [entry["id"] for entry in dataset["categories"]]
    (tmp_path / "found").mkdir()
    found, pixels = [], []
    for entry in dataset["annotations"]:
        truth = read_panoptic_png(tmp_path / "data/panoptic_val" / entry["file_name"])
        prediction, ids = changed(entry, truth, classes)
        (tmp_path / "found" / entry["file_name"]).write_bytes(encode_panoptic_png(ids))
        found.append(prediction)
        pixels.append((of_class(ids, prediction), of_class(truth, entry)))
    (tmp_path / "found.json").write_text(json.dumps({"annotations": found}))
    reports = scored(tmp_path / "data", tmp_path / "found.json", "all")
    labels = open_data(tmp_path / "data", None, None, "val").labels
    pairs = list(zip(dataset["annotations"], found, strict=True))
    theirs, _ = panoptic_numbers(pairs, labels, tmp_path / "data/panoptic_val", tmp_path / "found")
    same(reports["panoptic"].summary, theirs)
    assert 0.1 < theirs["PQ"] < 0.9
    same(reports["semantic"].summary, {"mIoU": confusion_miou(pixels, classes)})


def test_label_maps(shared_dir: Path, tmp_path: Path) -> None:
    """Semantic PNGs of the dataset's ids, one image without a map: its pixels are all missed."""
    dataset = part(shared_dir / "data/facade", "panoptic", tmp_path / "data")
    classes = [entry["id"] for entry in dataset["categories"]]
    (tmp_path / "maps").mkdir()
    pixels = []
    for number, entry in enumerate(dataset["annotations"]):
        truth = of_class(read_panoptic_png(tmp_path / "data/panoptic_val" / entry["file_name"]), entry)
        moved = np.roll(truth, 9, axis=1) if number else np.zeros_like(truth)
        if number:
            (tmp_path / "maps" / entry["file_name"]).write_bytes(
                encode_png(np.where(moved, moved, 255).astype(np.uint8))
            )
        pixels.append((moved, truth))
    report = scored(tmp_path / "data", tmp_path / "maps")["semantic"]
    same(report.summary, {"mIoU": confusion_miou(pixels, classes)})


def of_class(ids: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    """Segment ids -> class ids, 0 for void."""
    classes = np.zeros_like(ids)
    for info in entry["segments_info"]:
        classes[ids == info["id"]] = info["category_id"]
    return classes


def confusion_miou(pixels: list[tuple[np.ndarray, np.ndarray]], classes: list[int]) -> float:
    """Mean over the classes of the truth, from (prediction, truth) where the truth is known."""
    found, truth = (np.concatenate([pair[side].ravel() for pair in pixels]) for side in (0, 1))
    found, truth = found[truth > 0], truth[truth > 0]
    common = {k: np.count_nonzero((found == k) & (truth == k)) for k in classes}
    union = {k: np.count_nonzero((found == k) | (truth == k)) for k in classes}
    return float(np.mean([common[k] / union[k] for k in classes if (truth == k).any()]))


def test_coco_sample(shared_dir: Path) -> None:
    """COCO's own panoptic sample scored against itself."""
    folder = shared_dir / "data/coco_panoptic/sample_data"
    info = open_data(folder, "panoptic", None, "all")
    matched = match(open_predictions(folder / "panoptic_examples.json"), info, "all")
    evaluation = of_predictions(matched, info, "all", open_tasks(info, "all", ("panoptic",)))
    list(evaluation.run())
    evaluation.finish()
    assert evaluation.scores.reports()["panoptic"].value == 1
