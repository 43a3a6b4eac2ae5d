"""The official evaluators on plain arrays, and small cases made by hypothesis, for the parity tests of the metrics."""

from __future__ import annotations

import contextlib
import copy
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from segcli.codecs.rle import encode
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task
from tests.fakes import Picture

LABELS = LabelSet((Label(90, "cat", True), Label(1, "sky", False), Label(7, "dog", True), Label(13, "sea", False)))
TOLERANCE = 1e-9


Case = list[tuple[Segments, Picture]]


@st.composite
def cases(draw: st.DrawFn, task: Task, side: int, images: int = 3) -> Case:
    """Up to `images` images of at most `side` pixels a side: none to four rectangles on either side, which overlap.

    Instances keep their overlaps, in panoptic and semantic results the later rectangle covers the earlier. Scores are
    often equal, ids of images have holes, either side may be empty, and an image may be a single pixel.
    """
    result = []
    for number in draw(st.lists(st.integers(0, 300), max_size=images, unique=True)):
        height, width = draw(st.tuples(st.integers(1, side), st.integers(1, side)))

        def rectangle(height: int = height, width: int = width) -> np.ndarray:
            mask = np.zeros((height, width), dtype=bool)
            y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
            mask[y : y + draw(st.integers(1, height)), x : x + draw(st.integers(1, width))] = True
            return mask

        count = draw(st.integers(0, 4))
        masks = np.array([rectangle() for _ in range(count)], dtype=bool).reshape(count, height, width)
        labels = np.array([draw(st.integers(0, len(LABELS) - 1)) for _ in range(count)], dtype=np.int64)
        crowd = np.array([draw(st.integers(0, 3)) == 0 for _ in range(count)], dtype=bool)
        void = rectangle() if draw(st.booleans()) else None
        truth = Picture(str(number), masks, labels, crowd, void)

        found: list[np.ndarray] = []
        for index in range(draw(st.integers(0, 4))):
            near = index < count and draw(st.booleans())
            found.append(np.roll(masks[index], draw(st.integers(-1, 1)), axis=1) if near else rectangle())
        classes = [
            int(labels[i]) if i < count and draw(st.booleans()) else draw(st.integers(0, len(LABELS) - 1))
            for i in range(len(found))
        ]
        scores = [draw(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0])) for _ in found]
        result.append((prediction(task, (height, width), found, classes, scores), truth))
    return result


def prediction(
    task: Task, size: tuple[int, int], masks: list[np.ndarray], classes: list[int], scores: list[float]
) -> Segments:
    """Segments from masks, in descending order of score."""
    order = np.argsort([-score for score in scores], kind="stable") if scores else np.zeros(0, dtype=np.int64)
    labels = np.array(classes, dtype=np.int64)[order]
    ordered = np.array(scores, dtype=np.float32)[order]
    if task == "instance":
        return Segments(task, size, LABELS, labels, ordered, rles=tuple(encode(masks[i]) for i in order))
    ids = np.zeros(size, dtype=np.uint16)
    for place, index in enumerate(order):
        ids[masks[index]] = place + 1
    kept = np.isin(np.arange(1, len(order) + 1), ids)
    return Segments(task, size, LABELS, labels, ordered, ids).filter(kept)


# ------------------------------------------------------------------------------------------------- pycocotools


def coco_files(case: Case, labels: LabelSet) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(dataset, results) of the things of a case, encoded by pycocotools."""
    from pycocotools import mask as coco_mask

    def rle(mask: np.ndarray) -> dict[str, Any]:
        encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}

    images, annotations, results = [], [], []
    for segments, truth in case:
        number, (height, width) = int(truth.image_id), segments.size
        images.append({"id": number, "height": height, "width": width})
        for mask, label, crowd in zip(truth.masks, truth.labels, truth.crowd, strict=True):
            if labels[int(label)].isthing:
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": labels[int(label)].id}
                box = coco_mask.toBbox(rle(mask)).tolist()
                shape = {"segmentation": rle(mask), "area": float(mask.sum()), "bbox": box, "iscrowd": int(crowd)}
                annotations.append(entry | shape)
        for index, score in enumerate(segments.scores.tolist()):
            label = labels[int(segments.labels[index])]
            if label.isthing:
                entry = {"image_id": number, "category_id": label.id, "score": score}
                results.append(entry | {"segmentation": rle(segments.mask(index))})
    categories = [{"id": label.id, "name": label.name} for label in labels if label.isthing]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def coco_evaluation(
    dataset: dict[str, Any],
    results: list[dict[str, Any]],
    kind: str,
    *,
    category: int | None = None,
    max_dets: int = 100,
) -> Any:
    """pycocotools' evaluator, accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = dataset
        truth.createIndex()
        if results:
            found = truth.loadRes([dict(entry) for entry in results])
        else:  # loadRes cannot read an empty list
            found.dataset = dataset | {"annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.maxDets = [limit for limit in (1, 10) if limit < max_dets] + [max_dets]
        if category is not None:
            evaluation.params.catIds = [category]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


COCO_NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@10", "AR@100", "ARs", "ARm", "ARl"]


def coco_numbers(evaluation: Any) -> dict[str, float]:
    """pycocotools' own summary by our names, NaN for its −1."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    values = [math.nan if value == -1 else float(value) for value in evaluation.stats]
    return dict(zip(COCO_NAMES, values, strict=True))


# ------------------------------------------------------------------------------------------------- panopticapi


def panoptic_files(case: Case, labels: LabelSet, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Write the PNG files of a case to folder/truth and folder/found; the pairs of JSON entries. Ids have holes."""
    from panopticapi.utils import id2rgb

    pairs = []
    for segments, truth in case:
        entries = []
        sides = (
            ("truth", truth.id_map(), truth.labels, truth.crowd),
            ("found", segments.id_map(), segments.labels, np.zeros(len(segments), dtype=bool)),
        )
        for name, ids, classes, crowd in sides:
            (folder / name).mkdir(exist_ok=True)
            numbers = np.array([0, *(7 + 255 * i for i in range(len(classes)))])
            Image.fromarray(id2rgb(numbers[ids])).save(folder / name / f"{name}-{truth.image_id}.png")
            segments_info = [
                {
                    "id": int(numbers[index + 1]),
                    "category_id": labels[int(classes[index])].id,
                    "area": int((ids == index + 1).sum()),
                    "iscrowd": int(crowd[index]),
                }
                for index in range(len(classes))
                if (ids == index + 1).any()
            ]
            file = f"{name}-{truth.image_id}.png"
            entries.append({"image_id": truth.image_id, "file_name": file, "segments_info": segments_info})
        pairs.append((entries[0], entries[1]))
    return pairs


def panoptic_numbers(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]], labels: LabelSet, truth: Path, found: Path
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """panopticapi's (summary by our names, per category id); NaN where it would divide by zero."""
    from panopticapi.evaluation import pq_compute_single_core

    categories = {label.id: {"id": label.id, "name": label.name, "isthing": int(label.isthing)} for label in labels}
    with contextlib.redirect_stdout(io.StringIO()):
        statistics = pq_compute_single_core(0, copy.deepcopy(pairs), str(truth), str(found), categories)
    summary, per_class = {}, {}
    for suffix, isthing in (("", None), (" things", True), (" stuff", False)):
        try:
            means, rows = statistics.pq_average(categories, isthing)
        except ZeroDivisionError:
            means, rows = {"pq": math.nan, "sq": math.nan, "rq": math.nan}, {}
        summary |= {key.upper() + suffix: float(means[key]) for key in ("pq", "sq", "rq")}
        if isthing is None:
            per_class = rows
    return summary, per_class


def same(ours: dict[str, Any], theirs: dict[str, float]) -> None:
    """Assert that every one of their numbers is ours, NaN where there is none."""
    for name, value in theirs.items():
        if math.isnan(value):
            assert math.isnan(ours[name]), name
        else:
            assert abs(ours[name] - value) <= TOLERANCE, (name, ours[name], value)
