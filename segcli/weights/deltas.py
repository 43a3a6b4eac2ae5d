"""EoMT checkpoints that hold what training changed in a DINOv3 backbone, not the backbone: its licence keeps it apart.

`tue-mps/coco_panoptic_eomt_large_640_dinov3` and its siblings are such. Everything outside the encoder is whole.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from segcli.config import ModelConfig
from segcli.config.backbones import PRETRAINED
from segcli.errors import CheckpointError, WeightsUnavailable
from segcli.weights.download import Progress
from segcli.weights.keys.dino import modern
from segcli.weights.keys.eomt import ENCODER
from segcli.weights.pretrained import read_backbone

_SIGN = f"{ENCODER}.patch_embed.patch_embeddings.weight"  # in the authors' files of DINOv3 alone, which are all deltas
_WORDS = {"embeddings.": "patch_embed.", "layer.": "blocks."}  # of the backbone's names for those below the encoder


def holds_differences(state: Mapping[str, Tensor]) -> bool:
    """Whether the encoder's tensors in a file are differences to a backbone."""
    return _SIGN in state


def whole(
    state: dict[str, Tensor], config: ModelConfig, where: str, progress: Progress | None = None
) -> dict[str, Tensor]:
    """The tensors with the backbone added.

    Raises CheckpointError saying how to get the backbone if it is missing, or if it is not the right one.
    """
    name = config.backbone.name
    backbone = PRETRAINED.get(name)
    if backbone is None:
        raise CheckpointError(f"{where}: holds differences to a backbone that segcli does not know ({name})")
    try:
        base = modern(read_backbone(backbone, progress))
    except WeightsUnavailable as missing:
        raise CheckpointError(
            f"{where}: holds only what training changed in {backbone.repo}, so that is needed too. Its licence "
            f"must be accepted at huggingface.co/{backbone.repo} (then: hf auth login). Complete checkpoints are in "
            f"`segcli models list`. ({missing})"
        ) from missing
    return _sum(state, base, f"{where} and {backbone.repo}")


def _sum(state: dict[str, Tensor], base: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    total = dict(state)
    for name, tensor in base.items():
        for old, new in _WORDS.items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
        name = f"{ENCODER}.{name}"
        if name not in state:
            if "mask_token" in name:
                continue
            raise CheckpointError(f"{where} do not belong together: {name} is in one only")
        if state[name].shape != tensor.shape:
            raise CheckpointError(f"{where} do not belong together: {name} has two shapes")
        total[name] = state[name].float() + tensor.float()
    return total
