"""Semantic segmentation averaged over several sizes of a photo and its mirror image: the published "ms+flip" protocol.

As Mask2Former's `SemanticSegmentorWithTTA`: for every size the scores of all classes are brought to the photo's own
size, mirrored back where the photo was, and averaged; the class with the greatest mean wins.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from segcli.errors import UsageError
from segcli.inference.predict import Network
from segcli.inference.preprocess import Prepared, prepare
from segcli.postprocess import add_class_scores, as_segments
from segcli.segments import Segments
from segcli.types import InferenceSpec, InputSize

# Of the test size, as all of its configurations have it: 256 … 896 for a short side of 512 (ADE20K), 512 … 1792 for
# 1024 (Cityscapes). One cap on the long side serves all scales: 3584 for 2048.
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_ROWS = 64  # of the photo, whose best classes are looked for at a time


def sizes(size: InputSize) -> list[InputSize]:
    """The test sizes that are averaged."""
    cap = round(SCALES[-1] * size.long)
    return [dataclasses.replace(size, short=round(scale * size.short), long=cap) for scale in SCALES]


def segment_averaged(network: Network, image: np.ndarray, spec: InferenceSpec) -> Segments:
    """Semantic segments of a photo, uint8 RGB [H, W, 3], by the mean of twelve predictions.

    Holds the scores of all classes at the photo's size, 4 K H W bytes. Raises what `network` raises.
    """
    if spec.size.frame == "windows":
        raise UsageError("this model already averages sliding windows and cannot average over sizes too")
    total = torch.zeros(len(spec.labels), *image.shape[:2])
    best = 0.0
    for size in sizes(spec.size):
        photo = prepare(image, dataclasses.replace(spec, size=size))
        for mirrored in (False, True):
            view = _mirror(photo) if mirrored else photo
            prediction = network([view])
            score = add_class_scores(
                total, prediction, 0, view.frame, spec.rule, combine_padded=spec.combine_padded, mirrored=mirrored
            )
            best = max(best, score)
    # The sum has the argmax of the mean.
    classes = np.concatenate([rows.argmax(0).numpy().astype(np.uint16) for rows in total.split(_ROWS, dim=1)])
    return as_segments(classes, spec.labels, best)


def _mirror(photo: Prepared) -> Prepared:
    """The resized photo mirrored left to right, its padding still on the right."""
    pixels = photo.pixels.copy()
    width = photo.frame.resized[1]
    pixels[:, :, :width] = photo.pixels[:, :, :width][:, :, ::-1]
    return Prepared(pixels, photo.frame)
