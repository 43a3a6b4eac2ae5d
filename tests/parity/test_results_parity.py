"""The official tools read what is written: pycocotools and panopticapi score it, and find a perfect copy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segcli.results.plan import Photo, plan
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

LABELS = LabelSet((Label(7, "cat", True), Label(90, "sky", False), Label(18, "dog", True)))


def segments(seed: int) -> Segments:
    """Four rectangles side by side."""
    ids = np.zeros((60, 80), np.uint16)
    for index in range(4):
        ids[5 : 30 + 5 * ((seed + index) % 5), 20 * index : 20 * index + 15] = index + 1
    labels = np.array([0, 0, 2, 1])
    return Segments("panoptic", ids.shape, LABELS, labels, np.array([0.9, 0.8, 0.7, 0.6], np.float32), ids)


def write(tmp_path: Path, names: list[str], kind: str, task: Task) -> list[Photo]:
    photos = plan([(tmp_path / name, None) for name in names])
    with ResultsWriter(tmp_path / "out", [kind], photos, task=task, labels=LABELS, run={}) as writer:
        for seed, photo in enumerate(photos):
            writer.write(photo, None, segments(seed), timings={})
    return photos


@pytest.mark.parametrize("names", [["000000000139.jpg", "000000000285.jpg"], ["a b.jpg", "日本.jpg"]])
def test_pycocotools_scores_the_results(tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    photos = write(tmp_path, names, "coco", "instance")
    truth = []
    for seed, photo in enumerate(photos):
        areas, boxes = segments(seed).areas().tolist(), segments(seed).boxes().tolist()
        for index, annotation in enumerate(segments(seed).to_coco(photo.image_id)):
            x0, y0, x1, y1 = boxes[index]
            box = [x0, y0, x1 - x0, y1 - y0]
            annotation |= {"id": len(truth) + 1, "iscrowd": 0, "area": areas[index], "bbox": box}
            truth.append(annotation)
    dataset = {
        "images": [{"id": p.image_id, "file_name": p.file_name, "height": 60, "width": 80} for p in photos],
        "categories": [{"id": label.id, "name": label.name} for label in LABELS],
        "annotations": truth,
    }
    (tmp_path / "truth.json").write_text(json.dumps(dataset))
    ground = coco_module.COCO(str(tmp_path / "truth.json"))
    evaluator = COCOeval(ground, ground.loadRes(str(tmp_path / "out/predictions.json")), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    capsys.readouterr()
    assert evaluator.stats[0] == pytest.approx(1)


def test_panopticapi_scores_the_results(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    evaluation = pytest.importorskip("panopticapi.evaluation")
    write(tmp_path, ["1.jpg", "2.jpg", "3.jpg"], "coco-panoptic", "panoptic")
    out = tmp_path / "out"
    result = evaluation.pq_compute(
        str(out / "panoptic.json"), str(out / "panoptic.json"), str(out / "panoptic"), str(out / "panoptic")
    )
    capsys.readouterr()
    assert result["All"]["pq"] == pytest.approx(1)
    assert result["Things"]["n"] == 2
