"""PQ is panopticapi's, on made-up cases, on COCO's panoptic sample and on real predictions; maps and files agree."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from segcli.codecs.panoptic_png import read_panoptic_png
from segcli.metrics import PanopticMetric
from segcli.segments import Segments
from segcli.types import Label, LabelSet
from tests.parity.official import LABELS, Case, Picture, cases, panoptic_files, panoptic_numbers, same

pytest.importorskip("panopticapi.evaluation")


def check(case: Case, labels: LabelSet, folder: Path) -> dict[str, float]:
    """Streamed from maps, in two parts that are merged, and from files: both are panopticapi's numbers."""
    pairs = panoptic_files(case, labels, folder)
    summary, per_class = panoptic_numbers(pairs, labels, folder / "truth", folder / "found")
    parts, from_files = [PanopticMetric(labels), PanopticMetric(labels)], PanopticMetric(labels)
    for number, ((segments, truth), pair) in enumerate(zip(case, pairs, strict=True)):
        parts[number % 2].update(segments, truth)
        from_files.update_files(pair[0], folder / "truth", pair[1], folder / "found")
    parts[0].merge(parts[1])
    for metric in (parts[0], from_files):
        report = metric.compute()
        same(report.summary, summary)
        for row in report.table:
            if row["matched"] + row["false positives"] + row["missed"]:
                same(row, {key.upper(): float(value) for key, value in per_class[row["id"]].items()})
            else:
                assert np.isnan(row["PQ"])  # panopticapi prints 0 and leaves the class out of its means, as here
    return summary


@settings(max_examples=60)
@given(cases("panoptic", side=6))
def test_made_up(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(case, LABELS, Path(folder))


def test_files_that_contradict_themselves(tmp_path: Path) -> None:
    """An area that is not the PNG's, ids in one of PNG and JSON only: hotcoco's answer is panopticapi's."""
    ids = np.zeros((6, 6), dtype=np.uint16)
    ids[:3], ids[3:5], ids[5] = 1, 2, 3
    segments = Segments("panoptic", (6, 6), LABELS, np.array([0, 1, 2]), np.ones(3, dtype=np.float32), ids)
    masks = np.stack([np.roll(ids, 1, axis=0) == i for i in (1, 2, 3)])
    case = [(segments, Picture("1", masks, segments.labels, np.zeros(3, dtype=bool)))]
    [(truth, found)] = panoptic_files(case, LABELS, tmp_path)
    truth["segments_info"][0]["area"] = 40  # IoU 12 / 46 instead of 12 / 24: no match
    truth["segments_info"][1]["id"] = 99  # in the JSON only: missed; its pixels in the PNG only: neither class nor void
    summary, _ = panoptic_numbers([(truth, found)], LABELS, tmp_path / "truth", tmp_path / "found")
    metric = PanopticMetric(LABELS)
    metric.update_files(truth, tmp_path / "truth", found, tmp_path / "found")
    same(metric.compute().summary, summary)


def sample(shared_dir: Path) -> tuple[LabelSet, Case]:
    """COCO's two sample images, the truth as its own prediction."""
    folder = shared_dir / "data/coco_panoptic/sample_data"
    dataset = json.loads((folder / "panoptic_examples.json").read_text())
    labels = LabelSet(tuple(Label(c["id"], c["name"], bool(c["isthing"])) for c in dataset["categories"]))
    places, case = {label.id: index for index, label in enumerate(labels)}, []
    for entry in dataset["annotations"]:
        ids = read_panoptic_png(folder / "panoptic_examples" / entry["file_name"])
        infos = entry["segments_info"]
        masks = np.stack([ids == info["id"] for info in infos])
        classes = np.array([places[info["category_id"]] for info in infos], dtype=np.int64)
        crowd = np.array([bool(info["iscrowd"]) for info in infos])
        numbers = (masks * np.arange(1, len(infos) + 1, dtype=np.uint16)[:, None, None]).max(axis=0)
        found = Segments("panoptic", ids.shape, labels, classes, np.ones(len(infos), dtype=np.float32), numbers)
        case.append((found, Picture(str(entry["image_id"]), masks, classes, crowd)))
    return labels, case


def shifted(found: Segments) -> Segments:
    assert found.map is not None
    return replace(found, map=np.roll(found.map, 5, axis=1))


def halved(found: Segments) -> Segments:
    return found.filter(np.arange(len(found)) % 2 == 0)


def swapped(found: Segments) -> Segments:
    return replace(found, labels=(found.labels + np.arange(len(found)) % 2) % len(found.label_set))


def test_coco_sample(shared_dir: Path, tmp_path: Path) -> None:
    labels, case = sample(shared_dir)
    assert check(case, labels, tmp_path)["PQ"] == 1
    for change in (shifted, halved, swapped):
        assert 0.1 < check([(change(found), truth) for found, truth in case], labels, tmp_path)["PQ"] < 0.99


def test_real_predictions(facade: tuple[LabelSet, list[dict[str, Any]]], shared_dir: Path, tmp_path: Path) -> None:
    labels, pictures = facade
    case = [(picture["panoptic"], picture["truth"]) for picture in pictures]
    assert check(case, labels, tmp_path)["PQ"] > 0.1
    # … and against the dataset's own files rather than their masks.
    folder = shared_dir / "data/facade/panoptic_val"
    pairs = [
        (p["entry"], found) for p, (_, found) in zip(pictures, panoptic_files(case, labels, tmp_path), strict=True)
    ]
    metric = PanopticMetric(labels)
    for truth, found in pairs:
        metric.update_files(truth, folder, found, tmp_path / "found")
    summary, _ = panoptic_numbers(pairs, labels, folder, tmp_path / "found")
    same(metric.compute().summary, summary)
