"""Semantic inference: every pixel to one class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segcli.layers.resample import extremes, resample
from segcli.postprocess.tiles import (
    ID,
    Grid,
    class_probabilities,
    coarse_logits,
    first_argmax,
    mask_probabilities,
    probability_bounds,
    renumber,
)
from segcli.segments import Segments
from segcli.types import Frame, LabelSet, MergeRule, QueryPredictions

_AT_ONCE = 12  # classes of a tile computed one by one; the others share one upper bound until it proves too weak
_ROUNDING = 1e-6  # of scores, which are sums of at most Q products of probabilities: closer is not taken for a proof


def semantic(
    pred: QueryPredictions, index: int, frame: Frame, labels: LabelSet, rule: MergeRule, *, combine_padded: bool
) -> Segments:
    """The class of every pixel of image `index` of a batch: argmax of Σ_q class probability × mask probability.

    combine_padded: sum at the network's input size and resize the classes' scores, as semantic-only checkpoints are
        evaluated; otherwise resize the mask logits and sum at the photo's size.
    Segments are the classes present, in class order; they have no scores (NaN).
    """
    probabilities = class_probabilities(pred, index)[:, :-1]
    logits = coarse_logits(pred, index, torch.arange(len(probabilities)))
    coarse = (logits.shape[1], logits.shape[2])
    grid = Grid.in_two_steps(frame, coarse) if combine_padded else Grid.of(frame, coarse)
    classes = _classes(logits, probabilities, grid, rule)
    present = np.flatnonzero(_histogram(classes, probabilities.shape[1]))
    numbers = np.zeros(probabilities.shape[1], dtype=ID)
    numbers[present] = np.arange(1, len(present) + 1)
    return Segments(
        task="semantic",
        size=frame.original,
        label_set=labels,
        labels=present.astype(np.int64),
        scores=np.full(len(present), np.nan, dtype=np.float32),
        map=renumber(classes, numbers),
        best_score=float(probabilities.max()),
    )


def _classes(logits: Tensor, probabilities: Tensor, grid: Grid, rule: MergeRule) -> np.ndarray:
    """Class index of every pixel [H, W] from coarse logits [Q, h, w] and class probabilities [Q, K]."""
    low, high = probability_bounds(*extremes(logits, *grid.sources), rule)
    upper, leader = _rivals(low.flatten(1), high.flatten(1), probabilities)
    alone = (upper > 0).sum(0) == 0
    result = grid.paint(leader.view(grid.pixels.shape))
    columns = len(grid.columns)
    for tile in (~alone).nonzero().flatten().tolist():
        row, column = divmod(tile, columns)
        result[grid.rows[row].out, grid.columns[column].out] = _tile(
            logits, probabilities, upper[:, tile], grid, row, column, rule
        ).numpy()
    return result


def _rivals(low: Tensor, high: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Which classes can win in which tiles, from bounds of the mask probabilities [Q, T].

    Class c loses to class d all over a tile if Σ_q (P_qc − P_qd) m_q < 0 for every mask probability m between the
    bounds; with m = middle ± half that sum is at most Σ_q (P_qc − P_qd) middle_q + |P_qc − P_qd| half_q.

    Returns:
        that bound + rounding for every class against the tile's leader [K, T], −inf for the leader itself, and the
        leader [T], the class with the greatest score in the middle.
    """
    middle, half = (high + low) / 2, (high - low) / 2
    score = probabilities.t() @ middle  # [K, T]
    leader = first_argmax(score.unsqueeze(-1)).squeeze(-1).long()
    upper = score - score.gather(0, leader.unsqueeze(0)) + _ROUNDING
    for best in leader.unique().tolist():
        tiles = leader == best
        upper[:, tiles] += (probabilities - probabilities[:, best : best + 1]).abs().t() @ half[:, tiles]
    return upper.scatter(0, leader.unsqueeze(0), -torch.inf), leader


def _tile(
    logits: Tensor, probabilities: Tensor, upper: Tensor, grid: Grid, row: int, column: int, rule: MergeRule
) -> Tensor:
    """Class index of every pixel of one tile; `upper` [K]: the classes' bounds against the leader."""
    y, x = grid.rows[row], grid.columns[column]
    inner_y, inner_x = (grid.inner[0][row], grid.inner[1][column]) if grid.inner else (y, x)
    block = logits[:, inner_y.source, inner_x.source]
    masks = mask_probabilities(resample(block, inner_y, inner_x), rule)  # [Q, h, w]

    def winners(weights: Tensor) -> Tensor:
        scores = (weights.t() @ masks.flatten(1)).unflatten(1, masks.shape[1:])
        return first_argmax(resample(scores, y, x) if grid.inner else scores).long()

    rivals = ((upper > 0) | (upper == -torch.inf)).nonzero().squeeze(1)
    if len(rivals) <= _AT_ONCE:
        return rivals[winners(probabilities[:, rivals])]
    # The sum over q of the greatest probability among the other classes bounds each of them at every pixel. It comes
    # first, so that a tie with it counts as "not shown".
    order = upper[rivals].nan_to_num(neginf=torch.inf).argsort(descending=True, stable=True)
    some, others = rivals[order[:_AT_ONCE]].sort().values, rivals[order[_AT_ONCE:]]
    won = winners(torch.cat([probabilities[:, others].amax(1, keepdim=True), probabilities[:, some]], 1))
    if (won > 0).all():
        return some[won - 1]
    return rivals[winners(probabilities[:, rivals])]


def _histogram(ids: np.ndarray, count: int) -> np.ndarray:
    """Pixels of each id 0..count-1 of a map, int64 [count]."""
    return sum((np.bincount(row, minlength=count) for row in ids), start=np.zeros(count, dtype=np.int64))
