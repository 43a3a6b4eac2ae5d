"""Pairs of one model in transformers and in segcli, with the same weights, for the comparisons here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segcli.config import parse_config
from segcli.models.query_decoders import masked
from segcli.types import Batch
from segcli.weights.architectures import build_model, key_map

transformers = pytest.importorskip("transformers")

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def backbone_config(name: str) -> Any:
    """transformers' configuration of a backbone; swin-b-like has the window of Swin-B, 12, and fewer blocks."""
    if name == "swin-t":
        return transformers.SwinConfig(
            embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=STAGES
        )
    if name == "swin-b-like":
        return transformers.SwinConfig(
            embed_dim=128, depths=[2, 2, 2, 2], num_heads=[4, 8, 16, 32], window_size=12, out_features=STAGES
        )
    if name == "resnet50":
        return transformers.ResNetConfig(out_features=STAGES)
    pytest.importorskip("timm")
    return transformers.TimmBackboneConfig(
        backbone="tf_efficientnet_lite0", out_indices=[1, 2, 3, 4], use_pretrained_backbone=False
    )


def pair(backbone: str, **settings: Any) -> tuple[nn.Module, nn.Module]:
    """(transformers' Mask2Former, segcli's) with the same random weights, in eval mode."""
    torch.manual_seed(0)
    config = transformers.Mask2FormerConfig(backbone_config=backbone_config(backbone), **settings)
    return twins(transformers.Mask2FormerForUniversalSegmentation(config))


def maskformer_pair(backbone: str, decoder: dict[str, Any], **settings: Any) -> tuple[nn.Module, nn.Module]:
    """(transformers' MaskFormer, segcli's) with the same random weights, in eval mode."""
    torch.manual_seed(0)
    config = transformers.MaskFormerConfig(
        backbone_config=backbone_config(backbone), decoder_config=transformers.DetrConfig(**decoder), **settings
    )
    return twins(transformers.MaskFormerForInstanceSegmentation(config))


def twins(theirs: nn.Module) -> tuple[nn.Module, nn.Module]:
    """transformers' model with nothing left at zero, and segcli's with the same weights."""
    for name, parameter in theirs.named_parameters():
        # Fresh weights leave these at zero or nearly so, where a wrong bias or a wrong place would not show.
        if parameter.dim() == 1 or any(
            part in name for part in ("sampling_offsets", "attention_weights", "relative_position_bias")
        ):
            parameter.data += torch.randn_like(parameter) * 0.05
    for name, buffer in theirs.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return theirs.eval(), twin(theirs)


def twin(theirs: nn.Module) -> nn.Module:
    """segcli's model with the weights of transformers'."""
    config = parse_config(theirs.config.to_dict(), "config.json")
    state, unknown = key_map(config).read(theirs.state_dict())
    assert unknown == []
    ours = build_model(config)
    ours.load_state_dict(state, strict=True)
    return ours.eval()


def batch(images: Tensor) -> Batch:
    """A batch without padding."""
    count, _, height, width = images.shape
    return Batch(images, torch.zeros(count, height, width, dtype=torch.bool), [(height, width)] * count)


@contextmanager
def recorded_masks(theirs: nn.Module) -> Iterator[list[Tensor]]:
    """The attention masks transformers computes, one [B, Q, N] a layer, True = may be looked at."""
    masks: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        blocked = output[1]
        blocked = blocked.unflatten(0, (-1, module.num_heads))[:, 0]  # the same for every head
        masks.append(~(blocked & ~blocked.all(-1, keepdim=True)))

    hook = theirs.model.transformer_module.decoder.mask_predictor.register_forward_hook(keep)
    try:
        yield masks
    finally:
        hook.remove()


@contextmanager
def injected_masks(monkeypatch: pytest.MonkeyPatch, masks: list[Tensor]) -> Iterator[None]:
    """segcli's decoder uses these attention masks in turn, instead of its own."""
    remaining = iter(masks)
    with monkeypatch.context() as patch:
        patch.setattr(masked, "attention_mask", lambda *_: next(remaining))
        yield


def relative(a: Tensor, b: Tensor) -> float:
    """max |a - b| as a share of max |b|."""
    return float((a - b).abs().max() / b.abs().max())
