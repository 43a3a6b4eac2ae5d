"""DETR's configurations: three ways to name a backbone, and classes numbered by COCO's raw ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segcli.config import parse_config
from segcli.config.backbones.resnet import ResNetConfig
from segcli.config.detr import DetrConfig
from segcli.errors import CheckpointError, UsageError
from segcli.inference.predict import choose_task
from segcli.weights.architectures import build_model, key_map
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.manifest import label_table, manifest

NAMES = {"id2label": {"0": "N/A", "1": "kiwi", "2": "lemon"}}
BACKBONE = ResNetConfig((1, 1, 1, 1), (16, 32, 64, 128), 8, frozen_norms=True)


@pytest.mark.parametrize(
    ("raw", "depth", "dilated", "timm"),
    [
        ({"backbone": "resnet101", "use_timm_backbone": True, "dilation": True}, 23, True, True),
        ({}, 6, False, True),
        (
            {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50", "output_stride": 16}},
            6,
            True,
            True,
        ),
        ({"backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}}, 6, False, False),
    ],
)
def test_backbones(raw: dict[str, Any], depth: int, dilated: bool, timm: bool) -> None:
    config = parse_config({"model_type": "detr"} | NAMES | raw, "config.json")
    assert isinstance(config, DetrConfig)
    assert isinstance(config.backbone, ResNetConfig)
    assert config.backbone.depths[2] == depth
    assert (config.backbone.dilated, config.backbone.timm_names, config.backbone.frozen_norms) == (dilated, timm, True)
    assert (config.num_classes, config.num_outputs, config.columns) == (2, 3, (1, 2))
    assert parse_config(config.raw() | NAMES, "config.json") == config


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"backbone": "resnet18"}, "'resnet18' is not supported; segcli has resnet50, resnet101"),
        ({"position_embedding_type": "learned"}, "position_embedding_type is 'learned'"),
        ({"use_timm_backbone": False}, "backbone_config is missing"),
        ({"encoder_ffn_dim": 1024, "decoder_ffn_dim": 2048}, "encoder_ffn_dim and decoder_ffn_dim differ"),
        ({"backbone_config": {"model_type": "swin"}}, "segcli runs DETR on resnet"),
        ({"backbone_config": {"model_type": "resnet"}, "dilation": True}, "dilation is True"),
    ],
)
def test_what_cannot_be_built(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_config({"model_type": "detr"} | NAMES | raw, "config.json")


def test_a_published_folder_has_the_names_of_its_raw_ids(tmp_path: Path) -> None:
    """Its own files call the 250 outputs LABEL_0 …; 133 of them are classes."""
    config = DetrConfig(BACKBONE, 250, True, hidden_dim=64, encoder_layers=1, decoder_layers=1, dim_feedforward=64)
    folder = tmp_path / "detr-resnet-50-panoptic"
    folder.mkdir()
    raw = config.raw() | {"id2label": {str(i): f"LABEL_{i}" for i in range(250)}}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    save_file(key_map(config).write(build_model(config).state_dict()), folder / "model.safetensors")
    loaded = load_model(folder, "cpu", "fp32")
    assert loaded.labels == label_table("coco_panoptic")
    columns = loaded.model.head.columns
    assert columns is not None
    assert [loaded.labels[columns.index(i)].name for i in (17, 75)] == ["cat", "remote"]
    assert loaded.spec.rule == manifest()["detr-resnet-50-panoptic"].rule
    again = load_model(save_model(loaded, tmp_path / "again"), "cpu", "fp32")
    assert (again.spec, again.config) == (loaded.spec, loaded.config)


def test_a_task_that_a_checkpoint_has_not() -> None:
    with pytest.raises(
        UsageError, match=r"for detect; models for panoptic: everyday and facade, .*detr-resnet-50-panoptic"
    ):
        choose_task(manifest()["detr-resnet-50"].spec(), "panoptic")
    with pytest.raises(UsageError, match=r"models for detect: detr-resnet-50"):
        choose_task(manifest()["swin-tiny-coco-panoptic"].spec(), "detect")


def test_published_sizes() -> None:
    """The paper counts 41 and 60 million; the rows count what can be learnt."""
    for name, entry in manifest().items():
        if entry.family == "detr":
            depths = (3, 4, 23, 3) if "101" in name else (3, 4, 6, 3)
            backbone = ResNetConfig(depths, (256, 512, 1024, 2048), frozen_norms=True)
            masks = "panoptic" in entry.tasks
            with torch.device("meta"):
                model = build_model(DetrConfig(backbone, 250 if masks else 91, masks))
            assert sum(p.numel() for p in model.parameters()) == entry.parameters
