"""AP beside pycocotools and PQ beside panopticapi, on the same files, in turn in one process on one thread.

    python benchmarks/metrics.py [--rounds 3]

The truth is that of 105 facade, 299 everyday and 120 COCO images. AP: 100 results an image, as models give them, made
of its true masks, moved and partly of another class; masks and boxes, from COCO entries in memory. PQ: the truth moved
by five pixels, from PNG and JSON files; and beside it from masks and id maps in memory, as a training run has
them (the peer reads its files all the same).
Prints medians, their ratio and the difference of the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # hotcoco's threads: as many as the peers use

import numpy as np

from segcli.codecs.panoptic_png import encode_panoptic_png, read_panoptic_png
from segcli.codecs.rle import RLE, encode
from segcli.data.dataset import Sample
from segcli.data.truth import MapTruth, ShapeTruth
from segcli.metrics import InstanceMetric, PanopticMetric
from segcli.segments import Segments
from segcli.types import CocoObjects, Label, LabelSet

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = 100  # an image
SHIFT = 5  # pixels


# ---------------------------------------------------------------------------------------------------------- AP


def instances(name: str) -> dict[str, Any]:
    """A COCO instances dataset; facade's is made from the things of its panoptic files."""
    if name != "facade":
        files = [
            DATA / name / f"instances_{split}.json" for split in (("train", "val") if name == "coco" else ("val",))
        ]
        parts = [json.loads(file.read_text()) for file in files]
        merged = {key: [entry for part in parts for entry in part[key]] for key in ("images", "annotations")}
        return merged | {"categories": parts[0]["categories"]}
    panoptic = json.loads((DATA / name / "panoptic_val.json").read_text())
    things = [entry for entry in panoptic["categories"] if entry["isthing"]]
    annotations: list[dict[str, Any]] = []
    for entry in panoptic["annotations"]:
        ids = read_panoptic_png(DATA / name / "panoptic_val" / entry["file_name"])
        for info in entry["segments_info"]:
            if any(info["category_id"] == thing["id"] for thing in things):
                rle = encode(ids == info["id"])
                shape = {"segmentation": rle.to_coco(), "area": rle.area, "bbox": list(rle.bbox)}
                annotations.append(info | shape | {"id": len(annotations) + 1, "image_id": entry["image_id"]})
    return {"images": panoptic["images"], "annotations": annotations, "categories": things}


def made_results(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """RESULTS an image: true masks moved by up to 8 pixels, every third of some other class."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    rng, results = np.random.default_rng(0), []
    ids = [entry["id"] for entry in dataset["categories"]]
    for image in dataset["images"]:
        own = [coco.anns[i] for i in coco.getAnnIds(imgIds=[image["id"]])]
        masks = [coco.annToMask(annotation) for annotation in own]
        for number in range(RESULTS if own else 0):
            pick = number % len(own)
            rle = encode(np.roll(masks[pick], rng.integers(-8, 9, 2), axis=(0, 1)))
            category = int(rng.choice(ids)) if number % 3 == 0 else own[pick]["category_id"]
            result = {"image_id": image["id"], "category_id": category, "score": float(rng.random())}
            results.append(result | {"segmentation": rle.to_coco()})
    return results


def pycocotools_ap(dataset: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """AP of masks and of boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    found, values = coco.loadRes([dict(entry) for entry in results]), []  # it writes into them
    for kind in ("segm", "bbox"):
        evaluation = COCOeval(coco, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        values.append(float(evaluation.stats[0]))
    return values


def as_segcli(
    image: dict[str, Any], annotations: list[dict[str, Any]], results: list[dict[str, Any]], labels: LabelSet
) -> tuple[Segments, Sample]:
    """One image's entries as an evaluation of files has them."""
    size, place = (image["height"], image["width"]), {label.id: index for index, label in enumerate(labels)}
    found = sorted(results, key=lambda entry: -entry["score"])
    segments = Segments(
        "instance",
        size,
        labels,
        np.array([place[entry["category_id"]] for entry in found], dtype=np.int64),
        np.array([entry["score"] for entry in found]),
        rles=tuple(RLE.from_coco(entry["segmentation"]) for entry in found),
    )
    stated = CocoObjects(tuple(annotations), None)
    truth = ShapeTruth(size, [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), stated)
    photo = np.broadcast_to(np.uint8(0), (*size, 3))
    return segments, Sample(photo, truth, Path(image["file_name"]), str(image["id"]))


def segcli_ap(dataset: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """The same, one image at a time."""
    labels = LabelSet(tuple(Label(entry["id"], entry["name"], True) for entry in dataset["categories"]))
    metric, sides = InstanceMetric(labels), []
    for entries in (dataset["annotations"], results):
        by_image = defaultdict(list)
        for entry in entries:
            by_image[entry["image_id"]].append(entry)
        sides.append(by_image)
    for image in dataset["images"]:
        metric.update(*as_segcli(image, *(side[image["id"]] for side in sides), labels))
    summary = metric.compute().summary
    return [summary["AP"], summary["box AP"]]


# ---------------------------------------------------------------------------------------------------------- PQ


def panoptic_of_instances(dataset: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A COCO panoptic dataset of an instance one, written to `folder`: smaller objects on top."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    entries = []
    for image in dataset["images"]:
        own = sorted((coco.anns[i] for i in coco.getAnnIds(imgIds=[image["id"]])), key=lambda a: -a["area"])
        ids = np.zeros((image["height"], image["width"]), dtype=np.int32)
        for number, annotation in enumerate(own):
            ids[coco.annToMask(annotation).astype(bool)] = number + 1
        infos = [
            {"id": n + 1, "category_id": a["category_id"], "iscrowd": a["iscrowd"], "area": int((ids == n + 1).sum())}
            for n, a in enumerate(own)
        ]
        file = f"{image['id']}.png"
        (folder / file).write_bytes(encode_panoptic_png(ids))
        kept = [info for info in infos if info["area"]]
        entries.append({"image_id": image["id"], "file_name": file, "segments_info": kept})
    categories = [entry | {"isthing": 1} for entry in dataset["categories"]]
    return {"images": dataset["images"], "annotations": entries, "categories": categories}


def moved(dataset: dict[str, Any], truth: Path, folder: Path) -> list[dict[str, Any]]:
    """The truth, moved by SHIFT pixels to the right, written to `folder`."""
    for entry in dataset["annotations"]:
        ids = read_panoptic_png(truth / entry["file_name"])
        (folder / entry["file_name"]).write_bytes(encode_panoptic_png(np.roll(ids, SHIFT, axis=1)))
    return list(dataset["annotations"])


def panopticapi_pq(dataset: dict[str, Any], truth: Path, found_entries: list[dict[str, Any]], found: Path) -> float:
    from panopticapi.evaluation import pq_compute_single_core

    categories = {entry["id"]: entry for entry in dataset["categories"]}
    pairs = list(zip(dataset["annotations"], copy.deepcopy(found_entries), strict=True))  # it writes into them
    counts = pq_compute_single_core(0, pairs, str(truth), str(found), categories)
    return float(counts.pq_average(categories, None)[0]["pq"])


def panoptic_labels(dataset: dict[str, Any]) -> LabelSet:
    return LabelSet(tuple(Label(e["id"], e["name"], bool(e["isthing"])) for e in dataset["categories"]))


def segcli_pq(dataset: dict[str, Any], truth: Path, found_entries: list[dict[str, Any]], found: Path) -> float:
    metric = PanopticMetric(panoptic_labels(dataset))
    labels = metric.labels
    for true_entry, entry in zip(dataset["annotations"], found_entries, strict=True):
        numbers, classes, _ = read_entry(entry, found, labels)
        scores = np.ones(len(classes), dtype=np.float32)
        segments = Segments("panoptic", numbers.shape, labels, classes, scores, numbers)
        metric.update(segments, in_pixels(true_entry, truth, labels))
    return metric.compute().value


def read_entry(entry: dict[str, Any], folder: Path, labels: LabelSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(numbers [H, W], classes [N], crowd [N]) of an annotation and its PNG."""
    places = {label.id: index for index, label in enumerate(labels)}
    ids, infos = read_panoptic_png(folder / entry["file_name"]), entry["segments_info"]
    classes = np.array([places[info["category_id"]] for info in infos], dtype=np.int64)
    crowd = np.array([bool(info["iscrowd"]) for info in infos], dtype=bool)
    order = np.argsort([info["id"] for info in infos])
    known = np.array([info["id"] for info in infos], dtype=np.int64)[order]
    place = np.searchsorted(known, ids).clip(max=max(0, len(known) - 1))
    numbers = np.where(known[place] == ids, order[place] + 1, 0) if len(known) else np.zeros_like(ids)
    return numbers.astype(np.int32), classes, crowd


def in_pixels(entry: dict[str, Any], folder: Path, labels: LabelSet) -> Sample:
    """The truth of an annotation as a dataset has it."""
    numbers, classes, crowd = read_entry(entry, folder, labels)
    photo = np.broadcast_to(np.uint8(0), (*numbers.shape, 3))
    return Sample(photo, MapTruth(numbers, classes, crowd), folder / entry["file_name"], str(entry["image_id"]))


def in_memory(dataset: dict[str, Any], truth: Path) -> list[tuple[Segments, Sample]]:
    """The same images as a training run has them."""
    labels = panoptic_labels(dataset)
    result = []
    for entry in dataset["annotations"]:
        sample = in_pixels(entry, truth, labels)
        numbers, classes, _ = read_entry(entry, truth, labels)
        found, scores = np.roll(numbers, SHIFT, axis=1).astype(np.uint16), np.ones(len(classes), dtype=np.float32)
        result.append((Segments("panoptic", numbers.shape, labels, classes, scores, found), sample))
    return result


def segcli_pq_in_memory(pictures: list[tuple[Segments, Sample]]) -> float:
    metric = PanopticMetric(pictures[0][0].label_set)
    for segments, truth in pictures:
        metric.update(segments, truth)
    return metric.compute().value


# ------------------------------------------------------------------------------------------------------ report


def silent() -> contextlib.redirect_stdout[io.StringIO]:
    """The peers print their progress."""
    return contextlib.redirect_stdout(io.StringIO())


def compare(title: str, images: int, peer: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> None:
    """Time both in turn and print one row."""
    times: dict[str, list[float]] = {"peer": [], "segcli": []}
    values: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in (("peer", peer), ("segcli", ours)):
            with silent():
                start = time.perf_counter()
                values[name] = np.atleast_1d(run())
                times[name].append(time.perf_counter() - start)
    theirs, mine = statistics.median(times["peer"]), statistics.median(times["segcli"])
    apart = float(np.abs(values["peer"] - values["segcli"]).max())
    value = " / ".join(f"{number:.4f}" for number in values["segcli"])
    each = f"{1000 * theirs / images:8.2f} {1000 * mine / images:8.2f}"
    print(f"{title:28} {images:5} {each}  {theirs / mine:6.1f}×   {value:17} {apart:.0e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{'':28} images   peer ms   segcli   faster   {'value':17} apart")
    for name in ("facade", "everyday", "coco"):
        with tempfile.TemporaryDirectory() as temporary:
            truth, found = Path(temporary) / "truth", Path(temporary) / "found"
            truth.mkdir()
            found.mkdir()
            with silent():
                dataset = instances(name)
                results = made_results(dataset)
                if name == "coco":
                    panoptic = panoptic_of_instances(dataset, truth)
                else:
                    truth = DATA / name / "panoptic_val"
                    panoptic = json.loads((DATA / name / "panoptic_val.json").read_text())
                entries = moved(panoptic, truth, found)
            ap = [partial(run, dataset, results) for run in (pycocotools_ap, segcli_ap)]
            compare(f"AP, {name}", len(dataset["images"]), *ap, rounds)
            pq = [partial(run, panoptic, truth, entries, found) for run in (panopticapi_pq, segcli_pq)]
            compare(f"PQ, {name}", len(entries), *pq, rounds)
            few = panoptic | {"annotations": panoptic["annotations"][:50]}
            peer = partial(panopticapi_pq, few, truth, entries[:50], found)
            compare(f"PQ, {name}, from memory", 50, peer, partial(segcli_pq_in_memory, in_memory(few, truth)), rounds)


if __name__ == "__main__":
    main()
