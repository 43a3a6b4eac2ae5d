"""The numbers under the pictures: recorded, counted and matched as the model and the objective themselves do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.detr import DetrConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.data.dataset import Sample
from segcli.data.truth import MapTruth
from segcli.errors import UsageError
from segcli.inference.preprocess import prepare
from segcli.inspection.views.attention import attention_strips, surest
from segcli.inspection.views.features import feature_maps, principal_colours, samples_at
from segcli.inspection.views.matching import cost_terms, match_queries
from segcli.inspection.views.photo import OpenedPhoto, batch_of
from segcli.inspection.views.queries import GRID, QueryCensus, count_queries
from segcli.layers.masks import DenseMasks
from segcli.layers.trace import record
from segcli.models.mask2former import build as build_mask2former
from segcli.models.segmenter import Segmenter
from segcli.render.views.matching import draw_matching
from segcli.types import Batch, Frame, MergeRule, PixelFeatures, QueryPredictions
from tests.fakes import LABELS, FakeLoaded
from tests.objective.scenes import Factors, target

TINY = Mask2FormerConfig(
    EfficientNetLiteConfig(), num_classes=3, num_queries=5, feature_size=32, mask_feature_size=32, hidden_dim=32,
    encoder_layers=2, encoder_feedforward_dim=32, decoder_layers=5, dim_feedforward=32, num_attention_heads=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def loaded() -> FakeLoaded:
    torch.manual_seed(0)
    return FakeLoaded(model=build_mask2former(TINY).eval())


def photo(height: int = 50, width: int = 70) -> OpenedPhoto:
    """Red above, green below: what the network of colours finds."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, :, 0] = 255
    image[height // 2 :, :, 1] = 255
    return OpenedPhoto(image, Path("photo.png"))


# ----------------------------------------------------------------------------------------------------------- attention


def test_attention_lies_inside_the_region_and_sums_to_one(loaded: FakeLoaded) -> None:
    strips = attention_strips(loaded, photo(), [0, 3])
    assert [strip.query for strip in strips] == [0, 3]
    for strip in strips:
        assert [step.stride for step in strip.steps] == [32, 16, 8, 32]
        for step in strip.steps:
            assert step.attention[~step.region].sum() == 0
            assert step.attention.sum() == pytest.approx(1, abs=1e-5)


def test_recorded_masks_and_classes_are_the_models_own(loaded: FakeLoaded) -> None:
    with torch.inference_mode():
        predictions = loaded.model(batch_of(loaded, photo().prepared(loaded)), every_layer=True)
    (strip,) = attention_strips(loaded, photo(), [2])
    own = torch.stack([p.masks.dense()[0, 2] for p in predictions]).numpy()
    np.testing.assert_allclose(strip.masks, own, rtol=1e-5, atol=1e-5)
    shares = [p.classes[0, 2].softmax(-1) for p in predictions]
    assert strip.scores == pytest.approx([float(share.max()) for share in shares], abs=1e-6)
    names = [*LABELS.names, "no object"]
    assert strip.names == tuple(names[int(share.argmax())] for share in shares)


def test_a_region_is_where_the_mask_before_it_is_foreground(loaded: FakeLoaded) -> None:
    (strip,) = attention_strips(loaded, photo(), [1])
    for logits, step in zip(strip.masks, strip.steps, strict=False):
        size = step.region.shape
        small = torch.nn.functional.interpolate(torch.from_numpy(logits)[None, None], size=size, mode="bilinear")
        wanted = small[0, 0].numpy() >= 0
        sure = np.abs(small[0, 0].numpy()) > 1e-4
        assert (step.region == (wanted if wanted.any() else True))[sure].all()


def test_recording_changes_no_bit(loaded: FakeLoaded) -> None:
    batch = batch_of(loaded, photo().prepared(loaded))
    with torch.inference_mode():
        plain = loaded.model(batch)[-1]
        with record("cross_attention", "self_attention", "attention_mask", "sampling", "sampling_weights"):
            seen = loaded.model(batch)[-1]
        after = loaded.model(batch)[-1]
    for other in (seen, after):
        assert torch.equal(plain.classes, other.classes)
        assert torch.equal(plain.masks.dense(), other.masks.dense())


def test_the_surest_are_of_different_classes_and_after_different_things() -> None:
    """Queries: a thing, the same thing again, another of its class, stuff, and one that finds nothing."""
    masks = torch.full((1, 5, 4, 4), -9.0)
    masks[0, :2, 0] = masks[0, 2, 1] = masks[0, 3, 2:] = 9.0
    classes = torch.full((1, 5, 4), -9.0)
    for query, (label, logit) in enumerate([(0, 5.0), (0, 4.0), (0, 3.0), (2, 6.0), (3, 6.0)]):
        classes[0, query, label] = logit
    prediction = QueryPredictions(classes, DenseMasks(masks))
    assert surest(prediction, LABELS, 5) == [0, 3, 2]
    assert surest(prediction, LABELS, 1) == [0]
    classes[..., 3] = 20.0
    assert surest(prediction, LABELS, 3) == [3]


def test_models_and_queries_that_cannot_be_shown(loaded: FakeLoaded) -> None:
    with pytest.raises(UsageError, match="queries 0 to 4"):
        attention_strips(loaded, photo(), [5])
    with pytest.raises(UsageError, match="no masked attention"):
        attention_strips(FakeLoaded(), photo())


# ------------------------------------------------------------------------------------------------------------- queries


def test_statistics_of_two_images_are_those_counted_by_hand() -> None:
    """Three queries on photos of 4×8 cells, of which the right half is padding in the frame."""
    frame = Frame((16, 16), (16, 16), (16, 32))
    census = QueryCensus(LABELS.names, MergeRule(score=0.5))
    for label in (0, 1):
        masks = torch.full((1, 3, 4, 8), -20.0)
        masks[0, 0, :2, :2] = 20.0  # the upper left quarter
        masks[0, 1, :, 4:] = 20.0  # padding alone
        masks[0, 2] = 20.0
        classes = torch.zeros(1, 3, 4)
        classes[0, 0, label] = classes[0, 1, 0] = 9.0
        classes[0, 2, 3] = 9.0  # no object
        census.count(QueryPredictions(classes, DenseMasks(masks)), frame)
    found = census.result()
    assert found.images == 2
    assert found.wins.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert found.dead == [1, 2]
    assert found.order() == [0]
    assert found.classes(0) == [("red", 1), ("green", 1)]
    np.testing.assert_allclose(found.boxes, [[0.25, 0.25, 0.5, 0.5]] * 2)
    assert found.box_queries.tolist() == [0, 0]
    quarter = np.zeros((GRID, GRID))
    quarter[: GRID // 2, : GRID // 2] = 1
    np.testing.assert_allclose(found.mean_masks[0], quarter, atol=1e-6)
    assert not found.mean_masks[1:].any()


def test_queries_with_boxes_alone_are_counted_by_them() -> None:
    classes = torch.tensor([[[9.0, 0, 0, 0], [0, 0, 0, 9.0]]])
    boxes = torch.tensor([[[0.75, 0.5, 0.5, 1.0], [0.5, 0.5, 1, 1]]])
    census = QueryCensus(LABELS.names, MergeRule())
    census.count(QueryPredictions(classes, None, boxes), Frame((8, 8), (8, 8), (32, 32)))
    found = census.result()
    np.testing.assert_allclose(found.boxes, [[0.75, 0.5, 0.5, 1.0]])
    assert found.mean_masks[0, :, : GRID // 2].sum() == 0
    assert (found.mean_masks[0, :, GRID // 2 :] == 1).all()


def test_any_network_of_queries_can_be_counted() -> None:
    found = count_queries(FakeLoaded(), [photo(), photo(64, 64)], MergeRule())
    assert found.used.tolist() == [2, 2, 0, 0]
    assert found.classes(0) == [("red", 2)]
    assert found.mean_masks[0, : GRID // 2 - 4].min() > 0.9
    assert found.mean_masks[0, GRID // 2 + 4 :].max() < 0.1


# ------------------------------------------------------------------------------------------------------------ matching


def test_the_terms_of_the_cost_are_weighted() -> None:
    prediction, wanted = Factors(layers=1, batch=1).predictions()[0], target("image", 4)
    terms = cost_terms(TINY, prediction, wanted)
    assert set(terms) == {"mask", "dice", "class"}
    shares = prediction.classes[0].detach().softmax(-1)[:, wanted.labels]
    torch.testing.assert_close(terms["class"], -2 * shares)


def test_objects_go_to_the_queries_of_their_colour() -> None:
    shown = photo()
    ids = np.where(np.arange(50)[:, None] < 25, 1, 2) * np.ones((1, 70), dtype=np.int64)
    truth = MapTruth(ids, np.array([0, 1]), np.zeros(2, dtype=bool))
    found = match_queries(FakeLoaded(), shown, _sample(shown, truth))
    assert found.pairs == ((0, 0), (1, 1))
    assert found.objects == ("red", "green")
    assert found.says[0][0] == "red"
    assert found.says[0][1] == pytest.approx(np.exp(6) / (np.exp(6) + 3), abs=1e-4)
    assert (np.diag(found.ious) > 0.9).all()
    assert found.cost(0)["class"] == pytest.approx(-2 * found.says[0][1], abs=1e-4)
    np.testing.assert_allclose(found.total, sum(found.terms.values()))


def test_more_objects_than_queries_leave_some_without() -> None:
    shown = photo(60, 70)
    ids = np.repeat(np.arange(1, 7), 10)[:, None] * np.ones((1, 70), dtype=np.int64)
    found = match_queries(
        FakeLoaded(), shown, _sample(shown, MapTruth(ids, np.array([0, 0, 0, 1, 1, 1]), np.zeros(6, bool)))
    )
    assert sorted(query for query, _ in found.pairs) == [0, 1, 2, 3]
    assert len({target for _, target in found.pairs}) == 4
    picture = draw_matching(shown.image, found, (1, 1))
    assert "6 objects, 4 queries: 2 find none" in [text.get_text() for text in picture.texts]


class _Boxes(nn.Module):
    """Three boxes without masks: nothing at all, the upper half, the lower half."""

    def forward(self, batch: Batch, every_layer: bool = False) -> list[QueryPredictions]:
        classes = torch.zeros(1, 3, 4)
        classes[0, 1, 0] = classes[0, 2, 1] = classes[0, 0, 3] = 6.0
        boxes = torch.tensor([[[0.5, 0.5, 0.1, 0.1], [0.5, 0.25, 1.0, 0.5], [0.5, 0.75, 1.0, 0.5]]])
        return [QueryPredictions(classes, None, boxes)]


def test_without_masks_boxes_are_matched_and_shown() -> None:
    shown = photo()
    ids = np.where(np.arange(50)[:, None] < 25, 1, 2) * np.ones((1, 70), dtype=np.int64)
    ids[:, :35] = 0  # the right half: its boxes are half as wide
    truth = MapTruth(ids, np.array([0, 1]), np.zeros(2, dtype=bool))
    loaded = FakeLoaded(_Boxes(), config=DetrConfig(EfficientNetLiteConfig(), len(LABELS)))
    found = match_queries(loaded, shown, _sample(shown, truth))
    assert found.pairs == ((1, 0), (2, 1))
    assert list(found.terms) == ["class", "box", "giou"]
    assert found.cost(0)["box"] == pytest.approx(5 * (0.25 + 0.5), abs=0.05)  # centre and width are off
    assert np.diag(found.ious) == pytest.approx([0.5, 0.5], abs=0.05)
    picture = draw_matching(shown.image, found, (1, 64 / 96))
    assert "pairs: true box, box of its query" in [text.get_text() for text in picture.texts]


def _sample(shown: OpenedPhoto, truth: MapTruth) -> Sample:
    return Sample(shown.image, truth, shown.path, "image")


# ------------------------------------------------------------------------------------------------------------ features


def test_components_are_ordered_signed_and_shared_between_levels() -> None:
    generator = np.random.default_rng(0)
    strong = generator.normal(size=(1, 6, 8)) * np.array([9.0, 0, 0, 0]).reshape(4, 1, 1)
    weak = generator.normal(size=(4, 6, 8)) * 0.5
    (rgb,), explained = principal_colours([strong + weak])
    assert 0.9 < explained <= 1
    assert np.corrcoef(rgb[..., 0].ravel(), strong[0].ravel())[0, 1] > 0.95  # the sign is the largest channel's
    again = principal_colours([strong + weak, (strong + weak)[:, ::2]])[0]
    np.testing.assert_array_equal(again[0][::2], again[1])
    flat, nothing = principal_colours([np.ones((2, 3, 3))])
    assert nothing == 0
    assert flat[0].shape == (3, 3, 3)


def test_every_part_has_its_maps(loaded: FakeLoaded) -> None:
    maps, samples = feature_maps(loaded, photo())
    assert [(m.part, m.stride) for m in maps] == [
        *(("backbone", stride) for stride in (4, 8, 16, 32)),
        *(("pixel decoder", stride) for stride in (32, 16, 8)),
        ("mask features", 4),
    ]
    assert samples == []
    for m in maps:  # photos of 50×70 become 64×90, and are padded to 64×96
        height, width = m.rgb.shape[0] * m.share[0], m.rgb.shape[1] * m.share[1]
        assert (height * m.stride, width * m.stride) == pytest.approx((64, 90))


def test_points_are_those_of_the_position_that_holds_the_pixel(loaded: FakeLoaded) -> None:
    shown = photo()
    _, samples = feature_maps(loaded, shown, (60, 10))
    assert [s.stride for s in samples] == [32, 16, 8]
    for own in samples:
        assert own.weights.sum() == pytest.approx(1, abs=1e-5)
        assert own.points.shape == (4 * 3 * 4, 2)
        reach = [own.stride / side for side in prepare(shown.image, loaded.spec).frame.resized[::-1]]
        assert abs(own.cell[0] - 60.5 / 70) <= reach[0]
        assert abs(own.cell[1] - 10.5 / 50) <= reach[1]


def test_points_of_a_position_by_hand() -> None:
    """Levels of 1×1 and 2×2; position i reads at (i / 10, i / 10) of a frame that is half padding."""
    at: Tensor = torch.arange(5.0)[:, None, None, None].expand(5, 2, 4, 2) / 10
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]).expand(5, 2, 4)
    frame = Frame((32, 16), (32, 16), (32, 32))
    coarse, fine = samples_at(at, weights, [(1, 1), (2, 2)], frame, (0.9, 0.9))
    np.testing.assert_allclose(coarse.points, 0)
    np.testing.assert_allclose(fine.points, [[0.6, 0.3]] * 8, atol=1e-6)  # the third of four: lower left
    assert fine.cell == (0.5, 0.75)
    assert fine.levels.tolist() == [0, 0, 1, 1] * 2
    np.testing.assert_allclose(fine.weights, [0.05, 0.1, 0.15, 0.2, 0.2, 0.15, 0.1, 0.05])


def test_pixels_and_models_without_points(loaded: FakeLoaded) -> None:
    with pytest.raises(UsageError, match="70×50 pixels"):
        feature_maps(loaded, photo(), (70, 10))
    model = Segmenter(_Pyramid(), _Plain(), _Maskless(), torch.nn.Identity())
    assert [m.part for m in feature_maps(FakeLoaded(model=model), photo())[0]] == ["backbone", "pixel decoder"]
    with pytest.raises(UsageError, match="no deformable attention"):
        feature_maps(FakeLoaded(model=model), photo(), (1, 1))


class _Pyramid(torch.nn.Module):
    channels = (3,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images[:, :, ::4, ::4]]


class _Maskless(torch.nn.Module):
    """A query decoder whose answers have no masks."""

    def forward(self, pixels: PixelFeatures, head: nn.Module) -> list[QueryPredictions]:
        return [QueryPredictions(torch.zeros(1, 1, 2), None, None)]


class _Plain(torch.nn.Module):
    """A pixel decoder without deformable attention and without mask features."""

    def forward(self, pyramid: list[Tensor], padding: Tensor) -> PixelFeatures:
        return PixelFeatures(None, pyramid)
