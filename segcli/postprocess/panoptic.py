"""Panoptic inference: every pixel to one query, queries to segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcli.layers.resample import extremes
from segcli.postprocess.logits import MaskLogits, strongest
from segcli.postprocess.parts import main_parts
from segcli.postprocess.tiles import (
    ID,
    Grid,
    class_probabilities,
    coarse_logits,
    first_true,
    mask_probabilities,
    one_thread,
    probability_bounds,
    renumber,
)
from segcli.segments import Segments
from segcli.types import Frame, LabelSet, MergeRule, QueryPredictions


def panoptic(
    pred: QueryPredictions, index: int, frame: Frame, labels: LabelSet, rule: MergeRule, *, soft: bool = False
) -> Segments:
    """Panoptic segments of image `index` of a batch.

    A pixel belongs to the kept query with the greatest score × mask probability, if that mask's probability reaches
    `rule.mask_min`. A query whose pixels are less than `rule.overlap` of its own mask is dropped and leaves void.
    Queries of one stuff class are one segment, with the best of their scores.
    """
    probabilities = class_probabilities(pred, index)
    scores, classes = probabilities.max(-1)
    kept = ((classes != probabilities.shape[-1] - 1) & (scores > rule.score)).nonzero().squeeze(1)
    logits = coarse_logits(pred, index, kept)
    scores, classes = scores[kept], classes[kept]
    least = 0.5 if rule.mask_min is None else rule.mask_min
    logits = main_parts(logits, torch.tensor(labels.isthing)[classes], rule.part_min, least)
    grid = Grid.of(frame, (logits.shape[1], logits.shape[2]))
    while True:
        votes = _vote(logits, scores, grid, rule)
        segments = _merge(votes, classes.tolist(), labels, rule)
        # DETR hands the pixels of specks to the runners-up and votes again.
        specks = [k for members in segments if votes.seen[members].sum() <= rule.min_area for k in members]
        if not specks:
            break
        rest = torch.ones(len(scores), dtype=torch.bool)
        rest[specks] = False
        logits, scores, classes, kept = logits[rest], scores[rest], classes[rest], kept[rest.to(kept.device)]

    best = np.array([scores[members].max() for members in segments], dtype=np.float32)
    order = np.argsort(-best, kind="stable")
    numbers = np.zeros(len(scores) + 1, dtype=ID)
    for number, segment in enumerate(order, start=1):
        numbers[np.array(segments[segment]) + 1] = number
    return Segments(
        task="panoptic",
        size=frame.original,
        label_set=labels,
        labels=np.array([int(classes[segments[segment][0]]) for segment in order], dtype=np.int64),
        scores=best[order],
        map=renumber(votes.owners, numbers),
        best_score=float(probabilities[:, :-1].max()),
        soft=MaskLogits(strongest(logits, segments), order, frame, rule) if soft else None,
        queries=np.array(
            [int(kept[members][scores[members].argmax()]) for members in (segments[i] for i in order)], int
        ),
    )


@dataclass
class _Votes:
    """owners: [H, W], query + 1 or 0 = nobody; the rest: int64 [N] pixels of each query."""

    owners: np.ndarray
    won: np.ndarray  # where it had the greatest score × probability
    mask: np.ndarray  # where its own mask's probability reaches the minimum
    seen: np.ndarray  # where both hold: what the id map shows of it


@one_thread()
def _vote(logits: Tensor, scores: Tensor, grid: Grid, rule: MergeRule) -> _Votes:
    """Who owns each pixel; coarse logits [N, h, w], scores [N]."""
    count = len(scores)
    least = 0.5 if rule.mask_min is None else rule.mask_min
    everywhere = rule.mask_min is None
    won, mask, seen = (np.zeros(count, dtype=np.int64) for _ in range(3))
    if not count:
        return _Votes(grid.paint(np.zeros(grid.pixels.shape)), won, mask, seen)
    weights = np.ones((count, 1, 1), np.float32) if rule.normalise == "softmax" else scores.view(-1, 1, 1).numpy()

    # Per tile: who can win (their best reaches everybody's worst), and whose mask covers it all, in part, or not.
    low, high = (bound.numpy() for bound in probability_bounds(*extremes(logits, *grid.sources), rule))
    rivals = weights * high >= (weights * low).max(0)
    covers = low >= least
    partly = (high >= least) & ~covers
    settled = (rivals.sum(0) == 1) & ~partly.any(0)
    winner = first_true(rivals)
    shown = settled & (np.take_along_axis(covers, winner[None].astype(np.intp), 0)[0] | everywhere)
    computed = (rivals | partly) & ~settled

    owners = grid.paint(np.where(shown, winner.astype(ID) + 1, 0))
    np.add.at(won, winner[settled], grid.pixels[settled])
    np.add.at(seen, winner[shown], grid.pixels[shown])
    mask += ((covers & ~computed) * grid.pixels).sum((1, 2))
    for row, column in np.argwhere(~settled):
        tile = grid.tile(row, column)
        who = np.flatnonzero(computed[:, row, column])
        probability = mask_probabilities(tile.enlarge(logits, torch.from_numpy(who)), rule).numpy()
        inside = probability >= least
        probability *= weights[who]
        best = probability == probability.max(0)
        first = first_true(best)
        visible = np.ones_like(first, dtype=bool) if everywhere else first == first_true(best & inside)
        won[who] += np.bincount(first.ravel(), minlength=len(who))
        seen[who] += np.bincount(first[visible], minlength=len(who))
        mask[who] += [np.count_nonzero(own) for own in inside]
        owners[tile.y.out, tile.x.out] = np.where(visible, (who + 1).astype(ID)[first], ID(0))
    return _Votes(owners, won, mask, seen)


def _merge(votes: _Votes, classes: list[int], labels: LabelSet, rule: MergeRule) -> list[list[int]]:
    """The queries that make up each segment, in the order of their first query."""
    segments: list[list[int]] = []
    stuff: dict[int, list[int]] = {}
    for query, (label, won, mask, seen) in enumerate(
        zip(classes, votes.won.tolist(), votes.mask.tolist(), votes.seen.tolist(), strict=True)
    ):
        if not seen or (rule.overlap > 0 and (not mask or won / mask < rule.overlap)):
            continue
        if label in stuff:
            stuff[label].append(query)
            continue
        segments.append([query])
        if not labels[label].isthing:
            stuff[label] = segments[-1]
    return segments
