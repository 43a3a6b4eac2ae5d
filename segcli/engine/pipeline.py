"""Many images: decoding, the network and writing overlap, in the order of the sources, in memory that stays flat.

    sources → [decode thread: read, resize, pad] → network and post-processing (caller's thread) → [write thread]

One thread on each side is enough (the network takes longer than either) and leaves the cores to it. What is ahead of
the network and behind it is bounded, so two thousand images take the memory of a handful.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from segcli.codecs.image import MAX_PIXELS, read_image
from segcli.engine.predict import (
    OUT_OF_MEMORY,
    Settings,
    forward,
    is_out_of_memory,
    segment,
    segment_tiles,
)
from segcli.engine.preprocess import Prepared, prepare
from segcli.engine.sources import Source
from segcli.errors import InputError, OutputError, SegcliError
from segcli.segments import Segments

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

UNWRITTEN = 2  # finished images that may wait for the write thread
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # a disk that fails one image fails all that follow


@dataclass
class Timings:
    """Milliseconds spent on one image; those of a batch are shared equally by its images."""

    decode: float = 0.0
    model: float = 0.0
    post: float = 0.0
    write: float = 0.0


@dataclass(frozen=True)
class Found:
    """One line of an image's report."""

    name: str
    score: float  # NaN for semantic results, which have none
    share: float  # of the image's pixels


@dataclass(frozen=True)
class ImageReport:
    """What became of one image."""

    source: Source
    error: str | None = None
    size: tuple[int, int] = (0, 0)
    found: tuple[Found, ...] = ()
    best_score: float = float("nan")
    outputs: tuple[Path, ...] = ()
    timings: Timings = field(default_factory=Timings)

    @property
    def ok(self) -> bool:
        return self.error is None


class Sink(Protocol):
    """Where results go."""

    needs_image: bool  # whether `write` looks at the photo; if not it is let go early

    def write(self, source: Source, image: np.ndarray | None, segments: Segments, timings: Timings) -> tuple[Path, ...]:
        """Write everything for one image and return the files. Raises OutputError; leaves no half-written file."""


@dataclass
class _Decoded:
    size: tuple[int, int]
    image: np.ndarray | None  # the photo itself, only if it is needed again
    prepared: Prepared | None  # None if it will be cut into tiles
    milliseconds: float


@dataclass
class _Job:
    """One image on its way. `segments` or `error` is set once the network has been through with it."""

    source: Source
    decoding: Future[_Decoded]
    segments: Segments | None = None
    error: SegcliError | None = None
    timings: Timings = field(default_factory=Timings)

    @property
    def finished(self) -> bool:
        return self.segments is not None or self.error is not None

    def decoded(self) -> _Decoded | None:
        """Wait for the decoder; None (and `error`) if it failed."""
        try:
            decoded = self.decoding.result()
        except (SegcliError, MemoryError) as error:
            self.error = _as_input_error(self.source, error)
            return None
        self.timings.decode = decoded.milliseconds
        return decoded


def predict_all(
    loaded: LoadedModel,
    sources: Iterable[Source],
    settings: Settings,
    sink: Sink,
    *,
    batch_size: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[ImageReport]:
    """Predict every source, write its results, and yield one report each, in order.

    An image that cannot be read or does not fit into memory is reported and the others go on. Raises OutputError if
    the disk is full or not writable, CheckpointError if the network's answers are not finite: both would end every
    other image too. Closing the generator (or Ctrl-C) lets the file being written be finished, and starts no other.
    """
    decoder = ThreadPoolExecutor(1, thread_name_prefix="segcli-decode")
    writer = ThreadPoolExecutor(1, thread_name_prefix="segcli-write")
    keep_image = sink.needs_image or settings.tile is not None
    remaining = iter(sources)
    ahead: deque[_Job] = deque()  # in the order of the sources: decoding, decoded, or finished out of turn
    writing: deque[Future[ImageReport]] = deque()
    try:
        while True:
            while len(ahead) < 2 * batch_size and (source := next(remaining, None)) is not None:
                ahead.append(_Job(source, decoder.submit(_decode, source, settings, keep_image, max_pixels)))
            if not ahead:
                break
            _run(loaded, _same_size(ahead, batch_size), settings)
            while ahead and ahead[0].finished:
                writing.append(writer.submit(_write, ahead.popleft(), settings, sink))
            while writing and (len(writing) > UNWRITTEN or writing[0].done()):
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()
    finally:
        decoder.shutdown(cancel_futures=True)
        writer.shutdown(cancel_futures=True)


def _decode(source: Source, settings: Settings, keep_image: bool, max_pixels: int) -> _Decoded:
    start = time.perf_counter()
    image = read_image(source.open(), name=str(source), max_pixels=max_pixels)
    prepared = None if settings.tile else prepare(image, settings.spec)
    size = (image.shape[0], image.shape[1])
    return _Decoded(size, image if keep_image else None, prepared, _since(start))


def _same_size(ahead: Iterable[_Job], batch_size: int) -> list[_Job]:
    """The first image waiting for the network, and others of its padded size to share a batch with it."""
    group: list[_Job] = []
    padded = None
    for job in ahead:
        if len(group) == batch_size:
            break
        decoded = None if job.finished else job.decoded()
        if decoded is None:
            continue
        size = decoded.prepared.frame.padded if decoded.prepared else None
        if not group:
            padded = size
        if size == padded and not (group and size is None):
            group.append(job)
    return group


def _run(loaded: LoadedModel, group: list[_Job], settings: Settings) -> None:
    """Network and post-processing for a group of images; sets each job's segments, or its error."""
    if not group:
        return
    images = [job.decoding.result() for job in group]
    start = time.perf_counter()
    try:
        if settings.tile:
            assert images[0].image is not None
            group[0].segments = segment_tiles(loaded, images[0].image, settings)
            group[0].timings.model = _since(start)
            return
        prepared = [image.prepared for image in images if image.prepared]
        prediction = forward(loaded, prepared)
        milliseconds = _since(start) / len(group)
        for index, job in enumerate(group):
            start = time.perf_counter()
            job.segments = segment(prediction, index, prepared[index], settings)
            job.timings.model, job.timings.post = milliseconds, _since(start)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for job in group:
            job.error = None if job.segments else _as_input_error(job.source, error)


def _write(job: _Job, settings: Settings, sink: Sink) -> ImageReport:
    if job.error is not None or job.segments is None:
        return ImageReport(job.source, str(job.error))
    decoded = job.decoding.result()
    start = time.perf_counter()
    shown = job.segments
    if settings.keep_all and settings.threshold is not None:
        shown = shown.filter(shown.scores >= settings.threshold)
    try:
        outputs = sink.write(job.source, decoded.image, job.segments, job.timings)
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in HOPELESS:
            raise
        return ImageReport(job.source, str(error))
    except MemoryError as error:
        return ImageReport(job.source, str(_as_input_error(job.source, error)))
    job.timings.write = _since(start)
    pixels = decoded.size[0] * decoded.size[1]
    found = zip(shown.names(), shown.scores, shown.areas(), strict=True)
    return ImageReport(
        job.source,
        size=decoded.size,
        found=tuple(Found(name, float(score), int(area) / pixels) for name, score, area in found),
        best_score=job.segments.best_score,
        outputs=outputs,
        timings=job.timings,
    )


def _as_input_error(source: Source, error: Exception) -> SegcliError:
    return error if isinstance(error, SegcliError) else InputError(f"{source}: {OUT_OF_MEMORY}")


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
