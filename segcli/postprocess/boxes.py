"""Detection: every query with its best class and its box (DETR, arXiv 2005.12872, §3)."""

from __future__ import annotations

import torch

from segcli.postprocess.tiles import class_probabilities
from segcli.segments import Segments
from segcli.types import Frame, LabelSet, QueryPredictions


def detect(pred: QueryPredictions, index: int, frame: Frame, labels: LabelSet, min_score: float = 0.0) -> Segments:
    """Boxes of image `index` of a batch, in descending order of score, which is the class probability.

    Boxes are shares of the image, not of the padded frame, and may reach over its border by what the network is wrong.
    Things only; those below `min_score` are left out, with 0 all come, as files for evaluation need them.
    """
    if pred.boxes is None:
        raise ValueError("these predictions have no boxes")
    probabilities = class_probabilities(pred, index)[:, :-1]
    scores, classes = probabilities.max(1)
    order = scores.argsort(descending=True, stable=True)
    order = order[(scores[order] >= min_score) & torch.tensor(labels.isthing)[classes[order]]]
    x, y, width, height = pred.boxes[index].detach().double().cpu()[order].unbind(1)
    box = torch.stack((x - width / 2, y - height / 2, width, height), dim=1)
    sides = torch.tensor([frame.original[1], frame.original[0]] * 2)
    return Segments.of_boxes(
        frame.original,
        labels,
        classes[order].numpy(),
        scores[order].numpy(),
        (box * sides).numpy(),
        best_score=float(probabilities[:, labels.isthing].max()) if any(labels.isthing) else 0.0,
    )
