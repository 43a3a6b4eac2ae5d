"""From image files to result files for many images: reading, the network and writing overlap.

    sources → `segment_all` (reader thread, network) → [writer thread]

What waits for the writer is bounded too, so memory stays flat.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.codecs.image import MAX_PIXELS, count_pages, read_image
from segcli.errors import OutputError
from segcli.inference.predict import OUT_OF_MEMORY, PredictSettings, Timings, forward, milliseconds_since, what_is_shown
from segcli.inference.sources import Source
from segcli.inference.stream import Outcome, Read, segment_all
from segcli.inference.workers import KILLED, Job
from segcli.results.ledger import Entry
from segcli.results.plan import Photo
from segcli.results.record import image_record
from segcli.results.writer import ResultsWriter

if TYPE_CHECKING:
    from segcli.render import Style
    from segcli.weights.checkpoint import LoadedModel

MOSTLY = 0.5  # of a mask
UNWRITTEN = 2  # finished images that may wait for the writer thread
# A disk or folder that refuses one image refuses all that follow.
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

_Item = tuple[Source, Photo]


@dataclass(frozen=True)
class ImageReport:
    """What became of one image."""

    source: Source
    record: dict[str, Any] = field(default_factory=dict)  # what `<stem>.json` says
    outputs: tuple[Path, ...] = ()  # its own files
    timings: Timings = field(default_factory=Timings)
    error: str | None = None  # why there is no record
    pages: int = 1  # of its file; the record is about the first
    covered: int = 0  # of the instances that tables count, those that better ones cover for the most part
    entries: list[list[Entry]] = field(default_factory=list)  # for the files for all photos, from a worker process


def predict_all(
    loaded: LoadedModel,
    images: Iterable[_Item],
    settings: PredictSettings,
    writer: ResultsWriter,
    *,
    batch_size: int = 1,
    max_pixels: int = MAX_PIXELS,
    advance: Callable[[float], None] = lambda share: None,
) -> Generator[ImageReport, None, None]:
    """Predict every image, write its results, and yield one report each, in order.

    advance: called after each tile with its share of the photo.

    An image that cannot be read or does not fit into memory is reported and the others go on. Raises OutputError if
    the disk is full or not writable, CheckpointError if the network's predictions are not finite: both would affect
    every other image too. Closing the generator (or Ctrl-C) finishes the file being written, and starts no other.
    """

    def read(item: _Item) -> Read[int]:
        opened = item[0].open()
        image = read_image(opened, name=str(item[0]), max_pixels=max_pixels, levels=settings.spec.levels)
        return Read(image, count_pages(opened))

    scribe = ThreadPoolExecutor(1, thread_name_prefix="segcli-write")
    writing: deque[Future[ImageReport]] = deque()
    stream = segment_all(
        images,
        read,
        lambda inputs: forward(loaded, inputs),
        [settings],
        batch_size=batch_size,
        keep_images=writer.needs_image,
        name=lambda item: str(item[0]),
        advance=advance,
    )
    try:
        with closing(stream):
            for outcome in stream:
                writing.append(scribe.submit(_write, outcome, settings, writer))
                while writing and (len(writing) > UNWRITTEN or writing[0].done()):
                    yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()
    finally:
        scribe.shutdown(cancel_futures=True)


def _write(outcome: Outcome[_Item, int], settings: PredictSettings, writer: ResultsWriter) -> ImageReport:
    source, photo = outcome.item
    if outcome.error is not None or outcome.read is None:
        return ImageReport(source, error=str(outcome.error))
    start = time.perf_counter()
    [shown], unthresholded = outcome.results, None
    if settings.keep_all:
        shown, unthresholded = what_is_shown(shown, settings), shown
    spent = asdict(outcome.timings)
    del spent["write"]  # not known yet, as this is what is written
    image = outcome.read.image if writer.needs_image else None
    try:
        outputs = writer.write(photo, image, shown, unthresholded=unthresholded, timings=spent)
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in HOPELESS:
            raise
        return ImageReport(source, error=str(error))
    except MemoryError:
        return ImageReport(source, error=f"{source}: {OUT_OF_MEMORY}")
    outcome.timings.write = milliseconds_since(start)
    record = image_record(photo.file_name, shown, writer.run, asdict(outcome.timings))
    covered = int((shown.covered() > MOSTLY).sum()) if settings.task == "instance" and writer.counts else 0
    return ImageReport(
        *(source, record, tuple(outputs), outcome.timings, None, outcome.read.extra, covered, writer.take_entries())
    )


@dataclass(frozen=True)
class PredictJob(Job[_Item, ImageReport]):
    """`predict_all` in another process, whose reports the first process's writer `keep`s."""

    ref: str  # of the model
    device: str
    dtype: str
    settings: PredictSettings
    out: Path
    kinds: tuple[str, ...]
    run: Mapping[str, Any]  # what every record says of the run
    style: Style
    batch_size: int = 1
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False
    skip_existing: bool = False

    def open(self) -> Callable[[Sequence[_Item]], Generator[ImageReport, None, None]]:
        from segcli.render import overlay
        from segcli.weights.checkpoint import load_model

        loaded = load_model(self.ref, self.device, self.dtype)
        writer = ResultsWriter(
            self.out,
            self.kinds,
            (),
            task=self.settings.task,
            labels=self.settings.spec.labels,
            run=self.run,
            draw=lambda image, segments: overlay(image, segments, self.style),
            overwrite=self.overwrite,
            skip_existing=self.skip_existing,
            relays=True,
        )
        how: dict[str, Any] = {"batch_size": self.batch_size, "max_pixels": self.max_pixels}
        return lambda items: predict_all(loaded, items, self.settings, writer, **how)

    def lost(self, item: _Item) -> ImageReport:
        return ImageReport(item[0], error=f"{item[0]}: {KILLED}")
