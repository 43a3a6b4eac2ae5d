"""DETR equals transformers' in fp32: logits, boxes and masks of padded batches, matching and loss, files both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segcli.codecs.image import read_image
from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.detr import DetrConfig
from segcli.layers.masks import DenseMasks
from segcli.training.objectives import objective_of
from segcli.types import Batch, QueryPredictions, Target
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.golden import Golden, check
from tests.objective.scenes import CLASSES, draw, target
from tests.parity.hf import STAGES, relative, transformers, twins

losses = pytest.importorskip("transformers.loss.loss_for_object_detection")

TIMM: dict[str, Any] = {"use_timm_backbone": True, "backbone": "resnet50"}
OWN: dict[str, Any] = {"use_timm_backbone": False, "backbone_config": transformers.ResNetConfig(out_features=STAGES)}
SMALL: dict[str, Any] = {
    "use_timm_backbone": False,
    "backbone_config": transformers.ResNetConfig(
        depths=[1, 2, 1, 1], hidden_sizes=[32, 64, 128, 256], embedding_size=16, out_features=STAGES
    ),
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "num_queries": 12,
}
CASES = [  # settings, with masks, (H, W) of the batch, sizes of the images in it
    (TIMM | {"dilation": True, "num_queries": 20}, True, (130, 165), ((130, 140), (97, 165))),
    (TIMM | {"encoder_layers": 2, "decoder_layers": 4}, False, (161, 98), ((161, 98), (64, 31))),
    (OWN, False, (96, 129), ((96, 129),)),
    (OWN | {"num_queries": 30, "decoder_layers": 2}, True, (97, 128), ((97, 128), (97, 128))),
    (SMALL, True, (211, 333), ((211, 300), (211, 333), (40, 333))),
]


def pair(settings: dict[str, Any], masks: bool, **more: Any) -> tuple[nn.Module, nn.Module]:
    """(transformers' DETR, segcli's) with the same random weights."""
    if settings.get("use_timm_backbone"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    kind = transformers.DetrForSegmentation if masks else transformers.DetrForObjectDetection
    config = transformers.DetrConfig(**settings, **({"num_labels": 13} | more))
    config.architectures = [kind.__name__]
    return twins(kind(config))


def padded(size: tuple[int, int], sizes: tuple[tuple[int, int], ...]) -> Batch:
    """Noise of these sizes, zero-padded."""
    padding = torch.ones(len(sizes), *size, dtype=torch.bool)
    for mask, (h, w) in zip(padding, sizes, strict=True):
        mask[:h, :w] = False
    images = torch.randn(len(sizes), 3, *size) * ~padding[:, None]
    return Batch(images, padding, list(sizes))


@pytest.mark.parametrize(("settings", "masks", "size", "sizes"), CASES)
def test_answers_of_every_layer(
    settings: dict[str, Any], masks: bool, size: tuple[int, int], sizes: tuple[tuple[int, int], ...]
) -> None:
    """transformers' auxiliary outputs feed the norm of one layer to the next, which the original does not; so the
    layers of a plain forward are read from inside and given the norm here.
    """
    theirs, ours = pair(settings, masks)
    batch = padded(size, sizes)
    boxes = theirs.detr if masks else theirs
    states: list[Tensor] = []
    for layer in boxes.model.decoder.layers:
        layer.register_forward_hook(lambda *call: states.append(call[2]))
    with torch.inference_mode():
        reference = theirs(pixel_values=batch.images, pixel_mask=(~batch.padding).long())
        every = ours(batch, every_layer=True)
        (last,) = ours(batch)
        assert len(every) == len(states)
        for mine, state in zip(every, states, strict=True):
            queries = boxes.model.decoder.layernorm(state)
            assert relative(mine.classes, boxes.class_labels_classifier(queries)) < 2e-5
            assert mine.boxes is not None
            assert relative(mine.boxes, boxes.bbox_predictor(queries).sigmoid()) < 2e-5
    assert relative(last.classes, reference.logits) < 2e-5
    assert last.boxes is not None
    assert relative(last.boxes, reference.pred_boxes) < 2e-5
    if not masks:
        assert last.masks is None
        return
    assert last.masks is not None
    assert relative(last.masks.dense(), reference.pred_masks) < 2e-5
    some = torch.tensor([7, 2])
    assert relative(last.masks.select(len(sizes) - 1, some).dense()[0], reference.pred_masks[-1, some]) < 2e-5


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("names", ["timm", "own"])
def test_files_both_ways(names: str, masks: bool, tmp_path: Path) -> None:
    """transformers writes, segcli reads and writes, transformers reads: nothing missing, the same tensors."""
    settings = SMALL if names == "own" else TIMM | {"dilation": True, "encoder_layers": 1, "decoder_layers": 1}
    theirs, ours = pair(settings, masks)
    kind = type(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs", device="cpu", dtype="fp32")
    assert loaded.spec.tasks == (("panoptic", "instance", "detect") if masks else ("detect",))
    assert loaded.spec.rule.normalise == "softmax"
    assert loaded.spec.size.divisor == 1
    saved = save_model(loaded, tmp_path / "ours")
    again, info = kind.from_pretrained(saved, output_loading_info=True, dtype=torch.float32)
    assert {key: list(value) for key, value in info.items() if value} == {}
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_model(saved, device="cpu", dtype="fp32").spec == loaded.spec
    state = load_model(saved, device="cpu", dtype="fp32").model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


def test_outputs_that_are_no_class_never_come_out(tmp_path: Path) -> None:
    """COCO's raw ids have holes. Where the files call them "N/A", the others have the probabilities that they have in
    transformers; a file that segcli writes says it in the same way.
    """
    names = dict(enumerate(["N/A", "person", "N/A", "cat", "dog"]))
    theirs, _ = pair(SMALL, False, num_labels=5, id2label=names)
    theirs.class_labels_classifier.bias.data[[0, 2]] += 8  # as if these were sure to be seen
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs", device="cpu", dtype="fp32")
    assert [(label.id, label.name) for label in loaded.labels] == [(1, "person"), (3, "cat"), (4, "dog")]
    batch = padded((64, 64), ((64, 50),))
    with torch.inference_mode():
        expected = theirs(batch.images, (~batch.padding).long()).logits.softmax(-1)
        found = loaded.model(batch)[-1].classes.softmax(-1)
    assert relative(found[..., :-1], expected[..., [1, 3, 4]]) < 2e-5
    again = load_model(save_model(loaded, tmp_path / "ours"), device="cpu", dtype="fp32")
    assert (again.spec, again.config) == (loaded.spec, loaded.config)


def test_known_outputs_are_compared(tmp_path: Path, shared_dir: Path) -> None:
    """As `segcli models verify` does: a photo of the size that the values were taken at, columns that are classes."""
    names = dict(enumerate(["N/A", "person", "cat"]))
    theirs, _ = pair(SMALL, True, num_labels=3, id2label=names)
    theirs.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, device="cpu", dtype="fp32")
    image = read_image(shared_dir / "data" / "photos" / "astronaut.png")
    processor = transformers.DetrImageProcessorPil(size={"height": 64, "width": 96})
    with torch.inference_mode():
        output = theirs(processor(image, return_tensors="pt").pixel_values)
    values = Golden(
        source="transformers, now",
        tolerance=2e-4,
        size=(64, 96),
        classes=output.logits[0, :3, 1:3].tolist(),
        masks=output.pred_masks[0, 0, :3, :3].tolist(),
        boxes=output.pred_boxes[0, :3, :3].tolist(),
    )
    found = [(one.what, one.passed) for one in check(loaded, image, values)]
    assert found == [("class logits", True), ("mask logits", True), ("boxes", True)]
    moved = replace(values, boxes=(output.pred_boxes[0, :3, :3] + 0.01).tolist())
    assert [one.passed for one in check(loaded, image, moved)] == [True, True, False]


# ---------------------------------------------------------------------------------------------------------- objective


def scene(*counts: int) -> tuple[list[QueryPredictions], list[Tensor], list[Target]]:
    """Three layers of made-up answers and their leaves, objects with boxes, some of them touching or alike."""
    generator = torch.Generator().manual_seed(1)
    leaves: list[Tensor] = []
    layers = []
    for _ in range(3):
        classes = torch.randn(len(counts), 9, CLASSES + 1, generator=generator).requires_grad_()
        boxes = torch.rand(len(counts), 9, 4, generator=generator).requires_grad_()
        masks = torch.randn(len(counts), 9, 16, 24, generator=generator).requires_grad_()
        layers.append(QueryPredictions(classes, DenseMasks(masks), boxes))
        leaves += [classes, boxes, masks]
    targets = [target(str(i), count, seed=i) for i, count in enumerate(counts)]
    for one in targets:
        one.boxes = torch.rand(len(one.labels), 4, generator=generator).clamp(min=0.01)
    return layers, leaves, targets


@pytest.mark.parametrize("counts", [(4, 6), (3, 0), (12, 1)])
@pytest.mark.parametrize("masks", [False, True])
def test_every_term_gradient_and_match(counts: tuple[int, ...], masks: bool) -> None:
    layers, leaves, targets = scene(*counts)
    criterion = objective_of(DetrConfig(EfficientNetLiteConfig(), CLASSES, masks=masks))
    ours = criterion(layers, targets, draw)
    matcher = losses.HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    labels = [{"class_labels": t.labels, "boxes": t.boxes, "masks": t.masks.float()} for t in targets]
    outputs: list[dict[str, Any]] = [
        {"logits": p.classes, "pred_boxes": p.boxes, "pred_masks": p.masks.dense()} for p in layers if p.masks
    ]
    names = ["labels", "boxes"] + ["masks"] * masks
    theirs = losses.ImageLoss(matcher, CLASSES, 0.1, names)(outputs[-1] | {"auxiliary_outputs": outputs[:-1]}, labels)
    suffixes = ["_0", "_1", ""]
    of = {"class": "loss_ce", "box": "loss_bbox", "giou": "loss_giou"}
    reference = {name: torch.stack([theirs[key + suffix] for suffix in suffixes]) for name, key in of.items()}
    if masks:
        zero = torch.zeros(2)
        reference |= {name: torch.cat((zero, theirs[f"loss_{name}"][None])) for name in ("mask", "dice")}
    assert ours.terms.keys() == reference.keys()
    for name, expected in reference.items():
        torch.testing.assert_close(ours.terms[name], expected.detach(), rtol=0, atol=1e-4)
    total = sum({"box": 5, "giou": 2}.get(name, 1) * part.sum() for name, part in reference.items())
    assert isinstance(total, Tensor)
    torch.testing.assert_close(ours.total, total, rtol=1e-5, atol=1e-4)
    got = torch.autograd.grad(ours.total, leaves, allow_unused=True)
    wanted = torch.autograd.grad(total, leaves, allow_unused=True)
    for mine, expected in zip(got, wanted, strict=True):
        assert (mine is None) == (expected is None) or not torch.any(expected if mine is None else mine)
        if mine is not None and expected is not None:
            assert float((mine - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-7
    for layer, output in zip(ours.matches, outputs, strict=True):
        for match, (queries, objects) in zip(layer, matcher(output, labels), strict=True):
            assert match.queries.tolist() == queries.tolist()
            assert match.targets.tolist() == objects.tolist()
