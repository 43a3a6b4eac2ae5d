"""Mask-piloted training (MP-Former, arXiv 2303.07336): extra queries that are shown noised true masks as attention
masks, and a class, and are to give back mask and class. They teach the decoder to follow its attention masks before
the matching has settled; at prediction they do not exist, and the checkpoint knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.objective.criterion import without_crowd
from segcli.objective.sampling import Draw
from segcli.types import Pilots, Target

STRIDES = (32, 16, 8)  # of the levels that a query decoder attends to


class MaskPilots(nn.Module):
    """Makes the pilots of a batch. Its only weights are class embeddings, trained along and then left behind.

    noise: cells of an attention mask flipped, as a share of the object's area
    flip: share of labels replaced by a class at random
    """

    def __init__(self, num_classes: int, dim: int, noise: float = 0.2, flip: float = 0.2) -> None:
        super().__init__()
        self.noise, self.flip = noise, flip
        self.class_embed = nn.Embedding(num_classes, dim)

    def forward(self, targets: Sequence[Target], draw: Draw) -> Pilots | None:
        """One pilot an object, G = the most objects of an image; None if there are no objects."""
        targets = [without_crowd(target) for target in targets]
        most = max(len(target.labels) for target in targets)
        if not most:
            return None
        device = self.class_embed.weight.device
        labels = torch.zeros(len(targets), most, dtype=torch.int64, device=device)
        real = torch.zeros(len(targets), most, dtype=torch.bool, device=device)
        height, width = targets[0].masks.shape[1:]
        sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
        allowed = [torch.ones(len(targets), most, h * w, dtype=torch.bool, device=device) for h, w in sizes]
        for b, target in enumerate(targets):
            count = len(target.labels)
            if not count:
                continue
            real[b, :count] = True
            labels[b, :count] = self._labels(target, draw)
            for level, mask in zip(allowed, self._masks(target, sizes, draw), strict=True):
                level[b, :count] = mask
        return Pilots(self.class_embed(labels), allowed, real)

    def _labels(self, target: Target, draw: Draw) -> Tensor:
        """[N], some of them wrong."""
        chance, other = draw(target.image_id, "pilot-labels", (2, len(target.labels))).to(target.labels.device)
        wrong = (other * self.class_embed.num_embeddings).long()
        return torch.where(chance < self.flip, wrong, target.labels)

    def _masks(self, target: Target, sizes: list[tuple[int, int]], draw: Draw) -> list[Tensor]:
        """Noised masks at each level -> [N, h·w] bool each; a cell belongs to an object that has any pixel in it."""
        masks = []
        for size in sizes:
            mask = F.adaptive_max_pool2d(target.masks[None].float(), size)[0].flatten(1) > 0
            share = mask.float().mean(1, keepdim=True)
            dice = draw(target.image_id, f"pilot-masks-{size[0]}x{size[1]}", tuple(mask.shape)).to(mask.device)
            mask = mask ^ (dice < self.noise * share)
            masks.append(mask | ~mask.any(1, keepdim=True))  # a query that may look nowhere looks everywhere
        return masks
