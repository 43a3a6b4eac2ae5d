"""A model over one split of a dataset, as a stream: every image once through the network, for all tasks asked for.

    datasets = open_tasks(info, "val", tasks)
    for evaluated in evaluate(loaded, datasets, protocol, classes, failed=say):
        for observer in observers: observer.see(evaluated)

Images are read ahead on a thread of their own. What is ahead is bounded: memory does not grow with the dataset.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from segcli.data.dataset import Dataset, Sample
from segcli.errors import SegcliError
from segcli.evaluation.data import read_samples
from segcli.evaluation.observers import Evaluated
from segcli.evaluation.protocol import Protocol
from segcli.inference.predict import OUT_OF_MEMORY, Settings, forward, is_out_of_memory, segment, segment_tiles
from segcli.inference.preprocess import Prepared, prepare
from segcli.inference.tiling import Box
from segcli.inference.tta import segment_averaged
from segcli.metrics.match_classes import ClassMatch
from segcli.postprocess import pixel_scores
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, MergeRule, QueryPredictions, Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

Stored = Callable[[int, Mapping[Task, Sample]], dict[Task, Segments] | None]


@dataclass
class _Image:
    """One image that was read ahead. stored: results that are on disk already."""

    number: int
    samples: dict[Task, Sample]
    prepared: Prepared | None
    stored: dict[Task, Segments] | None


@dataclass(frozen=True)
class _Extras:
    """What is wanted beside each task's result: see `evaluate`."""

    rules: tuple[MergeRule, ...]
    pixels: bool


@dataclass
class _Found:
    """What `Evaluated` says of an image."""

    segments: dict[Task, Segments]
    others: list[Segments] = field(default_factory=list)
    pixels: list[tuple[Box, np.ndarray, np.ndarray]] = field(default_factory=list)


def evaluate(
    loaded: LoadedModel,
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    classes: ClassMatch,
    *,
    numbers: Sequence[int] | None = None,
    batch_size: int = 1,
    stored: Stored | None = None,
    rules: Sequence[MergeRule] = (),
    pixels: bool = False,
    failed: Callable[[str], None],
) -> Iterator[Evaluated]:
    """Predict the images of a split, in order.

    datasets: the split as each task has it. classes: the model's onto all of the dataset's. numbers: which images;
    None is all. stored(number, samples): results of an earlier run, which spare the network. rules, pixels: what else
    is wanted of a panoptic, a semantic result (`Evaluated.others`, `Evaluated.pixels`). failed(reason) hears of an
    image that cannot be read or does not fit into memory; the others go on.
    Raises CheckpointError if the network's answer is not finite.
    """
    matches = {task: classes.onto(dataset.labels) for task, dataset in datasets.items()}
    wanted = range(len(next(iter(datasets.values())))) if numbers is None else numbers
    with closing(_read_ahead(datasets, protocol, wanted, 2 * batch_size, stored, failed)) as images:
        for group in _groups(images, 1 if protocol.tta else batch_size):
            yield from _answer(loaded, group, protocol, matches, _Extras(tuple(rules), pixels), failed)


def _read_ahead(
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    numbers: Sequence[int],
    count: int,
    stored: Stored | None,
    failed: Callable[[str], None],
) -> Generator[_Image, None, None]:
    def read(number: int) -> _Image:
        samples = read_samples(datasets, number)
        earlier = stored(number, samples) if stored else None
        photo = next(iter(samples.values())).image
        spared = earlier or protocol.tta or protocol.spec.size.tile
        return _Image(number, samples, None if spared else prepare(photo, protocol.spec), earlier)

    reader = ThreadPoolExecutor(1, thread_name_prefix="segcli-read")
    ahead: deque[Future[_Image]] = deque()
    remaining = iter(numbers)
    try:
        while True:
            while len(ahead) < count and (number := next(remaining, None)) is not None:
                ahead.append(reader.submit(read, number))
            if not ahead:
                return
            try:
                image = ahead.popleft().result()
            except (SegcliError, MemoryError) as error:
                failed(OUT_OF_MEMORY if isinstance(error, MemoryError) else str(error))
            else:
                yield image
    finally:
        reader.shutdown(cancel_futures=True)


def _groups(images: Iterator[_Image], size: int) -> Iterator[list[_Image]]:
    """Consecutive images of one padded size; one with stored results, or without a network input, stands alone."""
    group: list[_Image] = []
    for image in images:
        if group and (len(group) == size or _padded(image) is None or _padded(image) != _padded(group[0])):
            yield group
            group = []
        group.append(image)
    if group:
        yield group


def _padded(image: _Image) -> tuple[int, int] | None:
    return image.prepared.frame.padded if image.prepared else None


def _answer(
    loaded: LoadedModel,
    group: list[_Image],
    protocol: Protocol,
    matches: Mapping[Task, ClassMatch],
    extras: _Extras,
    failed: Callable[[str], None],
) -> Iterator[Evaluated]:
    """Network and post-processing for images that share a batch."""
    start = time.perf_counter()
    done = 0
    try:
        inputs = [image.prepared for image in group if image.prepared]
        prediction = forward(loaded, inputs) if inputs else None
        shared = (time.perf_counter() - start) / len(group)
        for index, image in enumerate(group):
            start = time.perf_counter()
            own = None if prediction is None else _alone(prediction, index)
            found = _Found(image.stored) if image.stored else _find(loaded, matches, own, image, protocol, extras)
            seconds = shared + time.perf_counter() - start
            yield Evaluated(
                image.number,
                image.samples,
                found.segments,
                seconds,
                protocol.max_dets,
                others=tuple(found.others),
                pixels=tuple(found.pixels),
            )
            done += 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for image in group[done:]:
            failed(f"{next(iter(image.samples.values())).file}: {OUT_OF_MEMORY}")


def _find(
    loaded: LoadedModel,
    matches: Mapping[Task, ClassMatch],
    prediction: QueryPredictions | None,
    image: _Image,
    protocol: Protocol,
    extras: _Extras,
) -> _Found:
    """What an image holds, for each task; prediction None: its network input depends on the protocol."""
    photo, spec = next(iter(image.samples.values())).image, protocol.spec
    if protocol.tta:
        return _Found({task: matches[task].apply(segment_averaged(loaded, photo, spec)) for task in matches})
    choices = [Settings(task, spec, keep_all=task in OBJECT_TASKS) for task in matches]
    if "panoptic" in matches:
        choices += [Settings("panoptic", replace(spec, rule=rule)) for rule in extras.rules]
    found = _Found({})

    def look(box: Box, shown: Prepared, answer: QueryPredictions) -> None:
        if extras.pixels and "semantic" in matches:
            classes, scores = pixel_scores(answer, 0, shown.frame, spec.rule)
            found.pixels.append((box, matches["semantic"].index[classes], scores))

    if prediction is None or image.prepared is None:
        results = segment_tiles(lambda tile: forward(loaded, [tile]), photo, choices, look=look)
    else:
        look(Box(0, 0, photo.shape[1], photo.shape[0]), image.prepared, prediction)
        results = [segment(prediction, 0, image.prepared, settings) for settings in choices]
    results = [matches[settings.task].apply(result) for settings, result in zip(choices, results, strict=True)]
    found.segments = dict(zip(matches, results, strict=False))
    found.others = results[len(matches) :]
    return found


def _alone(prediction: QueryPredictions, index: int) -> QueryPredictions:
    """One image's part of a batch's answer, B = 1."""
    masks = None if prediction.masks is None else prediction.masks.images()[index]
    boxes = None if prediction.boxes is None else prediction.boxes[index : index + 1]
    return QueryPredictions(prediction.classes[index : index + 1], masks, boxes)
