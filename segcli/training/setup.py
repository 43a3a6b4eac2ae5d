"""From a recipe and a folder to what a run needs: data that was looked at, a model that fits it, numbers filled in."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcli.config import MODEL_TYPES, ModelConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.data.checking.scan import ScanReport, scan
from segcli.data.dataset import Dataset, open_split
from segcli.data.detect import detect
from segcli.data.glance import glance
from segcli.data.layouts.folders import with_validation
from segcli.data.loading.collate import Layout
from segcli.data.loading.loader import Loader, Share, make_loader
from segcli.data.loading.transforms import ColorJitter, Geometry, JitterCrop, ShortSideCrop, TrainTransform
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.errors import UsageError
from segcli.training.optim import Schedule, scaled_lr
from segcli.training.recipe import (
    FittedAugment,
    FittedData,
    FittedModel,
    FittedRecipe,
    FittedRun,
    FullRecipe,
    FullSchedule,
    FullValidate,
    Recipe,
    narrowed,
)
from segcli.types import OBJECT_TASKS, TASKS, InferenceSpec, InputSize, Task
from segcli.weights.adapt import Beginning, from_backbone, from_checkpoint
from segcli.weights.device import choose_device, has_native_bf16
from segcli.weights.download import Progress
from segcli.weights.manifest import manifest, offline_default
from segcli.weights.pretrained import lite0_is_here

Say = Callable[[str], None]
SMALLEST_SHORT = 256  # the least size that a tile is enlarged to by itself
LOOKED_AT = 64  # images whose sizes decide the size in prediction
VALIDATIONS = 10  # in a run, where nothing else is said
_SHORT = {"cpu": 512, "mps": 640, "cuda": 800}  # the largest size in prediction that is chosen by itself
_CROP = {"cpu": 384, "mps": 512, "cuda": 640}


@dataclass(frozen=True)
class Material:
    """A dataset that was scanned, without what cannot be read."""

    info: DatasetInfo
    scan: ScanReport
    train: Dataset
    val: Dataset


def gather(recipe: Recipe, ranks: Ranks, say: Say, progress: Callable[[int, int], None] | None = None) -> Material:
    """Find and scan the data; what was found and what is wrong with it is said aloud.

    Raises UsageError for data that cannot be used as it is.
    """
    if recipe.data.path is None:
        raise UsageError("which data? give its folder: segcli train DATA")
    task, possible = recipe.data.task, architecture(recipe).tasks
    if task is None and len(possible) == 1:
        task = possible[0]
    info = detect(recipe.data.path, format=recipe.data.format, task=task)
    say(f"data: {info.found}")
    for note in info.notes:
        say(note)
    report = scan(info, progress=progress) if ranks.is_first else None
    report = ranks.broadcast(report)
    assert report is not None
    _say_flaws(info, report, say)
    given = info.splits["val"]
    info = info.without(problem.file for problem in report.problems)
    if info.held_out and not (info.splits["train"] and info.splits["val"]):  # one part has nothing that can be read
        usable = [record for split in ("train", "val") for record in info.splits[split]]
        splits, again = with_validation(info.splits | {"train": usable, "val": []})
        info = dataclasses.replace(info, splits=splits)
        for note in again:
            say(note)
    if not info.splits["val"]:
        first = next(problem for problem in report.problems if problem.file == str(given[0].image))
        raise UsageError(
            f"{info.root}: none of the {len(given)} images to validate on can be used; the first: {first.message}"
        )
    return Material(info, report, open_split(info, "train"), open_split(info, "val"))


def _say_flaws(info: DatasetInfo, report: ScanReport, say: Say) -> None:
    for problem in report.problems[:5]:
        say(f"left out: {problem.message}")
    if len(report.problems) > 5:
        say(f"left out: {len(report.problems) - 5} more files that cannot be read")
    if report.paged:
        files = "1 file has" if len(report.paged) == 1 else f"{len(report.paged)} files have"
        say(f"{files} more than one page, such as {report.paged[0]}; the first is taken")
    if report.turned:
        photos = "1 photo is" if len(report.turned) == 1 else f"{len(report.turned)} photos are"
        say(
            f"warning: {photos} shown turned by the EXIF tag, with masks that are not, such as {report.turned[0]}; "
            f"segcli data check {info.root} --fix OUT writes a copy with the masks turned"
        )


def fit(recipe: Recipe, material: Material, device: torch.device) -> FittedRecipe:
    """The recipe with sizes, precision, start and path decided; what was given stays."""
    data, augment, run, model = recipe.data, recipe.augment, recipe.run, recipe.model
    if data.short is None and data.tile is not None:  # the photo's own scale, but for tiles too small to be looked at
        short = int(np.clip(data.tile, SMALLEST_SHORT, _SHORT[device.type]))
    else:
        short = data.short or _typical_short(material.train, _SHORT[device.type])
    path, long = str(Path(material.info.root).resolve()), data.long or short * 5 // 3
    # A crop is as much as a tile: as many objects, as far apart. Whole photos are cropped closer, to save time.
    share = 0.75 if data.tile is None else 1
    side = max(64, min(_CROP[device.type], round(share * short / 32) * 32))
    own_precision = "bf16" if has_native_bf16(device) else "fp32"
    cores = os.cpu_count() or 1
    own_workers = min(8, cores) if device.type == "cuda" else int(cores > 1)
    known_start = model.arch in (None, Mask2FormerConfig.model_type)  # what ships
    begin = {} if model.origin else _default_start() if known_start else {"backbone": "lite0"}
    return narrowed(
        FittedRecipe,
        recipe,
        data=narrowed(FittedData, data, path=path, short=short, long=long),
        augment=narrowed(FittedAugment, augment, crop=augment.crop or (side, side)),
        run=narrowed(
            FittedRun,
            run,
            precision=own_precision if run.precision == "auto" else run.precision,
            workers=own_workers if run.workers < 0 else run.workers,
        ),
        model=narrowed(FittedModel, model, **begin),
    )


def _default_start() -> dict[str, Any]:
    """The best start that needs no network: the general model that ships with segcli, lite0, or what else ships."""
    shipped = [name for name, entry in manifest().items() if entry.bundled]
    general = offline_default()
    if general in shipped or (shipped and not lite0_is_here()):
        return {"start": general if general in shipped else shipped[0]}
    return {"backbone": "lite0"}


def _typical_short(dataset: Dataset, most: int) -> int:
    """The median short side of some images, within reason."""
    step = max(1, len(dataset) // LOOKED_AT)
    sides = [min(glance(record.image).size) for record in dataset.records[::step][:LOOKED_AT]]
    return int(np.clip(round(statistics.median(sides)), 64, most))


def begin(recipe: FittedRecipe, material: Material, progress: Progress | None = None) -> Beginning:
    """The model to train, on the CPU, its random parts drawn from the recipe's seed."""
    torch.manual_seed(recipe.run.seed)
    data, model, labels = recipe.data, recipe.model, material.info.labels
    spec = InferenceSpec(tasks_of(material.info.task), labels, InputSize(data.short, data.long, tile=data.tile))
    sizes = {key: getattr(model, key) for key in _SIZES if getattr(model, key) is not None}
    if model.start is None:
        beginning = from_backbone(architecture(recipe), model.origin, spec, model.queries, sizes, progress)
    elif sizes:
        raise UsageError(f"[model] {', '.join(sizes)}: a checkpoint has its own; only --backbone takes these")
    else:
        beginning = from_checkpoint(model.start, spec, model.queries, progress)
    loaded, config = beginning.loaded, beginning.loaded.config
    if model.arch not in (None, config.model_type):
        raise UsageError(
            f"--arch {model.arch}: {model.start} is {config.title}; leave --arch out, or begin from a --backbone"
        )
    possible = config.answers
    if material.info.task not in possible:
        name = model.start or config.title
        common = [task for task in possible if task in material.info.tasks]
        others = [arch for arch, kind in MODEL_TYPES.items() if material.info.task in kind.tasks]
        asked = data.task is not None  # then another model is the remedy, not another task
        remedy = f"add --task {common[0]}" if common and not asked else f"add --arch {others[0]} and a --backbone"
        raise UsageError(f"{name} is for {', '.join(possible)}, the data for {material.info.task}; {remedy}")
    rule = dataclasses.replace(config.rule, score=recipe.validate.score, top_k=max(100, config.num_queries))
    tasks = tuple(task for task in spec.tasks if task in possible)
    size = dataclasses.replace(config.size, short=data.short, long=data.long, tile=data.tile, tile_for=data.tile_for)
    loaded.spec = dataclasses.replace(loaded.spec, tasks=tasks, rule=rule, size=size)
    return beginning


def architecture(recipe: Recipe) -> type[ModelConfig]:
    """Of a new network, as far as the recipe says."""
    return MODEL_TYPES[recipe.model.arch or Mask2FormerConfig.model_type]


_SIZES = ("hidden_dim", "encoder_layers", "encoder_feedforward_dim", "decoder_layers", "dim_feedforward")


def tasks_of(task: Task) -> tuple[Task, ...]:
    """What a model trained for a task can be asked for, the task first: panoptic ones answer everything."""
    return {"panoptic": TASKS, "instance": OBJECT_TASKS}.get(task, (task,))


def plan_schedule(
    recipe: FittedRecipe, images: int, val_images: int, ranks: Ranks, say: Say
) -> tuple[FullRecipe, Schedule, float]:
    """The recipe with its length in steps, the schedule, and the learning rate for the batch it really has."""
    table, validate = recipe.schedule, recipe.validate
    batch = table.batch * table.accumulate * ranks.size
    if table.steps is not None:
        steps = table.steps
    elif table.epochs is not None:
        steps = max(math.ceil(table.epochs * images / batch), table.least_steps)
    else:
        raise UsageError("how long? give --max-steps or --epochs")
    lr = scaled_lr(table.lr, table.reference_batch, batch)
    parts = f"{table.batch} × {table.accumulate} accumulated × {ranks.size} devices"
    say(f"images a step: {batch} ({parts}); steps: {steps}, which are {steps * batch / images:.1f} epochs")
    changed = (
        f", scaled from {table.lr:g} at {table.reference_batch} images with the square root" if lr != table.lr else ""
    )
    say(f"learning rate: {lr:.3g} (backbone {lr * table.backbone_lr:.3g}){changed}")
    # Ten in a run, but at least four images learnt from for every one measured.
    seldom = math.ceil(4 * min(validate.images or val_images, val_images) / batch)
    every = validate.every or min(steps, max(1, math.ceil(steps / VALIDATIONS), seldom))
    warmup = min(table.warmup, max(1, steps // 5))
    schedule = Schedule(table.schedule, steps, warmup, power=table.power, milestones=table.milestones)
    return full(recipe, table.batch, steps, every), schedule, lr


def full(recipe: FittedRecipe, batch: int, steps: int, every: int) -> FullRecipe:
    """The recipe with what was still open."""
    return narrowed(
        FullRecipe,
        recipe,
        schedule=narrowed(FullSchedule, recipe.schedule, batch=batch, steps=steps),
        validate=narrowed(FullValidate, recipe.validate, every=every),
    )


def transform_of(recipe: FittedRecipe) -> TrainTransform:
    """The augmentation."""
    augment, data = recipe.augment, recipe.data
    geometry: Geometry
    if augment.kind == "short-side":
        low, high = augment.scale
        shorts = tuple(int(data.short * (low + (high - low) * i / 15)) for i in range(16))
        geometry = ShortSideCrop(
            augment.crop, shorts, long=max(data.long, 4 * data.short), class_limit=augment.max_class_share
        )
    else:
        geometry = JitterCrop(
            augment.crop,
            augment.scale,
            native=augment.kind == "native",
            prediction=InputSize(data.short, data.long, tile=data.tile, tile_for=data.tile_for)
            if augment.kind == "jitter"
            else None,
        )
    return TrainTransform(geometry, augment.flip, ColorJitter() if augment.colour else None)


def loader_of(recipe: FullRecipe, material: Material, spec: InferenceSpec, ranks: Ranks, start: int) -> Loader:
    """The training stream of this rank from step `start` on."""
    table = recipe.schedule
    return make_loader(
        material.train,
        transform_of(recipe),
        seed=recipe.run.seed,
        share=Share(table.batch, table.accumulate, ranks.rank, ranks.size),
        layout=Layout(recipe.augment.crop, spec.size.divisor, spec.mean, spec.std),
        workers=recipe.run.workers,
        start_step=start,
    )


def pick_device(name: str) -> torch.device:
    """The device of this process; among several on one machine each rank has its own GPU."""
    device = choose_device(name).device
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device


def fingerprint(recipe: FittedRecipe, material: Material, raw_config: dict[str, Any]) -> dict[str, Any]:
    """What a run is about: a resumed one must agree with it, entry by entry. Where the data lie is no part of it."""
    splits = {name: sorted(r.image_id for r in records) for name, records in material.info.splits.items()}
    annotations = {
        f"{split.name} annotations": f"{split.objects + split.crowds} objects, "
        + _digest(repr([(c.label.id, c.images, c.objects + c.crowds, round(c.share, 6)) for c in split.classes]))
        for split in material.scan.splits
    }
    keys = (
        "backbone_config", "decoder_config", "hidden_dim", "encoder_layers", "decoder_layers", "num_queries",
        "dim_feedforward",
    )  # fmt: skip
    return {
        "classes": [[x.id, x.name, "thing" if x.isthing else "stuff"] for x in material.info.labels],
        "task": material.info.task,
        "data": {
            **{f"{name} images": len(ids) for name, ids in splits.items()},
            **{f"{name} names": _digest("\0".join(ids)) for name, ids in splits.items()},
            **annotations,
        },
        "model": {"start": recipe.model.origin} | {key: raw_config[key] for key in keys if key in raw_config},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What two fingerprints disagree in, in words."""
    found = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if isinstance(before, list) and isinstance(now, list):
            gone = [str(x[1]) for x in before if x not in now]
            come = [str(x[1]) for x in now if x not in before]
            parts = [f"{word} {', '.join(names[:6])}" for word, names in (("without", gone), ("with", come)) if names]
            found.append(f"{key}: {' and '.join(parts) or 'in another order'}")
        elif isinstance(before, dict) and isinstance(now, dict):
            found += [f"{key}, {line}" for line in differences(before, now)]
        else:
            found.append(f"{key}: was {before}, now {now}")
    return found
