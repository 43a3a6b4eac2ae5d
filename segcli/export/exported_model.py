"""An exported folder as a model like any other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from segcli.errors import CheckpointError, UsageError
from segcli.export.contract import TABLE, ExportFacts

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel


def load_exported(folder: str | os.PathLike[str], device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Open a folder that `segcli export` wrote, in the runtime it was exported for and as many threads as torch has.

    device, dtype: as `segcli.weights.checkpoint.load_model`, which comes here for such folders.
    Raises CheckpointError for a folder that cannot be used, UsageError where the runtime or the device is not here.
    """
    import torch

    from segcli.config import parse_config
    from segcli.export.network import ExportedNetwork
    from segcli.export.runtimes import RUNTIMES
    from segcli.files.json_file import read_object
    from segcli.weights import spec
    from segcli.weights.checkpoint import LoadedModel

    name, folder = str(folder), Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file; an exported model is the whole folder that `segcli export` wrote, copy all of it"
        )
    raw = read_object(path, CheckpointError, "export the model again")
    facts = ExportFacts.from_table(raw.pop(TABLE, None), str(path))
    runtime = RUNTIMES.get(facts.runtime)
    if runtime is None:
        raise CheckpointError(
            f"{path}: exported for {facts.runtime[:40]!r}, which this segcli does not know; it knows "
            f"{', '.join(sorted(RUNTIMES))}"
        )
    asked = None if dtype in ("auto", facts.dtype) else dtype
    if asked is not None and asked not in runtime.dtypes:
        again = "export it again with --to openvino, whose folders run in bf16 too, or leave out --dtype"
        if dtype != "bf16":
            again = f"export it again with --dtype {dtype}, or use the model it was made from"
        raise UsageError(f"--dtype {dtype}: {name} was exported as {facts.dtype}; {again}")
    table = spec.from_table(raw.pop(spec.TABLE, None), str(path))
    config = parse_config(raw, str(path))
    fitting = config.fit_classes(table.spec.labels.ids)
    if fitting is None:
        raise CheckpointError(f"{path}: {config.num_classes} classes, but {len(table.spec.labels)} labels")
    if not (folder / facts.file).is_file():
        raise CheckpointError(
            f"{folder / facts.file}: no such file, though config.json names it; export the model again"
        )
    opened = runtime(folder / facts.file, device, asked, torch.get_num_threads())
    about = table.facts | {"source": str(folder), "device_reason": opened.reason, "exported": facts.dtype}
    about |= {"precision": asked or facts.dtype, "place": opened.device}
    graph = sorted(folder.glob(f"{Path(facts.file).stem}.*"))
    return LoadedModel(
        ExportedNetwork(opened, facts, name, len(table.spec.labels), graph),  # type: ignore[arg-type]  # answers like a Segmenter
        fitting,
        table.spec,
        name,
        torch.device("cpu"),
        torch.float32,
        about,
        raw,
    )
