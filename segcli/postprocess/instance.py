"""Instance inference: the best queries × classes, each with its own mask."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segcli.codecs.rle import RLE, from_runs
from segcli.layers.resample import extremes
from segcli.postprocess.logits import MaskLogits
from segcli.postprocess.parts import main_parts
from segcli.postprocess.repeats import without_repeats
from segcli.postprocess.tiles import Grid, class_probabilities, coarse_logits, one_thread
from segcli.segments import Segments
from segcli.types import Frame, LabelSet, MergeRule, QueryPredictions


def instance(
    pred: QueryPredictions,
    index: int,
    frame: Frame,
    labels: LabelSet,
    rule: MergeRule,
    min_score: float = 0.0,
    *,
    soft: bool = False,
) -> Segments:
    """Instances of image `index` of a batch, in descending order of score.

    The `rule.top_k` best of query × class, or every query with its best class (`rule.instances`); then the things among
    them. A mask is where the logit is above 0, without its specks (`main_parts`); the score is the class probability,
    times the mask's mean probability for pairs. Those below `min_score` are left out; with 0 all come, as files for
    evaluation need them; so are repeats of better ones (`rule.repeat_iou`).
    """
    probabilities = class_probabilities(pred, index)[:, :-1]
    class_scores, queries, classes = _ranked(probabilities, rule)
    things = torch.tensor(labels.isthing)[classes]
    # The mean mask probability is at most 1, so a class probability below the minimum can be dropped unseen.
    kept = things & (class_scores >= min_score)
    class_scores, queries, classes = class_scores[kept], queries[kept], classes[kept]

    needed, which = queries.unique(return_inverse=True)
    logits = main_parts(coarse_logits(pred, index, needed), torch.ones_like(needed, dtype=torch.bool), rule.part_min)
    rles, means = _masks(logits, frame)
    scores = class_scores
    if rule.instances == "pairs":
        scores = class_scores * torch.tensor(means, dtype=torch.float32)[which]
    order = scores.sort(descending=True, stable=True).indices
    order = order[scores[order] >= min_score]
    found = Segments(
        task="instance",
        size=frame.original,
        label_set=labels,
        labels=classes[order].numpy(),
        scores=scores[order].numpy(),
        rles=tuple(rles[k] for k in which[order].tolist()),
        queries=queries[order].cpu().numpy(),
        best_score=float(probabilities[:, labels.isthing].max()) if any(labels.isthing) else 0.0,
        soft=MaskLogits(logits, which[order].numpy(), frame) if soft else None,
    )
    return found if rule.repeat_iou is None else without_repeats(found, rule.repeat_iou)


def _ranked(probabilities: Tensor, rule: MergeRule) -> tuple[Tensor, Tensor, Tensor]:
    """Class probabilities [Q, K] -> scores, queries and classes of what may be instances, best first."""
    if rule.instances == "queries":
        best, classes = probabilities.max(1)
        queries = best.argsort(descending=True, stable=True)
        return best[queries], queries, classes[queries]
    ranked = probabilities.flatten().sort(descending=True, stable=True)
    count = min(rule.top_k, len(ranked.values))
    places = ranked.indices[:count]
    return ranked.values[:count], places // probabilities.shape[1], places % probabilities.shape[1]


@one_thread()
def _masks(logits: Tensor, frame: Frame) -> tuple[list[RLE], list[float]]:
    """The mask of each of coarse logits [N, h, w], and the mean probability inside it (0 if it is empty)."""
    grid = Grid.of(frame, (logits.shape[1], logits.shape[2]))
    _, high = extremes(logits, *grid.sources)
    rles, means = [], []
    for coarse, occupied in zip(logits, high > 0, strict=True):
        rle, mean = _mask(coarse, occupied, grid, frame.original)
        rles.append(rle)
        means.append(mean)
    return rles, means


def _mask(coarse: Tensor, occupied: Tensor, grid: Grid, size: tuple[int, int]) -> tuple[RLE, float]:
    """One mask from coarse logits [h, w]; `occupied` [rows, columns] marks the tiles it may touch.

    Strips of columns are made transposed, so that their memory order is the run-length code's, column by column.
    """
    edges, total = [np.zeros(0, dtype=np.int64)], 0.0
    rows, columns = occupied.any(1).nonzero().flatten(), occupied.any(0).nonzero().flatten()
    if len(rows):
        used = grid.rows[int(rows[0]) : int(rows[-1]) + 1]
        top = used[0].out.start
        tall = torch.cat([coarse[band.source].t() @ band.weights.t() for band in used], 1)  # [w, rows]
        for column in columns.tolist():
            band = grid.columns[column]
            strip = band.weights @ tall[band.source]  # [columns, rows]
            inside = np.zeros((strip.shape[0], strip.shape[1] + 1), dtype=bool)
            np.greater(strip.numpy(), 0, out=inside[:, :-1])  # numpy compares several times faster than torch
            probability = strip.sigmoid_()
            np.multiply(probability.numpy(), inside[:, :-1], out=probability.numpy())
            total += float(probability.sum())
            # The spare last pixel ends every run at its column's foot, so edges alternate start, stop, start, …
            flat = inside.ravel()
            at = np.flatnonzero(flat[1:] != flat[:-1]) + 1
            if flat[0]:
                at = np.concatenate([[0], at])
            x, y = np.divmod(at, inside.shape[1])
            edges.append((band.out.start + x) * size[0] + top + y)
    places = np.concatenate(edges)
    area = int((places[1::2] - places[0::2]).sum())
    return from_runs(size, places[0::2], places[1::2]), total / (area + 1e-6)
