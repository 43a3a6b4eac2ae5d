"""Loading and saving models. On disk a segcli model is a Hugging Face model folder, both ways."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from segcli.config import ModelConfig, parse_config
from segcli.errors import CheckpointError, OutputError, cut
from segcli.files.json_file import read_object
from segcli.files.writing import new_folder, replace_file
from segcli.models.segmenter import Segmenter
from segcli.types import InferenceSpec, LabelSet
from segcli.weights.architectures import build_model, key_map
from segcli.weights.device import choose_device, choose_dtype, name_of
from segcli.weights.hub import CheckpointFiles, is_exported, locate, own_folder
from segcli.weights.keymap import KeyMap
from segcli.weights.pickles import read_weights, tensors
from segcli.weights.plausible import refuse_implausible
from segcli.weights.spec import TABLE, from_table, guess_spec, to_table

_AUTHORS = "network."  # how names begin in files of EoMT's authors


EXPORTED = "segcli.export.exported_model"  # runtimes are above this layer, so they come in by name


@dataclass
class LoadedModel:
    """A model ready to predict, with everything stored beside its weights."""

    model: Segmenter  # in eval mode, on `device`, in `dtype`
    config: ModelConfig
    spec: InferenceSpec
    name: str  # what it is called where it is shown
    device: torch.device
    dtype: torch.dtype
    facts: dict[str, Any] = field(default_factory=dict)  # licence, metric, source, revision, why this device, …
    raw_config: dict[str, Any] = field(default_factory=dict)  # config.json as read, without the segcli table
    preprocessor: dict[str, Any] | None = None
    stored_dtype: torch.dtype = torch.float32  # of the tensors in the file
    ref: str = ""  # what `load_model` was given, by which another process loads the same

    @property
    def labels(self) -> LabelSet:
        return self.spec.labels

    @property
    def precision(self) -> str:
        """What it computes in, by the name of --dtype. An exported model's runtime has one of its own."""
        return str(self.facts.get("precision") or name_of(self.dtype))

    @property
    def place(self) -> str:
        """Where it computes, by the name of --device. An exported model's runtime has a place of its own."""
        return str(self.facts.get("place") or self.device)


def load_model(
    ref: str | os.PathLike[str],
    device: str = "auto",
    dtype: str = "auto",
    *,
    progress: Callable[..., Any] | None = None,
) -> LoadedModel:
    """Load a model: a local folder (which wins), a name in `weights.toml`, or `org/name[@revision]` on the Hub.

    device: auto, cpu, cuda, mps. dtype: auto, fp32, bf16, fp16. progress: see `hub.locate`.
    Raises CheckpointError for a checkpoint that cannot be used, WeightsUnavailable if it cannot be found or downloaded,
    UsageError for a device that this machine lacks.
    """
    if is_exported(folder := own_folder(ref)):
        exported: LoadedModel = importlib.import_module(EXPORTED).load_exported(folder, device, dtype)
        exported.ref = str(ref)
        return exported
    choice = choose_device(device)
    files = locate(str(ref), progress=progress)
    raw = read_object(files.config, CheckpointError)
    config = parse_config(raw, str(files.config))
    table = raw.pop(TABLE, None)
    preprocessor = read_object(files.preprocessor, CheckpointError) if files.preprocessor else None
    spec, facts, config = _spec(table, raw, preprocessor, config, files)
    target_dtype = choose_dtype(dtype, choice.device, facts.get("bf16_loss"))
    state = unwrapped(read_tensors(files.weights))
    if any(name.startswith(_AUTHORS) for name in state):  # such a file may be no whole model
        from segcli.weights import deltas

        if deltas.holds_differences(state):
            state = deltas.whole(state, config, _place(files), progress)
    model, stored = build(config, key_map(config), state, _place(files))
    model.to(device=choice.device, dtype=target_dtype)
    facts |= {"source": files.source, "device_reason": choice.reason, "no_gpu": choice.no_gpu}
    if files.revision:
        facts["revision"] = files.revision
    if unfinished := model.query_decoder.unfinished():
        facts["unfinished"] = unfinished
    where = (choice.device, target_dtype)
    return LoadedModel(model, config, spec, files.name, *where, facts, raw, preprocessor, stored, str(ref))


def save_model(loaded: LoadedModel, folder: str | os.PathLike[str]) -> Path:
    """Write a folder that segcli loads, and transformers too if it has the architecture.

    Tensors keep the precision they were read in, so load → save → load is bit-exact. A new folder appears when all is
    in it; in an old one each file is replaced in one step. Raises CheckpointError if the weights in memory are rounded
    (bf16, fp16), OutputError if the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if loaded.dtype != torch.float32:
        raise CheckpointError(
            f"{loaded.name} is in memory as {loaded.dtype}; load it with dtype='fp32' to save it whole"
        )
    folder = Path(folder)
    state = {name: tensor.detach().cpu() for name, tensor in loaded.model.state_dict().items()}
    tensors = {
        name: tensor.to(loaded.stored_dtype) if tensor.is_floating_point() else tensor
        for name, tensor in key_map(loaded.config).write(state).items()
    }
    transient = {"source", "device_reason", "no_gpu", "revision", "unfinished"}
    facts = {key: value for key, value in loaded.facts.items() if key not in transient}
    raw = loaded.raw_config | {TABLE: to_table(loaded.spec, facts)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext(folder) if folder.exists() else new_folder(folder) as place:
            replace_file(place / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))
            replace_file(place / "config.json", lambda path: _dump(raw, path))
            if loaded.preprocessor is not None:
                preprocessor = loaded.preprocessor
                replace_file(place / "preprocessor_config.json", lambda path: _dump(preprocessor, path))
    except (OSError, SafetensorError) as error:  # the second is how safetensors words the first
        reason = getattr(error, "strerror", None) or cut(error)
        raise OutputError(
            f"{folder}: cannot write the model ({reason}); free some space or choose another folder"
        ) from error
    return folder


def _spec(
    table: Any,
    raw: dict[str, Any],
    preprocessor: dict[str, Any] | None,
    config: ModelConfig,
    files: CheckpointFiles,
) -> tuple[InferenceSpec, dict[str, Any], ModelConfig]:
    """The protocol, facts, and the configuration with the classes of the protocol."""
    where = str(files.config)
    facts: dict[str, Any]
    if table is not None:
        read = from_table(table, where)
        spec, facts = read.spec, read.facts
        problem = f"the 'segcli' table names {len(spec.labels)} classes, id2label {config.num_classes}"
    elif files.entry is not None:
        entry = files.entry
        named = None if entry.labels else guess_spec(raw, preprocessor, config, where).spec.labels
        spec = entry.spec(named)
        facts = {"licence": entry.licence, "metrics": dict(entry.metrics), "status": entry.status}
        problem = f"{config.num_classes} classes, but {files.name} has {len(spec.labels)} in weights.toml"
    else:
        read = guess_spec(raw, preprocessor, config, where)
        return read.spec, read.facts, config
    fitting = config.fit_classes(spec.labels.ids)
    if fitting is None:
        raise CheckpointError(f"{where}: {problem}")
    return spec, facts, fitting


class _NoInitialValues(TorchFunctionMode):
    """Modules are built with their `torch.nn.init` calls left out: no time for values that are about to be replaced.

    On the meta device those calls also import torch's compiler, which takes longer than everything else here.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build(
    config: ModelConfig, keymap: KeyMap, state: dict[str, Tensor], where: str, meant_by: str = "config.json"
) -> tuple[Segmenter, torch.dtype]:
    """A model that holds the tensors of `state`, which are checked against the configuration first, and their type.

    where: the files of the tensors, meant_by: that of the configuration, for errors.
    """
    refuse_implausible(config, state, where, meant_by)
    try:
        with torch.device("meta"), _NoInitialValues():
            model = build_model(config)
    except (ValueError, RuntimeError, ArithmeticError, AssertionError, IndexError, TypeError) as error:
        raise CheckpointError(f"{where}: {meant_by} asks for a network that cannot be built ({cut(error)})") from error
    ours, unexpected = keymap.read(state)
    wanted = model.state_dict()
    missing = [their for name in wanted if name not in ours for their in keymap.names(name) if their not in state]
    extra = unexpected + [name for name in ours if name not in wanted]
    wrong = [
        f"{keymap.names(name)[0]} is {_shape(ours[name])}, {meant_by} means {_shape(tensor)}"
        for name, tensor in wanted.items()
        if name in ours and ours[name].shape != tensor.shape
    ]
    kinds = [
        f"{keymap.names(name)[0]} holds {_numbers_of(ours[name])}, not {_numbers_of(tensor)}"
        for name, tensor in wanted.items()
        if name in ours and ours[name].is_floating_point() != tensor.is_floating_point()
    ]
    problems = [
        f"{len(names)} tensor{'s' * (len(names) > 1)} {kind}: {'; '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", extra),
            ("of another shape", wrong),
            ("of another type", kinds),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"{where} does not fit its {meant_by}: {'. '.join(problems)}")
    for name, tensor in ours.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise CheckpointError(f"{where}: {keymap.names(name)[0]} holds NaN or infinite values; the file is damaged")
    stored = next((tensor.dtype for tensor in ours.values() if tensor.is_floating_point()), torch.float32)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in ours.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False), stored


def _is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite; the extremes tell, in one pass and without a copy."""
    return not tensor.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _place(files: CheckpointFiles) -> str:
    """The weight files in words."""
    if len(files.weights) == 1:
        return str(files.weights[0])
    return f"{files.folder} ({', '.join(path.name for path in files.weights)})"


def _numbers_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.") if not tensor.is_floating_point() else "floating-point numbers"


def _shape(tensor: Tensor) -> str:
    if tensor.ndim > 8:
        return f"of {tensor.ndim} dimensions"
    return "×".join(str(n) for n in tensor.shape) or "a number"


def read_tensors(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of some files, safetensors or pickles; CheckpointError for what cannot be read."""
    state: dict[str, Tensor] = {}
    for path in paths:
        state |= _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path)
    return state


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what a wrapper put before every name: DataParallel "module.", torch.compile "_orig_mod.", the attribute
    of a trainer that held the network."""
    while len(state) > 1 and len(first := {name.partition(".")[0] for name in state}) == 1:
        prefix = f"{first.pop()}."
        if not all(name.startswith(prefix) for name in state):
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({cut(error)}); fetch it again") from error


def _read_bin(path: Path) -> dict[str, Tensor]:
    return tensors(read_weights(path), path)


def _dump(value: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
