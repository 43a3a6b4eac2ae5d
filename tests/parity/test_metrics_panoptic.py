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
    """Streamed, in two parts that are merged: panopticapi's numbers of the same images in files."""
    pairs = panoptic_files(case, labels, folder)
    summary, per_class = panoptic_numbers(pairs, labels, folder / "truth", folder / "found")
    parts = [PanopticMetric(labels), PanopticMetric(labels)]
    for number, (segments, truth) in enumerate(case):
        parts[number % 2].update(segments, truth)
    parts[0].merge(parts[1])
    report = parts[0].compute()
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


def test_real_predictions(facade: tuple[LabelSet, list[dict[str, Any]]], tmp_path: Path) -> None:
    labels, pictures = facade
    case = [(picture["panoptic"], picture["truth"]) for picture in pictures]
    assert check(case, labels, tmp_path)["PQ"] > 0.1
