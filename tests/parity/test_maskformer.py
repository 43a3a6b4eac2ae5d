"""MaskFormer equals transformers' in fp32: logits and masks, matching and loss, files both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.layers.positions import padded_sine_positions
from segcli.models.transformer import Places
from segcli.objective.matcher import assign
from segcli.training.objectives import objective_of
from segcli.types import Target
from segcli.weights.checkpoint import load_model, save_model
from tests.objective.scenes import CLASSES, Factors, draw, target
from tests.parity.hf import backbone_config, batch, maskformer_pair, relative, transformers

modeling = pytest.importorskip("transformers.models.maskformer.modeling_maskformer")

CASES = [  # backbone, settings of the decoder, (H, W), images
    ("swin-t", {}, (333, 500), 1),
    ("swin-b-like", {"num_queries": 50, "decoder_layers": 3}, (288, 224), 2),
    ("resnet50", {}, (224, 289), 2),
    ("lite0", {"d_model": 128, "num_queries": 30, "decoder_ffn_dim": 512}, (160, 128), 2),
]


@pytest.mark.parametrize(("backbone", "decoder", "size", "count"), CASES)
def test_logits_of_every_layer(backbone: str, decoder: dict[str, int], size: tuple[int, int], count: int) -> None:
    """The original supervises every layer's output after the decoder's norm. transformers' own auxiliary predictions
    leave the norm out and begin with the empty queries, so its layers are read from inside and given the norm here.
    """
    theirs, ours = maskformer_pair(backbone, decoder, num_labels=13)
    images = torch.randn(count, 3, *size)
    decoder_module = theirs.model.transformer_module.decoder
    states: list[Tensor] = []
    for layer in decoder_module.layers:
        layer.register_forward_hook(lambda *call: states.append(call[2]))
    with torch.inference_mode():
        reference = theirs(pixel_values=images)
        every = ours(batch(images), every_layer=True)
        (last,) = ours(batch(images))
        assert len(every) == len(states) == decoder.get("decoder_layers", 6)
        for mine, state in zip(every, states, strict=True):
            queries = decoder_module.layernorm(state)
            masks = torch.einsum(
                "bqc,bchw->bqhw", theirs.mask_embedder(queries), reference.pixel_decoder_last_hidden_state
            )
            assert mine.masks is not None
            assert relative(mine.classes, theirs.class_predictor(queries)) < 2e-5
            assert relative(mine.masks.dense(), masks) < 5e-5
    assert last.masks is not None
    assert relative(last.classes, reference.class_queries_logits) < 2e-5
    assert relative(last.masks.dense(), reference.masks_queries_logits) < 5e-5


@pytest.mark.parametrize("backbone", ["swin-t", "resnet50", "lite0"])
def test_files_both_ways(backbone: str, tmp_path: Path) -> None:
    """transformers writes, segcli reads and writes, transformers reads: nothing missing, the same tensors."""
    settings = backbone_config(backbone)
    if backbone != "lite0":
        settings.depths = [1, 1, 1, 1]
    theirs = transformers.MaskFormerForInstanceSegmentation(
        transformers.MaskFormerConfig(backbone_config=settings, num_labels=3)
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs", device="cpu", dtype="fp32")
    assert loaded.spec.rule.mask_min is None
    saved = save_model(loaded, tmp_path / "ours")
    again, info = transformers.MaskFormerForInstanceSegmentation.from_pretrained(
        saved, output_loading_info=True, dtype=torch.float32
    )
    assert {key: list(value) for key, value in info.items() if value} == {}
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_model(saved, device="cpu", dtype="fp32").spec == loaded.spec


# ---------------------------------------------------------------------------------------------------------- objective


CONFIG = MaskFormerConfig(EfficientNetLiteConfig(), CLASSES)
LAYERS = 3
TERMS = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}


def scene(*counts: int) -> tuple[Factors, list[Target]]:
    factors = Factors(LAYERS, len(counts), queries=12, side=(32, 40))
    return factors, [target(str(i), count, (128, 160), seed=i) for i, count in enumerate(counts)]


def their_loss() -> Any:
    matcher = modeling.MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
    return modeling.MaskFormerLoss(CLASSES, matcher, {}, eos_coef=0.1)


@pytest.mark.parametrize("counts", [(4, 6), (3, 0), (15, 1)])
def test_every_term_and_gradient(counts: tuple[int, int]) -> None:
    factors, targets = scene(*counts)
    layers = factors.predictions()
    ours = objective_of(CONFIG)(layers, targets, draw)
    heads = [{"masks_queries_logits": p.masks.dense(), "class_queries_logits": p.classes} for p in layers if p.masks]
    masks, labels = [t.masks.float() for t in targets], [t.labels for t in targets]
    terms = their_loss()(**heads[-1], mask_labels=masks, class_labels=labels, auxiliary_predictions=heads[:-1])
    names = [f"_{i}" for i in range(LAYERS - 1)] + [""]
    reference = {name: torch.stack([terms[their + suffix] for suffix in names]) for name, their in TERMS.items()}
    for name, expected in reference.items():
        torch.testing.assert_close(ours.terms[name], expected.detach(), rtol=0, atol=1e-4)
    total = reference["class"].sum() + 20 * reference["mask"].sum() + reference["dice"].sum()
    torch.testing.assert_close(ours.total, total, rtol=1e-5, atol=1e-4)
    for leaf, got in zip(factors.leaves, torch.autograd.grad(ours.total, factors.leaves), strict=True):
        (expected,) = torch.autograd.grad(total, leaf, retain_graph=True)
        assert float((got - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-7


def test_matching() -> None:
    factors, targets = scene(4, 6)
    prediction = factors.predictions()[0]
    assert prediction.masks is not None
    criterion = objective_of(CONFIG)
    costs = criterion.costs(prediction, targets, draw)  # type: ignore[attr-defined]
    reference = their_loss().matcher(
        prediction.masks.dense(), prediction.classes, [t.masks.float() for t in targets], [t.labels for t in targets]
    )
    for terms, (queries, objects) in zip(costs, reference, strict=True):
        match = assign(torch.stack(list(terms.values())).sum(0))
        assert match.queries.tolist() == queries.tolist()
        assert match.targets.tolist() == objects.tolist()


# ------------------------------------------------------------------------------------------------- padding, for DETR


def test_positions_of_padded_maps() -> None:
    padding = torch.zeros(2, 9, 13, dtype=torch.bool)
    padding[0, 6:] = True
    padding[1, :, 10:] = True
    embedder = modeling.MaskFormerSinePositionEmbedding(num_position_features=16, normalize=True)
    expected = embedder((2, 32, 9, 13), "cpu", torch.float32, mask=~padding).flatten(2).transpose(1, 2)
    torch.testing.assert_close(padded_sine_positions(padding, 32, torch.float32), expected, rtol=0, atol=1e-6)


def test_padding_is_brought_to_the_map_and_not_looked_at() -> None:
    padding = torch.zeros(2, 70, 96, dtype=torch.bool)
    padding[1, 40:] = True
    places = Places.of(torch.zeros(2, 32, 3, 3), padding)
    small = interpolate(padding[:, None].float(), size=(3, 3))[:, 0].bool()
    assert places.inside is not None
    assert torch.equal(places.inside[:, 0], ~small.flatten(1))
    assert Places.of(torch.zeros(2, 32, 3, 3), torch.zeros_like(padding)).inside is None
