"""Readers of models, of weights, of exported folders and of training runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcli.config import ModelConfig
from segcli.config.detr import DetrConfig
from segcli.errors import SegcliError
from segcli.training.material import differences
from segcli.training.recipe import to_toml
from segcli.training.record.run_files import devices_of, is_over, last_unfinished, run_id
from segcli.training.record.run_folder import Checkpoint, RunFolder
from segcli.training.record.run_log import final, read_runs, validations
from segcli.training.resolve import resolve
from segcli.training.resume import resumed_recipe
from segcli.training.train import RunState
from segcli.types import InferenceSpec, InputSize, Label, LabelSet
from segcli.weights.adapt import described, from_description
from segcli.weights.architectures import build_model, key_map
from segcli.weights.checkpoint import LoadedModel, load_model
from segcli.weights.hf_config import preprocessor, raw_config
from segcli.weights.originals.convert import convert
from segcli.weights.pickles import read_weights, tensors
from segcli.weights.spec import TABLE, to_table
from tests.export.models import FAMILIES
from tests.fuzz.target import Target
from tests.training.small_runs import TINY

# -------------------------------------------------------------------------------------------------------------- models

LABELS = LabelSet((Label(0, "a", True), Label(1, "b", False, (1, 2, 3)), Label(2, "c", True)))


def _loaded(config: ModelConfig) -> LoadedModel:
    torch.manual_seed(0)
    spec = _spec(config)
    raw = raw_config(config, LABELS)
    return LoadedModel(
        build_model(config), config, spec, "x", torch.device("cpu"), torch.float32, {"licence": "MIT"}, raw,
        preprocessor(spec, config),
    )  # fmt: skip


def _spec(config: ModelConfig) -> Any:
    return InferenceSpec(config.answers, LABELS, config.own_size, config.rule)


def _model(name: str, table: bool, binary: bool) -> Target:
    config = FAMILIES[name]
    if isinstance(config, DetrConfig) and config.masks:  # whose mask head's norms have groups of eight
        config = dataclasses.replace(config, num_attention_heads=8)

    def write(folder: Path) -> None:
        from safetensors.torch import save_file

        loaded = _loaded(config)
        raw = loaded.raw_config | ({TABLE: to_table(loaded.spec, {"licence": "MIT"})} if table else {})
        (folder / "config.json").write_text(json.dumps(raw))
        (folder / "preprocessor_config.json").write_text(json.dumps(loaded.preprocessor))
        weights = {key: tensor.detach() for key, tensor in loaded.model.state_dict().items()}
        state = {key: tensor.clone() for key, tensor in key_map(config).write(weights).items()}
        if binary:
            torch.save(state, folder / "pytorch_model.bin")
        else:
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    form = f"{'with' if table else 'without'} the table, {'bin' if binary else 'safetensors'}"
    return Target(f"{name} folder {form}", write, lambda folder: load_model(folder, "cpu", "fp32"), cost=5)


MODELS = [
    _model("mask2former resnet", True, False),
    _model("mask2former swin", False, True),
    _model("maskformer swin", False, False),
    _model("maskformer encoder", True, False),
    _model("detr masks", True, False),
    _model("detr boxes", False, True),
    _model("per-pixel", True, False),
    _model("per-pixel plus", False, False),
    _model("eomt table", True, False),
    _model("eomt table", False, False),
    _model("eomt rotary", False, False),
]

# ---------------------------------------------------------------------------------------------------- training runs


def _write_run(folder: Path) -> None:
    loaded = _loaded(FAMILIES["per-pixel"])
    about = {"data": {"path": "d"}, "classes": [[0, "a"]], "devices": 1, "model": {"start": "x"}}
    state = {"step": 3, "ema_updates": 3, "scaler": {}, "threads": 1, "about": about, "network": described(loaded)}
    state |= {"progress": asdict(RunState(best=0.5, best_step=2))}
    weights = {f"model.{name}": tensor for name, tensor in loaded.model.state_dict().items()}
    (folder / "tiny.toml").write_text(TINY)
    run = RunFolder(folder)
    run.write_config(to_toml(resolve(None, folder / "tiny.toml", {})), {"id": "abc", "devices": 1})
    run.save(Checkpoint(weights, state))
    for step in range(3):
        run.append({"kind": "train", "step": step, "loss": 1.5, "loss/mask": 0.5, "lr": 1e-3})
    run.append({"kind": "validation", "step": 2, "metric": "mIoU", "value": 0.5})
    run.append({"kind": "final", "step": 3, "metric": "mIoU", "value": 0.5})


def _resume(folder: Path) -> None:
    """What `train --resume` does with a run's files, and what the views of runs do."""
    run = RunFolder(folder)
    with contextlib.suppress(SegcliError):
        resumed_recipe(folder, None, None, {})
    with contextlib.suppress(SegcliError):
        last_unfinished(folder.parent, None)
    is_over(folder), devices_of(folder), run_id(folder)
    for look in (lambda: read_runs([folder]), lambda: validations(folder), lambda: final(folder)):
        with contextlib.suppress(SegcliError):
            look()
    saved = run.load()
    with run.resuming():
        loaded = from_description(saved.state["network"], saved.tensors, "checkpoint")
        differences(saved.state["about"], {"devices": 1})
        own = {name.removeprefix("model."): tensor for name, tensor in saved.tensors.items()}
        loaded.model.load_state_dict(own)
        RunState(**saved.state["progress"])
    run.rewind(saved.state["step"])


RUNS = [
    Target("training run", _write_run, _resume, cost=4),
    Target(
        "recipe",
        lambda folder: (folder / "tiny.toml").write_text(TINY),
        lambda folder: to_toml(resolve(None, folder / "tiny.toml", {})),
    ),
]

# ---------------------------------------------------------------------------------------------------------- exports


def _write_export(folder: Path) -> None:
    """A graph of constants, in the form of `segcli export`."""
    from onnx import TensorProto, helper, numpy_helper, save

    from segcli.export.contract import TABLE as EXPORT_TABLE
    from segcli.export.contract import ExportFacts

    loaded = _loaded(FAMILIES["mask2former resnet"])
    spec = dataclasses.replace(loaded.spec, size=InputSize(32, 32))
    arrays = {
        "class_logits": np.zeros((1, 5, 4), np.float32),
        "mask_embeddings": np.zeros((1, 5, 8), np.float32),
        "mask_features": np.zeros((1, 8, 8, 8), np.float32),
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_"], [name]) for name in arrays],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in arrays.items()],
        [numpy_helper.from_array(array, f"{name}_") for name, array in arrays.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    facts = ExportFacts("onnx", "model.onnx", "fp32", (32, 32), 1, {"segcli": "1"})
    tables = {TABLE: to_table(spec, {}), EXPORT_TABLE: facts.to_table()}
    (folder / "config.json").write_text(json.dumps(loaded.raw_config | tables))


def _run_export(folder: Path) -> None:
    import segcli

    segcli.predict(load_model(folder, "cpu"), np.zeros((32, 32, 3), np.uint8), task="panoptic")


EXPORTS = [Target("export", _write_export, _run_export, cost=5, spared=(".onnx",))]

# --------------------------------------------------------------------------------------------------------------- files

STATE = OrderedDict(a=torch.ones(3, 2), b=torch.arange(6.0).view(2, 3).T, c=torch.tensor([True, False]))


def _pickle(name: str, write: Callable[[Path], Any]) -> Target:
    def read(folder: Path) -> None:
        content = read_weights(folder / "w.bin")
        tensors(content["model"] if isinstance(content, dict) and "model" in content else content, folder / "w.bin")

    return Target(name, lambda folder: write(folder / "w.bin"), read)


def _numpy(protocol: int) -> Callable[[Path], Any]:
    arrays = {name: tensor.numpy() for name, tensor in STATE.items()}
    return lambda file: file.write_bytes(pickle.dumps({"model": arrays, "args": [1, "x", None]}, protocol))


def _write_original(folder: Path) -> None:
    from tests.weights import original_names as names

    shapes = names.mask2former(names.ResNet((1, 1, 1, 1), 8), 133, queries=4, dim=64, layers=2)
    state = {name: np.full(shape, 0.5, dtype=np.float32) for name, shape in shapes.items()}
    (folder / "model_final.pkl").write_bytes(pickle.dumps({"model": state}, 4))


FILES = [
    _pickle("torch file", lambda file: torch.save({"model": STATE}, file)),
    _pickle("torch file, older", lambda file: torch.save(STATE, file, _use_new_zipfile_serialization=False)),
    _pickle("pickle 2", _numpy(2)),
    _pickle("pickle 4", _numpy(4)),
    _pickle("pickle 5", _numpy(5)),
    Target("original", _write_original, lambda folder: convert(folder / "model_final.pkl"), cost=5),
]
