"""Known outputs of published checkpoints: how they are compared and, with a network, whether segcli gives them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import urllib.request
from pathlib import Path

import pytest

from segcli.codecs.image import read_image
from segcli.weights import golden
from segcli.weights.checkpoint import load_model
from segcli.weights.golden import Check, Golden, golden_values
from segcli.weights.manifest import manifest


def test_the_golden_models_are_known() -> None:
    assert {"swin-small-coco-instance", "maskformer-swin-small-coco", "detr-resnet-50"} <= set(golden_values())
    assert set(golden_values()) <= set(manifest())
    for name, values in golden_values().items():
        if values.scores:
            assert {found for found, _ in values.scores} <= set(manifest()[name].spec().labels.names)
        assert values.classes or values.scores


def test_a_comparison_allows_the_tolerance_and_no_more() -> None:
    assert golden._compare("x", [[1.0, -2.0]], [[1.0, -2.01]], 0.01) == Check("x", pytest.approx(0.01), True)
    assert not golden._compare("x", [[1.0, -2.0]], [[1.0, -2.04]], 0.01).passed
    assert not golden._compare("x", [[1.0, math.nan]], [[1.0, -2.0]], 0.01).passed


def test_the_photo_is_told_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "cats.jpg").write_bytes(b"cats")
    known = golden.photo()
    assert not known.is_in(tmp_path / "cats.jpg")
    digest = hashlib.sha256(b"cats").hexdigest()
    assert dataclasses.replace(known, sha256=digest).is_in(tmp_path / "cats.jpg")


def test_a_real_model_is_compared_as_transformers_runs_it(shared_dir: Path) -> None:
    """Golden values taken from transformers, whose own PIL processor squashes the photo to 384 x 384."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = shared_dir / "models" / "facade-reference"
    photo = shared_dir / "data" / "photos" / "astronaut.png"
    processor = transformers.Mask2FormerImageProcessorPil.from_pretrained(folder, size={"height": 384, "width": 384})
    theirs = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        output = theirs(**processor(read_image(photo), return_tensors="pt"))
    classes, masks = output.class_queries_logits[0], output.masks_queries_logits[0, 0]
    scores, found = classes.softmax(-1)[:, :-1].max(0)[0], theirs.config.id2label
    values = Golden(
        source="transformers, now",
        tolerance=2e-4,
        classes=classes[:3, :3].tolist(),
        masks=masks[:3, :3].tolist(),
        scores=[(found[index], float(scores[index])) for index in (2, 8)],
    )
    loaded = load_model(str(folder), device="cpu", dtype="fp32")
    checks = golden.check(loaded, read_image(photo), values)
    assert [check.what for check in checks] == [
        "class logits",
        "mask logits",
        "scores of facade",
        "scores of vegetation",
    ]
    assert all(check.passed for check in checks), checks
    moved = dataclasses.replace(values, masks=(masks[:3, :3] + 0.1).tolist())
    assert [check.passed for check in golden.check(loaded, read_image(photo), moved)] == [True, False, True, True]


@pytest.mark.network
@pytest.mark.parametrize("name", golden_values())
def test_a_published_model_gives_its_published_outputs(name: str, tmp_path: Path) -> None:
    known = golden.photo()
    file = tmp_path / "photo.jpg"
    urllib.request.urlretrieve(known.url, file)
    assert known.is_in(file)
    checks = golden.check(load_model(name, device="cpu", dtype="fp32"), read_image(file), golden_values()[name])
    assert checks
    assert all(check.passed for check in checks), checks
