"""EoMT's way from a photo to the network and back, against its published protocol written out naively."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.errors import UsageError
from segcli.inference.predict import PredictSettings, resized
from segcli.inference.preprocess import Prepared, collate, prepare, resized_size, window_starts
from segcli.inference.stream import Read, segment_all
from segcli.layers.masks import DenseMasks
from segcli.postprocess import semantic_windows
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, MergeRule, QueryPredictions

LABELS = LabelSet(tuple(Label(i, name, False) for i, name in enumerate(("sky", "sea", "sand"))))
SQUARE = InputSize(640, 640, divisor=16, rounding="even", frame="square", fill="black")
WINDOWS = InputSize(512, 512, divisor=16, rounding="even", frame="windows", fill="black")


@pytest.mark.parametrize(
    ("photo", "size", "expected"),
    [
        ((200, 233), SQUARE, (549, 640)),
        ((233, 200), SQUARE, (640, 549)),  # rounded, where transformers cuts off
        ((480, 640), SQUARE, (480, 640)),
        ((64, 128), SQUARE, (320, 640)),  # small photos are enlarged
        ((480, 640), WINDOWS, (512, 683)),  # transformers: 682
        ((640, 480), WINDOWS, (683, 512)),
    ],
)
def test_sizes_are_rounded_as_python_rounds(photo: tuple[int, int], size: InputSize, expected: tuple[int, int]) -> None:
    assert resized_size(photo, size) == expected


def test_a_rectangle_has_no_padding_but_to_whole_patches() -> None:
    rectangle = resized(SQUARE, rectangle=True)
    image = np.zeros((300, 640, 3), np.uint8)
    assert prepare(image, InferenceSpec(("panoptic",), LABELS, rectangle)).frame.padded == (304, 640)
    assert prepare(image, InferenceSpec(("panoptic",), LABELS, SQUARE)).frame.padded == (640, 640)
    smaller = resized(SQUARE, short_side=320)
    assert prepare(image, InferenceSpec(("panoptic",), LABELS, smaller)).frame.padded == (320, 320)
    with pytest.raises(UsageError, match="does not pad photos to a square"):
        resized(InputSize(), rectangle=True)


def test_half_pixels_go_to_the_even_side() -> None:
    assert resized_size((5, 64), InputSize(32, 32, 16, "even", "square", "black")) == (2, 32)
    assert resized_size((7, 64), InputSize(32, 32, 16, "even", "square", "black")) == (4, 32)


def test_padding_is_black_before_the_normalisation() -> None:
    white = np.full((30, 64, 3), 255, np.uint8)
    spec = InferenceSpec(("panoptic",), LABELS, InputSize(64, 64, 16, "even", "square", "black"))
    prepared = prepare(white, spec)
    assert prepared.frame.padded == (64, 64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    below = np.broadcast_to((-mean / std)[:, None, None], (3, 34, 64))
    np.testing.assert_allclose(prepared.pixels[:, 30:], below, rtol=1e-5)
    np.testing.assert_allclose(prepared.pixels[:, 0, 0], (1 - mean) / std, rtol=1e-5)


@given(st.integers(64, 2000), st.sampled_from([32, 64, 512]))
def test_windows_cover_the_long_side(long: int, side: int) -> None:
    long = max(long, side)
    starts = window_starts(long, side)
    assert len(starts) == math.ceil(long / side)
    assert starts[0] == 0
    assert starts[-1] + side == long
    assert all(after - before <= side for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_loop_over_photos_gives_each_its_own_windows(batch_size: int) -> None:
    spec = InferenceSpec(("semantic",), LABELS, InputSize(32, 32, 16, "even", "windows", "black"))
    photos = [np.random.default_rng(seed).integers(0, 255, (40, 90, 3), dtype=np.uint8) for seed in range(3)]

    def network(images: Sequence[Prepared]) -> QueryPredictions:
        """Three queries whose masks are the channels of what the network sees."""
        pixels = collate(images, torch.device("cpu")).images
        return QueryPredictions(8 * torch.eye(3, 4).expand(len(pixels), 3, 4), DenseMasks(4 * pixels[:, :, ::4, ::4]))

    outcomes = segment_all(
        range(3),
        lambda number: Read(photos[number], None),
        network,
        [PredictSettings("semantic", spec)],
        batch_size=batch_size,
    )
    for photo, outcome in zip(photos, outcomes, strict=True):
        alone = prepare(photo, spec)
        expected = semantic_windows(network([alone]), 0, alone.windows, alone.frame, LABELS, MergeRule())
        assert len(alone.windows) == 3
        assert np.array_equal(outcome.results[0].id_map(), expected.id_map())


@settings(deadline=None, max_examples=15)
@given(st.tuples(st.integers(20, 90), st.integers(20, 90)), st.integers(0, 100))
def test_class_scores_of_windows_are_averaged_then_resized(photo: tuple[int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    spec = InferenceSpec(("semantic",), LABELS, InputSize(32, 32, 16, "even", "windows", "black"))
    image = np.random.default_rng(seed).integers(0, 255, (*photo, 3), dtype=np.uint8)
    prepared = prepare(image, spec)
    batch = collate([prepared], torch.device("cpu"))
    count, side = len(prepared.windows), 32
    assert batch.images.shape == (count, 3, side, side)
    classes = torch.randn(count, 5, 4, generator=generator)
    logits = 4 * torch.randn(count, 5, 8, 8, generator=generator)
    found = semantic_windows(
        QueryPredictions(classes, DenseMasks(logits)), 0, prepared.windows, prepared.frame, LABELS, MergeRule()
    )

    height, width = prepared.frame.resized
    total, seen = torch.zeros(3, height, width), torch.zeros(height, width)
    masks = F.interpolate(logits, (side, side), mode="bilinear").sigmoid()
    scores = torch.einsum("bqhw,bqc->bchw", masks, classes.softmax(-1)[..., :-1])
    for start, window in zip(prepared.windows, scores, strict=True):
        along, every = slice(start, start + side), slice(None)
        rows, columns = (along, every) if height > width else (every, along)
        total[:, rows, columns] += window
        seen[rows, columns] += 1
    full = F.interpolate((total / seen)[None], photo, mode="bilinear")[0]
    best, runner_up = full.topk(2, dim=0).values
    expected = full.argmax(0)
    ids = torch.from_numpy(found.id_map().astype(np.int64))
    got = torch.from_numpy(found.labels)[ids - 1]
    assert bool(((got == expected) | (best - runner_up < 1e-5)).all())


def test_a_region_comes_back_where_it_was() -> None:
    """transformers stretches a padded square over the photo when it is not told of windows; the lower half then comes
    back too high."""
    photo = np.zeros((48, 64, 3), np.uint8)
    photo[24:] = 255
    spec = InferenceSpec(("semantic",), LABELS, InputSize(64, 64, 16, "even", "windows", "black"))
    prepared = prepare(photo, spec)
    assert prepared.windows == (0, 21)
    white = collate([prepared], torch.device("cpu")).images[:, :1] > 0
    logits = torch.cat((F.avg_pool2d((~white).float(), 4), F.avg_pool2d(white.float(), 4)), dim=1) * 20 - 10
    classes = torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 0, 0]]).expand(2, -1, -1)
    found = semantic_windows(
        QueryPredictions(classes, DenseMasks(logits)), 0, prepared.windows, prepared.frame, LABELS, MergeRule()
    )
    assert found.labels.tolist() == [0, 1]
    rows = found.id_map().mean(1)
    assert (rows[:23] == 1).all()
    assert (rows[25:] == 2).all()
