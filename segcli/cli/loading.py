"""The model of a command: the one that was asked for, or what stands in where none was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from segcli import console
from segcli.console import Console
from segcli.errors import UsageError
from segcli.types import Device, Precision, Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel


def load(
    model: str | None,
    task: Task | None,
    device: Device,
    dtype: Precision,
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
        if task:
            _check_task(model, task)
        return load_model(model, device, dtype, progress=progress)
    from segcli.weights.hub import locate_default

    default = locate_default(task if task else "panoptic", progress)
    loaded = load_model(default.name, device, dtype, progress=progress)
    if default.missing is not None:
        console.warning(
            f"{default.missing} cannot be had ({default.reason}); using {default.name}, a small model with "
            f"{len(loaded.spec.labels)} classes that ships with segcli"
        )
        loaded.facts["instead_of"] = default.missing
    return loaded


def _check_task(model: str, task: Task) -> None:
    """Raises UsageError before a download of a known model that does not answer the task."""
    from segcli.weights.manifest import lookup, models_for

    entry = None if Path(model).is_dir() else lookup(model)
    if entry and task not in entry.tasks:
        raise UsageError(f"--task {task}: {entry.name} is for {', '.join(entry.tasks)}; {models_for(task)}")


def introduce(loaded: LoadedModel, tasks: Sequence[Task], say: Console, *, profile: bool = False) -> None:
    """One line: which model, for what, where and why there; and what should be known before it is believed.

    profile: say in any case why no GPU is used.
    """
    facts, precision = loaded.facts, loaded.precision
    where = facts["device_reason"]
    if profile and facts.get("no_gpu") and facts["no_gpu"] not in where:
        where += f"; {facts['no_gpu']}"
    say.note(f"{loaded.name} ({facts['source']}): {', '.join(tasks)}, {precision}, {where}")
    if precision == "fp16" and loaded.device.type == "cpu" and "exported" not in facts:  # runtimes store it alone
        console.warning(
            "--dtype fp16 is emulated on a CPU and several times slower than fp32; bf16 is the small one here"
        )
    if "unfinished" in facts:
        say.note(facts["unfinished"])
    if facts.get("things_unknown") and "panoptic" in tasks:
        say.note("this checkpoint does not say which classes are stuff: each is treated as countable things")
