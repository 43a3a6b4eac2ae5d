"""A clip becomes a clip with its segments drawn, and one JSON line per frame: decoding, network and encoding overlap.

    Clip → [decoder thread] → `segment_all` → Tracker → [writer thread: clip.overlay.mp4, clip.jsonl, clip.ids/]

While it runs the files are called clip.partial.…; they get their names when complete. The partial ones can be
played and read too: a run that is killed leaves what was done.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from segcli.errors import UsageError
from segcli.files.writing import output_error, write_file
from segcli.inference.predict import Settings, forward
from segcli.inference.preprocess import Prepared
from segcli.inference.stream import Read, segment_all
from segcli.inference.tiling import Box
from segcli.inference.tracking import Tracker
from segcli.inference.video import Clip, ClipFrame, ClipWriter
from segcli.render import Style, draw
from segcli.render.colours import PALETTE, class_colours
from segcli.results.record import segment_records
from segcli.segments import Segments
from segcli.types import QueryPredictions

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

KINDS = ("overlay", "json", "png")
_AHEAD = 4  # decoded frames that may wait for the network, and drawn ones for the encoder
Item = TypeVar("Item")


@dataclass(frozen=True)
class FrameReport:
    """What became of one frame."""

    number: int
    time: float  # seconds from the clip's beginning
    ids: tuple[int, ...]
    names: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class ClipFiles:
    """Where the results of one clip go."""

    out: Path
    stem: str
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, name: str, out: Path, kinds: tuple[str, ...]) -> ClipFiles:
        """Named after the clip: clip.mp4 -> clip.overlay.mp4, camera:0 -> camera-0.jsonl, frames/ -> frames.ids/.

        Raises UsageError for a kind that clips do not have.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise UsageError(f"--save {kind}: not available for clips; choose from {', '.join(KINDS)}")
        path = Path(name)
        stem = path.name if path.is_dir() else path.stem
        stem = path.parent.name or "frames" if "%" in stem else stem
        return cls(out, "".join(c if c.isalnum() or c in "-_." else "-" for c in stem), kinds)

    def paths(self, *, partial: bool = False) -> dict[str, Path]:
        """One path per kind."""
        stem = f"{self.stem}.partial" if partial else self.stem
        suffixes = {"overlay": ".overlay.mp4", "json": ".jsonl", "png": ".ids"}
        return {kind: self.out / f"{stem}{suffixes[kind]}" for kind in self.kinds}


def predict_clip(
    loaded: LoadedModel, clip: Clip, settings: Settings, files: ClipFiles, *, memory: int = 30
) -> Generator[FrameReport, None, None]:
    """Predict every frame, give its segments their ids, write it, and yield one report each, in order.

    memory: frames for which an unseen object keeps its id. A frame that does not fit into memory is reported
    and the others go on. Raises InputError where the clip is damaged, OutputError if a file cannot be written.
    """
    embeddings: dict[int, np.ndarray] = {}

    def look(frame: ClipFrame, _: Box, __: Prepared, prediction: QueryPredictions) -> None:
        found = getattr(prediction.masks, "embeddings", None)
        if found is not None and settings.spec.size.tile is None:
            embeddings[frame.number] = found[0].float().cpu().numpy()

    tracker, scribe = Tracker(memory), ThreadPoolExecutor(1, thread_name_prefix="segcli-encode")
    stream = segment_all(
        _decoded_ahead(clip),
        lambda frame: Read(frame.image, None),
        lambda inputs: forward(loaded, inputs),
        [settings],
        name=lambda frame: f"{clip.name}, frame {frame.number}",
        look=look,
    )
    waiting: deque[Future[FrameReport]] = deque()
    with ExitStack() as stack:
        output = stack.enter_context(_Output(clip, files))
        stack.callback(scribe.shutdown, cancel_futures=True)
        stack.enter_context(closing(stream))
        for outcome in stream:
            frame = outcome.item
            if outcome.error is not None:
                report = FrameReport(frame.number, frame.time, (), (), str(outcome.error))
                waiting.append(scribe.submit(_same, report))  # in its turn among those that are written
            else:
                [found] = outcome.results
                own = embeddings.pop(frame.number, None)
                chosen = own[found.queries] if own is not None and found.queries is not None else None
                ids, labels = tracker.update(found, chosen)
                waiting.append(scribe.submit(output.write, frame, found, ids, labels))
            while waiting and (len(waiting) > _AHEAD or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        output.whole = True


def _decoded_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, made a few ahead on a thread of their own."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def put(entry: tuple[str, Any]) -> None:
        while not ended.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def decode() -> None:
        try:
            for item in items:
                put(("item", item))
                if ended.is_set():
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=decode, name="segcli-decode", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        ended.set()
        thread.join(timeout=5)


def _same(report: FrameReport) -> FrameReport:
    return report


class _Output:
    """The files of a clip while they are written."""

    def __init__(self, clip: Clip, files: ClipFiles) -> None:
        self._partial, self._final = files.paths(partial=True), files.paths()
        self.whole = False
        self._stack = ExitStack()
        self._clip = clip
        self._lines: FileIO | None = None
        self._began = time.monotonic()

    def __enter__(self) -> _Output:
        self._video: ClipWriter | None = None
        if "overlay" in self._partial:
            source = None if self._clip.is_live else self._clip.name
            self._video = self._stack.enter_context(ClipWriter(self._partial["overlay"], self._clip.rate, source))
        if "json" in self._partial:
            path = self._partial["json"]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lines = self._stack.enter_context(path.open("wb", buffering=0))
            except OSError as error:
                raise output_error(path, error) from error
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if self.whole:
            for kind, path in self._partial.items():
                if path.exists():
                    path.replace(self._final[kind])

    def write(self, frame: ClipFrame, found: Segments, ids: np.ndarray, labels: np.ndarray) -> FrameReport:
        """Write one frame. Raises OutputError."""
        names = tuple(found.label_set[label].name for label in labels.tolist())
        if self._lines is not None:
            rows = segment_records(found)
            for row, id_, label in zip(rows, ids.tolist(), labels.tolist(), strict=True):
                row.pop("color", None)
                known = found.label_set[label]
                row |= {"id": id_, "category_id": known.id, "category_name": known.name, "isthing": known.isthing}
            line = {"frame": frame.number, "time": round(frame.time, 6), "segments": rows}
            try:
                self._lines.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            except OSError as error:
                raise output_error(self._partial["json"], error) from error
        if "png" in self._partial:
            from segcli.codecs.png import encode_png

            numbers = np.concatenate([[0], ids]).astype(np.uint16)
            write_file(self._partial["png"] / f"{frame.number:06d}.png", encode_png(numbers[found.id_map()]))
        if self._video is not None:
            drawn, _ = draw(frame.image.copy(), found, Style(), track_colours(found, ids))
            self._video.write(drawn, frame.time)
        return FrameReport(frame.number, frame.time, tuple(ids.tolist()), names)


def track_colours(segments: Segments, ids: np.ndarray) -> np.ndarray:
    """Things in the colour of their id, stuff in that of its class -> uint8 [N, 3]."""
    own = class_colours(segments.label_set)[segments.labels]
    things = np.array(segments.isthing(), dtype=bool)
    return np.where(things[:, None], PALETTE[ids % len(PALETTE)], own).astype(np.uint8)
