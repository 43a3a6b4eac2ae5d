"""Post-processing against the dense computation it stands for: all queries upsampled, then the plain formulas."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from segcli import postprocess
from segcli.codecs.rle import encode
from segcli.layers.masks import DenseMasks, ProductMasks
from segcli.segments import Segments
from segcli.types import Frame, Label, LabelSet, MergeRule, QueryPredictions

K, THINGS = 7, 4
LABELS = LabelSet(tuple(Label(10 + i, f"class {i}", i < THINGS) for i in range(K)))
LIKE_MASKFORMER = MergeRule(score=0.3, mask_min=None)
LIKE_DETR = MergeRule(score=0.3, overlap=0.0, mask_min=None, normalise="softmax", min_area=4)
FRAMES = {
    "larger photo, padded right": Frame((333, 500), (96, 144), (96, 160)),
    "larger photo, padded below": Frame((500, 333), (144, 96), (160, 96)),
    "smaller photo": Frame((37, 53), (64, 92), (64, 96)),
    "tiny photo, large input": Frame((5, 7), (288, 400), (288, 416)),
    "one pixel": Frame((1, 1), (32, 32), (32, 32)),
    "one row": Frame((1, 300), (1, 60), (32, 64)),
    "unpadded, unresized": Frame((64, 64), (64, 64), (64, 64)),
}


def predictions(frame: Frame, seed: int, queries: int = 12, classes: int = K, sharp: float = 3.0) -> QueryPredictions:
    """Smooth random masks at stride 4; about half of the queries are objects, some of one class."""
    generator = torch.Generator().manual_seed(seed)
    h, w = frame.padded[0] // 4, frame.padded[1] // 4
    grid = torch.randn(1, queries, 1 + h // 6, 1 + w // 6, generator=generator)
    masks = F.interpolate(grid, size=(h, w), mode="bicubic") * 6 - 1
    logits = torch.randn(1, queries, classes + 1, generator=generator)
    logits[0, torch.arange(queries), torch.randint(0, classes + 1, (queries,), generator=generator)] += sharp
    return QueryPredictions(logits, DenseMasks(masks))


# ------------------------------------------------------------------------------------- the dense computation


def full(pred: QueryPredictions, frame: Frame) -> Tensor:
    """Mask logits [Q, H, W]: to the padded size, crop, to the photo."""
    return to_photo(F.interpolate(pred.masks.dense().float(), size=frame.padded, mode="bilinear")[0], frame)


def to_photo(maps: Tensor, frame: Frame) -> Tensor:
    cropped = maps[:, : frame.resized[0], : frame.resized[1]]
    return F.interpolate(cropped[None], size=frame.original, mode="bilinear", align_corners=False)[0]


@dataclass
class Found:
    ids: Tensor  # [H, W], 0 = void
    labels: list[int]
    scores: list[float]
    doubt: Tensor  # [H, W], where two computations may differ by rounding


def dense_panoptic(pred: QueryPredictions, frame: Frame, rule: MergeRule) -> Found:
    logits = full(pred, frame)
    scores, labels = pred.classes[0].softmax(-1).max(-1)
    keep = labels.ne(K) & (scores > rule.score)
    while True:
        found, tiny = _dense_merge(logits[keep], scores[keep], labels[keep], rule)
        if not tiny:
            return found
        keep[keep.nonzero().flatten()[tiny]] = False


def _dense_merge(logits: Tensor, scores: Tensor, labels: Tensor, rule: MergeRule) -> tuple[Found, list[int]]:
    ids = torch.zeros(logits.shape[1:], dtype=torch.long)
    found = Found(ids, [], [], torch.zeros_like(ids, dtype=torch.bool))
    if not len(logits):
        return found, []
    masks = logits.sigmoid() if rule.normalise == "sigmoid" else logits.softmax(0)
    weighted = masks * scores.view(-1, 1, 1) if rule.normalise == "sigmoid" else masks
    winner = weighted.argmax(0)
    top = weighted.topk(min(2, len(weighted)), dim=0).values
    found.doubt = (top[0] - top[-1] < 1e-5) & (len(top) > 1) | ((masks - 0.5).abs() < 1e-5).any(0)
    stuff: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for k, label in enumerate(labels.tolist()):
        area, own = (winner == k).sum().item(), (masks[k] >= 0.5).sum().item()
        mask = winner == k
        if rule.mask_min is not None:
            mask &= masks[k] >= rule.mask_min
        if not mask.any() or (rule.overlap and (own == 0 or area / own < rule.overlap)):
            continue
        number = stuff.get(label, len(found.labels) + 1)
        ids[mask] = number
        members.setdefault(number, []).append(k)
        if label in stuff:
            found.scores[number - 1] = max(found.scores[number - 1], scores[k].item())
            continue
        found.labels.append(label)
        found.scores.append(scores[k].item())
        if label >= THINGS:
            stuff[label] = number
    return found, [k for number, ks in members.items() if (ids == number).sum() <= rule.min_area for k in ks]


def dense_semantic(
    pred: QueryPredictions, frame: Frame, rule: MergeRule, combine_padded: bool
) -> tuple[Tensor, Tensor]:
    """Class of every pixel, and where it is in doubt."""
    probabilities = pred.classes[0].softmax(-1)[:, :-1]
    logits = F.interpolate(pred.masks.dense(), size=frame.padded, mode="bilinear")[0]
    if not combine_padded:
        logits = to_photo(logits, frame)
    masks = logits.sigmoid() if rule.normalise == "sigmoid" else logits.softmax(0)
    scores = torch.einsum("qc,qhw->chw", probabilities, masks)
    if combine_padded:
        scores = to_photo(scores, frame)
    top = scores.topk(2, dim=0).values
    return scores.argmax(0), top[0] - top[1] < 1e-5


def dense_instances(pred: QueryPredictions, frame: Frame, rule: MergeRule) -> list[tuple[float, int, Tensor, Tensor]]:
    """(score, label, mask, doubt), by descending score."""
    scores = pred.classes[0].softmax(-1)[:, :-1].flatten()
    logits = full(pred, frame)
    result = []
    for place in scores.argsort(descending=True, stable=True)[: rule.top_k].tolist():
        query, label = divmod(place, K)
        if label < THINGS:
            mask = logits[query] > 0
            mean = (logits[query].sigmoid() * mask).sum() / (mask.sum() + 1e-6)
            result.append(((scores[place] * mean).item(), label, mask, logits[query].abs() < 1e-5))
    return sorted(result, key=lambda item: -item[0])


# -------------------------------------------------------------------------------------------------- the same


def check_panoptic(segments: Segments, found: Found) -> None:
    order = np.argsort([-score for score in found.scores], kind="stable")
    assert segments.labels.tolist() == [found.labels[i] for i in order]
    np.testing.assert_allclose(segments.scores, [found.scores[i] for i in order], rtol=1e-6)
    number = np.zeros(len(order) + 1, dtype=np.int64)
    number[order + 1] = np.arange(1, len(order) + 1)
    assert segments.map is not None
    assert ((segments.map == number[found.ids.numpy()]) | found.doubt.numpy()).all()


def check_all(pred: QueryPredictions, frame: Frame, rule: MergeRule) -> None:
    check_panoptic(postprocess.panoptic(pred, 0, frame, LABELS, rule), dense_panoptic(pred, frame, rule))
    for combine_padded in (False, True):
        segments = postprocess.semantic(pred, 0, frame, LABELS, rule, combine_padded=combine_padded)
        classes, doubt = dense_semantic(pred, frame, rule, combine_padded)
        assert segments.map is not None
        assert ((segments.labels[segments.map.astype(int) - 1] == classes.numpy()) | doubt.numpy()).all()
        assert np.isnan(segments.scores).all()
    segments = postprocess.instance(pred, 0, frame, LABELS, rule)
    expected = dense_instances(pred, frame, rule)
    np.testing.assert_allclose(segments.scores, [score for score, *_ in expected], atol=2e-6)
    for i, (score, label, mask, doubt) in enumerate(expected):
        if all(abs(score - other) > 1e-5 for j, (other, *_) in enumerate(expected) if j != i):  # order is no accident
            assert segments.labels[i] == label
            assert ((segments.mask(i) == mask.numpy()) | doubt.numpy()).all()


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("rule", [MergeRule(score=0.3), LIKE_MASKFORMER, LIKE_DETR], ids=["m2f", "maskformer", "detr"])
def test_equals_the_dense_computation(frame: Frame, rule: MergeRule) -> None:
    check_all(predictions(frame, seed=3), frame, rule)


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 160), st.integers(1, 160)),
    st.tuples(st.integers(1, 96), st.integers(1, 96)),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.5, 0.8]),
    st.sampled_from([0.2, 0.5, 0.8]),
)
@example((160, 160), (64, 64), 0, 0.0, 0.5)
def test_equals_the_dense_computation_at_any_size(
    original: tuple[int, int], resized: tuple[int, int], seed: int, score: float, mask_min: float
) -> None:
    frame = Frame(original, resized, (-(-resized[0] // 32) * 32, -(-resized[1] // 32) * 32))
    rule = MergeRule(score=score, overlap=0.4, mask_min=0.5, top_k=20)
    check_all(predictions(frame, seed, queries=6), frame, rule)
    pred = predictions(frame, seed, queries=6)
    segments = postprocess.panoptic(pred, 0, frame, LABELS, replace(rule, mask_min=mask_min, overlap=0.0))
    mask = full(pred, frame)
    kept = pred.classes[0].softmax(-1).max(-1)
    shown = (kept.indices != K) & (kept.values > score)
    covered = (
        (mask[shown].sigmoid() >= mask_min - 1e-5).any(0) if shown.any() else torch.zeros(original, dtype=torch.bool)
    )
    assert segments.map is not None
    assert not (segments.map > 0)[~covered.numpy()].any()  # what no mask reaches is void


def test_many_classes_of_near_equal_probability() -> None:
    """No class stands out, so few bounds hold and most pixels need every class."""
    frame = Frame((200, 150), (64, 48), (64, 64))
    pred = predictions(frame, seed=1, queries=30, classes=60, sharp=0.5)
    labels = LabelSet(tuple(Label(i, str(i), True) for i in range(60)))
    for combine_padded in (False, True):
        segments = postprocess.semantic(pred, 0, frame, labels, MergeRule(), combine_padded=combine_padded)
        classes, doubt = dense_semantic(pred, frame, MergeRule(), combine_padded)
        assert segments.map is not None
        assert ((segments.labels[segments.map.astype(int) - 1] == classes.numpy()) | doubt.numpy()).all()


# ------------------------------------------------------------------------------------------ scenes read by eye


def scene(rows: list[tuple[int, float, str]], frame: Frame = Frame((4, 6), (4, 6), (4, 6))) -> QueryPredictions:
    """Queries (class, probability, columns): each covers some of six columns fully and the rest not at all."""
    logits = torch.full((1, len(rows), K + 1), -30.0)
    masks = torch.full((1, len(rows), *frame.padded), -20.0)
    for q, (label, probability, columns) in enumerate(rows):
        logits[0, q, label], logits[0, q, K] = np.log(probability), np.log(1 - probability)
        for x, value in enumerate(columns):
            masks[0, q, :, x] = {"#": 20.0, ".": -20.0, "-": -0.5}[value]
    return QueryPredictions(logits, DenseMasks(masks))


def row_of(pred: QueryPredictions, rule: MergeRule = MergeRule()) -> tuple[list[int], list[int], list[float]]:
    segments = postprocess.panoptic(pred, 0, Frame((4, 6), (4, 6), (4, 6)), LABELS, rule)
    assert segments.map is not None
    assert (segments.map == segments.map[0]).all()
    return segments.map[0].tolist(), segments.labels.tolist(), [round(float(s), 2) for s in segments.scores]


def test_things_are_counted_and_stuff_is_one() -> None:
    pred = scene([(5, 0.9, "##...."), (0, 0.95, "..#..."), (5, 0.97, "...##."), (0, 0.85, ".....#")])
    assert row_of(pred) == ([1, 1, 2, 1, 1, 3], [5, 0, 0], [0.97, 0.95, 0.85])


def test_ids_stay_unique_after_a_merge() -> None:
    """The case where transformers gives the person and the cat one id."""
    pred = scene([(5, 0.9, "#....."), (0, 0.9, ".#...."), (5, 0.9, "..#..."), (1, 0.9, "...#..")])
    assert row_of(pred) == ([1, 2, 1, 3, 0, 0], [5, 0, 1], [0.9, 0.9, 0.9])


def test_a_mostly_hidden_query_is_dropped_and_leaves_void() -> None:
    pred = scene([(0, 0.9, "####.."), (1, 0.99, "##...."), (2, 0.85, "....##")])
    assert row_of(pred) == ([1, 1, 0, 0, 2, 2], [1, 2], [0.99, 0.85])
    assert row_of(pred, MergeRule(overlap=0.5))[0] == [1, 1, 2, 2, 3, 3]


def test_a_pixel_needs_a_mask_probability() -> None:
    pred = scene([(0, 0.9, "##---.")])
    assert row_of(pred)[0] == [1, 1, 0, 0, 0, 0]
    assert row_of(pred, MergeRule(mask_min=0.3))[0] == [1, 1, 1, 1, 1, 0]
    assert row_of(pred, MergeRule(mask_min=None, overlap=0.0))[0] == [1] * 6


def test_specks_go_to_the_runner_up() -> None:
    rule = replace(LIKE_DETR, min_area=4)
    pred = scene([(0, 0.9, "#.----"), (1, 0.9, "-#####")])
    assert row_of(pred, rule)[0] == [1] * 6  # four pixels are a speck
    assert row_of(pred, replace(rule, min_area=3))[0] == [1, 2, 2, 2, 2, 2]


def test_a_tie_goes_to_the_first_query() -> None:
    assert row_of(scene([(0, 0.9, "###..."), (1, 0.9, "######")]), MergeRule(overlap=0.0))[0] == [1, 1, 1, 2, 2, 2]


def test_nothing_kept() -> None:
    pred = scene([(0, 0.31, "######"), (K, 0.9, "######")])
    frame = Frame((4, 6), (4, 6), (4, 6))
    segments = postprocess.panoptic(pred, 0, frame, LABELS, MergeRule())
    assert len(segments) == 0
    assert segments.map is not None
    assert not segments.map.any()
    assert segments.best_score == pytest.approx(0.31)
    found = postprocess.instance(pred, 0, frame, LABELS, MergeRule(), min_score=0.5)
    assert len(found) == 0
    assert found.best_score == pytest.approx(0.31)


def test_a_score_threshold_of_zero_keeps_every_object() -> None:
    """Mapillary's protocol."""
    pred = scene([(0, 0.55, "###..."), (1, 0.51, "...###"), (K, 0.9, "######")])
    assert row_of(pred, MergeRule(score=0.0))[0] == [1, 1, 1, 2, 2, 2]


def test_instances_keep_only_things_after_the_top_k() -> None:
    pred = scene([(5, 0.99, "######"), (0, 0.9, "##...."), (1, 0.8, "..##..")])
    frame = Frame((4, 6), (4, 6), (4, 6))
    best = postprocess.instance(pred, 0, frame, LABELS, MergeRule(top_k=2))
    assert best.labels.tolist() == [0]  # the stuff query took a place, then left
    assert best.mask(0)[0].tolist() == [True, True, False, False, False, False]
    every = postprocess.instance(pred, 0, frame, LABELS, MergeRule(top_k=100))
    assert len(every) == 3 * THINGS
    above = postprocess.instance(pred, 0, frame, LABELS, MergeRule(top_k=100), min_score=0.85)
    assert above.labels.tolist() == [0]


def test_an_empty_mask_is_an_instance_of_score_zero() -> None:
    segments = postprocess.instance(scene([(0, 0.9, "......")]), 0, Frame((4, 6), (4, 6), (4, 6)), LABELS, MergeRule())
    assert segments.scores.tolist() == [0.0] * THINGS
    assert segments.areas().tolist() == [0] * THINGS


@given(st.lists(st.tuples(st.integers(0, 1), arrays(bool, (3, 4))), max_size=8), st.sampled_from([0.5, 0.6, 1.0]))
def test_repeats_of_a_better_instance_go(found: list[tuple[int, np.ndarray]], iou: float) -> None:
    """By descending score; a repeat that is gone takes nothing with it."""
    kept: list[tuple[int, np.ndarray]] = []
    for label, mask in found:
        alike = [other for known, other in kept if known == label]
        if all((mask & other).sum() < iou * (mask | other).sum() or not mask.any() for other in alike):
            kept.append((label, mask))
    labels, scores = np.array([label for label, _ in found], int), np.linspace(0.9, 0.1, len(found))
    rles = tuple(encode(mask) for _, mask in found)
    left = postprocess.without_repeats(Segments("instance", (3, 4), LABELS, labels, scores, rles=rles), iou)
    assert left.labels.tolist() == [label for label, _ in kept]
    assert [mask.tolist() for mask in left.masks()] == [mask.tolist() for _, mask in kept]


def test_second_image_of_a_bfloat16_batch_of_products() -> None:
    frame = FRAMES["larger photo, padded right"]
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 12, 8, generator=generator).bfloat16()
    features = F.interpolate(torch.randn(2, 8, 4, 6, generator=generator), size=(24, 40), mode="bicubic").bfloat16()
    classes = predictions(frame, 5).classes.expand(2, -1, -1)
    product = QueryPredictions(classes.bfloat16(), ProductMasks(embeddings, features))
    exact = torch.einsum("bqc,bchw->bqhw", embeddings.float(), features.float())
    expected = dense_panoptic(
        QueryPredictions(classes.bfloat16().float()[1:], DenseMasks(exact[1:])), frame, MergeRule(0.3)
    )
    check_panoptic(postprocess.panoptic(product, 1, frame, LABELS, MergeRule(0.3)), expected)


# ----------------------------------------------------------------------------------------------------- parts of masks


def test_the_specks_of_a_thing_go_and_those_of_stuff_stay() -> None:
    """Two masks of a large part, one that touches it by a corner, and one of a tenth of it that lies apart."""
    coarse = torch.full((1, 2, 16, 16), -6.0)
    coarse[0, 0, 1:7, 1:7], coarse[0, 0, 7:9, 7:9], coarse[0, 0, 1:3, 12:14] = 6.0, 6.0, 2.0
    coarse[0, 1, 9:15, 1:7], coarse[0, 1, 9:11, 12:14] = 6.0, 6.0
    classes = torch.zeros(1, 2, K + 1)
    classes[0, 0, 0] = classes[0, 1, THINGS] = 9.0
    pred, frame = QueryPredictions(classes, DenseMasks(coarse)), Frame((16, 16), (64, 64), (64, 64))

    def maps(part_min: float) -> tuple[np.ndarray, np.ndarray]:
        rule = MergeRule(part_min=part_min)
        (thing,) = postprocess.instance(pred, 0, frame, LABELS, rule, min_score=0.5).masks()
        panoptic = postprocess.panoptic(pred, 0, frame, LABELS, rule)
        assert panoptic.labels.tolist() == [0, THINGS]
        assert np.array_equal(panoptic.id_map() == 1, thing)
        return thing, panoptic.id_map() == 2

    (thing, stuff), (kept, all_stuff) = maps(0.0), maps(0.5)
    assert thing[1:7, 1:7].all()
    assert thing[7:9, 7:9].any()
    assert thing[1:3, 12:14].any()
    without = thing.copy()
    without[:5, 10:] = False
    assert np.array_equal(kept, without)
    assert np.array_equal(all_stuff, stuff)
    assert stuff[9:11, 12:14].any()
    assert np.array_equal(maps(0.05)[0], thing)  # the speck is a tenth
    assert coarse[0, 0, 1, 12] == 2.0  # the network's answer stays for other rules


def test_an_instance_that_repeats_a_surer_one_goes() -> None:
    """Three queries: an object, the same again but for a column and less sure, and as much of it for another class."""
    coarse = torch.full((1, 3, 16, 16), -6.0)
    coarse[0, :, 2:12, 2:12] = 6.0
    coarse[0, 1, :, 11:] = -6.0
    classes = torch.zeros(1, 3, K + 1)
    classes[0, 0, 0], classes[0, 1, 0], classes[0, 2, 1] = 9.0, 5.0, 7.0
    pred, frame = QueryPredictions(classes, DenseMasks(coarse)), Frame((16, 16), (64, 64), (64, 64))

    def labels(repeat_iou: float | None) -> list[int]:
        rule = MergeRule(repeat_iou=repeat_iou)
        return postprocess.instance(pred, 0, frame, LABELS, rule, min_score=0.5).labels.tolist()

    assert labels(None) == [0, 1, 0]
    assert labels(0.95) == [0, 1, 0]
    assert labels(0.8) == [0, 1]
