"""From a recipe and its data to what a run needs: a model that fits them, and every number filled in."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcli.class_names import CELLS, meaning_of
from segcli.codecs.image import read_image
from segcli.config import MODEL_TYPES
from segcli.config.mask2former import Mask2FormerConfig
from segcli.data.checking.scan import classes_shown
from segcli.data.dataset import Dataset
from segcli.data.glance import glance
from segcli.data.loading.collate import Layout
from segcli.data.loading.copy_paste import CopyPaste
from segcli.data.loading.loader import ExampleMaker, Loader, Share, make_loader
from segcli.data.loading.mosaic import Mosaic
from segcli.data.loading.order import Order, repeat_factors
from segcli.data.loading.transforms import ColorJitter, Geometry, JitterCrop, ShortSideCrop, TrainTransform
from segcli.distributed import Ranks
from segcli.errors import UsageError
from segcli.training.material import Material, Say, architecture
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
from segcli.weights.hf_config import preprocessor
from segcli.weights.manifest import manifest, offline_default
from segcli.weights.pretrained import lite0_is_here

SMALLEST_SHORT = 256  # the least size that a tile is enlarged to by itself
LOOKED_AT = 64  # images whose sizes decide the size in prediction
VALIDATIONS = 10  # in a run, where nothing else is said
_MANY, _SMALL_SIDE = 8, 0.1  # objects of an image, and their share of the short side, as in pictures of cells
_FEW, _COLOURLESS = 3, 8  # photos that are looked at for colour, and how far channels of grey lie apart
_SHORT = {"cpu": 512, "mps": 640, "cuda": 800}  # the largest size in prediction that is chosen by itself
_CROP = {"cpu": 384, "mps": 512, "cuda": 640}


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
    paste = augment.copy_paste if material.info.task in ("instance", "panoptic") else 0.0  # what has objects
    own_dtype = "bf16" if has_native_bf16(device) else "fp32"
    cores = os.cpu_count() or 1
    own_workers = min(8, cores) if device.type == "cuda" else int(cores > 1)
    known_start = model.arch in (None, Mask2FormerConfig.model_type)  # what ships
    begin = {} if model.origin else _default_start() if known_start else {"backbone": "lite0"}
    return narrowed(
        FittedRecipe,
        recipe,
        data=narrowed(FittedData, data, path=path, short=short, long=long),
        augment=narrowed(FittedAugment, augment, crop=augment.crop or (side, side), copy_paste=paste),
        run=narrowed(
            FittedRun,
            run,
            dtype=own_dtype if run.dtype == "auto" else run.dtype,
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


def nearer_start(material: Material) -> str | None:
    """A hint at the bundled model of nuclei, where the data look as it was trained on: one class of many small objects,
    on grey pictures or by that name; None elsewhere."""
    labels, sides = material.info.labels, material.scan.train.sides
    entry = manifest().get("nuclei")
    if material.info.task != "instance" or len(labels) != 1 or not len(sides) or entry is None or not entry.bundled:
        return None
    many = len(sides) >= _MANY * material.scan.train.images
    small = float(np.median(sides[:, 0] / sides[:, 1])) < _SMALL_SIDE
    if not (many and small and (meaning_of(labels[0].name) in CELLS or _is_grey(material.train))):
        return None
    return (
        "hint: one class of many small objects, as under a microscope: --model nuclei, which ships with segcli, is "
        "probably a nearer start than the general model"
    )


def _is_grey(dataset: Dataset) -> bool:
    """Whether the first few photos have no colour."""
    for record in dataset.records[:_FEW]:
        pixels = read_image(record.image.read(), name=str(record.image))
        if int(np.ptp(pixels.astype(np.int16), axis=2).max()) > _COLOURLESS:
            return False
    return True


def _typical_short(dataset: Dataset, most: int) -> int:
    """The median short side of some images, within reason."""
    step = max(1, len(dataset) // LOOKED_AT)
    sides = [min(glance(record.image).size) for record in dataset.records[::step][:LOOKED_AT]]
    return int(np.clip(round(statistics.median(sides)), 64, most))


def begin(recipe: FittedRecipe, material: Material, progress: Progress | None = None) -> Beginning:
    """The model to train, on the CPU, its random parts drawn from the recipe's seed."""
    torch.manual_seed(recipe.run.seed)
    data, model, labels = recipe.data, recipe.model, material.info.labels
    spec = InferenceSpec(
        tasks_of(material.info.task),
        labels,
        InputSize(data.short, data.long, tile=data.tile),
        levels=material.info.levels,
    )
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
            f"--arch {model.arch}: {model.start} is {config.title}; leave out --arch, or start from a --backbone"
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
    size = config.size_for(material.info.task, data.short, data.long)
    size = dataclasses.replace(size, tile=data.tile, tile_for=data.tile_for)
    loaded.spec = dataclasses.replace(loaded.spec, tasks=tasks, rule=rule, size=size, levels=spec.levels)
    loaded.preprocessor = preprocessor(loaded.spec, config)
    return beginning


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
    longest, wanted = max(1, steps // 5), table.warmup + table.backbone_warmup
    warmup, of_backbone = (
        n if wanted <= longest else n * longest // wanted for n in (table.warmup, table.backbone_warmup)
    )
    schedule = Schedule(table.schedule, steps, warmup, of_backbone, power=table.power, milestones=table.milestones)
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


def examples_of(recipe: FittedRecipe, material: Material) -> ExampleMaker:
    """The training images as a run shows them, by their number in it."""
    train, threshold = material.train, recipe.data.repeat_threshold
    repeats = repeat_factors(classes_shown(material.info, train, "train"), threshold) if threshold else None
    order = Order(recipe.run.seed, len(train), repeats)
    things = frozenset(index for index, label in enumerate(train.labels) if label.isthing)
    classes = frozenset(range(len(train.labels)))
    once = {"semantic": classes, "panoptic": classes - things}.get(train.task, frozenset[int]())
    augment = recipe.augment
    return ExampleMaker(
        train,
        transform_of(recipe),
        order,
        CopyPaste(augment.copy_paste, things) if augment.copy_paste else None,
        Mosaic(augment.mosaic, once) if augment.mosaic else None,
    )


def loader_of(recipe: FullRecipe, material: Material, spec: InferenceSpec, ranks: Ranks, start: int) -> Loader:
    """The training stream of this rank from step `start` on."""
    table = recipe.schedule
    return make_loader(
        examples_of(recipe, material),
        share=Share(table.batch, table.accumulate, ranks.rank, ranks.size),
        layout=Layout(recipe.augment.crop, spec.size.divisor, spec.mean, spec.std, spec.size.fill == "black"),
        workers=recipe.run.workers,
        start_step=start,
    )


def pick_device(name: str) -> torch.device:
    """The device of this process; among several on one machine each rank has its own GPU."""
    device = choose_device(name).device
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device
