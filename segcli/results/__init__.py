"""Results on disk: what `--save` names, planned before work begins, written whole or not at all.

    photos = plan([(path, folder), …])
    with Writer(out, ("overlay", "png", "json"), photos, task=…, labels=…, run=…, draw=overlay) as writer:
        for photo in photos:
            if not writer.is_complete(photo): writer.write(photo, image, segments, …)

and read back, with those of other tools:

    predictions = open_predictions(out)

Importing this package imports numpy, not Pillow or OpenCV.
"""

from __future__ import annotations

from segcli.results.plan import Photo, plan
from segcli.results.readers import LabelMaps, PredictedImage, Predictions, open_predictions
from segcli.results.record import image_record
from segcli.results.writer import SAVE_KINDS, SaveKind, Writer, photo_targets, refuse_collisions, run_targets

__all__ = [
    "SAVE_KINDS",
    "LabelMaps",
    "Photo",
    "PredictedImage",
    "Predictions",
    "SaveKind",
    "Writer",
    "image_record",
    "open_predictions",
    "photo_targets",
    "plan",
    "refuse_collisions",
    "run_targets",
]
