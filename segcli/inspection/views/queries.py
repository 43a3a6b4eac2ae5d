"""What each learnable query does, measured over images: where its masks lie, what it finds, how often it is used."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.data.loading.transforms import boxes_of
from segcli.inspection.views.photo import OpenedPhoto, batch_of, check_finite, looking
from segcli.postprocess.tiles import class_probabilities, coarse_logits, mask_probabilities
from segcli.render.views.queries import QueryStatistics
from segcli.types import Frame, MergeRule, QueryPredictions
from segcli.weights.checkpoint import LoadedModel

GRID = 64  # cells of a mean mask a side, whatever the image's shape


class QueryCensus:
    """Counts what the queries do, image after image; memory grows by one box per image only."""

    def __init__(self, names: list[str], rule: MergeRule) -> None:
        """names: the model's classes. rule: when a query is used (its `score`), and when a pixel is its."""
        self.names, self.rule = names, rule
        self.images = 0
        self._wins = np.zeros((0, len(names)), dtype=np.int64)
        self._sums = np.zeros((0, GRID, GRID))
        self._boxes: list[np.ndarray] = []

    @torch.inference_mode()
    def count(self, prediction: QueryPredictions, frame: Frame) -> None:
        """The first image of a prediction.

        A query is used if its best class is an object's, with a probability above `rule.score`, and its mask has a
        pixel (a model without masks: its box has an area).
        """
        probabilities = class_probabilities(prediction, 0)  # [Q, K + 1]
        if not self.images:
            self._wins = np.zeros((len(probabilities), len(self.names)), dtype=np.int64)
            self._sums = np.zeros((len(probabilities), GRID, GRID))
        self.images += 1
        scores, classes = probabilities.max(-1)
        found = (classes < len(self.names)) & (scores > self.rule.score)
        places = found.nonzero().squeeze(1)
        shown, boxes = _seen(prediction, places, frame, self.rule)
        used = np.flatnonzero((boxes[:, 2:] > 0).all(1))
        queries = places.numpy()[used]
        self._wins[queries, classes.numpy()[queries]] += 1
        self._sums[queries] += shown[used]
        self._boxes.append(np.concatenate([queries[:, None], boxes[used]], axis=1))

    def result(self) -> QueryStatistics:
        """What was counted."""
        used = self._wins.sum(1)
        boxes = np.concatenate(self._boxes) if self._boxes else np.zeros((0, 5))
        return QueryStatistics(
            images=self.images,
            names=tuple(self.names),
            wins=self._wins,
            mean_masks=(self._sums / np.maximum(used, 1)[:, None, None]).astype(np.float32),
            boxes=boxes[:, 1:].astype(np.float32),
            box_queries=boxes[:, 0].astype(np.int64),
        )


def count_queries(loaded: LoadedModel, photos: Iterable[OpenedPhoto], rule: MergeRule) -> QueryStatistics:
    """Run the network over photos, one at a time, and count.

    Raises CheckpointError if its output is not finite.
    """
    census = QueryCensus(loaded.spec.labels.names, rule)
    for photo in photos:
        prepared = photo.prepared(loaded)
        with looking(photo.path):
            prediction: QueryPredictions = loaded.model(batch_of(loaded, prepared))[-1]
            check_finite([prediction], loaded)
            census.count(prediction, prepared.frame)
    return census.result()


def _seen(
    prediction: QueryPredictions, queries: Tensor, frame: Frame, rule: MergeRule
) -> tuple[np.ndarray, np.ndarray]:
    """Some queries of the first image -> mask probabilities [N, GRID, GRID] over the photo, and their boxes [N, 4]
    cxcywh relative to it: the model's own where it has some, else those of the masks; zeros for an empty mask.
    """
    own = None if prediction.boxes is None else prediction.boxes[0, queries].float().cpu()
    if prediction.masks is None:
        assert own is not None
        return _filled(own), own.numpy()
    if rule.normalise == "softmax":  # a share of all queries' masks, not of these alone
        every = torch.arange(prediction.classes.shape[1])
        probabilities = mask_probabilities(coarse_logits(prediction, 0, every), rule)[queries]
    else:
        probabilities = mask_probabilities(coarse_logits(prediction, 0, queries), rule)
    least = 0.5 if rule.mask_min is None else rule.mask_min
    share = [resized / padded for resized, padded in zip(frame.resized, frame.padded, strict=True)]
    height, width = (axis * part for axis, part in zip(probabilities.shape[1:], share, strict=True))
    photo = probabilities[:, : max(1, round(height)), : max(1, round(width))]
    shown = F.interpolate(photo[:, None], size=(GRID, GRID), mode="area")[:, 0].numpy()
    boxes = _tight_boxes((photo >= least).numpy())
    return shown, boxes if own is None else np.where(boxes[:, 2:3] > 0, own.numpy(), 0)


def _tight_boxes(masks: np.ndarray) -> np.ndarray:
    """bool [N, h, w] -> float [N, 4] cxcywh relative to (w, h), zeros where a mask is empty."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    some = np.flatnonzero(masks.any(axis=(1, 2)))
    boxes[some] = boxes_of(masks[some])
    return boxes


def _filled(boxes: Tensor) -> np.ndarray:
    """Boxes [N, 4] cxcywh in [0, 1] -> [N, GRID, GRID], 1 inside."""
    at = (torch.arange(GRID) + 0.5) / GRID
    inside = [
        (at[None] - boxes[:, axis, None]).abs() <= boxes[:, axis + 2, None] / 2 for axis in (1, 0)
    ]  # rows, columns
    return (inside[0][:, :, None] & inside[1][:, None, :]).float().numpy()
