"""Image, masks and boxes move together, whatever is drawn; and nothing breaks when nothing is left."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.codecs.image import resize
from segcli.codecs.rle import encode
from segcli.data.dataset import Sample, for_task
from segcli.data.loading.collate import Layout, collate
from segcli.data.loading.draws import generator
from segcli.data.loading.transforms import (
    ColorJitter,
    JitterCrop,
    ShortSideCrop,
    TrainTransform,
    ValTransform,
    boxes_of,
    cut,
    cut_image,
)
from segcli.data.truth import MapTruth, ShapeTruth, Window
from segcli.inference.preprocess import resized_size
from segcli.types import InputSize, Label, LabelSet


def painted(height: int, width: int, boxes: list[tuple[int, int, int, int]], form: str) -> Sample:
    """Object i is a rectangle, and the image is 40 · (i + 1) where it is: the image shows its own truth."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    ids = np.zeros((height, width), dtype=np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        image[y0:y1, x0:x1] = 40 * number
        ids[y0:y1, x0:x1] = number
    labels, crowd = np.arange(len(boxes)), np.zeros(len(boxes), dtype=bool)
    if form == "map":
        return Sample(image, MapTruth(ids, labels, crowd), Path("a.png"), "a")
    shapes = [
        encode(ids == i) if form == "rle" else [np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)]
        for i, (x0, y0, x1, y1) in enumerate(boxes, start=1)
    ]
    return Sample(image, ShapeTruth((height, width), shapes, labels, crowd), Path("a.png"), "a")


def grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its eight neighbours."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(mask, 1), (3, 3)).any(axis=(2, 3))


BOXES = [(2, 3, 20, 17), (24, 5, 37, 30), (1, 20, 18, 36)]  # apart from each other


@st.composite
def windows(draw: st.DrawFn) -> Window:
    resized = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    size = draw(st.integers(8, resized[0])), draw(st.integers(8, resized[1]))
    top, left = draw(st.integers(0, resized[0] - size[0])), draw(st.integers(0, resized[1] - size[1]))
    return Window(resized, top, left, size, draw(st.booleans()))


def test_the_scale_of_augmentation_is_that_of_prediction() -> None:
    """A short side of 96 in prediction, a long one of 160 at most; tiles of 24 pixels enlarge photos four times."""
    sizes = {(40, 60): (96, 144), (12, 60): (32, 160)}
    tiled = {(40, 60): (160, 240), (12, 60): (80, 400)}  # pieces of 12 × 24
    grown = {(40, 60): (160, 240), (80, 100): (160, 200), (20, 30): (160, 240)}  # tiles of 24, 48 and 12 pixels
    for tile, tile_for, expected in ((None, None, sizes), (24, None, tiled), (24, 40, grown)):
        prediction = InputSize(96, 160, tile=tile, tile_for=tile_for)
        jitter = JitterCrop((96, 96), (1.0, 1.0), prediction=prediction)
        for size, resized in expected.items():
            piece = min(size[0], prediction.tile_of(size) or size[0]), min(size[1], prediction.tile_of(size) or size[1])
            there = resized_size(piece, prediction)
            assert there[0] / piece[0] == pytest.approx(resized[0] / size[0], abs=0.02)
            window = jitter.draw(painted(*size, BOXES[:1], "map").truth, np.random.default_rng(0))
            assert window.resized == resized
            assert window.size == (min(96, resized[0]), min(96, resized[1]))


@settings(max_examples=60)
@given(windows(), st.sampled_from(["map", "rle", "polygon"]))
def test_masks_lie_where_the_image_shows_them(window: Window, form: str) -> None:
    """Away from its edge, where the resized image mixes colours, an object's pixels have exactly its colour."""
    example = cut(painted(40, 40, BOXES, form), window)
    shown = example.image[..., 0].astype(int)
    reach = 1 + int(np.ceil(max(window.resized) / 40))
    background = ~example.masks.any(axis=0)
    masks, colours = [*example.masks, background], [*(40 * (example.labels + 1)), 0]
    for mask, colour in zip(masks, colours, strict=True):
        around = np.lib.stride_tricks.sliding_window_view(np.pad(mask, reach), (2 * reach + 1,) * 2)
        assert (shown[around.all(axis=(2, 3))] == colour).all()


@settings(max_examples=60)
@given(windows(), st.sampled_from(["map", "rle", "polygon"]))
def test_the_three_forms_cut_the_same_masks(window: Window, form: str) -> None:
    reference, other = (cut(painted(40, 40, BOXES, name), window) for name in ("map", form))
    if form == "rle":
        assert other.labels.tolist() == reference.labels.tolist()
        np.testing.assert_array_equal(other.masks, reference.masks)
    # A mask is sampled at the nearest pixel, a polygon at its very edge: they may differ along it, by one pixel.
    ours, theirs = (dict(zip(example.labels.tolist(), example.masks, strict=True)) for example in (reference, other))
    nothing = np.zeros(window.size, dtype=bool)
    for label in {*ours, *theirs}:
        a, b = ours.get(label, nothing), theirs.get(label, nothing)
        assert not (a & ~grown(b)).any() or not b.any()
        assert not (b & ~grown(a)).any() or not a.any()


@settings(max_examples=40)
@given(windows(), st.sampled_from(["map", "rle", "polygon"]))
def test_areas_are_those_of_the_masks(window: Window, form: str) -> None:
    truth = painted(40, 40, [*BOXES, (-9, -9, -2, -2)], form).truth  # the last lies outside
    index, masks = truth.crop(window)
    expected = np.zeros(4, dtype=np.int64)
    expected[index] = masks.sum(axis=(1, 2))
    assert truth.areas(window).tolist() == expected.tolist()


def test_counting_a_large_photo_makes_one_mask_at_a_time() -> None:
    corners = np.array([(0, 0), (9, 0), (9, 9), (0, 9)], dtype=float)
    truth = ShapeTruth((1000, 1000), [[corners + i] for i in range(50)], np.zeros(50), np.zeros(50, dtype=bool))
    tracemalloc.start()
    assert truth.areas(Window.whole((1000, 1000))).tolist() == [81] * 50
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6  # all masks are 50 MB


@settings(max_examples=40)
@given(windows())
def test_a_window_shows_what_the_whole_resized_image_shows(window: Window) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    whole = resize(image, window.resized)
    expected = whole[window.top :, window.left :][: window.size[0], : window.size[1]]
    expected = expected[:, ::-1] if window.flip else expected
    # Pillow rounds to 8 bits after each of its two passes, so a last bit of the window's place can show twice.
    np.testing.assert_allclose(cut_image(image, window).astype(int), expected, atol=2)


def test_flipping_twice_is_nothing() -> None:
    sample = painted(40, 40, BOXES, "polygon")
    plain, mirrored = (cut(sample, Window((40, 40), 3, 5, (30, 32), flip)) for flip in (False, True))
    np.testing.assert_array_equal(plain.image, mirrored.image[:, ::-1])
    np.testing.assert_array_equal(plain.masks, mirrored.masks[:, :, ::-1])
    np.testing.assert_allclose(plain.boxes[:, 0], 1 - mirrored.boxes[:, 0], atol=1e-6)
    np.testing.assert_allclose(plain.boxes[:, 1:], mirrored.boxes[:, 1:])


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(5, 120), st.integers(5, 120), st.booleans())
def test_train_transforms_hold_their_promises(seed: int, height: int, width: int, semantic: bool) -> None:
    size = (32, 48)
    geometry = ShortSideCrop(size, (24, 40, 64), long=100) if semantic else JitterCrop(size, (0.1, 2.0))
    sample = painted(height, width, [(0, 0, width // 2, height), (width // 2, 0, width, height // 3)], "map")
    example = TrainTransform(geometry, color=ColorJitter())(sample, generator(seed, 0, "a", "augment"))
    assert example.image.shape[0] <= size[0]
    assert example.image.shape[1] <= size[1]
    assert example.image.dtype == np.uint8
    assert example.masks.shape == (len(example.labels), *example.image.shape[:2])
    assert example.masks.any(axis=(1, 2)).all()
    for (cx, cy, w, h), mask in zip(example.boxes * np.tile(example.image.shape[1::-1], 2), example.masks, strict=True):
        y0, x0, y1, x1 = (round(float(v)) for v in (cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2))
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0, x0:x1].any()
        assert mask[y0:y1, x1 - 1].any()


def test_large_scale_jitter_keeps_to_its_range() -> None:
    truth = painted(100, 200, BOXES, "map").truth
    fit, native = JitterCrop((50, 50), (0.5, 2.0)), JitterCrop((50, 50), (0.5, 2.0), native=True)
    widths = [fit.draw(truth, generator(0, i, "a", "x")).resized[1] for i in range(200)]
    assert (min(widths) >= 25, max(widths) <= 100, max(widths) - min(widths) > 60) == (True, True, True)
    widths = [native.draw(truth, generator(0, i, "a", "x")).resized[1] for i in range(200)]
    assert (min(widths) >= 100, max(widths) <= 400, max(widths) - min(widths) > 240) == (True, True, True)


def test_a_crop_is_not_filled_by_one_class() -> None:
    """Three tenths of the image are class 1: free crops mostly show class 0 alone, limited ones seldom."""
    sample = painted(100, 100, [(0, 0, 70, 100), (70, 0, 100, 100)], "map")
    limited, free = ShortSideCrop((30, 30), (100,)), ShortSideCrop((30, 30), (100,), class_limit=1.1)
    shares = {
        name: [
            cut(sample, geometry.draw(sample.truth, generator(0, i, "a", "x"))).masks.mean(axis=(1, 2)).max()
            for i in range(100)
        ]
        for name, geometry in (("limited", limited), ("free", free))
    }
    assert np.mean(np.array(shares["limited"]) < 0.75) > 0.8
    assert np.mean(np.array(shares["free"]) < 0.75) < 0.5


def test_crowds_are_no_targets_and_lost_objects_are_gone() -> None:
    sample = painted(40, 40, BOXES, "rle")
    assert isinstance(sample.truth, ShapeTruth)
    crowd = ShapeTruth(sample.truth.size, sample.truth.shapes, sample.truth.labels, np.array([False, True, False]))
    sample = Sample(sample.image, crowd, sample.file, sample.image_id)
    rng = generator(0, 0, "a", "augment")
    assert TrainTransform(JitterCrop((40, 40), (1, 1)), flip=0)(sample, rng).labels.tolist() == [0, 2]
    whole = ValTransform(lambda size: (80, 80))(sample)
    assert (whole.labels.tolist(), whole.crowd.tolist()) == ([0, 1, 2], [False, True, False])
    assert cut(sample, Window((40, 40), 0, 0, (20, 20))).labels.tolist() == [0]


@pytest.mark.parametrize("form", ["map", "rle"])
def test_nothing_to_see(form: str) -> None:
    """No objects, a crop that loses every object, an all-void map: valid examples without targets, also in a batch."""
    empty = painted(20, 20, [], form)
    lost = cut(painted(40, 40, [(0, 0, 5, 5)], form), Window((40, 40), 20, 20, (16, 16)))
    void = Sample(
        empty.image, MapTruth(np.full((20, 20), -1, np.int16), np.zeros(0, int), np.zeros(0, bool)), Path("v"), "v"
    )
    full = cut(painted(40, 40, BOXES, form), Window.whole((40, 40)))
    assert empty.masks.shape == (0, 20, 20)
    transform = TrainTransform(ShortSideCrop((16, 16), (20,)), color=ColorJitter())
    examples = [transform(sample, generator(0, 0, "a", "x")) for sample in (empty, void)]
    batch, targets = collate([*examples, lost, full], Layout())
    assert [len(target.labels) for target in targets] == [0, 0, 0, 3]
    assert all(target.masks.shape[1:] == batch.images.shape[2:] == (64, 64) for target in targets)
    assert boxes_of(np.zeros((0, 4, 4), dtype=bool)).shape == (0, 4)


def test_a_batch_is_normalised_then_padded() -> None:
    layout = Layout(divisor=32, mean=(10, 20, 30), std=(2, 4, 5))
    small, large = (cut(painted(40, 40, BOXES, "map"), Window((40, 40), 0, 0, size)) for size in ((20, 40), (40, 36)))
    batch, targets = collate([small, large], layout)
    assert (tuple(batch.images.shape), batch.sizes) == ((2, 3, 64, 64), [(20, 40), (40, 36)])
    expected = (small.image.astype(np.float32) - (10, 20, 30)) / (2, 4, 5)
    np.testing.assert_allclose(batch.images[0, :, :20, :40].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert not batch.images[0, :, 20:].any()
    assert not batch.images[0][:, batch.padding[0]].any()
    assert batch.padding[0].sum() == 64 * 64 - 20 * 40
    assert not targets[0].masks[:, batch.padding[0]].any()
    np.testing.assert_array_equal(targets[1].masks[:, :40, :36].numpy(), large.masks)
    assert targets[0].labels.dtype == torch.int64
    assert tuple(collate([small], Layout(size=(64, 100)))[0].images.shape) == (1, 3, 64, 128)


def test_colour_jitter_keeps_the_picture_recognisable() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    jitter = ColorJitter()
    results = [jitter(image.copy(), generator(0, i, "a", "x")) for i in range(40)]
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    assert sum((result == image).all() for result in results) < 8
    assert all(np.corrcoef(result.ravel(), image.ravel())[0, 1] > 0.6 for result in results)
    grey = np.full((4, 4, 3), 100, dtype=np.uint8)
    assert all(np.ptp(jitter(grey, generator(1, i, "a", "x")).astype(int), axis=2).max() == 0 for i in range(20))


def test_stuff_in_parts_is_one_object_and_things_are_not() -> None:
    labels = LabelSet((Label(3, "thing", True), Label(5, "stuff", False)))
    ids = np.array([[1, 2, 3, 4], [1, 2, 3, -1]], dtype=np.int16)
    truth = MapTruth(ids, np.array([3, 5, 3, 5]), np.array([False, False, True, False]))
    panoptic = for_task(truth, "panoptic", labels)
    assert (panoptic.labels.tolist(), panoptic.crowd.tolist()) == ([0, 1, 0], [False, False, True])
    _, masks = panoptic.crop(Window.whole((2, 4)))
    assert masks.reshape(3, -1).sum(axis=1).tolist() == [2, 3, 2]
    semantic = for_task(truth, "semantic", labels)
    assert (semantic.labels.tolist(), semantic.areas(Window.whole((2, 4))).tolist()) == ([0, 1], [4, 3])
    assert not semantic.crowd.any()
    crowds = MapTruth(ids, truth.labels, np.ones(4, dtype=bool))  # a class is learnt there too
    assert not for_task(crowds, "semantic", labels).crowd.any()
    assert for_task(crowds, "panoptic", labels).crowd.all()
    things = for_task(truth, "instance", LabelSet(labels.labels[:1]))
    assert (things.labels.tolist(), things.areas(Window.whole((2, 4))).tolist()) == ([0, 0], [2, 2])
    void = things.void(Window.whole((2, 4)))
    assert void is not None
    assert void.sum() == 1
