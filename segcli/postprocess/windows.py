"""Semantic inference over square windows of a photo, whose class scores are averaged where they overlap (EoMT)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.layers.resize import resize
from segcli.postprocess.semantic import as_segments
from segcli.postprocess.tiles import ID, class_probabilities, coarse_logits, mask_probabilities
from segcli.segments import Segments
from segcli.types import Frame, LabelSet, MergeRule, QueryPredictions

_AT_ONCE = 1 << 25  # scores at the photo's size that exist at a time


def semantic_windows(
    pred: QueryPredictions, index: int, starts: Sequence[int], frame: Frame, labels: LabelSet, rule: MergeRule
) -> Segments:
    """The class of every pixel of image `index`, whose windows are images `index` · n … of the prediction, n each.

    starts: [n], where the windows begin along the long side of the resized photo. A window's scores are made at its own
    size, Σ_q class probability × mask probability; their mean over windows is resized to the photo, and the greatest
    wins. Holds the scores of all classes at the resized size, 4 K h w bytes.
    """
    height, width = frame.resized
    side = min(height, width)
    total = torch.zeros(len(labels), height, width)
    count = torch.zeros(height, width)
    best = 0.0
    for number, start in enumerate(starts):
        covered, every = slice(start, start + side), slice(None)
        rows, columns = (covered, every) if height > width else (every, covered)
        window = index * len(starts) + number
        probabilities = class_probabilities(pred, window)[:, :-1]
        logits = coarse_logits(pred, window, torch.arange(len(probabilities)))
        masks = mask_probabilities(resize(logits[None], (side, side))[0], rule)
        total[:, rows, columns] += (probabilities.t() @ masks.flatten(1)).unflatten(1, (side, side))
        count[rows, columns] += 1
        best = max(best, float(probabilities.max()))
    return as_segments(_best(total / count, frame.original), labels, best)


def _best(scores: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Scores [K, h, w] -> the class with the greatest at each pixel of another size, ids [*size]."""
    step = max(1, _AT_ONCE // (size[0] * size[1]))
    value = torch.full(size, -torch.inf)
    winner = torch.zeros(size, dtype=torch.int64)
    for first in range(0, len(scores), step):
        part = F.interpolate(scores[None, first : first + step], size=size, mode="bilinear", align_corners=False)[0]
        greatest, which = part.max(0)
        better = greatest > value
        winner[better] = which[better] + first
        value = torch.maximum(value, greatest)
    return winner.numpy().astype(ID)
