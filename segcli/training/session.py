"""Opening a run: a new one from a recipe, or one that was interrupted from its folder."""

from __future__ import annotations

import dataclasses
import platform
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import segcli
from segcli.data.loading.transforms import Example
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.errors import SegcliError, UsageError
from segcli.training import objectives
from segcli.training.learner import Learner, trainable
from segcli.training.material import Material, Say, differences, find_data, fingerprint, gather
from segcli.training.memory import largest_batch
from segcli.training.presets import read_preset
from segcli.training.recipe import FittedRecipe, FullRecipe, Recipe, to_toml
from segcli.training.record.run_files import CHECKPOINT
from segcli.training.record.run_folder import Checkpoint, RunFolder
from segcli.training.resume import from_last
from segcli.training.setup import (
    begin,
    examples_of,
    fit,
    full,
    loader_of,
    nearer_start,
    pick_device,
    plan_schedule,
)
from segcli.training.teacher import Teacher, load_teacher
from segcli.training.train import Run, autocast_of
from segcli.types import Batch, Target
from segcli.versions import packages
from segcli.weights.adapt import from_description, lasting
from segcli.weights.checkpoint import LoadedModel
from segcli.weights.download import Progress


def open_run(
    recipe: Recipe,
    out: Path,
    ranks: Ranks,
    say: Say,
    *,
    info: DatasetInfo | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    scanned: Callable[[int, int], None] | None = None,
) -> Run:
    """Everything up to the first step, said aloud line by line.

    info: the data, if they were found already.
    Raises UsageError for data, options or a resumed run that do not fit, and whatever loading a model raises.
    """
    folder = RunFolder(out, silent=not ranks.is_first)
    if not resume:
        folder.create()
    try:
        return _prepare(recipe, info or find_data(recipe), folder, ranks, say, resume, progress, scanned)
    except SegcliError:
        folder.discard()  # or the next run of this name would have another number
        raise


def _prepare(
    recipe: Recipe,
    info: DatasetInfo,
    folder: RunFolder,
    ranks: Ranks,
    say: Say,
    resume: bool,
    progress: Progress | None,
    scanned: Callable[[int, int], None] | None,
) -> Run:
    out, device = folder.path, pick_device(recipe.run.device)
    saved = folder.load() if resume and folder.has_checkpoint else None
    if resume and saved is None:
        say("the run was interrupted before its first checkpoint: it starts again")
    material = gather(info, ranks, say, scanned)
    fitted = fit(recipe, material, device)
    if not recipe.model.origin and saved is None and (nearer := nearer_start(material)):
        say(nearer)
    network, loses_tiles = _network(fitted, material, folder, saved, say, progress)
    loaded = _to_device(network, device)
    model = fitted.model
    if saved is None and model.start is not None:
        model = dataclasses.replace(model, start=lasting(model.start))
    loss = fitted.loss
    if loss.teacher is not None:
        loss = dataclasses.replace(loss, teacher=lasting(loss.teacher))
    fitted = dataclasses.replace(fitted, model=model, loss=objectives.fill_in(loaded.config, loss))
    teacher = load_teacher(fitted.loss, loaded, progress)
    about = fingerprint(fitted, material, loaded.raw_config) | {"devices": ranks.size}
    if teacher is not None:
        about |= teacher.fingerprint()
        loaded.facts["taught by"] = teacher.described
        say(f"teacher: {teacher.described}")
    if saved is not None:
        with folder.resuming():
            changed = differences(saved.state["about"], about)
        if changed:
            raise UsageError(
                f"--resume: this is not the run in {out}: {'; '.join(changed)}. "
                f"Undo the change, or start a new run{from_last(out)}"
            )
    if not fitted.schedule.batch:
        fitted = _with_fitting_batch(fitted, material, loaded, teacher, ranks, say)
    planned, schedule, lr = plan_schedule(fitted, len(material.train), len(material.val), ranks, say)
    size = loaded.spec.size
    crowded = material.scan.crowded(loaded.config.num_queries, size.tile)
    for warning in (crowded, None if size.tile or loses_tiles else material.scan.small(size.short)):
        if warning:
            say(f"warning: {warning}")
    if unseen := material.scan.unseen():
        rest = f" and {len(unseen) - 8} more" if len(unseen) > 8 else ""
        say(f"warning: no training image shows {', '.join(label.name for label in unseen[:8])}{rest}")
    folder.tidy()
    learner = Learner(loaded, planned, schedule, lr, ranks, autocast_of(planned, device), teacher=teacher)
    run = Run(planned, material, learner, folder, ranks, about)
    say(
        f"model: {about['model']['start']}, {trainable(loaded.model) / 1e6:.1f} million weights to learn, "
        f"{loaded.config.num_queries} queries, {planned.run.dtype} on {device}, crops "
        f"{'×'.join(map(str, planned.augment.crop))}, in prediction {loaded.spec.size.in_words()}"
    )
    if saved is None:
        folder.rewind(-1)
        folder.write_config(to_toml(planned), _facts(run))
    else:
        with folder.resuming():
            run.restore(saved)
        say(f"resumed at step {learner.step} of {schedule.steps}")
        threads = saved.state["threads"]
        if threads != torch.get_num_threads():
            say(f"warning: {threads} threads before, {torch.get_num_threads()} now: last digits may differ")
    return run


def _network(
    recipe: FittedRecipe,
    material: Material,
    folder: RunFolder,
    saved: Checkpoint | None,
    say: Say,
    progress: Progress | None,
) -> tuple[LoadedModel, bool]:
    """The model to train, and whether it was said that it loses its tiles. One that goes on is built as its checkpoint
    says: what it began from may be gone."""
    if saved is not None and "network" in saved.state:  # older checkpoints do not say it
        with folder.resuming():
            return from_description(saved.state["network"], saved.tensors, str(folder.path / CHECKPOINT)), False
    start = begin(recipe, material, progress)
    for note in start.notes:
        say(note)
    return start.loaded, start.loses_tiles


def _to_device(loaded: LoadedModel, device: torch.device) -> LoadedModel:
    loaded.model.to(device)
    return dataclasses.replace(loaded, device=device)


def _with_fitting_batch(
    recipe: FittedRecipe,
    material: Material,
    loaded: LoadedModel,
    teacher: Teacher | None,
    ranks: Ranks,
    say: Say,
) -> FittedRecipe:
    """The recipe with the largest batch for which there is memory, not larger than its learning rate is meant for."""
    table = recipe.schedule
    usual = table.reference_batch or read_preset("small")["schedule"]["reference_batch"]  # 0: --lr is taken as it is
    most = max(1, usual // (table.accumulate * ranks.size)) if loaded.device.type == "cpu" else 64

    def attempt(images: int) -> None:
        lean, alone = dataclasses.replace(table, accumulate=1, ema=0.0), dataclasses.replace(recipe.run, workers=0)
        trial = full(dataclasses.replace(recipe, schedule=lean, run=alone), images, steps=1, every=1)
        batch = next(iter(loader_of(trial, material, loaded.spec, Ranks(), 0)))
        _forward_and_backward(trial, loaded, teacher, batch.batches)

    batch = min(ranks.gather(largest_batch(attempt, loaded.device, most)))
    say(f"--batch auto: {batch}")
    return dataclasses.replace(recipe, schedule=dataclasses.replace(table, batch=batch))


def _forward_and_backward(
    recipe: FullRecipe, loaded: LoadedModel, teacher: Teacher | None, parts: list[tuple[Batch, list[Target]]]
) -> None:
    """What a step needs memory for; the weights stay."""
    from segcli.training.optim import Schedule

    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    schedule, autocast = Schedule("constant", 1), autocast_of(recipe, loaded.device)
    learner = Learner(loaded, recipe, schedule, 0.0, Ranks(), autocast, teacher=teacher)
    learner.update(parts)
    loaded.model.load_state_dict(before)


def _facts(run: Run) -> dict[str, Any]:
    """run.json."""
    material = run.material
    splits = [
        {
            "split": split.name,
            "images": split.images,
            "objects": split.objects,
            "without objects": split.empty,
            "void": round(split.void_share, 4),
            "classes": [
                {
                    "id": c.label.id,
                    "name": c.label.name,
                    "images": c.images,
                    "objects": c.objects,
                    "share": round(c.share, 5),
                }
                for c in split.classes
            ],
        }
        for split in material.scan.splits
    ]
    return {
        "id": uuid.uuid4().hex[:12],
        "command": sys.argv,
        "segcli": segcli.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
        "device": str(run.learner.loaded.device),
        "devices": run.ranks.size,
        "threads": torch.get_num_threads(),
        "data": {"found": material.info.found, "notes": list(material.info.notes), "splits": splits},
        "about": run.about,
    }


def preview(recipe: Recipe, out: Path, images: int, say: Say) -> list[Path]:
    """Write what the loader produces, after augmentation, as overlays; -> the files."""
    from segcli.render import overlay

    folder = RunFolder(out)
    material = gather(find_data(recipe), Ranks(), say)
    maker = examples_of(fit(recipe, material, pick_device(recipe.run.device)), material)
    written = []
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for earlier in (out / "pictures").glob("preview-*.png"):
        earlier.unlink()
    for number in range(images):
        example = maker.example(number)
        name = f"preview-{number:03d}"
        folder.write_picture(name, overlay(example.image, _example_segments(example, material)))
        written.append(out / "pictures" / f"{name}.png")
    return written


def _example_segments(example: Example, material: Material) -> Any:
    """An augmented example in the form of a prediction."""
    import numpy as np

    from segcli.codecs.rle import encode
    from segcli.segments import Segments

    labels, size = material.info.labels, (example.image.shape[0], example.image.shape[1])
    scores = np.full(len(example.labels), np.nan, dtype=np.float32)
    return Segments(
        "instance", size, labels, example.labels, scores, rles=tuple(encode(mask) for mask in example.masks)
    )
