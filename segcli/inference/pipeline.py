"""Many images: decoding, the network and writing overlap, in the order of the sources, in memory that stays flat.

    sources → [decode thread: read, resize, pad] → network and post-processing (caller's thread) → [write thread]

One thread on each side is enough (the network takes longer than either) and leaves the cores to it. What is ahead of
the network and behind it is bounded, so two thousand images take the memory of a handful.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.codecs.image import MAX_PIXELS, count_pages, read_image
from segcli.errors import InputError, OutputError, SegcliError
from segcli.inference.predict import (
    OUT_OF_MEMORY,
    Settings,
    Timings,
    forward,
    is_out_of_memory,
    milliseconds_since,
    segment,
    segment_tiles,
)
from segcli.inference.preprocess import Prepared, prepare
from segcli.inference.sources import Source
from segcli.results.plan import Photo
from segcli.results.record import image_record
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

UNWRITTEN = 2  # finished images that may wait for the write thread
# A disk or folder that refuses one image refuses all that follow.
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class ImageReport:
    """What became of one image: its record (what `<stem>.json` says) and its files, or the error.

    pages: of its file, of which the first is what the rest is about.
    """

    source: Source
    record: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    timings: Timings = field(default_factory=Timings)
    error: str | None = None
    pages: int = 1


@dataclass
class _Decoded:
    size: tuple[int, int]
    image: np.ndarray | None  # the photo itself, only if it is needed again
    prepared: Prepared | None  # None if it will be cut into tiles
    milliseconds: float
    pages: int


@dataclass
class _Job:
    """One image on its way. `segments` or `error` is set once the network has been through with it."""

    source: Source
    photo: Photo
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
    images: Iterable[tuple[Source, Photo]],
    settings: Settings,
    writer: ResultsWriter,
    *,
    batch_size: int = 1,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[float], None] = lambda share: None,
) -> Generator[ImageReport, None, None]:
    """Predict every image, write its results, and yield one report each, in order.

    advance: hears after each tile which share of its photo that was.

    An image that cannot be read or does not fit into memory is reported and the others go on. Raises OutputError if
    the disk is full or not writable, CheckpointError if the network's answers are not finite: both would end every
    other image too. Closing the generator (or Ctrl-C) lets the file being written be finished, and starts no other.
    """
    decoder = ThreadPoolExecutor(1, thread_name_prefix="segcli-decode")
    scribe = ThreadPoolExecutor(1, thread_name_prefix="segcli-write")
    keep_image = writer.needs_image or settings.spec.size.tile is not None
    remaining = iter(images)
    ahead: deque[_Job] = deque()  # in the order of the images: decoding, decoded, or finished out of turn
    writing: deque[Future[ImageReport]] = deque()
    try:
        while True:
            while len(ahead) < 2 * batch_size and (image := next(remaining, None)) is not None:
                decoding = decoder.submit(_decode, image[0], settings, keep_image, max_pixels)
                ahead.append(_Job(*image, decoding))
            if not ahead:
                break
            _run(loaded, _same_size(ahead, batch_size), settings, advance)
            while ahead and ahead[0].finished:
                writing.append(scribe.submit(_write, ahead.popleft(), settings, writer))
            while writing and (len(writing) > UNWRITTEN or writing[0].done()):
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()
    finally:
        decoder.shutdown(cancel_futures=True)
        scribe.shutdown(cancel_futures=True)


def _decode(source: Source, settings: Settings, keep_image: bool, max_pixels: int) -> _Decoded:
    start = time.perf_counter()
    opened = source.open()
    image = read_image(opened, name=str(source), max_pixels=max_pixels)
    prepared = None if settings.spec.size.tile else prepare(image, settings.spec)
    size = (image.shape[0], image.shape[1])
    return _Decoded(size, image if keep_image else None, prepared, milliseconds_since(start), count_pages(opened))


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


def _run(loaded: LoadedModel, group: list[_Job], settings: Settings, advance: Callable[[float], None]) -> None:
    """Network and post-processing for a group of images; sets each job's segments, or its error."""
    if not group:
        return
    images = [job.decoding.result() for job in group]
    start = time.perf_counter()
    try:
        if settings.spec.size.tile:
            assert images[0].image is not None
            job = group[0]
            [job.segments] = segment_tiles(
                lambda tile: forward(loaded, [tile]), images[0].image, [settings], job.timings, advance
            )
            return
        prepared = [image.prepared for image in images if image.prepared]
        prediction = forward(loaded, prepared)
        milliseconds = milliseconds_since(start) / len(group)
        for index, job in enumerate(group):
            start = time.perf_counter()
            job.segments = segment(prediction, index, prepared[index], settings)
            job.timings.model, job.timings.post = milliseconds, milliseconds_since(start)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for job in group:
            job.error = None if job.segments is not None else _as_input_error(job.source, error)


def _write(job: _Job, settings: Settings, writer: ResultsWriter) -> ImageReport:
    if job.error is not None or job.segments is None:
        return ImageReport(job.source, error=str(job.error))
    start = time.perf_counter()
    shown, unthresholded = job.segments, None
    if settings.keep_all:
        shown, unthresholded = shown.filter(shown.scores >= settings.threshold), shown
    spent = asdict(job.timings)
    del spent["write"]  # not known yet, as this is what is written
    decoded = job.decoding.result()
    try:
        outputs = writer.write(job.photo, decoded.image, shown, unthresholded=unthresholded, timings=spent)
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in HOPELESS:
            raise
        return ImageReport(job.source, error=str(error))
    except MemoryError as error:
        return ImageReport(job.source, error=str(_as_input_error(job.source, error)))
    job.timings.write = milliseconds_since(start)
    record = image_record(job.photo.file_name, shown, writer.run, asdict(job.timings))
    return ImageReport(job.source, record, tuple(outputs), job.timings, pages=decoded.pages)


def _as_input_error(source: Source, error: Exception) -> SegcliError:
    return error if isinstance(error, SegcliError) else InputError(f"{source}: {OUT_OF_MEMORY}")
