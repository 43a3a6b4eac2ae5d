"""Learning from the answers of a better network beside the truth (arXiv 1503.02531): what it found becomes soft targets
of the queries that come nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.objective.matcher import Match, assign
from segcli.types import Masks, QueryPredictions

SCORE = 0.1  # least probability of being an object at all, for what a teacher found to be taught


@dataclass(frozen=True)
class SoftTargets:
    """What a teacher found in one image: N queries."""

    scores: Tensor  # [N], the probability of being an object
    classes: Tensor  # [N, K + 1], log-probabilities, the last is "no object"
    masks: Tensor  # [N, h, w], probabilities, in the padded frame


def soft_targets(teacher: QueryPredictions, columns: Tensor, most: int) -> list[SoftTargets]:
    """The answers of a teacher, one an image, in float32 and without a gradient.

    columns: [K + 1], which of the teacher's class logits each of the student's is. most: queries of an image at most,
    the surest.
    """
    assert teacher.masks is not None
    every = []
    for classes, masks in zip(teacher.classes.detach().float()[..., columns], teacher.masks.images(), strict=True):
        logs = classes.log_softmax(-1)
        scores = 1 - logs[:, -1].exp()
        surest = scores.argsort(descending=True, stable=True)[:most]
        surest = surest[scores[surest] >= SCORE]
        found = masks.select(0, surest).dense()[0].detach().sigmoid()
        every.append(SoftTargets(scores[surest], logs[surest], found))
    return every


@dataclass(frozen=True)
class Distillation:
    """The distance of a network's last answer to a teacher's: of classes (Kullback-Leibler), and of masks at every cell
    (cross-entropy above the teacher's own, and dice). Queries are matched by the same distance, so nothing is nearer
    than an equal answer, and there the gradient is zero.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0

    def __call__(self, student: QueryPredictions, targets: list[SoftTargets], objects: float) -> Tensor:
        """Summed over what the teacher found, each weighted by its score, and divided by `objects`, those of the truth:
        so parts of a batch add up to the whole. Scalar, to be differentiated.
        """
        assert student.masks is not None
        classes = student.classes.float().log_softmax(-1).unbind()
        parts = zip(classes, student.masks.images(), targets, strict=True)
        with torch.autocast(student.classes.device.type, enabled=False):
            losses = [self._image(*part) for part in parts]
        return torch.stack(losses).sum() / objects

    def _image(self, classes: Tensor, masks: Masks, target: SoftTargets) -> Tensor:
        """classes [Q, K + 1] log-probabilities, masks [1, Q, ...]."""
        match = self.match(classes, masks, target)
        wanted = target.classes[match.targets]
        logits = masks.select(0, match.queries).dense()[0]  # [M, h, w]
        truth = _of_size(target.masks, logits)[match.targets]
        distance = self.class_weight * F.kl_div(classes[match.queries], wanted, reduction="none", log_target=True).sum(
            1
        )
        entropy, dice = soft_mask_losses(logits.flatten(1), truth.flatten(1))
        distance = distance + self.mask_weight * entropy + self.dice_weight * dice
        return (target.scores[match.targets] * distance).sum()

    @torch.no_grad()
    def match(self, classes: Tensor, masks: Masks, target: SoftTargets) -> Match:
        """The queries that come nearest to what a teacher found; `classes` and `masks` as for the loss."""
        if not len(target.scores):
            none = torch.zeros(0, dtype=torch.int64, device=classes.device)
            return Match(none, none)
        logits = masks.select(0, torch.arange(len(classes), device=classes.device)).dense()[0]
        truth = _of_size(target.masks, logits).flatten(1)
        logits = logits.flatten(1)
        entropies = (target.classes.exp() * target.classes).sum(1)  # [N], negative
        costs = self.class_weight * (entropies - classes @ target.classes.exp().T)
        for weight, cost in zip((self.mask_weight, self.dice_weight), _mask_costs(logits, truth), strict=True):
            costs = costs + weight * cost
        return assign(costs * target.scores)


def soft_mask_losses(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """logits [M, P], truth [M, P] in [0, 1] -> (mean cross-entropy above that of the truth itself, dice), each [M].

    Both are least, and zero, where σ(x) = y: the dice has squares in its denominator (V-Net, arXiv 1606.04797); without
    them it would draw probabilities to 0 and 1.
    """
    own = F.binary_cross_entropy(truth, truth, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") - own
    share = logits.sigmoid()
    numerator = 2 * (share * truth).sum(1) + 1
    return entropy.mean(1), 1 - numerator / (share.square().sum(1) + truth.square().sum(1) + 1)


def _mask_costs(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The same of every pair: logits [Q, P], truth [N, P] -> [Q, N] each."""
    points, share = logits.shape[1], logits.sigmoid()
    own = F.binary_cross_entropy(truth, truth, reduction="none").mean(1)
    entropy = F.softplus(logits).mean(1)[:, None] - (logits / points) @ truth.T - own
    numerator = 2 * share @ truth.T + 1
    return entropy, 1 - numerator / (share.square().sum(1)[:, None] + truth.square().sum(1) + 1)


def _of_size(masks: Tensor, logits: Tensor) -> Tensor:
    """Probabilities [N, h, w] at the cells of logits [..., h', w']."""
    if masks.shape[1:] == logits.shape[1:] or not len(masks):
        return masks
    return F.interpolate(masks[None], size=logits.shape[1:], mode="bilinear", antialias=True)[0]
