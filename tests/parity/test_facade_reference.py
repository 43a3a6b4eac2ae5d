"""A real trained checkpoint, made with transformers, on real photographs: the same masks and the same segments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segcli.codecs.image import read_image
from segcli.layers.masks import DenseMasks
from segcli.postprocess import panoptic
from segcli.segments import Segments
from segcli.types import Frame, QueryPredictions
from segcli.weights.checkpoint import load_model, save_model
from tests.parity.hf import batch, injected_masks, recorded_masks, relative, transformers

PHOTOS = 20


def test_twenty_photos(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """segcli in fp32 against transformers in fp64, which no rounding of its own sends astray.

    Now and then a pixel lies so near the threshold of an attention mask that fp32 puts it on the other side, and what
    follows differs: transformers' fp32 masks differ from its fp64 masks in 9 of a million bits on these photographs,
    nearly all of them in one; segcli's in 3 to 12, in one or two, by the number of threads. So the bound of 1 in
    100,000 holds for all photographs but two, and those may have a few hundred.
    """
    folder = shared_dir / "models" / "facade-reference"
    theirs = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(folder, dtype=torch.float32)
    theirs = theirs.double().eval()
    loaded = load_model(folder, device="cpu", dtype="fp32")
    names = [i["file_name"] for i in json.loads((shared_dir / "data/facade/panoptic_val.json").read_text())["images"]]
    flipped, agree = [], []
    for name in names[:: len(names) // PHOTOS][:PHOTOS]:
        image = read_image(shared_dir / "data/facade/images" / name)
        pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() - 127) / 128
        with torch.inference_mode(), recorded_masks(theirs) as masks:
            reference = theirs(pixel_values=pixels.double())
            mine = loaded.model(batch(pixels))[-1]
            with injected_masks(monkeypatch, masks):
                injected = loaded.model(batch(pixels))[-1]
        assert relative(injected.classes, reference.class_queries_logits) < 2e-5
        assert relative(injected.masks.dense(), reference.masks_queries_logits) < 2e-5
        dense = mine.masks.dense()
        flipped.append(float(((dense > 0) != (reference.masks_queries_logits > 0)).float().mean()))
        size = (pixels.shape[2], pixels.shape[3])
        frame = Frame(size, size, size)
        exact = QueryPredictions(reference.class_queries_logits.float(), DenseMasks(reference.masks_queries_logits))
        agree.append(agreement(*(panoptic(p, 0, frame, loaded.labels, loaded.spec.rule) for p in (mine, exact))))
    assert sorted(flipped)[PHOTOS - 3] <= 1e-5
    assert max(flipped) <= 1e-3
    assert min(agree) >= 0.999


def agreement(a: Segments, b: Segments) -> float:
    """Share of pixels on which two panoptic results agree, whatever the numbers of their segments.

    (Segments are numbered by score, and two scores may be equal but for the last digit.)
    """
    assert a.map is not None
    assert b.map is not None
    pairs = np.zeros((len(a) + 1, len(b) + 1))
    np.add.at(pairs, (a.map, b.map), 1)
    classes = np.concatenate([[-1], a.labels])[:, None] == np.concatenate([[-1], b.labels])
    return float((pairs * classes).max(axis=1).sum() / a.map.size)


def test_round_trip_through_transformers(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "models" / "facade-reference"
    loaded = load_model(source, device="cpu", dtype="fp32")
    saved = save_model(loaded, tmp_path / "saved")
    theirs, info = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
        saved, output_loading_info=True, dtype=torch.float32
    )
    assert {key: list(value) for key, value in info.items() if value} == {}
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_model(tmp_path / "theirs", device="cpu", dtype="fp32")
    assert again.spec == loaded.spec  # segcli's own table survives
    first, second = loaded.model.state_dict(), again.model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_saving_is_bit_exact(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "models" / "facade-reference"
    saved = save_model(load_model(source, device="cpu", dtype="fp32"), tmp_path)
    before, after = load_file(source / "model.safetensors"), load_file(saved / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[k].dtype == after[k].dtype and torch.equal(before[k], after[k]) for k in before)
