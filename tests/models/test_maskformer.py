"""MaskFormer's parts and the per-pixel baselines, in small networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.config import ModelConfig, parse_config
from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.config.per_pixel import PerPixelConfig, PerPixelPlusConfig
from segcli.errors import UsageError
from segcli.layers.masks import DenseMasks
from segcli.layers.stochastic import per_image
from segcli.models.init import initialise
from segcli.models.segmenter import Segmenter
from segcli.objective.pixels import IGNORED, label_map
from segcli.postprocess import semantic
from segcli.training.objectives import objective_of
from segcli.types import Batch, Frame, InferenceSpec, Label, LabelSet, QueryPredictions, Target
from segcli.weights.architectures import build_model, key_map
from segcli.weights.checkpoint import LoadedModel, load_model, save_model
from segcli.weights.hf_config import raw_config
from tests.objective.scenes import draw

LITE = EfficientNetLiteConfig()
LABELS = LabelSet(tuple(Label(i, name, False) for i, name in enumerate(("sky", "wall", "door"))))
SMALL: dict[str, ModelConfig] = {
    "maskformer": MaskFormerConfig(LITE, 3, 5, 32, 32, 0, 32, 2, 64, 4),
    "maskformer-6enc": MaskFormerConfig(LITE, 3, 5, 32, 32, 2, 32, 2, 64, 4),
    "per-pixel": PerPixelConfig(LITE, 3, 32, 32),
    "per-pixel-plus": PerPixelPlusConfig(LITE, 3, 32, 32, 32, 2, 64, 4),
}


def network(name: str) -> Segmenter:
    torch.manual_seed(0)
    model = build_model(SMALL[name])
    initialise(model)
    return model


def batch(count: int = 2, side: int = 64) -> Batch:
    images = torch.randn(count, 3, side, side)
    return Batch(images, torch.zeros(count, side, side, dtype=torch.bool), [(side, side)] * count)


def halves(side: int = 64) -> list[Target]:
    """Two images: sky above wall; and a door in the middle of what nobody labelled."""
    masks = torch.zeros(2, side, side, dtype=torch.bool)
    masks[0, : side // 2], masks[1, side // 2 :] = True, True
    door = torch.zeros(1, side, side, dtype=torch.bool)
    door[0, 16:32, 16:32] = True
    return [
        Target(labels, m, torch.zeros(len(m), 4), torch.zeros(len(m), dtype=torch.bool), str(i))
        for i, (labels, m) in enumerate([(torch.tensor([0, 1]), masks), (torch.tensor([2]), door)])
    ]


@pytest.mark.parametrize("name", SMALL)
def test_it_is_saved_and_read_back(name: str, tmp_path: Path) -> None:
    config, model = SMALL[name], network(name)
    raw = raw_config(config, LABELS)
    assert parse_config(raw, "config.json") == config
    spec = InferenceSpec(("semantic",), LABELS, rule=config.rule)
    loaded = LoadedModel(model, config, spec, name, torch.device("cpu"), torch.float32, raw_config=raw)
    again = load_model(save_model(loaded, tmp_path / name), "cpu", "fp32")
    assert (again.config, again.spec) == (config, spec)
    before, after = model.state_dict(), again.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_learns(name: str) -> None:
    """Of every layer, because every layer is supervised; batch statistics are not learnt from."""
    model, targets = network(name).train(), halves()
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    with per_image(generators):
        layers = model(batch(), every_layer=True)
    report = objective_of(SMALL[name])(layers, targets, draw)
    report.total.backward()
    assert report.finite
    assert set(report.terms) == set(objective_of(SMALL[name]).names)
    assert all(len(term) == len(layers) for term in report.terms.values())
    # The first layer's queries are all zero, and so is what they see of each other while biases are.
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all("layers.0.self_" in key for key in silent), silent


def test_dropout_belongs_to_the_image() -> None:
    model, images = network("maskformer").train(), batch()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()

    def answer(images: Tensor, seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.no_grad(), per_image(generators):
            return model(Batch(images, torch.zeros(1), []))[-1].classes

    together, alone = answer(images.images, [7, 8]), answer(images.images[1:], [8])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.equal(alone, answer(images.images[1:], [9]))


# --------------------------------------------------------------------------------------------------- per-pixel


@pytest.mark.parametrize("name", ["per-pixel", "per-pixel-plus"])
def test_query_k_is_class_k_for_certain(name: str) -> None:
    model = network(name).eval()
    with torch.inference_mode():
        prediction: QueryPredictions = model(batch())[-1]
    assert prediction.masks is not None
    assert torch.equal(prediction.classes.softmax(-1), torch.eye(3, 4).expand(2, -1, -1))
    assert prediction.masks.dense().shape == (2, 3, 16, 16)


def test_its_segments_are_the_argmax_of_the_resized_logits() -> None:
    """As the original evaluates it: logits to the padded size, cropped, to the photo's size; no probabilities."""
    torch.manual_seed(0)
    config, logits = SMALL["per-pixel"], 4 * torch.randn(1, 3, 16, 24)
    prediction = QueryPredictions(200 * torch.eye(3, 4)[None], DenseMasks(logits))
    frame = Frame(original=(75, 110), resized=(60, 88), padded=(64, 96))
    spec = InferenceSpec(config.tasks, LABELS, rule=config.rule)
    found = semantic(prediction, 0, frame, LABELS, spec.rule, combine_padded=spec.combine_padded)
    padded = F.interpolate(logits, size=frame.padded, mode="bilinear")[..., :60, :88]
    wanted = F.interpolate(padded, size=frame.original, mode="bilinear")[0]
    best = wanted.topk(2, dim=0).values
    sure = (best[0] - best[1] > 1e-4).numpy()
    assert found.map is not None
    assert (found.labels[found.map.astype(int) - 1] == wanted.argmax(0).numpy())[sure].all()


def test_loss_is_the_cross_entropy_of_the_labelled_pixels() -> None:
    torch.manual_seed(0)
    targets, logits = halves(), torch.randn(2, 3, 16, 16)
    layers = [QueryPredictions(torch.zeros(2, 3, 4), DenseMasks(logits))]
    wanted = torch.stack([label_map(target) for target in targets])
    expected = F.cross_entropy(F.interpolate(logits, scale_factor=4, mode="bilinear"), wanted, ignore_index=IGNORED)
    report = objective_of(SMALL["per-pixel"])(layers, targets, draw)
    torch.testing.assert_close(report.total, expected)


def test_objects_lie_over_crowd_regions() -> None:
    target = replace(halves()[0], crowd=torch.tensor([False, True]))
    target.masks[:] = True
    assert (label_map(target) == 0).all()


def test_its_queries_cannot_be_chosen() -> None:
    with pytest.raises(UsageError, match="one query a class"):
        SMALL["per-pixel-plus"].with_queries(7)


def test_names_of_a_file_are_maskformers_where_it_has_the_part() -> None:
    shared = key_map(SMALL["maskformer"]).names("pixel_decoder.laterals.0.conv.weight")
    assert key_map(SMALL["per-pixel"]).names("pixel_decoder.laterals.0.conv.weight") == shared


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("queries", [5, 40])
def test_folding_the_last_convolution_changes_nothing(name: str, queries: int) -> None:
    """Prediction leaves it to the queries, if they are fewer than its channels (32); training does not."""
    if name.startswith("maskformer"):
        model = build_model(replace(SMALL[name], num_queries=queries))  # type: ignore[call-arg]
    else:
        model = network(name)
    for parameter in model.parameters():  # biases are zero at first
        torch.nn.init.normal_(parameter, std=0.1)
    model.eval()
    images = batch()
    (trained,) = model(images)
    with torch.inference_mode():
        (predicted,) = model(images)
    scale = trained.masks.dense().abs().max()
    assert (predicted.masks.dense() - trained.masks.dense()).abs().max() < 1e-5 * scale
