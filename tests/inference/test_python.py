"""From Python: every kind of image, lists in batches, a model by its name, and what notebooks show."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segcli
from segcli.errors import InputError
from segcli.segments import Segments
from tests.cli.conftest import photo
from tests.fakes import FakeLoaded


@pytest.fixture
def pixels(tmp_path: Path) -> np.ndarray:
    return np.asarray(Image.open(photo(tmp_path / "a.png")))


def same(one: Segments, other: Segments) -> None:
    assert one.names() == other.names()
    np.testing.assert_array_equal(one.id_map(), other.id_map())


def test_every_kind_of_image(pixels: np.ndarray, tmp_path: Path) -> None:
    loaded = FakeLoaded()
    expected = segcli.predict(loaded, pixels)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    turned = Image.fromarray(np.rot90(pixels, 1).copy())
    turned.getexif()[0x0112] = 6  # lies on its side; upright it is the photo
    for image in (tmp_path / "a.png", Image.fromarray(pixels).convert("RGBA"), tensor, tensor.float() / 255, turned):
        same(segcli.predict(loaded, image), expected)
    for wrong in (3, pixels[..., 0], pixels.astype(float), torch.zeros(4, 5)):
        with pytest.raises(InputError, match="the image is"):
            segcli.predict(loaded, wrong)
    for floats in (tensor.float(), (tensor.float() / 255 - 0.45) / 0.22, tensor / torch.nan):
        with pytest.raises(InputError, match=r"the image has floats from .* give 0 to 1"):
            segcli.predict(loaded, floats)


def test_lists_go_in_batches(pixels: np.ndarray) -> None:
    loaded = FakeLoaded()
    sizes: list[int] = []
    loaded.model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0].images)))
    images = [pixels, np.ascontiguousarray(pixels[:, ::-1]), pixels[:32]]
    found = segcli.predict(loaded, images, "semantic", batch=2)
    assert sizes == [2, 1]
    for image, segments in zip(images, found, strict=True):
        same(segments, segcli.predict(loaded, image, "semantic"))
    stack = torch.from_numpy(np.stack(images[:2])).permute(0, 3, 1, 2)
    assert len(segcli.predict(loaded, stack)) == 2
    with pytest.raises(InputError, match="nowhere"):
        segcli.predict(loaded, [pixels, "nowhere.jpg"])


def test_a_named_model_is_kept(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda name: loads.append(name) or FakeLoaded())
    for _ in range(3):
        segcli.predict("a model", pixels, classes="red")
    assert loads == ["a model"]


def test_what_is_shown_of_segments(pixels: np.ndarray) -> None:
    found = segcli.predict(FakeLoaded(), pixels, "instance")
    assert repr(found) == "<Segments: instance, 64×48, 2 found: red 0.99, green 0.98>"
    assert str(found).splitlines()[1] == f"red 0.99  {found.areas()[0]:,} px"
    assert found._repr_html_().count("<tr>") == 3
    assert Image.open(io.BytesIO(found._repr_png_())).size == (64, 48)
    nothing = found.filter(np.zeros(2, dtype=bool))
    assert repr(nothing) == "<Segments: instance, 64×48, 0 found>"
    assert nothing.to_rows() == []


def test_supervision(pixels: np.ndarray) -> None:
    pytest.importorskip("supervision")
    found = segcli.predict(FakeLoaded(), pixels, "instance")
    detections = found.to_supervision()
    assert len(detections) == 2
    np.testing.assert_array_equal(detections.mask, np.stack(list(found.masks())))
    np.testing.assert_array_equal(detections.xyxy, found.boxes())
    assert detections.class_id.tolist() == [3, 7]
    assert detections.data["class_name"].tolist() == ["red", "green"]
    assert len(found.filter(np.zeros(2, dtype=bool)).to_supervision()) == 0
