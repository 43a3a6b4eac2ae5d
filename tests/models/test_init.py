"""Weights to start from: every tensor is set, and spread as the original implementation spreads it."""

from __future__ import annotations

import math
from fnmatch import fnmatch

import pytest
import torch

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.models.init import initialise
from segcli.models.mask2former import build as build_mask2former

CONFIG = Mask2FormerConfig(
    EfficientNetLiteConfig(), 13, 100, 64, 64, 64, 1, 128, decoder_layers=3, dim_feedforward=256, num_attention_heads=4
)


def xavier(fan_in: int, fan_out: int) -> float:
    return math.sqrt(2 / (fan_in + fan_out))


def default(fan_in: int) -> float:
    """PyTorch's own, uniform within 1 / √fan_in."""
    return 1 / math.sqrt(3 * fan_in)


STANDARD_DEVIATION = {  # the first pattern that fits a name counts
    "*norm*.weight": 0,
    "*norm*.bias": 0,
    "pixel_decoder.level_embed": 1,
    "pixel_decoder.input_proj.0.conv.weight": xavier(320, 64),
    "pixel_decoder.input_proj.1.conv.weight": xavier(112, 64),
    "pixel_decoder.input_proj.2.conv.weight": xavier(40, 64),
    "pixel_decoder.lateral.conv.weight": 1 / math.sqrt(24),
    "pixel_decoder.output.conv.weight": 1 / math.sqrt(64 * 9),
    "pixel_decoder.mask_proj.weight": 1 / math.sqrt(64),
    "*.attention.sampling_offsets.weight": 0,
    "*.attention.attention_weights.*": 0,
    "*.attention.*_proj.weight": xavier(64, 64),
    "pixel_decoder.layers.*.fc?.weight": xavier(64, 128),
    "pixel_decoder.layers.*.fc1.bias": default(64),
    "query_decoder.query_*": 1,
    "query_decoder.level_embed": 1,
    "*.in_proj_weight": xavier(64, 192),
    "*.out_proj.weight": xavier(64, 64),
    "query_decoder.layers.*.fc?.weight": xavier(64, 256),
    "query_decoder.layers.*.fc1.bias": default(64),
    "query_decoder.layers.*.fc2.bias": default(256),
    "head.*.weight": default(64),
    "head.*.bias": default(64),
    "pixel_decoder.layers.*.fc2.bias": default(128),
    "*.sampling_offsets.bias": pytest.approx(1.94, abs=0.01),
    "*bias": 0,
}


def test_every_weight_is_set_and_spread_as_in_the_original() -> None:
    torch.manual_seed(0)
    model = build_mask2former(CONFIG)
    before = {name: p.clone() for name, p in model.backbone.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone"):
                parameter.fill_(7.0)
    initialise(model)
    for name, parameter in model.named_parameters():
        if name.startswith("backbone"):
            assert torch.equal(parameter, before[name.removeprefix("backbone.")])
            continue
        expected = next(value for pattern, value in STANDARD_DEVIATION.items() if fnmatch(name, pattern))
        spread = float(parameter.detach().std(correction=0))
        assert spread == (pytest.approx(expected, rel=0.2) if isinstance(expected, float | int) else expected), name
        assert parameter.abs().max() < 7, name


def test_heads_look_in_all_directions_point_by_point_farther() -> None:
    model = build_mask2former(CONFIG)
    initialise(model)
    offsets = model.pixel_decoder.layers[0].attention.sampling_offsets.bias.view(4, 3, 4, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(4):
        expected = (directions * (point + 1))[:, None].expand(4, 3, 2)
        torch.testing.assert_close(offsets[:, :, point].detach(), expected, rtol=0, atol=1e-6)
