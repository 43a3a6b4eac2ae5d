#!/usr/bin/env python3
"""Segment photos with the model in this folder. Needs Python 3.10, numpy, pillow 10.1, and onnxruntime (openvino for
model.xml), or newer ones.

    python predict.py photo.jpg photos/*.png --task panoptic --out results

For each photo it writes results/NAME.json (classes, scores, areas, boxes) and results/NAME.png (a map of ids), as
`segcli predict --save png,json` does: the same resizing, padding, tiles, merging and thresholds, read from config.json.
It is one file, long as it is, so that it can be copied along with the model and read from top to bottom.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
STRIP = 64  # rows of the photo computed at a time
Result = dict[str, Any]  # labels, scores, best, and either a map of ids [H, W] (0 = nothing) or a list of masks

# ------------------------------------------------------------------------------------------------------- network


def open_graph(device: str) -> Any:
    """-> a function from the graph's inputs, by name, to its outputs, by name."""
    if not any((HERE / file).exists() for file in ("model.onnx", "model.xml")):
        sys.exit(f"{HERE}: neither model.onnx nor model.xml is there; copy the whole folder again, or export it again")
    name = "openvino" if (HERE / "model.xml").exists() else "onnxruntime"
    try:
        return in_openvino(device) if name == "openvino" else in_onnx_runtime(device)
    except ImportError as error:
        sys.exit(f"predict.py cannot import {name} ({error}): pip install numpy pillow {name}")
    except Exception as error:  # what the runtimes raise has no common base
        reason = (str(error).strip().splitlines() or ["?"])[-1][:160]
        sys.exit(
            f"{HERE}: the model cannot be opened on {device} ({reason}); use --device cpu, or copy the folder again"
        )


def in_openvino(device: str) -> Any:
    """In fp32, which OpenVINO by itself does not do everywhere."""
    import openvino

    model = openvino.Core().compile_model(HERE / "model.xml", device.upper(), {"INFERENCE_PRECISION_HINT": "f32"})
    names = {port.any_name for port in model.inputs}
    return lambda inputs: {
        port.any_name: array
        for port, array in model({key: value for key, value in inputs.items() if key in names}).items()
    }


def in_onnx_runtime(device: str) -> Any:
    """On the provider whose name begins with the device's."""
    import onnxruntime

    here = onnxruntime.get_available_providers()
    wanted = [provider for provider in here if provider.lower().startswith(device.lower())]
    if not wanted:
        raise ValueError(f"this ONNX Runtime has {', '.join(here)}")
    providers = list(dict.fromkeys([*wanted, "CPUExecutionProvider"]))
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=providers)
    inputs_there = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = session.run(outputs, {key: value for key, value in inputs.items() if key in inputs_there})
        return dict(zip(outputs, answers, strict=True))

    return run


def resized_size(height: int, width: int, size: dict[str, Any]) -> tuple[int, int]:
    """The short side becomes size["short"], unless the long side would pass size["long"]."""
    short, long = size["short"], size["long"]
    if size["rounding"] == "even":
        factor = min(short / height, short / width)
        return max(1, round(height * factor)), max(1, round(width * factor))
    if size["rounding"] == "down":
        least, most = min(height, width), max(height, width)
        short = short if most / least * short <= long else max(1, round(long * least / most))
        other = int(short * most / least)
        return (short, other) if height < width else (other, short)
    scale = short / min(height, width)
    h, w = (short, scale * width) if height < width else (scale * height, short)
    if max(h, w) > long:
        h, w = h * (long / max(h, w)), w * (long / max(h, w))
    return max(1, int(h + 0.5)), max(1, int(w + 0.5))


class Misfit(ValueError):
    """A photo that this model does not take."""


def ask(run: Any, image: np.ndarray, table: dict[str, Any], export: dict[str, Any]) -> tuple[dict, tuple]:
    """image uint8 [H, W, 3] -> the graph's outputs for it, and its sizes (original, resized, padded).

    export: the graph's own size and number of images, None for any. Raises Misfit for a photo of another size.
    """
    original = image.shape[:2]
    height, width = resized_size(original[0], original[1], table["size"])
    frame, divisor = table["size"].get("frame", "multiple"), table["size"]["divisor"]
    if frame == "windows":
        sys.exit("this model averages windows of a photo, which this file does not; use segcli predict")
    sides = (height, width) if frame == "multiple" else (max(table["size"]["short"], height, width),) * 2
    padded = (-(-sides[0] // divisor) * divisor, -(-sides[1] // divisor) * divisor)
    if export["size"] and tuple(export["size"]) != padded:
        takes, gets = ("x".join(map(str, sides)) for sides in (export["size"], padded))
        raise Misfit(f"becomes {gets} pixels (height x width), this model takes {takes}; export without --size")
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    mean, std = np.array(table["mean"], np.float32), np.array(table["std"], np.float32)
    count = export["batch"] or 1  # a graph of a fixed number gets zeros beside the photo
    pixels = np.zeros((count, 3, *padded), np.float32)
    if table["size"].get("fill") == "black":
        pixels[0] = (-mean / std)[:, None, None]
    pixels[0, :, :height, :width] = ((small - mean) / std).transpose(2, 0, 1)
    padding = np.ones((count, *padded), bool)
    padding[0, :height, :width] = False
    return run({"images": pixels, "padding": padding}), (original, (height, width), padded)


def coarse_masks(outputs: dict[str, np.ndarray], queries: np.ndarray) -> np.ndarray:
    """Mask logits of some queries at the network's stride, float32 [N, h, w]."""
    if "mask_logits" in outputs:
        return outputs["mask_logits"][0, queries].astype(np.float32)
    features = outputs["mask_features"][0].astype(np.float32)
    embeddings = outputs["mask_embeddings"][0, queries].astype(np.float32)
    return (embeddings @ features.reshape(len(features), -1)).reshape(-1, *features.shape[1:])


# ------------------------------------------------------------------------------------------------- logits to pixels


def axis(size: int, *steps: tuple[int, int]) -> np.ndarray:
    """Bilinear resizing (corners not aligned) of one axis as a matrix; steps of (resize to, keep the first)."""
    matrix = np.eye(size, dtype=np.float32)
    for length, kept in steps:
        if length != len(matrix):
            at = np.maximum((np.arange(length) + 0.5) * (len(matrix) / length) - 0.5, 0).astype(np.float32)
            first = at.astype(np.int64)
            share = (at - first)[:, None]
            matrix = (1 - share) * matrix[first] + share * matrix[np.minimum(first + 1, len(matrix) - 1)]
        matrix = matrix[:kept]
    return matrix


def strips(logits: np.ndarray, frame: tuple, size: str = "photo") -> Any:
    """Yields (first row, logits [N, rows, W]) of the whole photo, or of the network's input without its padding."""
    original, resized, padded = frame
    ends = [
        [(p, r), (o, o)] if size == "photo" else [(p, r)] for o, r, p in zip(original, resized, padded, strict=True)
    ]
    rows, columns = (axis(side, *steps) for side, steps in zip(logits.shape[1:], ends, strict=True))
    for top in range(0, len(rows), STRIP):
        band = rows[top : top + STRIP]
        used = np.flatnonzero(band.any(0))
        part = slice(used[0], used[-1] + 1)
        yield top, band[:, part] @ (logits[:, part] @ columns.T)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Without overflow."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x)))).astype(np.float32)


def softmax(x: np.ndarray, over: int) -> np.ndarray:
    """Along one axis."""
    e = np.exp(x - x.max(over, keepdims=True))
    return e / e.sum(over, keepdims=True)


def probabilities(logits: np.ndarray, rule: dict[str, Any]) -> np.ndarray:
    """Mask logits [N, ...] -> each mask by itself, or shared among them."""
    return sigmoid(logits) if rule["normalise"] == "sigmoid" else softmax(logits, 0)


def main_part(logits: np.ndarray, share: float, least: float = 0.5) -> None:
    """Connected parts of the mask [h, w] smaller than a share of its largest are mirrored to below the threshold."""
    level = math.log(least / (1 - least))
    rows, columns = (np.flatnonzero((logits > level).any(over)) for over in (1, 0))
    if not len(rows):
        return
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    logits = logits[box]  # a view, which is written to
    mask = logits > level
    parts = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.int64)
    parts[1:-1, 1:-1] = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:  # the greatest number among the neighbours spreads until every part has one
        wide = np.maximum(np.maximum(parts[:-2], parts[1:-1]), parts[2:])
        spread = np.where(mask, np.maximum(np.maximum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:]), 0)
        if np.array_equal(spread, parts[1:-1, 1:-1]):
            break
        parts[1:-1, 1:-1] = spread
    areas = np.bincount(spread.ravel())
    areas[0] = 0
    specks = ((areas > 0) & (areas < share * areas.max()))[spread]
    logits[specks] = 2 * np.float32(level) - logits[specks]


# ----------------------------------------------------------------------------------------------------------- tasks


def panoptic(outputs: dict, frame: tuple, table: dict[str, Any]) -> Result:
    """Every pixel to one query, queries to segments."""
    rule, things = table["rule"], np.array([x["isthing"] for x in table["labels"]])
    chances = softmax(outputs["class_logits"][0].astype(np.float32), -1)
    classes, scores = chances.argmax(-1), chances.max(-1)
    kept = np.flatnonzero((classes != len(things)) & (scores > rule["score"]))
    logits, classes, scores = coarse_masks(outputs, kept), classes[kept], scores[kept]
    least = 0.5 if rule["mask_min"] is None else rule["mask_min"]
    for k in np.flatnonzero(things[classes]) if rule["part_min"] else []:
        main_part(logits[k], rule["part_min"], least)
    while True:
        owners, segments, seen = vote(logits, classes, scores, frame, rule, things, least)
        specks = [k for members in segments if seen[members].sum() <= rule["min_area"] for k in members]
        if not specks:
            break
        rest = np.setdiff1d(np.arange(len(scores)), specks)  # the pixels of specks go to the runners-up
        logits, classes, scores = logits[rest], classes[rest], scores[rest]
    best = np.array([scores[members].max() for members in segments], np.float32)
    order = np.argsort(-best, kind="stable")
    numbers = np.zeros(len(scores) + 1, np.int32)
    for number, segment in enumerate(order, 1):
        numbers[np.array(segments[segment]) + 1] = number
    labels = np.array([classes[segments[s][0]] for s in order], np.int64)
    return {"labels": labels, "scores": best[order], "map": numbers[owners], "best": chances[:, :-1].max()}


def vote(logits: Any, classes: Any, scores: Any, frame: tuple, rule: dict, things: Any, least: float) -> tuple:
    """-> the owner of every pixel (query + 1, 0 = nobody), the queries of each segment, the visible pixels of each."""
    owners = np.zeros(frame[0], np.int32)
    won, mask, seen = (np.zeros(len(scores), np.int64) for _ in range(3))
    weights = scores[:, None, None] if rule["normalise"] == "sigmoid" else np.float32(1)
    for top, strip in strips(logits, frame) if len(scores) else []:
        chance = probabilities(strip, rule)
        first = (chance * weights).argmax(0)
        inside = chance >= least
        visible = np.take_along_axis(inside, first[None], 0)[0] | (rule["mask_min"] is None)
        won += np.bincount(first.ravel(), minlength=len(scores))
        seen += np.bincount(first[visible], minlength=len(scores))
        mask += inside.sum((1, 2))
        owners[top : top + strip.shape[1]] = np.where(visible, first + 1, 0)
    segments: list[list[int]] = []
    stuff: dict[int, list[int]] = {}
    for k, label in enumerate(classes.tolist()):
        if not seen[k] or (rule["overlap"] > 0 and (not mask[k] or won[k] / mask[k] < rule["overlap"])):
            continue
        if label in stuff:
            stuff[label].append(k)
            continue
        segments.append([k])
        if not things[label]:
            stuff[label] = segments[-1]
    return owners, segments, seen


def instance(outputs: dict, frame: tuple, table: dict[str, Any], least: float) -> Result:
    """The best pairs of query and class (or every query with its best class), each with its own mask."""
    rule, things = table["rule"], np.array([x["isthing"] for x in table["labels"]])
    chances = softmax(outputs["class_logits"][0].astype(np.float32), -1)[:, :-1]
    if rule["instances"] == "queries":
        queries = np.argsort(-chances.max(1), kind="stable")
        classes = chances.argmax(1)[queries]
    else:
        places = np.argsort(-chances, axis=None, kind="stable")[: rule["top_k"]]
        queries, classes = places // len(things), places % len(things)
    kept = things[classes] & (chances[queries, classes] >= least)
    queries, classes = queries[kept], classes[kept]
    scores, masks = chances[queries, classes], {}
    for query in np.unique(queries):
        logits = coarse_masks(outputs, np.array([query]))
        if rule["part_min"]:
            main_part(logits[0], rule["part_min"])
        full = np.concatenate([strip[0] for _, strip in strips(logits, frame)])
        inside = full > 0
        masks[query] = inside, float(sigmoid(full[inside]).sum(dtype=np.float64)) / (inside.sum() + 1e-6)
    if rule["instances"] == "pairs":
        scores = scores * np.array([masks[q][1] for q in queries], np.float32)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    found = {"labels": classes[order], "scores": scores[order], "masks": [masks[q][0] for q in queries[order]]}
    found["best"] = chances[:, things].max() if things.any() else 0.0
    return found if rule["repeat_iou"] is None else without_repeats(found, rule["repeat_iou"])


def semantic(outputs: dict, frame: tuple, table: dict[str, Any]) -> Result:
    """The class of every pixel: argmax of the sum over queries of class probability × mask probability."""
    rule = table["rule"]
    chances = softmax(outputs["class_logits"][0].astype(np.float32), -1)[:, :-1]
    logits = coarse_masks(outputs, np.arange(len(chances)))
    combine = rule["combine"] or ("padded" if table["tasks"] == ["semantic"] else "photo")
    rows = []
    for _, strip in strips(logits, frame, combine):
        rows.append(np.tensordot(chances.T, probabilities(strip, rule), 1))
        if combine == "photo":
            rows[-1] = rows[-1].argmax(0)
    if combine == "padded":  # class scores are made at the network's input size and resized
        scores = np.concatenate(rows, 1)
        y, x = (axis(r, (o, o)) for o, r in zip(frame[0], frame[1], strict=True))
        rows = [(y[i : i + STRIP] @ (scores @ x.T)).argmax(0) for i in range(0, len(y), STRIP)]
    classes = np.concatenate(rows)
    present = np.unique(classes)
    nothing = np.full(len(present), np.nan, np.float32)
    return {
        "labels": present,
        "scores": nothing,
        "map": np.searchsorted(present, classes).astype(np.int32) + 1,
        "best": chances.max(),
    }


def detect(outputs: dict, frame: tuple, table: dict[str, Any], least: float) -> Result:
    """Every query with its best class and its box, whose pixels stand for a mask."""
    things = np.array([x["isthing"] for x in table["labels"]])
    chances = softmax(outputs["class_logits"][0].astype(np.float32), -1)[:, :-1]
    scores, classes = chances.max(1), chances.argmax(1)
    order = np.argsort(-scores, kind="stable")
    order = order[(scores[order] >= least) & things[classes[order]]]
    masks, (height, width) = [], frame[0]
    for x, y, w, h in outputs["boxes"][0, order].astype(np.float64):
        ends = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * [width, height, width, height]
        x0, y0 = (max(0, math.floor(v + 1e-3)) for v in ends[:2])
        masks.append(np.zeros(frame[0], bool))
        masks[-1][y0 : max(0, math.ceil(ends[3] - 1e-3)), x0 : max(0, math.ceil(ends[2] - 1e-3))] = True
    best = chances[:, things].max() if things.any() else 0.0
    return {"labels": classes[order], "scores": scores[order], "masks": masks, "best": best}


def without_repeats(found: Result, iou: float) -> Result:
    """Of instances of one class that overlap by at least this IoU only the best stays; best first."""
    masks, labels = found["masks"], found["labels"]
    areas, alive = np.array([int(mask.sum()) for mask in masks]), np.ones(len(masks), bool)
    starts, stops = (np.array([corner(mask, last) for mask in masks]).reshape(-1, 2) for last in (False, True))
    for i, mask in enumerate(masks):
        both = areas + areas[i]
        rivals = alive & (labels == labels[i]) & (np.minimum(areas, areas[i]) * (1 + iou) >= iou * both)
        rivals &= (starts < stops[i]).all(1) & (starts[i] < stops).all(1)
        rivals[: i + 1] = False
        for j in np.flatnonzero(rivals) if alive[i] else []:
            (y0, x0), (y1, x1) = np.maximum(starts[i], starts[j]), np.minimum(stops[i], stops[j])
            common = int((mask[y0:y1, x0:x1] & masks[j][y0:y1, x0:x1]).sum())
            alive[j] = common == 0 or common < iou * (both[j] - common)
    return keep(found, alive)


def corner(mask: np.ndarray, last: bool) -> tuple[int, int]:
    """Row and column where a mask begins, or the ones after it ends; 0, 0 if it is empty."""
    rows, columns = (np.flatnonzero(mask.any(over)) for over in (1, 0))
    if not len(rows):
        return 0, 0
    return (int(rows[-1]) + 1, int(columns[-1]) + 1) if last else (int(rows[0]), int(columns[0]))


def keep(found: Result, alive: np.ndarray) -> Result:
    """Some of the instances."""
    masks = [mask for mask, stays in zip(found["masks"], alive, strict=True) if stays]
    return found | {"labels": found["labels"][alive], "scores": found["scores"][alive], "masks": masks}


# ----------------------------------------------------------------------------------------------------------- tiles


def spans(length: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """Evenly spaced windows along one side, that share at least `overlap` of their length."""
    if length <= tile:
        return [(0, length)]
    count = 1 + math.ceil((length - tile) / max(1, math.floor(tile * (1 - overlap))))
    return [(i * (length - tile) // (count - 1), i * (length - tile) // (count - 1) + tile) for i in range(count)]


def in_tiles(answer: Any, image: np.ndarray, table: dict[str, Any], task: str) -> Result:
    """Predict overlapping windows and merge them: a thing that two windows see in the band they share is one.

    Instances below the rule's score are left out once they are whole: none of them could replace a better one.
    """
    height, width = image.shape[:2]
    size = table["size"]
    side = size["tile"]
    if size.get("tile_for"):
        side = max(1, round(side * min(height, width) / size["tile_for"]))
    rows, columns = (spans(n, side, size["tile_overlap"]) for n in (height, width))
    cut = [[0, *((b[0] + a[1]) // 2 for a, b in pairwise(s)), s[-1][1]] for s in (rows, columns)]
    total = np.zeros((height, width), np.int32)  # part + 1
    labels: list[int] = []
    scores: list[float] = []
    parents: list[int] = []
    pieces: list[tuple[int, int, np.ndarray]] = []  # of instances
    merged: dict[int, int] = {}
    views: list[tuple[tuple[int, int, int, int], Result, list[int]]] = []
    best = -math.inf
    for r, (y0, y1) in enumerate(rows):
        for c, (x0, x1) in enumerate(columns):
            found = answer(image[y0:y1, x0:x1])
            found = without_repeats(found, 0.6) if "masks" in found else found
            best, ids = max(best, float(found["best"])), []
            for i, label in enumerate(found["labels"].tolist()):
                score = float(found["scores"][i])
                one = task == "semantic" or not table["labels"][label]["isthing"]  # a class is one segment
                if one and label in merged:
                    ids.append(merged[label])
                    scores[ids[-1]] = max(scores[ids[-1]], score)
                    continue
                ids.append(len(labels))
                labels.append(label)
                scores.append(score)
                parents.append(ids[-1])
                if one:
                    merged[label] = ids[-1]
                if "masks" in found:
                    pieces.append((x0, y0, found["masks"][i]))
            for other in views if task != "semantic" else []:
                join(other, ((x0, y0, x1, y1), found, ids), table["labels"], labels, scores, parents)
            views.append(((x0, y0, x1, y1), found, ids))
            if "map" in found:  # in its own part of the photo before others, elsewhere where nobody else has spoken
                said = np.array([0, *(i + 1 for i in ids)], np.int32)[found["map"]]
                there = total[y0:y1, x0:x1]
                there[there == 0] = said[there == 0]
                own = np.s_[cut[0][r] - y0 : cut[0][r + 1] - y0, cut[1][c] - x0 : cut[1][c + 1] - x0]
                there[own] = np.where(said[own] != 0, said[own], there[own])
    roots = np.array([root(parents, i) for i in range(len(labels))], np.int64)
    top = np.full(len(labels), np.nan, np.float32)
    np.fmax.at(top, roots, np.array(scores, np.float32))
    seen = np.unique(total)
    shown = np.unique(roots if task in ("instance", "detect") else roots[seen[seen > 0] - 1])
    rank = np.array(labels)[shown] if task == "semantic" else -top[shown]
    shown = shown[np.argsort(rank, kind="stable")]
    result: Result = {"labels": np.array(labels, np.int64)[shown], "scores": top[shown], "best": best}
    if task in ("instance", "detect"):
        shown = shown[top[shown] >= table["rule"]["instance_score"]]
        result |= {"labels": np.array(labels, np.int64)[shown], "scores": top[shown], "masks": []}
        for segment in shown.tolist():
            result["masks"].append(np.zeros((height, width), bool))
            for i in np.flatnonzero(roots == segment).tolist():
                x, y, mask = pieces[i]
                result["masks"][-1][y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
        return without_repeats(result, 0.6)
    numbers = np.zeros(len(labels) + 1, np.int32)
    numbers[shown + 1] = np.arange(1, len(shown) + 1)
    numbers[1:] = numbers[roots + 1]
    return result | {"map": numbers[total]}


def join(one: tuple, other: tuple, classes: list, labels: list[int], scores: list[float], parents: list[int]) -> None:
    """Things that are each other's best match (IoU × score) in the band two windows share become one."""
    band = [f(a, b) for f, a, b in zip((max, max, min, min), one[0], other[0], strict=True)]
    if band[0] >= band[2] or band[1] >= band[3]:
        return
    sides = []
    for (x0, y0, _, _), found, ids in (one, other):
        region = np.s_[band[1] - y0 : band[3] - y0, band[0] - x0 : band[2] - x0]
        masks = {}
        for i, part in enumerate(ids):
            if classes[labels[part]]["isthing"]:
                mask = found["map"][region] == i + 1 if "map" in found else found["masks"][i][region]
                if mask.any():
                    masks[part] = mask
        sides.append(masks)
    left, right = sides
    if not left or not right:
        return
    pairs = [[(a & b).sum() if labels[i] == labels[j] else 0 for j, b in right.items()] for i, a in left.items()]
    common = np.array(pairs)
    areas = np.array([m.sum() for m in left.values()])[:, None], np.array([m.sum() for m in right.values()])[None]
    iou = common / (areas[0] + areas[1] - common)
    partner = (iou * np.array([scores[j] for j in right])).argmax(1)
    back = (iou * np.array([scores[i] for i in left])[:, None]).argmax(0)
    names = list(left), list(right)
    for i, j in enumerate(partner.tolist()):
        if back[j] == i and common[i].max() > 0 and common[i, j] >= 0.5 * min(areas[0][i, 0], areas[1][0, j]):
            parents[root(parents, names[1][j])] = root(parents, names[0][i])


def root(parents: list[int], part: int) -> int:
    """The first of the parts that were joined with this one."""
    while parents[part] != part:
        part = parents[part]
    return part


# --------------------------------------------------------------------------------------------------------- results


def rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            low, value = value & 31, value >> 5
            more = value != -1 if low & 16 else value != 0
            text += chr(low + 48 + 32 * more)
            if not more:
                break
    return {"size": list(mask.shape), "counts": text}


def id_map(found: Result, shape: tuple[int, int]) -> np.ndarray:
    """[H, W], value i + 1 = segment i, 0 = nothing; where instances overlap the better one wins."""
    if "map" in found:
        return found["map"]
    ids = np.zeros(shape, np.int32)
    for i in np.argsort(found["scores"], kind="stable"):
        ids[found["masks"][i]] = i + 1
    return ids


def record(path: Path, found: Result, table: dict[str, Any], task: str, shape: tuple[int, int]) -> dict[str, Any]:
    """What NAME.json says."""
    segments = []
    for i, label in enumerate(found["labels"].tolist()):
        mask = found["masks"][i] if "masks" in found else found["map"] == i + 1
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [int(xs[0]), int(ys[0]), int(xs[-1] + 1 - xs[0]), int(ys[-1] + 1 - ys[0])] if len(xs) else [0, 0, 0, 0]
        row, score = table["labels"][label], float(found["scores"][i])
        segment = {
            "id": i + 1,
            "category_id": row["id"],
            "category_name": row["name"],
            "score": None if math.isnan(score) else round(score, 6),
            "area": int(mask.sum()),
            "bbox": box,
            "isthing": row["isthing"],
        }
        if "color" in row:
            segment["color"] = row["color"]
        if "masks" in found:
            segment["segmentation"] = rle(mask)
        segments.append(segment)
    return {
        "file_name": path.name, "model": HERE.name, "input": table["size"], "rule": table["rule"], "task": task,
        "size": {"width": shape[1], "height": shape[0]}, "best_score": round(float(found["best"]), 6),
        "classes": table["labels"], "segments": segments,
    }  # fmt: skip


def write_png(path: Path, found: Result, table: dict[str, Any], task: str, shape: tuple[int, int]) -> None:
    """Panoptic: id = R + 256 G + 65536 B. Semantic: class ids. Instances: their numbers, in 16 bits."""
    ids = id_map(found, shape)
    if task == "panoptic":
        array = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    elif task == "semantic":
        narrow = max(x["id"] for x in table["labels"]) < 255
        values = [255 if narrow else 65535, *(table["labels"][i]["id"] for i in found["labels"])]
        array = np.array(values, np.uint8 if narrow else np.uint16)[ids]
    else:
        array = ids.astype(np.uint16)
    part = path.with_name(f".{path.name}.part")  # whole under its name, or not there
    Image.fromarray(array).save(part, "PNG")
    part.replace(path)


def read_photo(path: Path, levels: list[float] | None) -> np.ndarray:
    """uint8 RGB [H, W, 3], upright; what is transparent becomes white. levels: the values of deep pictures' black and
    white."""
    file = Image.open(path)
    if file.format == "EPS":
        raise OSError("EPS is a program, for which Pillow would start Ghostscript; save it as PNG")
    deep_colour = len(file.getbands()) > 1 and any(";16" in str(part) for part in file.tile)
    image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image)
        values = (np.nan_to_num(values, posinf=0.0, neginf=0.0) if values.dtype.kind == "f" else values).clip(0)
        if levels is None or not (levels[0] < values.max() and values.min() < levels[1]):
            levels = list(levels_of(values))
        return np.repeat(to_8bit(values, levels[0], levels[1])[:, :, None], 3, axis=2)
    if deep_colour and (np.asarray(image.convert("RGB")).max() < 64 or (levels is not None and levels[1] != 65535)):
        raise OSError("colours of 16 bits that it does not use, of which Pillow drops the lower 8; save it in 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.array(image.convert("RGB"))


def levels_of(values: np.ndarray) -> tuple[float, float]:
    """The values of a deep picture's black and white: the depth that all but a thousandth of its pixels stay in, or the
    part of it that they use if that is less than a sixteenth; of floats that are no counts 1, or what they reach."""
    ordered = np.sort(values.ravel())
    least, most = (float(ordered[max(0, math.ceil(share * len(ordered)) - 1)]) for share in (0.001, 0.999))
    if values.dtype.kind == "f" and most < 16:
        return (0.0, 1.0) if most <= 1.5 else (least, most)
    low, high = int(least), int(most)
    bits = max(8, high.bit_length() + high.bit_length() % 2)
    return (low, high) if bits > 8 and (high - low) << 4 < 1 << bits else (0, (1 << bits) - 1)


def to_8bit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Deep values as uint8: the high bits where the whole of a depth is used, else linear between the two."""
    bits = (int(high) + 1).bit_length() - 1
    if low == 0 and bits >= 8 and high + 1 == 1 << bits:
        return (values.clip(0).astype(np.uint32) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    scale = 255 / (high - low) if high > low else 255
    return ((values.clip(0).astype(np.float64) - low) * scale + 0.5).clip(0, 255).astype(np.uint8)


def main() -> int:
    """The command."""
    try:
        config = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
        table, export = config["segcli"], config["segcli_export"]
        export = {key: export[key] for key in ("size", "batch")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        sys.exit(f"{HERE / 'config.json'} cannot be used ({error}); copy the whole folder again, or export it again")
    parser = argparse.ArgumentParser(description="Segment photos with the model in this folder.")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--task", choices=table["tasks"], default=table["tasks"][0])
    parser.add_argument(
        *("--out", "-o"), type=Path, default=Path("segcli-out"), help="folder of NAME.png and NAME.json [segcli-out]"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, coreml, dml; gpu for OpenVINO")
    parser.add_argument("--threshold", type=share, help="least score of what is shown, from 0 to 1")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    args = parser.parse_args()
    rule, tiled = table["rule"], table["size"].get("tile")
    if args.threshold is not None:
        rule["score"] = rule["instance_score"] = args.threshold
    check_targets(args.photos, args.out, args.overwrite)
    run = open_graph(args.device)

    def answer(image: np.ndarray) -> Result:
        outputs, frame = ask(run, image, table, export)
        if args.task == "panoptic":
            return panoptic(outputs, frame, table)
        if args.task == "semantic":
            return semantic(outputs, frame, table)
        least = 0.0 if tiled else rule["instance_score"]  # an object in two tiles has the better score of both
        return (instance if args.task == "instance" else detect)(outputs, frame, table, least)

    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in args.photos:
        start = time.perf_counter()
        try:
            image = read_photo(path, table.get("levels"))
        except Exception as error:  # Pillow's parsers raise nearly anything on malformed data
            why = "no such file" if not path.exists() else "a folder; name its photos" if path.is_dir() else ""
            print(f"{path}: {why or f'no photo that can be read ({error})'}", file=sys.stderr)
            failed = 1
            continue
        try:
            found = in_tiles(answer, image, table, args.task) if tiled else answer(image)
        except Misfit as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = 1
            continue
        shape = image.shape[:2]
        about = record(path, found, table, args.task, shape)
        with contextlib.suppress(ValueError):  # of another drive
            about["photo"] = Path(os.path.relpath(path, args.out)).as_posix()
        text = json.dumps(about, ensure_ascii=False)
        part = args.out / f".{path.stem}.json.part"
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(args.out / f"{path.stem}.json")
        write_png(args.out / f"{path.stem}.png", found, table, args.task, shape)
        seconds = time.perf_counter() - start
        print(f"{path}: {len(found['labels'])} segments in {args.out / path.stem}.png and .json, {seconds:.2f} s")
    return failed


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return float(text)


def check_targets(photos: list[Path], out: Path, overwrite: bool) -> None:
    """Ends the program where a result would replace a photo, another photo's result, or an earlier one."""
    inputs = {photo.resolve() for photo in photos}
    names: dict[str, Path] = {}
    for photo in photos:
        results = [out / f"{photo.stem}{ending}" for ending in (".png", ".json")]
        if {result.resolve() for result in results} & inputs:
            sys.exit(f"{photo}: its result would replace a photo; choose another --out than {out}")
        if there := [str(result) for result in results if result.exists() and not overwrite]:
            sys.exit(f"{there[0]}: exists already; replace results with --overwrite, or choose another --out")
        other = names.setdefault(photo.stem.casefold(), photo)  # some disks take a.png and A.png for one
        if other.resolve() != photo.resolve():
            sys.exit(f"{other} and {photo} would have results of one name; give them in two calls with an --out each")


def in_one_line(error: Exception) -> str:
    """What went wrong outside of the photos: a package, the disk, or a folder that is not as it was exported."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, ImportError):
        return f"{reason}; install it with pip"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{HERE} cannot be used ({type(error).__name__}: {reason}); copy the whole folder again, or export it again"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(in_one_line(error))
