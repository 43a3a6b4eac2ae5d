"""Pixels that masks share, counted by hotcoco on their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask

from segcli.codecs.rle import RLE


def compressed(rles: Sequence[RLE]) -> list[dict[str, Any]]:
    """Masks of one image in COCO's form; in Rust, four times as fast as `RLE.to_coco`."""
    if not rles:
        return []
    runs = [{"size": list(rle.size), "counts": rle.counts.tolist()} for rle in rles]
    return list(coco_mask.frPyObjects(runs, *rles[0].size))


def shared_pixels(found: Sequence[RLE], true: Sequence[RLE]) -> np.ndarray:
    """Pixels that each of M masks has in common with each of N -> int64 [M, N]."""
    if not found or not true:
        return np.zeros((len(found), len(true)), dtype=np.int64)
    shares = coco_mask.iou(compressed(found), compressed(true), [1] * len(true))  # with a crowd: of the first mask
    areas = np.array([rle.area for rle in found])
    return np.rint(np.asarray(shares) * areas[:, None]).astype(np.int64)
