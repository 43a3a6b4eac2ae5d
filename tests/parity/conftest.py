"""Real predictions: the bundled `facade` model on a few of its validation photographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.types import LabelSet

PHOTOS = 4


@pytest.fixture(scope="session")
def facade(shared_dir: Path) -> tuple[LabelSet, list[dict[str, Any]]]:
    """(classes, one dict a photo: Segments by task, "truth" as a reader yields it, "entry" of the dataset's JSON)."""
    import torch

    import segcli
    from segcli.codecs.image import read_image
    from segcli.codecs.panoptic_png import read_panoptic_png
    from segcli.inference.preprocess import collate, prepare
    from segcli.postprocess import instance, panoptic, semantic
    from segcli.weights.checkpoint import load_model
    from tests.parity.official import Picture

    data = shared_dir / "data/facade"
    loaded = load_model(Path(segcli.__file__).parent / "bundled" / "facade", device="cpu", dtype="fp32")
    labels, rule = loaded.labels, loaded.spec.rule
    places = {label.id: index for index, label in enumerate(labels)}
    dataset = json.loads((data / "panoptic_val.json").read_text())
    files = {image["id"]: image["file_name"] for image in dataset["images"]}
    pictures: list[dict[str, Any]] = []
    for entry in dataset["annotations"][:: len(files) // PHOTOS][:PHOTOS]:
        photo = prepare(read_image(data / "images" / files[entry["image_id"]]), loaded.spec)
        with torch.inference_mode():
            answer = loaded.model(collate([photo], loaded.device))[-1]
        ids = read_panoptic_png(data / "panoptic_val" / entry["file_name"])
        infos = entry["segments_info"]
        truth = Picture(
            str(entry["image_id"]),
            np.stack([ids == info["id"] for info in infos]),
            np.array([places[info["category_id"]] for info in infos], dtype=np.int64),
            np.array([bool(info["iscrowd"]) for info in infos]),
        )
        pictures.append(
            {
                "panoptic": panoptic(answer, 0, photo.frame, labels, rule),
                "instance": instance(answer, 0, photo.frame, labels, rule),
                "semantic": semantic(answer, 0, photo.frame, labels, rule, combine_padded=False),
                "truth": truth,
                "entry": entry,
            }
        )
    return labels, pictures
