"""The connected parts of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from segcli.codecs.opencv import opencv


def main_parts(logits: Tensor, things: Tensor, share: float, least: float = 0.5) -> Tensor:
    """Coarse logits [N, h, w] of masks, those of things (bool [N]) without the specks away from them -> [N, h, w].

    A mask is where its probability is above `least`. Its connected parts (by corners too, so that resizing cannot mix
    one that goes with one that stays) that are smaller than `share` of the largest are mirrored to below it. Overwrites
    `logits`.
    """
    if not share:
        return logits
    cv2 = opencv()
    level = float(torch.tensor(least).logit())
    for index in things.nonzero().flatten().tolist():
        mask = logits[index].numpy()
        _, parts, stats, _ = cv2.connectedComponentsWithStats((mask > level).view("uint8"), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        areas[0] = 0  # what is not the mask
        small = (areas > 0) & (areas < share * areas.max())
        if small.any():
            specks = small[parts]
            mask[specks] = 2 * level - mask[specks]
    return logits
