"""Semantic inference: every pixel to one class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcli.layers.resample import extremes
from segcli.postprocess.tiles import (
    ID,
    Grid,
    Tile,
    class_probabilities,
    coarse_logits,
    first_argmax,
    histogram,
    mask_probabilities,
    one_thread,
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
    return as_segments(classes, labels, float(probabilities.max()))


def as_segments(classes: np.ndarray, labels: LabelSet, best_score: float) -> Segments:
    """Class indices [H, W] -> the classes present, in class order. Overwrites `classes`."""
    present = np.flatnonzero(histogram(classes, len(labels)))
    numbers = np.zeros(len(labels), dtype=ID)
    numbers[present] = np.arange(1, len(present) + 1)
    return Segments(
        task="semantic",
        size=(classes.shape[0], classes.shape[1]),
        label_set=labels,
        labels=present.astype(np.int64),
        scores=np.full(len(present), np.nan, dtype=np.float32),
        map=renumber(classes, numbers),
        best_score=best_score,
    )


@one_thread()
def add_class_scores(
    total: Tensor,
    pred: QueryPredictions,
    index: int,
    frame: Frame,
    rule: MergeRule,
    *,
    combine_padded: bool,
    mirrored: bool,
) -> float:
    """Add the scores whose argmax `semantic` is, of image `index` of a batch, to `total` float32 [K, H, W].

    mirrored: the network saw the photo mirrored left to right. Returns the best class probability.
    """
    probabilities = class_probabilities(pred, index)[:, :-1]
    every = torch.arange(len(probabilities))
    logits = coarse_logits(pred, index, every)
    coarse = (logits.shape[1], logits.shape[2])
    grid = Grid.in_two_steps(frame, coarse) if combine_padded else Grid.of(frame, coarse)
    width = total.shape[2]
    for row in range(len(grid.rows)):
        for column in range(len(grid.columns)):
            tile = grid.tile(row, column)
            masks = mask_probabilities(tile.enlarge(logits, every), rule)
            scores = (probabilities.t() @ masks.flatten(1)).unflatten(1, masks.shape[1:])
            scores, x = tile.finish(scores), tile.x.out
            if mirrored:
                scores, x = scores.flip(2), slice(width - x.stop, width - x.start)
            total[:, tile.y.out, x] += scores
    return float(probabilities.max())


@one_thread()
def _classes(logits: Tensor, probabilities: Tensor, grid: Grid, rule: MergeRule) -> np.ndarray:
    """Class index of every pixel [H, W] from coarse logits [Q, h, w] and class probabilities [Q, K]."""
    low, high = probability_bounds(*extremes(logits, *grid.sources), rule)
    bounds = _Bounds.of(low.flatten(1), high.flatten(1), probabilities)
    result = grid.paint(bounds.leader.view(grid.pixels.shape).numpy())
    for number in (bounds.upper > 0).any(0).nonzero().flatten().tolist():
        tile = grid.tile(*divmod(number, len(grid.columns)))
        result[tile.y.out, tile.x.out] = _tile(logits, probabilities, bounds, number, tile, rule)
    return result


@dataclass(frozen=True)
class _Bounds:
    """What the coarse logits say about each of T tiles.

    middle, half: [Q, T], every mask probability in the tile is middle ± half.
    leader: [T], the class with the greatest score in the middle.
    upper: [K, T], no pixel has a class ahead of the leader by more than this; −inf for the leader itself. Class c is
        ahead of d by Σ_q (P_qc − P_qd) m_q, which is at most Σ_q (P_qc − P_qd) middle_q + |P_qc − P_qd| half_q.
    """

    middle: Tensor
    half: Tensor
    leader: Tensor
    upper: Tensor

    @classmethod
    def of(cls, low: Tensor, high: Tensor, probabilities: Tensor) -> _Bounds:
        middle, half = (high + low) / 2, (high - low) / 2
        score = probabilities.t() @ middle  # [K, T]
        leader = torch.from_numpy(first_argmax(score.numpy()).astype(np.int64))
        upper = score - score.gather(0, leader.unsqueeze(0)) + _ROUNDING
        for best in leader.unique().tolist():
            tiles = leader == best
            upper[:, tiles] += (probabilities - probabilities[:, best : best + 1]).abs().t() @ half[:, tiles]
        return cls(middle, half, leader, upper.scatter(0, leader.unsqueeze(0), -torch.inf))


def _tile(
    logits: Tensor, probabilities: Tensor, bounds: _Bounds, number: int, tile: Tile, rule: MergeRule
) -> np.ndarray:
    """Class index of every pixel of tile `number`."""
    upper = bounds.upper[:, number]
    rivals = ((upper > 0) | (upper == -torch.inf)).nonzero().squeeze(1)

    # Queries that hardly vary here, or hardly tell the rivals apart, stand still: together they move no difference of
    # two scores by more than rounding does.
    spread = probabilities[:, rivals].amax(1) - probabilities[:, rivals].amin(1)
    shift, order = (spread * bounds.half[:, number]).sort()
    moving = torch.arange(len(order))
    if rule.normalise == "sigmoid":  # a softmax needs every query
        moving = order[shift.cumsum(0) > _ROUNDING]
    still = bounds.middle[:, number].index_fill(0, moving, 0.0)
    masks = mask_probabilities(tile.enlarge(logits, moving), rule)  # [moving, h, w]

    def winners(weights: Tensor) -> np.ndarray:
        constant = (still @ weights).unsqueeze(1)
        scores = torch.addmm(constant, weights[moving].t(), masks.flatten(1)).unflatten(1, masks.shape[1:])
        return first_argmax(tile.finish(scores).numpy())

    if len(rivals) > _AT_ONCE:
        # The sum over q of the greatest probability among the other classes bounds each of them at every pixel. It
        # comes first, so that a tie with it counts as "not shown".
        ranked = rivals[upper[rivals].nan_to_num(neginf=torch.inf).argsort(descending=True, stable=True)]
        some, others = ranked[:_AT_ONCE].sort().values, ranked[_AT_ONCE:]
        won = winners(torch.cat([probabilities[:, others].amax(1, keepdim=True), probabilities[:, some]], 1))
        if won.all():
            return some.numpy().astype(ID)[won - 1]
    return rivals.numpy().astype(ID)[winners(probabilities[:, rivals])]


def pixel_scores(pred: QueryPredictions, index: int, frame: Frame, rule: MergeRule) -> tuple[np.ndarray, np.ndarray]:
    """The class of every pixel of image `index` and its score, at the network's stride -> (int64 [h, w], float [h, w]).

    The score is what semantic inference takes the argmax of, Σ_q class probability × mask probability. It can exceed
    1 where queries overlap and is cut there.
    """
    probabilities = class_probabilities(pred, index)[:, :-1]
    logits = coarse_logits(pred, index, torch.arange(len(probabilities)))
    height, width = (
        max(1, round(size * resized / padded))
        for size, resized, padded in zip(logits.shape[1:], frame.resized, frame.padded, strict=True)
    )
    masks = mask_probabilities(logits[:, :height, :width].clone(), rule)
    best = (probabilities.t() @ masks.flatten(1)).max(0)
    shape = (height, width)
    return best.indices.view(shape).numpy(), best.values.clamp(max=1).view(shape).numpy()
