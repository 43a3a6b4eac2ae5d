"""A model from a name or a folder, whether PyTorch runs it or another runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.errors import CheckpointError, UsageError
from segcli.export.contract import TABLE, ExportFacts

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel


def load_model(
    ref: str | os.PathLike[str],
    device: str = "auto",
    dtype: str = "auto",
    *,
    threads: int | None = None,
    progress: Callable[..., Any] | None = None,
) -> LoadedModel:
    """Load a model: a local folder (which wins), a name in `weights.toml`, or `org/name[@revision]` on the Hub.

    A folder that `segcli export` wrote runs in the runtime it was exported for; everything else in PyTorch.
    device: auto, cpu, cuda, mps, gpu. dtype: auto, fp32, bf16, fp16. threads: of another runtime. progress: see
    `weights.hub.locate`.
    Raises what `segcli.weights.checkpoint.load_model` raises, and UsageError where the runtime is not installed.
    """
    folder = Path(ref)
    if is_exported(folder):
        return _load_exported(folder, str(ref), device, dtype, threads)
    from segcli.weights import checkpoint

    return checkpoint.load_model(ref, device, dtype, progress=progress)


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported graph."""
    from segcli.export.runtimes import RUNTIMES

    return folder.is_dir() and any((folder / runtime.file).is_file() for runtime in RUNTIMES.values())


def _load_exported(folder: Path, name: str, device: str, dtype: str, threads: int | None) -> LoadedModel:
    import torch

    from segcli.config import fit_classes, parse_config
    from segcli.export.network import ExportedNetwork
    from segcli.export.runtimes import RUNTIMES
    from segcli.weights import spec
    from segcli.weights.checkpoint import LoadedModel

    path = folder / "config.json"
    raw = _read(path)
    facts = ExportFacts.from_table(raw.pop(TABLE, None), str(path))
    runtime = RUNTIMES.get(facts.runtime)
    if runtime is None:
        raise CheckpointError(
            f"{path}: exported for {facts.runtime[:40]!r}, which this segcli does not know; it knows "
            f"{', '.join(sorted(RUNTIMES))}"
        )
    asked = None if dtype in ("auto", facts.dtype) else dtype
    if asked is not None and asked not in runtime.dtypes:
        raise UsageError(f"--dtype {dtype}: {name} was exported as {facts.dtype}; export it again with --dtype {dtype}")
    table = spec.from_table(raw.pop(spec.TABLE, None), str(path))
    config = parse_config(raw, str(path))
    fitting = fit_classes(config, table.spec.labels.ids)
    if fitting is None:
        raise CheckpointError(f"{path}: {config.num_classes} classes, but {len(table.spec.labels)} labels")
    if not (folder / facts.file).is_file():
        raise CheckpointError(
            f"{folder / facts.file}: no such file, though config.json names it; export the model again"
        )
    opened = runtime(folder / facts.file, device, asked, threads)
    about = table.facts | {"source": str(folder), "device_reason": opened.reason, "exported": facts.dtype}
    return LoadedModel(
        ExportedNetwork(opened, facts, name),
        fitting,
        table.spec,
        name,
        torch.device("cpu"),
        torch.float32,
        about,
        raw,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file; an exported model is the whole folder that `segcli export` wrote, copy all of it"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: not JSON ({error.msg}, line {error.lineno} column {error.colno})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return value
