"""A clip becomes a clip with its segments drawn, and one JSON line per frame: decoding, network and encoding overlap.

Clip → [decoder thread] → `segment_all` → Tracker → [writer thread: a `ClipKind` for each of --save]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.errors import InputError, UsageError
from segcli.inference.predict import PredictSettings, forward
from segcli.inference.preprocess import Prepared
from segcli.inference.stream import Outcome, Read, segment_all
from segcli.inference.tiling import Box
from segcli.inference.video import dataset_kinds  # noqa: F401 (registers kinds)
from segcli.inference.video.ahead import Ahead
from segcli.inference.video.clip import ClipFrame, is_live, is_numbered
from segcli.inference.video.kinds import CLIP_KINDS, ClipKind, ClipRun, FrameAnswer
from segcli.inference.video.progress import Done, Progress
from segcli.inference.video.tally import Tally
from segcli.inference.video.tracking import Tracker
from segcli.results.record import segment_records
from segcli.segments import Segments
from segcli.types import QueryPredictions

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

_AHEAD = 4  # decoded frames that may wait for the network, and predicted ones for the encoder


@dataclass(frozen=True)
class FrameReport:
    """What became of one frame."""

    number: int
    time: float  # seconds from the clip's beginning
    segments: list[dict[str, Any]]  # as in clip.jsonl
    size: tuple[int, int] | None = None  # (H, W)
    best_score: float = float("nan")
    milliseconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def clip_stem(name: str) -> str:
    """What a clip's files are called: clip.mp4 -> clip, camera:0 -> camera-0, frames/ and frames/%06d.png -> frames."""
    address = name.partition("://")[2].partition("?")[0].rpartition("@")[2]  # without a password
    path = Path(address or name)
    folder = path if path.is_dir() else path.parent if is_numbered(name) else None
    if folder is not None:
        stem = folder.resolve().name or "frames"  # "." has a name, too
    else:
        stem = address if is_live(name) and address else path.stem
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).lstrip(".") or "clip"  # not hidden


def clip_targets(out: Path, stem: str, kinds: tuple[str, ...]) -> list[Path]:
    """What a clip that is done leaves behind. Raises UsageError for a kind that clips do not have."""
    for kind in kinds:
        if kind not in CLIP_KINDS:
            raise UsageError(
                f"--save {kind}: not available for clips; choose from {', '.join(sorted(CLIP_KINDS))}, none"
            )
    return [out / f"{stem}{suffix}" for kind in kinds for suffix in CLIP_KINDS[kind].suffixes]


def predict_clip(
    loaded: LoadedModel,
    settings: PredictSettings,
    run: ClipRun,
    *,
    resume: bool = False,
    memory: int = 30,
    tally: Tally | None = None,
) -> Generator[FrameReport, None, None]:
    """Predict every frame, give its segments their ids, write it, and yield one report each, in order.

    resume: go on where an earlier run was interrupted. memory: frames for which an unseen object keeps its id.
    tally: counts all frames that are written, and those written before. A frame that cannot be read or does not fit
    into memory is reported and the others go on; where the clip is damaged, it ends. Raises InputError if no frame can
    be decoded, OutputError if a file cannot be written.
    """
    tracker, progress, tally = Tracker(memory), Progress(run), tally or Tally()
    done = progress.read() if resume else None
    if done is None:
        progress.remove()
    else:
        progress.restore(tracker, tally, done)
        run.clip.first = done.first
    with ExitStack() as stack:
        kinds = [CLIP_KINDS[name](run, None if done is None else done.kinds[name]) for name in run.kinds]
        for kind in kinds:
            stack.callback(kind.close)
        if done is None or not done.complete:
            frames = 0
            try:
                frames = yield from _predict(loaded, settings, run, tracker, tally, progress, kinds, done)
            finally:
                if not frames and not tally.frames:  # nothing to go on with
                    for kind in kinds:
                        kind.discard()
            if not frames:
                why = "stopped before its first frame" if run.clip.stopped else "no frame between --start and --end"
                raise InputError(f"{run.clip.name}: {why}")
        for kind in kinds:
            kind.finish()
    progress.remove()


def _predict(
    loaded: LoadedModel,
    settings: PredictSettings,
    run: ClipRun,
    tracker: Tracker,
    tally: Tally,
    progress: Progress,
    kinds: list[ClipKind],
    done: Done | None,
) -> Generator[FrameReport, None, int]:
    """All frames that are left; returns how many there are in all."""
    place, last = (done.frames, done.last) if done else (0, -1)
    state: dict[str, Any] = {}
    waiting: deque[Future[FrameReport]] = deque()
    scribe = ThreadPoolExecutor(1, thread_name_prefix="segcli-encode")
    with ExitStack() as stack:
        stack.callback(scribe.shutdown, cancel_futures=True)
        room, newest = (1, True) if run.clip.keeps_up else (_AHEAD, False)
        ahead = Ahead(run.clip.frames(last), room, newest=newest, stopped=lambda: run.clip.stopped)
        stream = stack.enter_context(closing(_segmented(loaded, settings, run, iter(ahead))))
        for outcome, chosen in stream:
            frame = outcome.item
            answer = None
            if outcome.error is None:
                [found] = outcome.results
                ids, labels = tracker.update(found, chosen)
                answer = _answer(place, frame, replace(found, labels=labels), ids, run)
            place += 1
            state = {"frames": place, "last": frame.number, "complete": False, "first": run.clip.first}
            due = None
            if progress.is_due() and not run.clip.is_live:
                due = state | {"tracker": tracker.state()}
            waiting.append(scribe.submit(_write, outcome, answer, kinds, tally, progress, due))
            while waiting and (len(waiting) > _AHEAD or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        run.clip.left_out = ahead.left_out
    for kind in kinds:
        kind.close()
    if place:
        progress.complete(state | {"tracker": tracker.state(), "tally": tally.state()}, kinds)
    return place


def _segmented(
    loaded: LoadedModel, settings: PredictSettings, run: ClipRun, frames: Iterator[ClipFrame]
) -> Generator[tuple[Outcome[ClipFrame, None], np.ndarray | None], None, None]:
    """Each frame's outcome and the embeddings of its segments' queries, float [N, C], where the model has some."""
    embeddings: dict[int, np.ndarray] = {}

    def read(frame: ClipFrame) -> Read[None]:
        if frame.error is not None:
            raise InputError(frame.error)
        return Read(frame.image, None)

    def look(frame: ClipFrame, _: Box, __: Prepared, prediction: QueryPredictions) -> None:
        found = getattr(prediction.masks, "embeddings", None)
        if found is not None and settings.spec.size.tile is None:
            embeddings[frame.number] = found[0].float().cpu().numpy()

    stream = segment_all(
        frames,
        read,
        lambda inputs: forward(loaded, inputs),
        [settings],
        read_ahead=0 if run.clip.is_live else 1,
        name=lambda frame: f"{run.clip.name}, frame {frame.number}",
        look=look,
    )
    with closing(stream):
        for outcome in stream:
            own = embeddings.pop(outcome.item.number, None)
            queries = outcome.results[0].queries if outcome.results else None
            yield outcome, own[queries] if own is not None and queries is not None else None


def _answer(place: int, frame: ClipFrame, segments: Segments, ids: np.ndarray, run: ClipRun) -> FrameAnswer:
    """Masks lie in the lines unless the id maps hold them; those of instances, which may overlap, always."""
    rows = segment_records(segments)
    masks: Any = [None] * len(rows)
    if segments.rles is None and "json" in run.kinds and "png" not in run.kinds:
        masks = segments.to_rles()
    for row, id_, mask in zip(rows, ids.tolist(), masks, strict=True):
        row.pop("color", None)
        row["id"] = id_
        if mask is not None:
            row["segmentation"] = mask.to_coco()
    return FrameAnswer(place, frame, segments, ids, rows)


def _write(
    outcome: Outcome[ClipFrame, None],
    answer: FrameAnswer | None,
    kinds: list[ClipKind],
    tally: Tally,
    progress: Progress,
    state: dict[str, Any] | None,
) -> FrameReport:
    """Write one frame, on the writer thread."""
    frame = outcome.item
    with progress.in_turn():
        for kind in kinds:
            if answer is None:
                kind.skip()
            else:
                kind.write(answer)
        tally.add(None if answer is None else answer.rows)
        progress.saved(None if state is None else state | {"tally": tally.state()}, kinds)
    if answer is None:
        return FrameReport(frame.number, frame.time, [], error=str(outcome.error))
    times = {"model": outcome.timings.model, "post": outcome.timings.post}
    found = answer.segments
    return FrameReport(frame.number, frame.time, answer.rows, found.size, found.best_score, times)
