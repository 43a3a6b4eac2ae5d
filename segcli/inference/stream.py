"""The one loop over images, which predict, eval and the validation of training share.

    items → [reader thread: decode, resize, pad] → network, in batches of one padded size → post-processing

One reader is enough, as the network takes longer, and leaves the cores to it. What is read ahead is bounded, so two
thousand images take the memory of a handful.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from segcli.errors import InputError, SegcliError
from segcli.inference.predict import (
    OUT_OF_MEMORY,
    Network,
    PredictSettings,
    Timings,
    is_out_of_memory,
    milliseconds_since,
    segment,
    segment_tiles,
)
from segcli.inference.preprocess import Prepared, prepare
from segcli.inference.tiling import Box
from segcli.inference.tta import segment_averaged
from segcli.segments import Segments
from segcli.types import QueryPredictions

Item = TypeVar("Item")
Extra = TypeVar("Extra")
Look = Callable[[Item, Box, Prepared, QueryPredictions], None]


@dataclass
class Read(Generic[Extra]):
    """The result of reading one item."""

    image: np.ndarray  # uint8 [H, W, 3] RGB
    extra: Extra  # whatever else the caller needs back: the truth, the number of pages, …
    results: list[Segments] | None = None  # already known, which spares the network


@dataclass
class Outcome(Generic[Item, Extra]):
    """One item after the loop: either its results or the error."""

    item: Item
    read: Read[Extra] | None = None  # None if it could not be read
    results: list[Segments] = field(default_factory=list)  # one for each of the settings, in their order
    error: SegcliError | None = None
    timings: Timings = field(default_factory=Timings)  # those of a batch are shared equally by its images
    finished: bool = False


@dataclass
class _Ahead(Generic[Item, Extra]):
    """An item that is being read, waits for the network, or is finished out of turn."""

    outcome: Outcome[Item, Extra]
    reading: Future[tuple[Read[Extra], Prepared | None, float]]
    prepared: Prepared | None = None  # None where the network's input is not the image as a whole


def segment_all(
    items: Iterable[Item],
    read: Callable[[Item], Read[Extra]],
    network: Network,
    choices: Sequence[PredictSettings],
    *,
    batch_size: int = 1,
    read_ahead: int = 1,
    tta: bool = False,
    keep_images: bool = True,
    name: Callable[[Item], str] = str,
    advance: Callable[[float], None] = lambda share: None,
    look: Look[Item] | None = None,
) -> Generator[Outcome[Item, Extra], None, None]:
    """Segment every item and yield its outcome, in order.

    read: called on the reader thread; what it raises as SegcliError or MemoryError becomes the item's error.
    network: the prediction for images of one padded size.
    choices: settings that share size and classes; each image goes through the network once for all of them.
    batch_size: how many images of one padded size share a forward pass; images in tiles go one by one.
    read_ahead: how many batches are read before the network is given one; 0 for items that have to be waited for.
    tta: average over sizes and mirror images (semantic segmentation; see `segcli.inference.tta`).
    keep_images: False lets go of images that only the network needs.
    name: how an item is called in messages.
    advance: told after each tile which share of its image that was.
    look: shown each network input with its prediction and the part of the image it covers; not an image's windows,
        which overlap.

    An item that cannot be read, does not fit into memory or has a size that `network` does not take (InputError) has an
    error and the others go on. Raises what `network` raises otherwise. Closing the generator stops the reader after the
    image it is at.
    """
    spec = choices[0].spec
    whole = not (spec.size.tile or tta)

    def read_one(item: Item) -> tuple[Read[Extra], Prepared | None, float]:
        start = time.perf_counter()
        found = read(item)
        prepared = prepare(found.image, spec) if whole and found.results is None else None
        if prepared and not keep_images:
            found.image = found.image[:0].copy()
        return found, prepared, milliseconds_since(start)

    loop = _Loop(network, choices, tta, name, advance, look)
    reader = ThreadPoolExecutor(1, thread_name_prefix="segcli-read")
    remaining = iter(items)
    ahead: deque[_Ahead[Item, Extra]] = deque()
    try:
        while True:
            while len(ahead) < (1 + read_ahead) * batch_size:
                try:
                    item = next(remaining)
                except StopIteration:
                    break
                ahead.append(_Ahead(Outcome(item), reader.submit(read_one, item)))
            if not ahead:
                return
            loop.run(_next_batch(ahead, batch_size, name))
            while ahead and ahead[0].outcome.finished:
                yield ahead.popleft().outcome
    finally:
        reader.shutdown(cancel_futures=True)


def _next_batch(
    ahead: Iterable[_Ahead[Item, Extra]], batch_size: int, name: Callable[[Item], str]
) -> list[_Ahead[Item, Extra]]:
    """The first item that waits for the network, and others of its padded size to share a batch with it."""
    group: list[_Ahead[Item, Extra]] = []
    for job in ahead:
        if len(group) == batch_size or (group and group[0].prepared is None):
            break
        if job.outcome.finished or not _is_read(job, name):
            continue
        if not group or _padded(job) == _padded(group[0]):
            group.append(job)
    return group


def _is_read(job: _Ahead[Item, Extra], name: Callable[[Item], str]) -> bool:
    """Wait for the reader. False if there is nothing left to do for the network."""
    outcome = job.outcome
    if outcome.read is None:
        try:
            outcome.read, job.prepared, outcome.timings.decode = job.reading.result()
        except (SegcliError, MemoryError) as error:
            outcome.error, outcome.finished = _as_input_error(name(outcome.item), error), True
            return False
        finally:
            job.reading = Future()  # what it holds is the outcome's now
        if outcome.read.results is not None:
            outcome.results, outcome.finished = outcome.read.results, True
    return not outcome.finished


def _padded(job: _Ahead[Item, Extra]) -> tuple[int, int] | None:
    return job.prepared.frame.padded if job.prepared else None


@dataclass
class _Loop(Generic[Item]):
    """What all batches share: see `segment_all`."""

    network: Network
    choices: Sequence[PredictSettings]
    tta: bool
    name: Callable[[Item], str]
    advance: Callable[[float], None]
    look: Look[Item] | None

    def run(self, group: list[_Ahead[Item, Extra]]) -> None:
        """Network and post-processing for items that share a batch; each gets its results, or its error."""
        try:
            if group and group[0].prepared is None:
                self._in_parts(group[0].outcome)
            elif group:
                self._together(group)
        except (MemoryError, RuntimeError, InputError) as error:
            if not isinstance(error, InputError) and not is_out_of_memory(error):
                raise
            reason = error if isinstance(error, InputError) else OUT_OF_MEMORY
            for job in group:
                if not job.outcome.finished:
                    job.outcome.error = InputError(f"{self.name(job.outcome.item)}: {reason}")
                    job.outcome.error.__cause__ = error
        for job in group:
            job.outcome.finished, job.prepared = True, None

    def _together(self, group: list[_Ahead[Item, Extra]]) -> None:
        start = time.perf_counter()
        inputs = [job.prepared for job in group if job.prepared]
        prediction = self.network(inputs)
        milliseconds = milliseconds_since(start) / len(group)
        for index, (job, prepared) in enumerate(zip(group, inputs, strict=True)):
            start = time.perf_counter()
            outcome = job.outcome
            if self.look and not prepared.windows:
                height, width = prepared.frame.original
                self.look(outcome.item, Box(0, 0, width, height), prepared, _alone(prediction, index))
            outcome.results = [segment(prediction, index, prepared, settings) for settings in self.choices]
            outcome.finished = True
            outcome.timings.model, outcome.timings.post = milliseconds, milliseconds_since(start)

    def _in_parts(self, outcome: Outcome[Item, Extra]) -> None:
        """An image whose network inputs are its tiles, or its several sizes."""
        assert outcome.read is not None
        image, timings = outcome.read.image, outcome.timings
        if self.tta:
            start = time.perf_counter()
            outcome.results = [segment_averaged(self.network, image, self.choices[0].spec)]
            timings.model = milliseconds_since(start)
            return
        look = self.look
        outcome.results = segment_tiles(
            self.network,
            image,
            self.choices,
            timings,
            self.advance,
            (lambda box, tile, prediction: look(outcome.item, box, tile, prediction)) if look else None,
        )


def _alone(prediction: QueryPredictions, index: int) -> QueryPredictions:
    """One image's part of a batch's prediction, B = 1."""
    masks = None if prediction.masks is None else prediction.masks.images()[index]
    boxes = None if prediction.boxes is None else prediction.boxes[index : index + 1]
    return QueryPredictions(prediction.classes[index : index + 1], masks, boxes)


def _as_input_error(name: str, error: Exception) -> SegcliError:
    if isinstance(error, SegcliError):
        return error
    advice = InputError(f"{name}: {OUT_OF_MEMORY}")
    advice.__cause__ = error
    return advice
