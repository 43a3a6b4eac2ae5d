"""What boxes are compared by (DETR, arXiv 2005.12872, §3.1): their distance, and how they overlap. All in fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segcli.objective.matcher import Match
from segcli.objective.sampling import Draw
from segcli.objective.terms import Compared
from segcli.types import QueryPredictions, Target


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes cxcywh [..., 4] that broadcast against each other (arXiv 1902.09630) -> [...], 1 for the same box, below
    0 for boxes far apart. Boxes without area have a value too.
    """
    (a0, a1), (b0, b1) = _corners(a), _corners(b)
    common = _area(torch.maximum(a0, b0), torch.minimum(a1, b1))
    union = _area(a0, a1) + _area(b0, b1) - common
    hull = _area(torch.minimum(a0, b0), torch.maximum(a1, b1))
    tiny = torch.finfo(union.dtype).tiny
    return common / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return centre - half, centre + half


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-1)


@dataclass(frozen=True)
class BoxTerms:
    """Boxes: L1 distance of their four numbers, which are shares of the image, and generalised IoU."""

    box_weight: float = 5.0
    giou_weight: float = 2.0

    @property
    def weights(self) -> Mapping[str, float]:
        return {"box": self.box_weight, "giou": self.giou_weight}

    def images(self, predictions: Sequence[QueryPredictions], targets: Sequence[Target], draw: Draw) -> list[Compared]:
        """One comparison an image."""
        return [
            _ComparedBoxes([p.boxes[b].float() for p in predictions if p.boxes is not None], target.boxes.float())
            for b, target in enumerate(targets)
        ]


@dataclass(frozen=True)
class _ComparedBoxes:
    """boxes: [Q, 4] of each prediction. truth: [N, 4]."""

    boxes: list[Tensor]
    truth: Tensor

    def costs(self, predictions: int) -> list[dict[str, Tensor]]:
        truth = self.truth[None]
        return [
            {"box": (own[:, None] - truth).abs().sum(-1), "giou": -generalised_iou(own[:, None], truth)}
            for own in self.boxes[:predictions]
        ]

    def losses(self, matches: Sequence[Match]) -> dict[str, Tensor]:
        pairs = [
            (own[match.queries], self.truth[match.targets]) for own, match in zip(self.boxes, matches, strict=True)
        ]
        return {
            "box": torch.stack([(own - true).abs().sum() for own, true in pairs]),
            "giou": torch.stack([(1 - generalised_iou(own, true)).sum() for own, true in pairs]),
        }
