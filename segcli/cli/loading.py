"""The model of a command: the one that was asked for, or what stands in where none was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from segcli import console
from segcli.cli import options
from segcli.console import Console

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel


def load(
    model: str | None,
    task: options.TaskName | None,
    device: options.DeviceName,
    dtype: options.DtypeName,
    threads: int | None,
    say: Console,
) -> LoadedModel:
    """The model called `model`, on its device; without one the task's default, or the small one that ships with segcli
    where the default can neither be found nor downloaded, which is said and kept in facts["instead_of"].

    Raises what `segcli.weights.checkpoint.load_model` raises.
    """
    import torch

    from segcli.weights.checkpoint import load_model

    if threads:
        torch.set_num_threads(threads)

    def progress(what: str, size: int | None) -> AbstractContextManager[Callable[[int], None]]:
        return say.progress(what, size, bytes=True)

    if model is not None:
        return load_model(model, device.value, dtype.value, progress=progress)
    from segcli.weights.hub import locate_default

    default = locate_default(task.value if task else "panoptic", progress)
    loaded = load_model(default.name, device.value, dtype.value, progress=progress)
    if default.missing is not None:
        console.warning(
            f"{default.missing} cannot be had ({default.reason}); using {default.name}, a small model with "
            f"{len(loaded.spec.labels)} classes that ships with segcli"
        )
        loaded.facts["instead_of"] = default.missing
    return loaded
