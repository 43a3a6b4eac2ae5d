"""Checkpoints of the authors' own code: their names, what their shapes tell, and files that are refused."""

from __future__ import annotations

import hashlib
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segcli.config import ModelConfig
from segcli.config.backbones.resnet import ResNetConfig
from segcli.config.backbones.swin import SwinConfig
from segcli.config.detr import DetrConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.errors import CheckpointError, SegcliError, UsageError
from segcli.types import Task
from segcli.weights.architectures import build_model
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.keymap import KeyMap
from segcli.weights.keys import original
from segcli.weights.manifest import manifest
from segcli.weights.originals import shapes
from segcli.weights.originals.convert import convert
from segcli.weights.originals.protocols import protocol_of, protocols
from segcli.weights.originals.reading import read_original
from tests.weights import original_names as names

SWIN_T = SwinConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, drop_path_rate=0.3)
WIDTHS = (256, 512, 1024, 2048)
R50, R101 = ResNetConfig((3, 4, 6, 3), WIDTHS), ResNetConfig((3, 4, 23, 3), WIDTHS)
SWIN_L = SwinConfig(192, (2, 2, 18, 2), (6, 12, 24, 48), 12, drop_path_rate=0.3)
THEIR_R101 = names.ResNet((3, 4, 23, 3))
THEIR_SWIN_L = names.Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12)

CHECKPOINTS: dict[str, tuple[names.Shapes, ModelConfig, int]] = {  # names and shapes, configuration, tensors
    "Mask2Former R50": (names.mask2former(names.ResNet(), 133), Mask2FormerConfig(R50, 133), 558),
    "Mask2Former R101": (names.mask2former(THEIR_R101, 133), Mask2FormerConfig(R101, 133), 813),
    "Mask2Former Swin-T": (names.mask2former(names.Swin(), 133), Mask2FormerConfig(SWIN_T, 133), 482),
    "Mask2Former Swin-L": (names.mask2former(THEIR_SWIN_L, 80, 200), Mask2FormerConfig(SWIN_L, 80, 200), 650),
    "MaskFormer R50": (names.maskformer(names.ResNet(), 150), MaskFormerConfig(R50, 150), 410),
    "MaskFormer R101 6Enc": (
        names.maskformer(THEIR_R101, 133, encoder=6),
        MaskFormerConfig(R101, 133, encoder_layers=6),
        737,
    ),
    "MaskFormer Swin-T": (names.maskformer(names.Swin(), 150), MaskFormerConfig(SWIN_T, 150), 334),
}


def empty(tensors: names.Shapes) -> dict[str, torch.Tensor]:
    state = {name: torch.empty(shape, device="meta") for name, shape in tensors.items()}
    return state | {"criterion.empty_weight": torch.tensor([*[1.0] * (tensors["criterion.empty_weight"][0] - 1), 0.1])}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_name_is_placed_and_every_place_is_named(name: str) -> None:
    tensors, config, count = CHECKPOINTS[name]
    assert len(tensors) == count
    state = empty(tensors)
    family = "mask2former" if isinstance(config, Mask2FormerConfig) else "maskformer"
    assert getattr(shapes, family)(shapes.Shapes(state, "file")) == config
    keymap = KeyMap(getattr(original, family)(config))
    ours, unknown = keymap.read(state)
    with torch.device("meta"):
        wanted = {n: t.shape for n, t in build_model(config).state_dict().items() if "num_batches" not in n}
    assert unknown == []
    assert {n: t.shape for n, t in ours.items()} == wanted
    computed = {n for n in state if n.endswith(("relative_position_index", "empty_weight"))}
    assert {their for n in wanted for their in keymap.names(n)} == state.keys() - computed
    assert [original.modern(names.old(n)) for n in state] == list(state)


# ------------------------------------------------------------------------------------------------- whole files

SMALL = names.mask2former(names.ResNet((1, 1, 1, 1), 8), 133, queries=4, dim=64, layers=2)


def random(tensors: names.Shapes) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    state = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in tensors.items()}
    return {name: abs(array) + 0.5 if name.endswith("running_var") else array for name, array in state.items()}


def write(path: Path, model: Any, **others: Any) -> Path:
    """A pickle as detectron2 writes them."""
    path.write_bytes(pickle.dumps({"model": model, "__author__": "somebody", "matching_heuristics": True} | others))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_of_any_age_is_converted(protocol: int, tmp_path: Path) -> None:
    state = random(SMALL)
    aged = {names.old(name): array for name, array in state.items()} if protocol == 2 else state
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": aged, "__author__": "somebody"}, protocol=protocol))
    loaded = convert(path).loaded
    assert loaded.spec == manifest()["swin-tiny-coco-panoptic"].spec()  # known by its 133 classes
    weights = loaded.model.state_dict()
    assert np.array_equal(weights["query_decoder.query_features"], state["sem_seg_head.predictor.query_feat.weight"])
    assert weights["backbone.stem.norm.num_batches_tracked"] == 0
    assert loaded.config.no_object_weight == pytest.approx(state["criterion.empty_weight"][-1], abs=1e-6)


def test_the_hash_in_the_name_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "model_final.pkl", random(SMALL))
    assert not read_original(path).named
    assert any("no hash" in note for note in convert(path).notes)
    named = path.with_name(f"model_final_{hashlib.md5(path.read_bytes()).hexdigest()[:6]}.pkl")
    named.write_bytes(path.read_bytes())
    assert read_original(named).named
    named.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"MD5 begins with .*incomplete download"):
        convert(named)
    torch.save({"model": {}}, tmp_path / "detr-r50-00000000.pth")
    with pytest.raises(CheckpointError, match="SHA256 begins with 00000000"):
        convert(tmp_path / "detr-r50-00000000.pth")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit",))


def without(name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in random(SMALL).items() if key != name}


def cut(path: Path) -> None:
    path.write_bytes(write(path, random(SMALL)).read_bytes()[:1000])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write(p, random(SMALL), trainer=Evil()), r"asks for builtins\.exec, .* save \{'model'"),
        (lambda p: write(p, {"x": torch.ones(1)}), r"asks for torch\._utils\._rebuild_tensor_v2"),
        (lambda p: write(p, {"x": np.array([None])}), r"asks for numpy\.dtype of 'O8'"),
        (lambda p: write(p, {"x": "text"}), r"x is text, not an array"),
        (lambda p: write(p, {}), r"no table of tensors"),
        (
            lambda p: write(p, {"stem.conv1.weight": np.ones(1)}),
            r"not those of a Mask2Former, MaskFormer, DETR or EoMT",
        ),
        (cut, r"not a readable pickle .* fetch it again"),
        (lambda p: None, r"is not there"),
        (
            lambda p: write(p, without("sem_seg_head.predictor.decoder_norm.bias")),
            r"does not fit its own shapes: 1 tensor missing: sem_seg_head\.predictor\.decoder_norm\.bias",
        ),
        (
            lambda p: write(p, random(SMALL) | {"sem_seg_head.extra": np.ones(2)}),
            r"unexpected: sem_seg_head\.pixel_decoder\.extra",
        ),
        (lambda p: write(p, random(SMALL) | {"backbone.stem.conv2.weight": np.ones(1)}), r"R101c"),
        (
            lambda p: write(p, without("sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear1.weight")),
            r"has no sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.0\.linear1\.weight",
        ),
    ],
)
def test_one_line_says_why_a_file_is_refused(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model_final.pkl"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_torch_file_with_objects_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": {}, "where": tmp_path}, tmp_path / "checkpoint.pth")
    with pytest.raises(CheckpointError, match=r"asks for pathlib\.\w*PosixPath"):
        convert(tmp_path / "checkpoint.pth")


# --------------------------------------------------------------------------------------- what tensors do not tell


@pytest.mark.parametrize(
    ("config", "task", "tasks", "short", "score"),
    [
        (Mask2FormerConfig(R50, 133), None, ("panoptic", "instance", "semantic"), 800, 0.8),
        (Mask2FormerConfig(R50, 80), None, ("instance",), 800, 0.8),
        (Mask2FormerConfig(R50, 150), "semantic", ("semantic",), 512, 0.8),
        (Mask2FormerConfig(SWIN_L, 150), "semantic", ("semantic",), 640, 0.8),
        (Mask2FormerConfig(R50, 65), "panoptic", ("panoptic", "instance", "semantic"), 2048, 0.0),
        (MaskFormerConfig(R50, 133), None, ("panoptic", "semantic"), 800, 0.8),
        (MaskFormerConfig(R50, 150), "panoptic", ("panoptic", "semantic"), 640, 0.7),
    ],
)
def test_the_protocol_of_as_many_classes(
    config: ModelConfig, task: Task | None, tasks: tuple[Task, ...], short: int, score: float
) -> None:
    spec = protocol_of(config, (), task, None).spec
    assert (spec.tasks, spec.size.short, spec.rule.score) == (tasks, short, score)
    assert spec.rule.mask_min == config.rule.mask_min
    assert len(spec.labels) == config.num_classes


def test_a_published_file_is_known_by_its_hash() -> None:
    found = protocol_of(Mask2FormerConfig(R50, 19), ("cc1b1f",), None, None)
    assert found.spec.tasks == ("semantic",)
    assert found.facts["metrics"] == {"mIoU": 79.4, "mIoU (ms+flip)": 82.2}
    assert all(len(figures) == len(row.metrics) for row in protocols() for figures in row.files.values())


def test_classes_of_ones_own(tmp_path: Path) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text(
        '{"categories": [{"id": 7, "name": "kiwi", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]}'
    )
    spec = protocol_of(Mask2FormerConfig(R50, 2), (), "panoptic", str(labels)).spec
    assert (spec.labels.names, spec.labels.isthing, len(spec.tasks)) == (["kiwi", "sky"], [True, False], 3)


@pytest.mark.parametrize(
    ("classes", "task", "labels", "message"),
    [
        (19, None, None, r"19 classes was published for panoptic and for semantic.* --task"),
        (12, None, None, r"12 classes, which are those of no published Mask2Former: .* --labels"),
        (133, "semantic", None, r"no published Mask2Former for semantic: .* --labels"),
        (10, None, "facade_10", r"--task"),
        (12, None, "coco_panoptic", r"133 classes, but the checkpoint has 12"),
        (12, None, "coco", r"neither a \.json file nor one of ade20k_150"),
        (12, None, "nowhere.json", r"cannot be read"),
    ],
)
def test_the_option_that_must_be_given_is_named(
    classes: int, task: Task | None, labels: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        protocol_of(Mask2FormerConfig(R50, classes), (), task, labels)
    assert caught.value.exit_code == 2


def test_names_no_label_table_holds_are_asked_for() -> None:
    with pytest.raises(SegcliError, match=r"171 classes, those of COCO-Stuff-10k test: .* --labels"):
        protocol_of(MaskFormerConfig(R50, 171), ("cb03eb",), None, None)


# -------------------------------------------------------------------------------------------------------------- DETR


def detr_file(path: Path, outputs: int, masks: bool) -> Path:
    """A small DETR as facebookresearch/detr saves it, its options beside it."""
    tensors = names.detr(outputs, masks)
    state = {name: torch.from_numpy(array) for name, array in random(tensors).items()}
    torch.save({"model": state, "args": Namespace(lr=1e-4), "epoch": 3}, path)
    return path


@pytest.mark.parametrize(("outputs", "masks", "classes"), [(91, False, 80), (250, True, 133)])
def test_detr(outputs: int, masks: bool, classes: int, tmp_path: Path) -> None:
    path = detr_file(tmp_path / "checkpoint.pth", outputs, masks)
    with pytest.raises(UsageError, match="--dc5 or --no-dc5"):
        convert(path)
    loaded = convert(path, dilated=False).loaded
    config = loaded.config
    assert isinstance(config, DetrConfig)
    assert (config.num_outputs, config.num_classes, config.masks) == (outputs, classes, masks)
    assert loaded.spec.tasks == (("panoptic", "instance", "detect") if masks else ("detect",))
    assert (loaded.spec.rule, loaded.spec.size) == (DetrConfig.rule, DetrConfig.size)
    assert isinstance(config.backbone, ResNetConfig)
    assert not config.backbone.dilated
    again = load_model(save_model(loaded, tmp_path / "saved"), device="cpu", dtype="fp32")
    assert again.config == config
    assert all(torch.equal(t, again.model.state_dict()[n]) for n, t in loaded.model.state_dict().items())


def test_a_published_detr_is_known_to_be_dilated() -> None:
    boxes = DetrConfig(ResNetConfig((3, 4, 6, 3), WIDTHS, frozen_norms=True), 91)
    assert [protocol_of(boxes, (digest,), None, None).dilated for digest in ("e632da11", "f0fb7ef5")] == [False, True]
    assert protocol_of(boxes, ("e632da11",), None, None).facts["licence"] == "Apache-2.0"
