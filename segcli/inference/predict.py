"""One image in, Segments out: the functions behind the command."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import torch

from segcli import postprocess
from segcli.class_names import choose_classes
from segcli.codecs.depth import Levels
from segcli.codecs.image import MAX_PIXELS, from_pillow, read_image
from segcli.errors import CheckpointError, InputError, UsageError
from segcli.inference.preprocess import Prepared, collate, prepare
from segcli.inference.tiling import Box, Merger, windows
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, SMALLEST_TILE, TASKS, InferenceSpec, InputSize, QueryPredictions, Task
from segcli.weights.manifest import models_for

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

OUT_OF_MEMORY = (
    "not enough memory; reduce --short-side (the network's input), use --batch-size 1, --tile 1024 (a large photo "
    "piece by piece) or --dtype bf16, or choose --device cpu if the GPU has less memory"
)
Network = Callable[[Sequence[Prepared]], QueryPredictions]  # images of one padded size -> the prediction for them


@dataclass
class Timings:
    """Milliseconds spent on one image."""

    decode: float = 0.0
    model: float = 0.0
    post: float = 0.0
    write: float = 0.0


@dataclass(frozen=True)
class PredictSettings:
    """How to predict: the checkpoint's own protocol, with what the caller overrode."""

    task: Task
    spec: InferenceSpec  # its rule and size are the ones in force
    classes: frozenset[int] | None = None  # keep these alone; None: all
    soft: bool = False  # hold on to the masks' logits, for soft edges; not across tiles
    keep_all: bool = False  # keep instances below the threshold too, as files for evaluation do; False for other tasks
    least_seen: float = 0.0  # of an instance's mask, the share that better ones must leave for it to be shown

    @property
    def threshold(self) -> float | None:
        """The score a segment needs to be shown; None for semantic results, which have no scores."""
        rule = self.spec.rule
        if self.task in OBJECT_TASKS:
            return rule.instance_score
        return rule.score if self.task == "panoptic" else None


def resolve(
    spec: InferenceSpec,
    task: Task | None = None,
    *,
    threshold: float | None = None,
    mask_threshold: float | None = None,
    overlap_threshold: float | None = None,
    top_k: int | None = None,
    short_side: int | None = None,
    long_side: int | None = None,
    tile: int | None = None,
    tile_overlap: float | None = None,
    rectangle: bool = False,
    classes: str | Sequence[str | int] | None = None,
    soft: bool = False,
    keep_all: bool = False,
) -> PredictSettings:
    """The settings for one checkpoint; None keeps what the checkpoint says.

    task: None is the checkpoint's only task, or panoptic if it has several. Sizes: see `resized`. classes: names or
    ids, in a list or with commas between, see `choose_classes`.
    Raises UsageError for a task the checkpoint does not support, a threshold the task does not use, and values out
    of range.
    """
    task = choose_task(spec, task)
    given = {
        "--threshold": (threshold, ("panoptic", "instance", "detect")),
        "--mask-threshold": (mask_threshold, ("panoptic",)),
        "--overlap-threshold": (overlap_threshold, ("panoptic", "instance")),
        "--top-k": (top_k, ("instance",)),
    }
    for flag, (value, tasks) in given.items():
        if value is not None and task not in tasks:
            raise UsageError(f"{flag} does not apply to --task {task}; it is for {', '.join(tasks)}")
        if value is not None and flag != "--top-k" and not 0 <= value <= 1:
            raise UsageError(f"{flag} {value:g}: give a number from 0 to 1")
    rule = spec.rule
    if threshold is not None and task == "panoptic":
        rule = dataclasses.replace(rule, score=threshold)
    if threshold is not None and task in OBJECT_TASKS:
        rule = dataclasses.replace(rule, instance_score=threshold)
    if mask_threshold is not None:
        rule = dataclasses.replace(rule, mask_min=mask_threshold)
    if overlap_threshold is not None and task == "panoptic":
        rule = dataclasses.replace(rule, overlap=overlap_threshold)
    if top_k is not None:
        rule = dataclasses.replace(rule, top_k=top_k)
    size = resized(
        spec.size,
        short_side=short_side,
        long_side=long_side,
        tile=tile,
        tile_overlap=tile_overlap,
        rectangle=rectangle,
    )
    spec = dataclasses.replace(spec, rule=rule, size=size)
    chosen = None if classes is None else choose_classes(classes, spec.labels)
    return PredictSettings(
        task,
        spec,
        chosen,
        soft and spec.size.tile is None and spec.rule.normalise == "sigmoid",
        keep_all and task in OBJECT_TASKS,
        (overlap_threshold or 0.0) if task == "instance" else 0.0,
    )


def resized(
    size: InputSize,
    *,
    short_side: int | None = None,
    long_side: int | None = None,
    tile: int | None = None,
    tile_overlap: float | None = None,
    rectangle: bool = False,
) -> InputSize:
    """A checkpoint's input size with what is not None in its place.

    short_side alone scales the cap on the long side with it: otherwise the cap would undo it.
    tile: 0 means the photo as a whole, also for a checkpoint that is predicted in tiles.
    rectangle: without the padding to a square, for a checkpoint that has it.
    Raises UsageError for values out of range, or a rectangle where there is no square.
    """
    if rectangle:
        if size.frame != "square":
            raise UsageError("--rectangle: this model does not pad photos to a square; leave it out")
        size = dataclasses.replace(size, frame="multiple")
    if tile and tile < SMALLEST_TILE:
        raise UsageError(f"--tile {tile}: tiles need at least {SMALLEST_TILE} pixels; 0 predicts the photo as a whole")
    if tile_overlap is not None and not 0 <= tile_overlap <= 0.5:
        raise UsageError(f"--tile-overlap {tile_overlap}: give a share of the tile from 0 to 0.5")
    if short_side is not None:
        size = dataclasses.replace(size, short=short_side, long=max(short_side, size.long * short_side // size.short))
    if long_side is not None:
        size = dataclasses.replace(size, long=long_side)
    if tile is not None:
        size = dataclasses.replace(size, tile=tile or None, tile_for=None)
    if tile_overlap is not None and size.tile:
        size = dataclasses.replace(size, tile_overlap=tile_overlap)
    return size


def choose_task(spec: InferenceSpec, task: Task | None) -> Task:
    """The task asked for, or the checkpoint's default. Raises UsageError naming the supported tasks."""
    if task is None:
        return "panoptic" if "panoptic" in spec.tasks else spec.tasks[0]
    if task not in TASKS:
        raise UsageError(f"task {task!r}: choose one of {', '.join(TASKS)}")
    if task not in spec.tasks:
        raise UsageError(f"--task {task}: this checkpoint is for {', '.join(spec.tasks)}; {models_for(task)}")
    return task


Image = str | Path | np.ndarray | Any  # a path, uint8 [H, W, 3] RGB, a PIL image, or a tensor [3, H, W]


@overload
def predict(
    model: LoadedModel | str | Path, image: list[Image] | tuple[Image, ...], task: Task | None = None, **options: Any
) -> list[Segments]: ...


@overload
def predict(model: LoadedModel | str | Path, image: Image, task: Task | None = None, **options: Any) -> Segments: ...


def predict(
    model: LoadedModel | str | Path,
    image: Image | list[Image] | tuple[Image, ...],
    task: Task | None = None,
    *,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    **options: Any,
) -> Segments | list[Segments]:
    """Segment one image, or a list of them.

    model: what `load_model` gave, or what it takes; the model of a name or folder is kept for the next call.
    image: a path, uint8 [H, W, 3] RGB, a PIL image, a tensor [3, H, W] (uint8, or floats in 0..1), or a list of these;
        a tensor [B, 3, H, W] is a list too.
    task: one of `segcli.types.TASKS`; None is the checkpoint's only task, or panoptic if it has several.
    batch: images of a list that share a forward pass, if they have one size for the network.
    options: those of `resolve`, which are the command's; None keeps what the checkpoint says.
    Raises InputError for an image that cannot be read or does not fit into memory, UsageError for arguments the
    checkpoint or the task does not support, CheckpointError if the network's predictions are not finite.
    """
    loaded = _kept(str(model)) if isinstance(model, str | Path) else model
    settings = resolve(loaded.spec, task, **options)
    if not isinstance(image, list | tuple) and not (isinstance(image, torch.Tensor) and image.ndim == 4):
        name, pixels = _pixels(image, "the image", max_pixels, loaded.spec.levels)
        try:
            return segment_photo(loaded, pixels, settings)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(f"{name}: {OUT_OF_MEMORY}") from error
    from segcli.inference.stream import Read, segment_all

    found = []
    for outcome in segment_all(
        enumerate(image),
        lambda item: Read(_pixels(item[1], f"image {item[0]}", max_pixels, loaded.spec.levels)[1], None),
        lambda inputs: forward(loaded, inputs),
        [settings],
        batch_size=batch,
        name=lambda item: f"image {item[0]}",
    ):
        if outcome.error is not None:
            raise outcome.error
        found += outcome.results
    return found


@lru_cache(maxsize=2)
def _kept(name: str) -> LoadedModel:
    from segcli.weights.checkpoint import load_model

    return load_model(name)


def _pixels(image: Image, name: str, max_pixels: int, levels: Levels | None) -> tuple[str, np.ndarray]:
    """(what to call it, uint8 [H, W, 3] RGB). Raises InputError for anything else."""
    if isinstance(image, str | Path):
        return str(image), read_image(image, max_pixels=max_pixels, levels=levels)
    if isinstance(image, torch.Tensor):
        plain = image.detach().cpu()
        if plain.is_floating_point():
            plain = _eight_bits(plain, name)
        image = plain.permute(1, 2, 0).numpy() if plain.ndim == 3 and plain.shape[0] == 3 else plain.numpy()
    elif type(image).__module__.startswith("PIL."):
        image = from_pillow(cast(Any, image), levels)
    if not isinstance(image, np.ndarray):
        given = type(image).__name__
        raise InputError(f"{name} is a {given}; give a path, a uint8 array [H, W, 3] RGB, a PIL image or a tensor")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(f"{name} is {image.dtype} {list(image.shape)}; it must be uint8 [H, W, 3], RGB")
    return name, image


def _eight_bits(image: torch.Tensor, name: str) -> torch.Tensor:
    """Floats in 0..1 as uint8. Raises InputError for other ranges, which would be a white picture without a word."""
    least, most = (float(value) for value in image.aminmax()) if image.numel() else (0.0, 0.0)
    if not (least >= -_OVERSHOOT and most <= 1 + _OVERSHOOT):  # NaN is refused too
        raise InputError(
            f"{name} has floats from {least:.3g} to {most:.3g}; give 0 to 1 (neither 0 to 255 nor normalised), or uint8"
        )
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


_OVERSHOOT = 0.5  # bicubic resizing leaves 0..1 by less than that


@torch.inference_mode()
def forward(loaded: LoadedModel, images: Sequence[Prepared]) -> QueryPredictions:
    """The network's prediction for images of one padded size.

    Raises CheckpointError if it is not finite.
    """
    prediction: QueryPredictions = loaded.model(collate(images, loaded.device, loaded.dtype))[-1]
    remedy = "its weights are damaged" if loaded.precision == "fp32" else "try --dtype fp32"
    return finite(prediction, loaded.name, remedy)


def finite(prediction: QueryPredictions, name: str, remedy: str) -> QueryPredictions:
    """The same prediction. Raises CheckpointError if it is not finite."""
    if not bool(torch.isfinite(prediction.classes).all()):
        raise CheckpointError(f"{name}: the network predicts NaN or infinity; {remedy}")
    return prediction


@torch.inference_mode()
def segment(prediction: QueryPredictions, index: int, image: Prepared, settings: PredictSettings) -> Segments:
    """One image's part of a prediction -> Segments at the image's own size, of the classes that are wanted."""
    found = _all_classes(prediction, index, image, settings)
    if settings.classes is not None:
        found = found.filter(np.isin(found.labels, list(settings.classes)))
    return found if settings.keep_all else found.without_covered(settings.least_seen)


def _all_classes(prediction: QueryPredictions, index: int, image: Prepared, settings: PredictSettings) -> Segments:
    labels, rule = settings.spec.labels, settings.spec.rule
    if settings.task == "panoptic":
        return postprocess.panoptic(prediction, index, image.frame, labels, rule, soft=settings.soft)
    if settings.task in OBJECT_TASKS:
        least = 0.0 if settings.keep_all else rule.instance_score
        if settings.task == "detect":
            return postprocess.detect(prediction, index, image.frame, labels, least)
        return postprocess.instance(prediction, index, image.frame, labels, rule, least, soft=settings.soft)
    if image.windows:
        return postprocess.semantic_windows(prediction, index, image.windows, image.frame, labels, rule)
    combine_padded = settings.spec.combine_padded
    return postprocess.semantic(prediction, index, image.frame, labels, rule, combine_padded=combine_padded)


def segment_photo(loaded: LoadedModel, image: np.ndarray, settings: PredictSettings) -> Segments:
    """Predict a photo, uint8 [H, W, 3] RGB, as a whole or in tiles as the settings say."""
    if settings.spec.size.tile is not None:
        return segment_tiles(lambda tiles: forward(loaded, tiles), image, [settings])[0]
    prepared = prepare(image, settings.spec)
    return segment(forward(loaded, [prepared]), 0, prepared, settings)


def segment_tiles(
    network: Network,
    image: np.ndarray,
    choices: Sequence[PredictSettings],
    timings: Timings | None = None,
    advance: Callable[[float], None] = lambda share: None,
    look: Callable[[Box, Prepared, QueryPredictions], None] | None = None,
) -> list[Segments]:
    """Predict a photo in overlapping tiles, one at a time, and merge their results in the photo's frame.

    choices: settings of one size; each tile goes through the network once for all of them. An object gets the best
        score of its parts, so the threshold applies when objects are whole.
    advance: called after each tile with its share of the photo.
    look: called with each tile and its prediction.
    """
    spec = choices[0].spec
    photo = (image.shape[0], image.shape[1])
    side = spec.size.tile_of(photo)
    assert side is not None
    timings = timings or Timings()
    boxes = windows(photo, side, spec.size.tile_overlap)
    mergers = [Merger(boxes) for _ in choices]
    for box in boxes:
        start = time.perf_counter()
        tile = prepare(image[box.y0 : box.y1, box.x0 : box.x1], spec)
        prediction = network([tile])
        timings.model += milliseconds_since(start)
        if look and not tile.windows:
            look(box, tile, prediction)
        start = time.perf_counter()
        for merger, settings in zip(mergers, choices, strict=True):
            everything = dataclasses.replace(settings, keep_all=settings.task in OBJECT_TASKS)
            merger.add(box, segment(prediction, 0, tile, everything))
        timings.post += milliseconds_since(start)
        advance(1 / len(boxes))
    start = time.perf_counter()
    merged = [
        found if settings.keep_all else what_is_shown(found, settings)
        for found, settings in zip((merger.result() for merger in mergers), choices, strict=True)
    ]
    timings.post += milliseconds_since(start)
    return merged


def what_is_shown(segments: Segments, settings: PredictSettings) -> Segments:
    """Of results of every score, those that are sure enough, and seen enough among the others."""
    if settings.task not in OBJECT_TASKS:
        return segments
    sure = segments.filter(segments.scores >= settings.spec.rule.instance_score)
    return sure.without_covered(settings.least_seen)


def milliseconds_since(start: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - start) * 1000


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out: Python's, a GPU's, or torch's CPU allocator (a RuntimeError)."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
