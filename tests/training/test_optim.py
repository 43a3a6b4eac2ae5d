"""Learning rates, parameter groups, and the weight average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.models.mask2former import build as build_mask2former
from segcli.training.ema import WeightAverage
from segcli.training.optim import Rates, Schedule, build_optimizer, freeze_backbone, scaled_lr, training_mode


def test_schedules() -> None:
    poly = Schedule("poly", 100, power=0.9)
    assert [poly.factor(step) for step in (0, 50, 100)] == [1.0, pytest.approx(0.5**0.9), 0.0]
    steps = Schedule("step", 1000, milestones=(0.5, 0.75))
    assert [steps.factor(step) for step in (499, 500, 749, 750)] == [1.0, 0.1, 0.1, pytest.approx(0.01)]
    warm = Schedule("constant", 100, warmup=10, warmup_factor=0.1)
    assert [warm.factor(step) for step in (0, 5, 10, 99)] == [pytest.approx(0.1), pytest.approx(0.55), 1.0, 1.0]


def test_the_learning_rate_follows_the_root_of_the_batch() -> None:
    assert scaled_lr(1e-4, 16, 4) == pytest.approx(5e-5)
    assert scaled_lr(1e-4, 0, 4) == 1e-4


def test_groups() -> None:
    model = build_mask2former(Mask2FormerConfig(EfficientNetLiteConfig(), 3, 5, 32, 32, 32, 1, 64, 4, 64, 4))
    optimizer = build_optimizer(model, Rates(1.0, backbone_lr=0.1, weight_decay=0.05))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert set(found) == {id(p) for p in named.values()}
    wanted = {
        "backbone.stem.conv.weight": (0.1, 0.05),
        "backbone.stem.norm.weight": (0.1, 0.0),
        "head.classifier.weight": (1.0, 0.05),
        "head.classifier.bias": (1.0, 0.0),
        "head.norm.weight": (1.0, 0.0),
        "pixel_decoder.lateral.norm.weight": (1.0, 0.0),
        "pixel_decoder.level_embed": (1.0, 0.0),
        "query_decoder.query_features": (1.0, 0.0),
        "query_decoder.layers.0.cross.in_proj_bias": (1.0, 0.0),
        "query_decoder.layers.0.cross.in_proj_weight": (1.0, 0.05),
    }
    for name, group in wanted.items():
        assert found[id(named[name])] == (pytest.approx(group[0]), group[1]), name
    training_mode(model)
    assert model.training
    assert not model.backbone.stem.norm.training
    freeze_backbone(model)
    frozen = build_optimizer(model, Rates(1.0, 0.1, weight_decay=0.05))
    assert all(group["lr"] == 1.0 for group in frozen.param_groups)


def test_the_average_follows_slowly_and_steps_aside() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = WeightAverage(model, 0.5)
    expected = 0.0
    for update in range(1, 6):
        model.weight.data.fill_(float(update))
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected += (update - expected) * (1 - decay)
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 5.0
    restored = WeightAverage(model, 0.5)
    restored.load(average.state(), average.updates)
    assert math.isclose(restored.state()["weight"].item(), expected, rel_tol=1e-6)


def test_without_a_decay_there_is_no_average() -> None:
    average = WeightAverage(nn.Linear(2, 2), 0.0)
    average.update()
    assert average.state() == {}
    assert torch.is_tensor(average._live[0])
