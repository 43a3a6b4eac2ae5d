"""EoMT is trained: from a backbone in a folder, its masks unlearnt on the way; a resumed run ends as a whole one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import segcli
from segcli.config.backbones.vit import ViTConfig
from segcli.config.eomt import EomtConfig
from segcli.training.optim import Rates, Schedule, build_optimizer, freeze_backbone
from segcli.training.recipe import Tables
from segcli.training.reports import StepReport
from segcli.weights.architectures import build_model
from segcli.weights.keymap import KeyMap
from segcli.weights.keys import dino
from tests.training.shapes import write_shapes
from tests.training.small_runs import losses, open_tiny, run_command, state

TINY = ViTConfig(32, 6, 4, 64, patch_size=14, image_size=70)
MODEL: dict[str, object] = {"arch": "eomt", "queries": 8}
UNUSED = ("hidden_dim", "encoder_layers", "encoder_feedforward_dim", "decoder_layers", "dim_feedforward")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random DINOv2 as transformers would save it."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    model = build_model(EomtConfig(TINY, 2, joint_blocks=1))
    tensors = model.state_dict()
    names = model.backbone_names()
    ours = {name: tensors[own] for name, own in names.items()}
    ours["positions"] = torch.cat((torch.zeros(1, 32), ours["positions"]))[None]  # the class token has one too
    save_file(KeyMap(dino.tables(TINY)).write(ours), folder / "model.safetensors")
    raw = TINY.raw() | {"model_type": "dinov2_with_registers"}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", images=6, side=64)


def tables(backbone: Path, **schedule: object) -> Tables:
    return {
        "model": MODEL | {"backbone": str(backbone)} | dict.fromkeys(UNUSED),
        "schedule": {"steps": 12} | schedule,
        "validate": {"every": 12, "images": 2},
        "run": {"checkpoint_every": 3},  # in the middle of the annealing
    }


def test_masks_are_unlearnt_and_a_resumed_run_ends_as_a_whole_one(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    asked = tables(backbone)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run = open_tiny(shapes, whole, asked)
    decoder = run.learner.loaded.model.query_decoder
    assert decoder.masking() == [1.0] * len(decoder.blocks)
    seen = [decoder.masking() for report in run.train() if isinstance(report, StepReport)]
    assert seen[-1] == [0.0] * len(decoder.blocks)
    assert [left for left, *_ in seen] == sorted((left for left, *_ in seen), reverse=True)

    updates = open_tiny(shapes, broken, asked).train()
    for report in updates:
        if isinstance(report, StepReport) and report.step == 7:  # past a checkpoint
            break
    updates.close()
    list(open_tiny(shapes, broken, asked, resume=True).train())
    assert losses(broken) == losses(whole)
    mine, theirs = state(broken), state(whole)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    loaded = segcli.load_model(whole / "last", dtype="fp32")
    assert loaded.model.query_decoder.unfinished() is None
    assert (loaded.spec.size.frame, loaded.spec.size.fill, loaded.spec.size.short) == ("square", "black", 64)
    assert loaded.config.backbone.image_size == 64  # positions for the size in prediction
    facts = json.loads((whole / "last" / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert (facts["size"], facts["do_pad"]) == ({"shortest_edge": 64, "longest_edge": 64}, True)


def test_a_model_of_a_run_that_was_stopped_says_so(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    run = open_tiny(shapes, tmp_path / "run", tables(backbone))
    run.learner.step = 3
    run.learner._reach()
    note = run.learner.loaded.model.query_decoder.unfinished()
    assert note is not None
    assert "0.5" in note
    assert "run with them" in note


def test_accumulation_is_one_batch(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    for name, batch, accumulate in (("one", 4, 1), ("two", 2, 2)):
        asked = tables(backbone, steps=3, batch=batch, accumulate=accumulate)
        list(open_tiny(shapes, tmp_path / name, asked | {"validate": {"every": 3, "images": 1}}).train())
    one, two = (dict(losses(tmp_path / name)) for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.slow
def test_two_ranks_are_one_batch(shapes: Path, backbone: Path, tmp_path: Path) -> None:
    """Also in the draws of which query keeps its mask, which belong to the image, and in what is left of the masks."""
    asked = tables(backbone, steps=3, batch=4) | {"validate": {"every": 3, "images": 2}}
    list(open_tiny(shapes, tmp_path / "one", asked).train())
    options = ["--config", tmp_path / "one" / "config.toml", "--batch", 2, "--devices", 2]
    answer = run_command(shapes, *options, "--out", tmp_path / "two")
    assert answer.returncode == 0, answer.stderr
    one, two = (dict(losses(tmp_path / name)) for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-4)
    left = [state(tmp_path / name) for name in ("one", "two")]
    (mine,) = (tensor for name, tensor in left[0].items() if name.endswith("mask_probabilities") and "ema" not in name)
    (theirs,) = (
        tensor for name, tensor in left[1].items() if name.endswith("mask_probabilities") and "ema" not in name
    )
    assert torch.equal(mine, theirs)


def test_each_block_learns_as_fast_as_it_lies_deep() -> None:
    """By where a weight lies in the ViT, not in the model: the last blocks belong to the query decoder."""
    model = build_model(EomtConfig(ViTConfig(32, 6, 4, 64, image_size=64), 3, num_queries=5, joint_blocks=2))
    rates = {}
    for joint in (True, False):
        found = Rates(1.0, layer_decay=0.5, joint_decay=joint).of_backbone(model)
        rates[joint] = {name: found.get(parameter) for name, parameter in model.named_parameters()}
    everywhere, before = rates[True], rates[False]
    for name in ("backbone.class_token", "backbone.positions", "backbone.patch_embed.weight"):
        assert everywhere[name] == everywhere["backbone.blocks.0.fc1.bias"] == 0.5**5
    assert everywhere["backbone.blocks.3.norm1.weight"] == 0.5**2
    assert everywhere["query_decoder.blocks.0.fc1.weight"] == 0.5
    assert everywhere["query_decoder.blocks.1.scale1"] == 1
    assert everywhere["query_decoder.norm.weight"] is None  # as what is new
    assert everywhere["query_decoder.query_features"] is None
    assert before["query_decoder.blocks.0.fc1.weight"] == before["backbone.blocks.3.fc1.weight"] == 1
    assert before["backbone.blocks.0.fc1.weight"] == 0.5**3
    optimizer = build_optimizer(model, Rates(1.0, layer_decay=0.5, weight_decay=0.05, decay_all=True))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    freeze_backbone(model)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("blocks" in name for name in learning if not name.startswith("pixel_decoder"))
    assert "query_decoder.query_features" in learning


def test_the_backbone_rests_then_warms_up_then_falls() -> None:
    schedule = Schedule("warm-poly", 1000, warmup=100, backbone_warmup=200, power=0.9)
    assert [schedule.factor(step) for step in (0, 50, 100, 550)] == [0.0, 0.5, 1.0, pytest.approx(0.5**0.9)]
    factors = [schedule.factor(step, backbone=True) for step in (0, 99, 200, 300, 650, 1000)]
    assert factors == [0.0, 0.0, 0.5, 1.0, pytest.approx(0.5**0.9), 0.0]


def test_when_which_block_is_annealed() -> None:
    """The published steps, as shares of their runs."""
    large = EomtConfig(ViTConfig(1024, 24, 16, 4096), 133, joint_blocks=4).annealing
    assert [round(start * 88692) for start, _ in large] == [14782, 29564, 44346, 59128]
    assert [round(stop * 88692) for _, stop in large] == [29564, 44346, 59128, 73910]
    small = EomtConfig(ViTConfig(384, 12, 6, 1536), 133, joint_blocks=3).annealing
    assert [round(start * 88692) for start, _ in small] == [14782, 36955, 59128]
    giant = EomtConfig(ViTConfig(1536, 40, 24, 4096, gated=True), 133, joint_blocks=5).annealing
    assert [round(start * 88692) for start, _ in giant] == [14782, 25868, 36955, 48042, 59128]
    rotary = EomtConfig(ViTConfig(384, 12, 6, 1536, positions="rotary"), 133, joint_blocks=3).annealing
    assert rotary[0] == (0.0, 0.03)
    assert rotary[1:] == small[1:]
