"""Masks in the form that hotcoco takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotcoco import mask as coco_mask

from segcli.codecs.rle import RLE


def compressed(rles: Sequence[RLE]) -> list[dict[str, Any]]:
    """Masks of one image in COCO's form; in Rust, four times as fast as `RLE.to_coco`."""
    if not rles:
        return []
    runs = [{"size": list(rle.size), "counts": rle.counts.tolist()} for rle in rles]
    return list(coco_mask.frPyObjects(runs, *rles[0].size))
