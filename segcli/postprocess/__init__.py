"""Queries to segments at the photo's own size: Mask2Former's panoptic, instance and semantic inference
(arXiv 2112.01527; the rules are those of its published `maskformer_model.py`).

Queries are filtered by score first. The logits of those kept are brought to the photo's size tile by tile
(`layers/resample.py`). Interpolation is convex, so the coarse logits bound every pixel of a tile: they say which
queries or classes can win in it at all, and where only one can, no pixel is computed. The answers are those of the
dense computation up to rounding; the largest array that exists is the id map.

The product of embeddings and features is made on the model's device, everything after it in float32 on the CPU.
"""

from segcli.postprocess.boxes import detect
from segcli.postprocess.instance import instance
from segcli.postprocess.panoptic import panoptic
from segcli.postprocess.repeats import without_repeats
from segcli.postprocess.semantic import add_class_scores, as_segments, pixel_scores, semantic
from segcli.postprocess.windows import semantic_windows

__all__ = [
    "add_class_scores",
    "as_segments",
    "detect",
    "instance",
    "panoptic",
    "pixel_scores",
    "semantic",
    "semantic_windows",
    "without_repeats",
]
