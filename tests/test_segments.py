"""Segments: id maps and instances give the same answers, and stay right when filtered."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcli.codecs.rle import RLE, encode
from segcli.segments import Segments
from segcli.types import Label, LabelSet

LABELS = LabelSet((Label(7, "cat", True), Label(90, "sky", False), Label(1, "dog", True)))

MAP = np.array(
    [
        [0, 1, 1, 0],
        [2, 1, 0, 0],
        [2, 2, 0, 3],
    ],
    dtype=np.uint16,
)


def panoptic(ids: np.ndarray = MAP, n: int = 3) -> Segments:
    scores = np.linspace(0.9, 0.6, n).astype(np.float32)
    return Segments("panoptic", ids.shape, LABELS, np.arange(n) % 3, scores, ids)


def as_instances(segments: Segments) -> Segments:
    rles = tuple(encode(mask) for mask in segments.masks())
    return Segments("instance", segments.size, LABELS, segments.labels, segments.scores, rles=rles)


def test_labels_are_the_datasets_own() -> None:
    segments = panoptic()
    assert len(segments) == 3
    assert segments.names() == ["cat", "sky", "dog"]
    assert segments.category_ids() == [7, 90, 1]
    assert segments.isthing() == [True, False, True]


def test_areas_and_boxes() -> None:
    assert panoptic().areas().tolist() == [3, 3, 1]
    assert panoptic().boxes().tolist() == [[1, 0, 3, 2], [0, 1, 2, 3], [3, 2, 4, 3]]


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
        lambda size: arrays(st.sampled_from([np.uint16, np.int32]), size, elements=st.integers(0, 4))
    )
)
def test_maps_and_instances_agree(ids: np.ndarray) -> None:
    segments = panoptic(ids, 4)
    instances = as_instances(segments)
    np.testing.assert_array_equal(segments.areas(), instances.areas())
    np.testing.assert_array_equal(segments.boxes(), instances.boxes())
    np.testing.assert_array_equal(segments.id_map(), instances.id_map())
    for index in range(4):
        np.testing.assert_array_equal(segments.mask(index), ids == index + 1)
        for mine, theirs in zip(segments.crop(index), instances.crop(index), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert segments.to_coco(3) == instances.to_coco(3)


def test_the_higher_score_is_on_top() -> None:
    low, high = encode(np.array([[1, 1, 0]], bool)), encode(np.array([[0, 1, 1]], bool))
    segments = Segments(
        "instance", (1, 3), LABELS, np.array([0, 2]), np.array([0.9, 0.2], np.float32), rles=(high, low)
    )
    assert segments.id_map().tolist() == [[2, 1, 1]]
    assert segments.mask(1).tolist() == [[True, True, False]]


@pytest.mark.parametrize("build", [panoptic, lambda: as_instances(panoptic())])
def test_filter_renumbers(build) -> None:
    kept = build().filter(np.array([True, False, True]))
    assert kept.category_ids() == [7, 1]
    assert kept.id_map().tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 2]]
    assert kept.areas().tolist() == [3, 1]
    assert len(kept.filter(np.zeros(2, bool))) == 0


def test_coco_results_are_json_with_dataset_ids_and_no_box() -> None:
    results = json.loads(json.dumps(panoptic().to_coco("a/b.jpg")))
    assert [result["category_id"] for result in results] == [7, 90, 1]
    assert set(results[0]) == {"image_id", "category_id", "segmentation", "score"}
    assert results[0]["image_id"] == "a/b.jpg"
    np.testing.assert_array_equal(RLE.from_coco(results[1]["segmentation"]).decode(), MAP == 2)
    nan = np.full(3, np.nan, np.float32)
    assert "score" not in Segments("semantic", MAP.shape, LABELS, np.arange(3), nan, MAP).to_coco(1)[0]


def test_nothing_found() -> None:
    none = np.zeros(0, np.int64)
    for kind in ({"map": np.zeros((2, 3), np.uint16)}, {"rles": ()}):
        segments = Segments("instance", (2, 3), LABELS, none, none.astype(np.float32), best_score=0.3, **kind)
        assert len(segments) == 0
        assert segments.boxes().shape == (0, 4)
        assert segments.id_map().shape == (2, 3)
        assert segments.to_coco(1) == list(segments.masks()) == []
        assert segments.filter(np.zeros(0, bool)).best_score == 0.3


def test_inconsistent_segments_are_refused() -> None:
    one, score = np.zeros(1, np.int64), np.ones(1, np.float32)
    for wrong in (
        {"map": MAP, "rles": (encode(MAP > 0),)},
        {},
        {"map": MAP[:2]},
        {"rles": ()},
    ):
        with pytest.raises(ValueError, match=r"exactly one|id map is|masks for"):
            Segments("instance", MAP.shape, LABELS, one, score, **wrong)


@pytest.mark.parametrize("build", [panoptic, lambda: as_instances(panoptic())])
def test_sampled_takes_what_lies_at_the_centres(build: Callable[[], Segments]) -> None:
    smaller = build().sampled((2, 2))  # rows 0 and 2, columns 1 and 3
    assert smaller.size == (2, 2)
    assert smaller.id_map().tolist() == [[1, 0], [2, 3]]
    assert smaller.areas().tolist() == [1, 1, 1]
    assert build().sampled((3, 1)).areas().tolist() == [1, 0, 0]  # column 2
    np.testing.assert_array_equal(build().sampled((3, 4)).id_map(), MAP)


@given(arrays(np.uint16, (5, 7), elements=st.integers(0, 4)), st.integers(1, 9), st.integers(1, 9))
def test_maps_and_instances_are_sampled_alike(ids: np.ndarray, height: int, width: int) -> None:
    segments = panoptic(ids, 4)
    instances = as_instances(segments).sampled((height, width))
    np.testing.assert_array_equal(instances.id_map(), segments.sampled((height, width)).id_map())


def test_what_overlaps_is_seen_once() -> None:
    """Three in a row of pixels: 0123 is the best, 2345 loses half, 3 is hidden; 67 lies apart."""
    rows = np.zeros((4, 1, 8), dtype=bool)
    rows[0, 0, 2:6], rows[1, 0, :4], rows[2, 0, 3], rows[3, 0, 6:] = True, True, True, True
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    found = Segments("instance", (1, 8), LABELS, np.zeros(4, dtype=np.int64), scores, rles=tuple(map(encode, rows)))
    np.testing.assert_allclose(found.covered(), [0.5, 0, 1, 0])
    seen = found.as_seen()
    assert seen.areas().tolist() == [2, 4, 0, 2]
    np.testing.assert_array_equal(seen.id_map(), found.id_map())
    assert found.without_covered(0.4).scores.tolist() == [0.8, 0.9, 0.6]
    assert found.without_covered(0.6).scores.tolist() == [0.9, 0.6]
    assert found.without_covered(0.0) is found
