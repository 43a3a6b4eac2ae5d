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
    # Here, as only DETR's training needs it: importing torchvision takes as long as importing torch.
    from torchvision.ops import box_convert, generalized_box_iou_loss

    first, second = torch.broadcast_tensors(*(box_convert(boxes, "cxcywh", "xyxy") for boxes in (a, b)))
    # Its eps is 1e-7, which tells on small boxes; the least number keeps 0/0 from being NaN as well.
    return 1 - generalized_box_iou_loss(first, second, eps=torch.finfo(first.dtype).tiny)


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
