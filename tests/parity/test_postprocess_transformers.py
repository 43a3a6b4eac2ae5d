"""Where segcli's post-processing equals transformers', and where it follows the original implementation instead.

transformers resizes every mask to 384 × 384 first; with a network input of exactly that size the step does nothing and
the rest can be compared. The differences below are transformers', not the papers'.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcli import postprocess
from segcli.layers.masks import DenseMasks
from segcli.types import Frame, Label, LabelSet, MergeRule, QueryPredictions

transformers = pytest.importorskip("transformers")

K, THINGS = 9, 6
LABELS = LabelSet(tuple(Label(i, str(i), i < THINGS) for i in range(K)))
SQUARE = (384, 384)


@pytest.fixture(scope="module")
def processor() -> Any:
    return transformers.Mask2FormerImageProcessor()


def outputs(pred: QueryPredictions) -> SimpleNamespace:
    assert pred.masks is not None
    return SimpleNamespace(class_queries_logits=pred.classes, masks_queries_logits=pred.masks.dense().clone())


def smooth(seed: int, classes: int = K, size: tuple[int, int] = (96, 96), queries: int = 20) -> QueryPredictions:
    """Smooth random masks; the first half of the queries are objects of some class."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, queries, size[0] // 12, size[1] // 12, generator=generator)
    masks = F.interpolate(coarse, size=size, mode="bicubic") * 8 - 3
    logits = torch.randn(1, queries, classes + 1, generator=generator)
    label = torch.randint(classes, (queries,), generator=generator)
    label[queries // 2 :] = classes
    logits[0, torch.arange(queries), label] += 8
    return QueryPredictions(logits, DenseMasks(masks))


def stripes(rows: list[tuple[int, float, str]]) -> QueryPredictions:
    """Queries (class, score, columns): # certain, + a probability of 0.55, - of 0.3, . nothing; full height."""
    logits = torch.full((1, len(rows), K + 1), -30.0)
    masks = torch.empty(1, len(rows), *SQUARE)
    for query, (label, score, columns) in enumerate(rows):
        logits[0, query, label], logits[0, query, K] = np.log(score), np.log(1 - score)
        row = torch.tensor([{"#": 20.0, "+": 0.2007, "-": -0.8473, ".": -20.0}[c] for c in columns])
        masks[0, query] = row.repeat_interleave(384 // len(columns))
    return QueryPredictions(logits, DenseMasks(masks))


def ours(pred: QueryPredictions) -> list[int]:
    """The id of each stripe."""
    ids = postprocess.panoptic(pred, 0, Frame(SQUARE, SQUARE, SQUARE), LABELS, MergeRule()).map
    assert ids is not None
    return ids[0, 48::96].tolist()


def theirs(processor: Any, pred: QueryPredictions) -> list[int]:
    result = processor.post_process_panoptic_segmentation(
        outputs(pred), threshold=0.8, target_sizes=[SQUARE], label_ids_to_fuse=set(range(THINGS, K))
    )
    return result[0]["segmentation"][0, 48::96].int().tolist()


# --------------------------------------------------------------------------------------------------------- equal


@pytest.mark.parametrize("original", [SQUARE, (500, 333), (120, 200)])
def test_semantic_is_equal_for_a_square_input(processor: Any, original: tuple[int, int]) -> None:
    pred = smooth(0)
    frame = Frame(original, SQUARE, SQUARE)
    got = postprocess.semantic(pred, 0, frame, LABELS, MergeRule(), combine_padded=True)
    expected = processor.post_process_semantic_segmentation(outputs(pred), target_sizes=[original])[0].numpy()
    assert got.map is not None
    assert (got.labels[got.map.astype(int) - 1] == expected).mean() > 0.9999  # ties within rounding


def test_instances_are_equal_for_a_square_photo(processor: Any) -> None:
    pred = smooth(1)
    expected = processor.post_process_instance_segmentation(
        outputs(pred), threshold=0.5, target_sizes=[SQUARE], return_binary_maps=True
    )[0]
    things = [i for i, info in enumerate(expected["segments_info"]) if info["label_id"] < THINGS]
    things.sort(key=lambda i: -expected["segments_info"][i]["score"])
    got = postprocess.instance(
        pred, 0, Frame(SQUARE, SQUARE, SQUARE), LABELS, MergeRule(top_k=pred.classes.shape[1]), min_score=0.5
    )
    assert len(got) == len(things) > 2
    for i, j in enumerate(things):
        info = expected["segments_info"][j]
        assert (got.labels[i], got.scores[i]) == (info["label_id"], pytest.approx(info["score"], abs=1e-5))
        assert (got.mask(i) == expected["segmentation"][j].numpy().astype(bool)).mean() > 0.9999


def test_panoptic_is_equal_where_masks_are_certain_and_no_stuff_repeats(processor: Any) -> None:
    pred = stripes([(0, 0.9, "#..."), (7, 0.95, ".##."), (0, 0.85, "...#")])
    assert ours(pred) == [2, 1, 1, 3]  # by descending score
    assert theirs(processor, pred) == [1, 2, 2, 3]  # in the order of the queries


# ----------------------------------------------------------------------------------------------------- different


def test_two_objects_never_share_an_id(processor: Any) -> None:
    """Sky, person, sky, cat: transformers' counter falls back to the sky's id, and the cat gets the person's."""
    pred = stripes([(7, 0.9, "#..."), (0, 0.9, ".#.."), (7, 0.9, "..#."), (1, 0.9, "...#")])
    assert theirs(processor, pred) == [1, 2, 1, 2]
    assert ours(pred) == [1, 2, 1, 3]


def test_a_pixel_of_no_mask_is_void(processor: Any) -> None:
    pred = stripes([(0, 0.9, "##.."), (1, 0.9, "..#-")])
    assert theirs(processor, pred) == [1, 1, 2, 2]  # a probability of 0.3 is the best there is
    assert ours(pred) == [1, 1, 2, 0]


def test_the_score_does_not_eat_into_the_mask(processor: Any) -> None:
    """transformers tests score × probability ≥ 0.5, the original the probability."""
    pred = stripes([(0, 0.85, "++..")])
    assert set(theirs(processor, pred)) == {0}
    assert ours(pred) == [1, 1, 0, 0]


def test_details_below_the_grid_of_384_survive(processor: Any) -> None:
    """A bar one cell high at the network's stride, some 7 px of a photo of 1500 × 2000."""
    frame = Frame((1500, 2000), (800, 1067), (800, 1088))
    masks = torch.full((1, 1, 200, 272), -5.0)
    masks[0, 0, 100, 20:240] = 5.0
    logits = torch.zeros(1, 1, K + 1)
    logits[0, 0, 0] = 20.0
    pred = QueryPredictions(logits, DenseMasks(masks))
    exact = F.interpolate(
        F.interpolate(masks, size=frame.padded, mode="bilinear")[..., :800, :1067], size=frame.original, mode="bilinear"
    )[0, 0]
    got = postprocess.instance(pred, 0, frame, LABELS, MergeRule(top_k=1)).mask(0)
    assert (got == (exact > 0).numpy()).all()
    blocky = processor.post_process_instance_segmentation(outputs(pred), target_sizes=[frame.original])[0]
    union = got | (blocky["segmentation"].numpy() == 0)
    assert (got & (blocky["segmentation"].numpy() == 0)).sum() / union.sum() < 0.95
    # … and the padding, which transformers does not crop, moves what is right of the middle.
    assert np.flatnonzero(got.any(0))[-1] - np.flatnonzero((blocky["segmentation"] == 0).any(0))[-1] > 20
