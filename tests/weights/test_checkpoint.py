"""Model folders of every kind load, and those that cannot be used say why in one line that names the tensors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segcli.config import parse_config
from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.backbones.swin import SwinConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.errors import CheckpointError, OutputError, UsageError
from segcli.models.mask2former import build as build_mask2former
from segcli.types import InputSize
from segcli.weights.architectures import key_map
from segcli.weights.checkpoint import LoadedModel, load_model, save_model
from segcli.weights.manifest import label_table
from segcli.weights.spec import from_table, guess_spec

LITE0 = EfficientNetLiteConfig()
BUNDLED = Path(__file__).parents[2] / "segcli" / "bundled" / "facade"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may damage."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "model"))


def load(folder: Path) -> LoadedModel:
    return load_model(folder, device="cpu", dtype="fp32")


def same_weights(a: LoadedModel, b: LoadedModel) -> bool:
    first, second = a.model.state_dict(), b.model.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


# ---------------------------------------------------------------------------------------------- what loads


def test_sharded_safetensors(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[:200], "model-00002-of-00002.safetensors": names[200:]}
    for shard, part in shards.items():
        save_file({name: state[name] for name in part}, folder / shard)
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    assert same_weights(load(folder), load(BUNDLED))


def test_pytorch_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert same_weights(load(folder), load(BUNDLED))


def test_a_pickle_that_runs_code_is_refused(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("executed",))

    torch.save({"class_predictor.weight": Evil()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: asks for __builtin__\.print"):
        load(folder)


def test_the_hub_key_list_is_read_and_written_whole(shared_dir: Path) -> None:
    listing = (shared_dir / "reference/hub_configs/mask2former-swin-tiny-coco-panoptic.keys.txt").read_text()
    rows = re.findall(r"^(\S+) \(([\d, ]*)\) torch\.(\w+)$", listing, re.MULTILINE)
    assert len(rows) == 566
    state = {
        name: torch.empty([int(n) for n in shape.split(",") if n.strip()], dtype=getattr(torch, dtype), device="meta")
        for name, shape, dtype in rows
    }
    config = Mask2FormerConfig(SwinConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), 7), num_classes=133)
    keymap = key_map(config)
    ours, unknown = keymap.read(state)
    with torch.device("meta"):
        wanted = build_mask2former(config).state_dict()
    assert unknown == []
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in wanted.items()}
    written = keymap.write({name: torch.zeros(t.shape) for name, t in wanted.items()})
    computed = {name for name in state if name.endswith("relative_position_index")}  # transformers ≥ 5 stores none
    unused = {name for name in written if ".encoder.swin.layernorm." in name}  # and adds these, which nothing reads
    assert written.keys() - unused == state.keys() - computed


def test_save_then_load_keeps_everything(tmp_path: Path) -> None:
    loaded = load(BUNDLED)
    again = load(save_model(loaded, tmp_path / "saved"))
    assert same_weights(loaded, again)
    assert again.spec == loaded.spec
    assert {p.name for p in (tmp_path / "saved").iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_names_that_a_wrapper_wrote(folder: Path, prefix: str) -> None:
    def wrap(state: dict[str, Tensor]) -> None:
        for name in list(state):
            state[prefix + name] = state.pop(name)

    edit_weights(folder, wrap)
    assert same_weights(load(folder), load(BUNDLED))


def test_two_classes_that_transformers_does_not_write_down(folder: Path) -> None:
    """Its default, LABEL_0 and LABEL_1, is left out of config.json."""

    def cut(state: dict[str, Tensor]) -> None:
        for name in ("class_predictor.weight", "class_predictor.bias"):
            state[name] = state[name][[0, 1, -1]].clone()
        state.pop("criterion.empty_weight", None)

    edit_weights(folder, cut)
    path = folder / "config.json"
    own = ("id2label", "label2id", "segcli")
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in own}))
    assert load(folder).spec.labels.names == ["LABEL_0", "LABEL_1"]
    edit_config(folder, num_labels=2)
    assert load(folder).spec.labels.names == ["LABEL_0", "LABEL_1"]


def test_rounded_weights_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="dtype='fp32'"):
        save_model(load_model(BUNDLED, device="cpu", dtype="bf16"), tmp_path)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match=r"cannot write the model \(I/O error: No space left .*; free some space"):
        save_model(load_model(BUNDLED, "cpu", "fp32"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- what Hugging Face files tell


def test_things_and_stuff_of_a_known_label_list() -> None:
    coco = label_table("coco_panoptic")
    config = {"id2label": {str(i): name.upper() for i, name in enumerate(coco.names)}}
    read = guess_spec(config, None, Mask2FormerConfig(LITE0, len(coco)), "config.json")
    assert read.spec.labels == coco
    assert read.facts == {}


def test_of_unknown_labels_all_are_things_and_it_is_said() -> None:
    read = guess_spec({"id2label": {"0": "kiwi", "1": "lemon"}}, None, Mask2FormerConfig(LITE0, 2), "config.json")
    assert read.spec.labels.isthing == [True, True]
    assert read.facts == {"things_unknown": True}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"shortest_edge": 512, "longest_edge": 2048}, InputSize(512, 2048)),
        ({"height": 384, "width": 384}, InputSize(384, 639)),  # squashed there; here the aspect ratio is kept
        (640, InputSize(640, 1066)),
        (None, InputSize(800, 1333)),
    ],
)
def test_test_size(size: Any, expected: InputSize) -> None:
    assert (
        guess_spec({"id2label": {"0": "a"}}, {"size": size}, Mask2FormerConfig(LITE0, 1), "config.json").spec.size
        == expected
    )


# ------------------------------------------------------------------------------------- what does not load


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_weights(folder, lambda state: state.__delitem__(name))


def put(name: str, value: Tensor) -> Callable[[Path], None]:
    return lambda folder: edit_weights(folder, lambda state: state.update({name: value}))


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_config(folder, **changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("class_predictor.bias"), r"model\.safetensors does not fit .* 1 tensor missing: class_predictor\.bias"),
        (
            drop("model.transformer_module.decoder.layers.0.self_attn.k_proj.weight"),
            r"missing: model\.transformer_module\.decoder\.layers\.0\.self_attn\.k_proj\.weight",
        ),
        (put("head.extra", torch.ones(1)), r"1 tensor unexpected: head\.extra"),
        (config(num_queries=50), r"queries_features\.weight is 100×128, config\.json means 50×128"),
        (config(encoder_layers=4), r"tensors missing: .*encoder\.layers\.3"),
        (put("class_predictor.bias", torch.full((11,), torch.nan)), r"class_predictor\.bias holds NaN"),
        (lambda f: (f / "model.safetensors").write_text("hello"), r"not a readable safetensors file"),
        (lambda f: (f / "config.json").write_text('{"a": 1,}'), r"config\.json: not valid JSON \(.*, line 1, column"),
        (lambda f: (f / "config.json").unlink(), r"config\.json"),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors"),
        (config(model_type="bert"), r"model_type is 'bert'"),
        (config(backbone_config={"model_type": "convnext"}), r"backbone 'convnext' is not supported"),
        (config(backbone_config={"model_type": "timm_backbone", "backbone": "vgg"}), r"timm's 'vgg' is not supported"),
        (config(pre_norm=True), r"pre_norm is True; segcli supports False"),
        (config(num_queries="many"), r"num_queries is 'many'; expected a whole number from 1"),
        (config(num_queries=10**9), r"num_queries is 1000000000; expected a whole number from 1"),
        (config(num_queries=10**300), r"num_queries is a number of 997 bits"),
        (config(encoder_layers=100_000), r"encoder_layers is 100000; expected a whole number from 1 to 1,000"),
        (config(encoder_layers=900), r"encoder_layers 900 need more than its \d+ tensors"),
        (config(dim_feedforward=900_000), r"dim_feedforward is 900,000, but no tensor has a side above"),
        (config(hidden_dim=300, feature_size=300, num_attention_heads=1), r"cannot be built|another shape"),
        (config(no_object_weight=float("nan")), r"no_object_weight is nan; expected a number from 0 to 1"),
        (config(model_type=[["mask2former"]]), r"model_type is a list of 1 values"),
        (config(id2label=None, num_labels=10**9), r"id2label is missing"),
        (
            config(backbone_config={"model_type": "resnet", "depths": [3, 4, 10**9, 3]}),
            r"depths is \[3, 4, 10+, 3",
        ),
        (config(backbone_config={"model_type": "swin", "window_size": "7"}), r"window_size is '7'; expected a whole"),
        (
            config(backbone_config={"model_type": "swin", "window_size": 10**6}),
            r"window_size is 1,000,000, but",
        ),
        (
            lambda f: (f / "config.json").write_text('{"a":' + "[" * 100_000),
            r"not valid JSON \(nested too",
        ),
        (lambda f: (f / "config.json").write_text('{"a":' + "9" * 5000 + "}"), r"a number of thousands of digits"),
        (lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'), r"not valid JSON \(byte 7 is not"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json: expected a JSON object"),
        (
            put("class_predictor.bias", torch.ones(11, dtype=torch.int64)),
            r"class_predictor\.bias holds int64",
        ),
        (config(num_attention_heads=7), r"hidden_dim 128 is not a multiple of num_attention_heads 7"),
        (config(id2label={}), r"id2label is missing"),
        (config(segcli={"version": 1, "colour": 2}), r"the 'segcli' table: unknown 'colour'"),
        (config(segcli={"version": 2}), r"'segcli' table is version 2, this segcli reads 1"),
    ],
)
def test_one_line_says_what_is_wrong(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


TABLE: dict[str, Any] = {
    "version": 1,
    "tasks": ["instance"],
    "labels": [{"id": 1, "name": "a", "isthing": True}],
    "size": {"short": 352, "long": 586},
    "rule": {"score": 0.5},
    "mean": [1, 2, 3],
    "std": [1, 2, 3],
    "facts": {"licence": "MIT"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(json.dumps(TABLE))
    at: Any = table
    *parents, last = (int(name) if name.isdecimal() else name for name in path.split("."))
    for name in parents:
        at = at[name]
    at[last] = value
    return table


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", 5, r"tasks is 5; expected a list"),
        ("tasks", [["instance"], {}], r"names no task"),
        ("labels", {}, r"labels is \{\}; expected a list"),
        ("labels.0", "a", r"labels\[0\] is text"),
        ("labels.0.id", 2**70, r"labels\[0\]: id is \d+; expected a whole number"),
        ("labels.0.id", True, r"id is True; expected a whole number"),
        ("labels.0.name", -1, r"name is -1; expected text"),
        ("labels.0.isthing", "no", r"isthing is 'no'; expected true or false"),
        ("labels.0.color", [1, 2, 300], r"color is \[1, 2, 300\]; expected 3 whole numbers from 0 to 255"),
        ("size.short", 0, r"short is 0; expected a whole number from 1"),
        ("size.tile", 10**9, r"tile is 1000000000; expected"),
        ("size.rounding", [], r"rounding is \[\]; expected one of nearest, down"),
        ("size.sharp", 1, r"size: unknown 'sharp'"),
        ("rule.score", "x" * 10**6, r"score is 'x{60}'…; expected a number from 0 to 1"),
        ("rule.instance_score", None, r"instance_score is None; expected a number"),
        ("rule.top_k", 1.5, r"top_k is 1\.5; expected a whole number"),
        ("rule.mask_min", float("nan"), r"mask_min is nan; expected a number"),
        ("rule.normalise", "tanh", r"normalise is 'tanh'; expected one of sigmoid, softmax"),
        ("mean", [1, 2], r"mean is \[1, 2\]; expected 3 numbers"),
        ("std", [1, 0, 1], r"std is \[1, 0, 1\]; expected 3 numbers"),
        ("facts", 2**63, r"facts is a number"),
        ("facts.licence", [[1]], r"licence is a list of 1 values; expected text"),
        ("facts.metrics", {"AP": "high"}, r"metrics: AP is 'high'; expected a number"),
        ("facts.bf16_loss", "small", r"bf16_loss is 'small'; expected a number"),
    ],
)
def test_the_table_is_checked_entry_by_entry(path: str, value: Any, message: str) -> None:
    from_table(TABLE, "config.json")
    with pytest.raises(CheckpointError, match=message) as caught:
        from_table(changed(path, value), "config.json")
    assert str(caught.value).startswith("config.json: the 'segcli' table")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"rescale_factor": False}, r"rescale_factor is False; expected a number"),
        ({"rescale_factor": 0}, r"rescale_factor is 0; expected a number"),
        ({"image_mean": ["a", "b"]}, r"image_mean is \['a', 'b'\]; expected 3 numbers"),
        ({"image_std": [0.5, 0.5]}, r"image_std is \[0\.5, 0\.5\]; expected 3 numbers"),
        ({"image_std": [0.5, 0, 0.5]}, r"image_std is"),
        ({"size": {"shortest_edge": {}}}, r"size: shortest_edge is \{\}; expected a whole number"),
        ({"size": {"height": "A" * 1000, "width": 5}}, r"size: height is 'A{60}'…"),
        ({"size": 640, "max_size": -1}, r"max_size is -1"),
    ],
)
def test_the_preprocessor_is_checked(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"folder/preprocessor_config\.json: {message}"):
        guess_spec({"id2label": {"0": "a"}}, entries, Mask2FormerConfig(LITE0, 1), "folder/config.json")


def test_a_device_that_is_missing_is_not_replaced() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(UsageError, match="--device cuda"):
        load_model(BUNDLED, device="cuda")


def test_config_of_the_hub(shared_dir: Path) -> None:
    path = shared_dir / "reference/hub_configs/facebook__mask2former-swin-tiny-coco-panoptic/config.condensed.json"
    parsed = parse_config(json.loads(path.read_text()), path.name)
    assert parsed == Mask2FormerConfig(
        SwinConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, drop_path_rate=0.3), num_classes=133
    )


def test_another_process_loads_the_same_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is shown by its own name, and given to worker processes by its place."""
    monkeypatch.chdir(folder.parents[1])
    loaded = load_model(f"{folder.parent.name}/model", "cpu")
    assert (loaded.name, loaded.ref) == ("model", f"{folder.parent.name}/model")
    assert load_model(loaded.ref, "cpu").name == "model"
