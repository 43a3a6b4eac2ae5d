"""`segcli viz overlays` of a clip that was predicted: its tracks drawn again, without the model."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.errors import InputError, UsageError
from segcli.files.fields import MOST, Fields
from segcli.files.image_names import printable
from segcli.files.json_file import read_object
from segcli.inference.video.clip import Clip, is_live
from segcli.inference.video.encoding import ClipWriter, Part, Sound, join
from segcli.inference.video.kinds import track_colours
from segcli.inspection.overlays import Selection
from segcli.render import Style, draw
from segcli.results.readers.coco import mask_of
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, TASKS, Label, LabelSet, Task

_ABOUT, _LINES, _IDS = ".video.json", ".jsonl", ".ids"


@dataclass(frozen=True)
class TrackedFrame:
    """The segments of one frame and their ids, int64 [N]."""

    number: int
    segments: Segments
    ids: np.ndarray


class ClipResults:
    """What `segcli predict --save json,png` (or json alone) wrote of a clip, read one frame at a time.

    Raises InputError for files that are damaged or not there.
    """

    def __init__(self, about: Path) -> None:
        stem = about.name.removesuffix(_ABOUT)
        self.about, self.stem = about, stem
        self._lines, self._ids = about.with_name(stem + _LINES), about.with_name(stem + _IDS)
        facts = Fields(read_object(about, remedy="predict the clip again"), str(about)).sub("clip")
        self.name = facts.text("file_name")
        self.task: Task = facts.one_of("task", TASKS)
        self.start = facts.number("start", 0.0)
        self.end = None if facts.raw.get("end") is None else facts.number("end")
        self.fps = facts.number("fps", 25.0)
        self.labels = LabelSet(tuple(_label(row) for row in facts.rows("classes")))
        self._index = {label.id: index for index, label in enumerate(self.labels)}

    def frames(self, size: tuple[int, int]) -> Iterator[TrackedFrame]:
        """All frames in order; size: (H, W) of the clip."""
        try:
            with self._lines.open(encoding="utf-8") as file:
                for count, text in enumerate(file, start=1):
                    where = f"{self._lines}, line {count}"
                    try:
                        row = Fields(json.loads(text), where)
                    except (ValueError, RecursionError) as error:
                        raise InputError(f"{where}: not JSON; predict the clip again") from error
                    yield self._frame(row, size, where)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self._lines}: cannot be read ({error}); predict the clip again") from error

    def _frame(self, row: Fields, size: tuple[int, int], where: str) -> TrackedFrame:
        number, rows = row.whole("frame"), list(row.rows("segments"))
        ids = np.array([own.whole("id", least=1) for own in rows], dtype=np.int64)
        classes = [own.whole("category_id", least=-MOST) for own in rows]
        for own, category in zip(rows, classes, strict=True):
            if category not in self._index:
                raise own.wrong("category_id", f"one of the classes in {self.about.name}")
        labels = np.array([self._index[category] for category in classes], dtype=np.int64)
        scores = [np.nan if own.raw.get("score") is None else own.number("score") for own in rows]
        kept = (self.task, size, self.labels, labels, np.array(scores, dtype=np.float64))
        masks = [own.raw.get("segmentation") for own in rows]
        if all(mask is not None for mask in masks) and (masks or self.task in OBJECT_TASKS or not self._ids.is_dir()):
            rles = tuple(mask_of(mask, size, where) for mask in masks)
            return TrackedFrame(number, Segments(*kept, rles=rles), ids)
        return TrackedFrame(number, Segments(*kept, map=self._map(number, size, ids)), ids)

    def _map(self, number: int, size: tuple[int, int], ids: np.ndarray) -> np.ndarray:
        path = self._ids / f"{number:06d}.png"
        if not path.is_file():
            raise InputError(f"{path}: no such file (masks of a frame); predict the clip again")
        values = read_label_map(path)
        if values.shape != size:
            raise InputError(f"{path}: is not of the clip's size; predict the clip again")
        order = np.argsort(ids)
        places = np.searchsorted(ids[order], values).clip(max=max(len(ids) - 1, 0))
        if not len(ids):
            return np.zeros(size, dtype=np.int32)
        found = order[places]
        return np.where(ids[found] == values, found + 1, 0).astype(np.int32)


def clips_in(source: str | None) -> list[ClipResults]:
    """The predicted clips that a name means: of `clip.jsonl`, `clip.video.json`, or a folder with such files."""
    path = Path(source) if source is not None else None
    if path is None:
        return []
    if path.is_dir():
        return [ClipResults(file) for file in sorted(path.glob(f"*{_ABOUT}"))]
    for suffix in (_ABOUT, _LINES):
        about = path.with_name(path.name.removesuffix(suffix) + _ABOUT)
        if path.name.endswith(suffix) and about.is_file():
            return [ClipResults(about)]
    return []


def clip_target(results: ClipResults, out: Path) -> Path:
    """The file that is drawn."""
    return out / f"{results.stem}.overlay.mp4"


def draw_clip(
    results: ClipResults, folder: Path | None, selection: Selection, style: Style, out: Path, limit: int | None
) -> Generator[int, None, None]:
    """Draw a clip's tracks over its frames; yields after each how many frames are done.

    folder: where the clip is now, or the clip itself. limit: of frames. Raises UsageError for a camera or stream, whose
    frames are gone, InputError as reading does, OutputError if the file cannot be written.
    """
    if is_live(results.name):
        raise UsageError(f"{results.name}: its frames were not kept, so there is nothing to draw on")
    name = results.name
    if folder is not None:
        name = str(folder if folder.is_file() else folder / Path(name).name)
    if "%" not in name and "://" not in name and not Path(name).exists():
        raise InputError(f"{name}: the clip is not there; say with --photos in which folder it is")
    target, count, frames = clip_target(results, out), 0, None
    partial = target.with_name(f"{results.stem}.partial.overlay.mp4")
    with (
        Clip(name, fps=results.fps, start=results.start, end=results.end) as clip,
        ClipWriter(partial, clip.rate) as file,
    ):
        wanted: TrackedFrame | None = None
        for frame in clip.frames():
            if frame.error is not None:
                continue
            if frames is None:
                height, width = frame.image.shape[:2]
                frames = results.frames((height, width))
                wanted = next(frames, None)
            while wanted is not None and wanted.number < frame.number:
                wanted = next(frames, None)
            if wanted is None or count == limit:
                break
            if wanted.number == frame.number:
                file.write(_drawn(frame.image, wanted, selection, style), frame.time - results.start)
                count += 1
                yield count
        file.close()
        sound = None
        if clip.keeps_sound and file.first is not None:
            length = float(file.last / 90_000) + float(1 / clip.rate) if limit else results.end
            sound = Sound(name, (clip.first or 0.0) + results.start, length)
        if file.first is not None:
            join([Part(partial, file.first, file.last)], target, sound)
    partial.unlink(missing_ok=True)


def _drawn(image: np.ndarray, frame: TrackedFrame, selection: Selection, style: Style) -> np.ndarray:
    segments, ids = frame.segments, frame.ids
    kept = selection.keeps(segments)
    if not kept.all():
        segments, ids = segments.filter(kept), ids[kept]
    style = replace(style, color_by=style.color_by or "track")
    return draw(image.copy(), segments, style, track_colours(segments, ids, style), ids.tolist())[0]


def _label(row: Fields) -> Label:
    colour = None
    if row.raw.get("color") is not None:
        red, green, blue = row.wholes("color", 3, most=255)
        colour = (red, green, blue)
    return Label(row.whole("id", least=-MOST), printable(row.text("name")), row.flag("isthing"), colour)
