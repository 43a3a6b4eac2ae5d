"""The ideas of Mask2Former, each seen at work in a small network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.layers.trace import record
from segcli.models.mask2former import build as build_mask2former
from segcli.models.query_decoders.masked import attention_mask
from segcli.types import Batch

SMALL = Mask2FormerConfig(
    EfficientNetLiteConfig(), num_classes=3, num_queries=5, feature_size=32, mask_feature_size=32, hidden_dim=32,
    encoder_layers=1, encoder_feedforward_dim=32, decoder_layers=5, dim_feedforward=32, num_attention_heads=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def batch() -> Batch:
    return Batch(torch.rand(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool), [(64, 96)])


def test_a_query_looks_only_inside_its_mask() -> None:
    embeddings = torch.tensor([[[1.0], [-1.0], [0.0]]])  # three queries, one channel
    features = torch.tensor([[[2.0, -3.0, 4.0]]])  # three places
    allowed = attention_mask(embeddings, features)
    assert allowed.tolist() == [[[True, False, True], [False, True, False], [True, True, True]]]


def test_a_query_with_an_empty_mask_looks_everywhere() -> None:
    assert attention_mask(torch.tensor([[[-1.0]]]), torch.ones(1, 1, 4)).tolist() == [[[True] * 4]]


def test_fewer_layers_than_levels(batch: Batch) -> None:
    model = build_mask2former(replace(SMALL, decoder_layers=2)).eval()
    with torch.inference_mode():
        assert model(batch)[-1].classes.isfinite().all()


def test_attention_stays_inside_the_mask_and_levels_take_turns(batch: Batch) -> None:
    torch.manual_seed(0)
    model = build_mask2former(SMALL).eval()
    with torch.inference_mode(), record("cross_attention", "attention_mask") as trace:
        model(batch)
    masks, attention = trace["attention_mask"], trace["cross_attention"]
    assert [m.shape[2:] for m in masks] == [(2, 3), (4, 6), (8, 12), (2, 3)]  # strides 32, 16, 8, then 32 again
    for layer, mask in enumerate(masks):
        cross = attention[layer]
        assert cross.shape == (1, 4, 5, mask[0, 0].numel())
        outside = cross.masked_select(~mask.flatten(2)[:, None].expand_as(cross))
        assert (outside == 0).all()
        assert torch.allclose(cross.sum(-1), torch.ones(1))


def test_nothing_is_recorded_unless_asked(batch: Batch) -> None:
    model = build_mask2former(SMALL).eval()
    with record("cross_attention") as trace:
        pass
    model(batch)
    assert trace["cross_attention"] == []


def test_evaluation_gives_the_last_prediction_training_every_one(batch: Batch) -> None:
    torch.manual_seed(0)
    model = build_mask2former(SMALL).eval()
    with torch.inference_mode():
        last, every = model(batch), model(batch, every_layer=True)
    assert (len(last), len(every)) == (1, 5)
    assert torch.equal(last[0].classes, every[-1].classes)
    assert torch.equal(last[0].masks.dense(), every[-1].masks.dense())


def test_the_network_can_be_trained_from_end_to_end(batch: Batch) -> None:
    torch.manual_seed(0)
    model = build_mask2former(SMALL).train()
    loss = sum(p.classes.square().mean() + p.masks.dense().square().mean() for p in model(batch, every_layer=True))
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
