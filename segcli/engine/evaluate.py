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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segcli.data.dataset import Dataset, Sample
from segcli.engine.eval_data import read_samples
from segcli.engine.observers import Evaluated
from segcli.engine.predict import OUT_OF_MEMORY, Settings, forward, is_out_of_memory, segment, segment_tiles
from segcli.engine.preprocess import Prepared, prepare
from segcli.engine.protocol import Protocol
from segcli.engine.tta import segment_averaged
from segcli.errors import SegcliError
from segcli.metrics.match_classes import ClassMatch
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, QueryPredictions, Task

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


def evaluate(
    loaded: LoadedModel,
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    classes: ClassMatch,
    *,
    numbers: Sequence[int] | None = None,
    batch_size: int = 1,
    stored: Stored | None = None,
    failed: Callable[[str], None],
) -> Iterator[Evaluated]:
    """Predict the images of a split, in order.

    datasets: the split as each task has it. classes: the model's onto all of the dataset's. numbers: which images;
    None is all. stored(number, samples): results of an earlier run, which spare the network. failed(reason) hears of
    an image that cannot be read or does not fit into memory; the others go on.
    Raises CheckpointError if the network's answer is not finite.
    """
    matches = {task: classes.onto(dataset.labels) for task, dataset in datasets.items()}
    wanted = range(len(next(iter(datasets.values())))) if numbers is None else numbers
    with closing(_read_ahead(datasets, protocol, wanted, 2 * batch_size, stored, failed)) as images:
        for group in _groups(images, 1 if protocol.tta else batch_size):
            yield from _answer(loaded, group, protocol, matches, failed)


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
            found = image.stored or _segments(loaded, tuple(matches), own, image, protocol)
            segments = found if image.stored else {task: matches[task].apply(found[task]) for task in matches}
            seconds = shared + time.perf_counter() - start
            yield Evaluated(image.number, image.samples, segments, own, image.prepared, seconds, protocol.max_dets)
            done += 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for image in group[done:]:
            failed(f"{next(iter(image.samples.values())).file}: {OUT_OF_MEMORY}")


def _segments(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    prediction: QueryPredictions | None,
    image: _Image,
    protocol: Protocol,
) -> dict[Task, Segments]:
    """What an image holds, for each task; prediction None: its network input depends on the protocol."""
    photo, spec = next(iter(image.samples.values())).image, protocol.spec
    if protocol.tta:
        return {task: segment_averaged(loaded, photo, spec) for task in tasks}
    choices = [Settings(task, spec, keep_all=task in OBJECT_TASKS) for task in tasks]
    if prediction is None or image.prepared is None:
        found = segment_tiles(lambda tile: forward(loaded, [tile]), photo, choices)
    else:
        found = [segment(prediction, 0, image.prepared, settings) for settings in choices]
    return dict(zip(tasks, found, strict=True))


def _alone(prediction: QueryPredictions, index: int) -> QueryPredictions:
    """One image's part of a batch's answer, B = 1."""
    masks = None if prediction.masks is None else prediction.masks.images()[index]
    boxes = None if prediction.boxes is None else prediction.boxes[index : index + 1]
    return QueryPredictions(prediction.classes[index : index + 1], masks, boxes)
