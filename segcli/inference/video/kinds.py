"""What `--save` writes of a clip: a class a kind, which appends one frame after another and is whole in the end.

While a clip is predicted its files are called clip.partial.… and only grow, so that a run can be continued: cut to
their lengths of some frame, they are what they were then. `finish` gives them their names.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from segcli.errors import OutputError, UsageError
from segcli.files.writing import output_error, sync_folder, write_file
from segcli.inference.video.clip import Clip, ClipFrame
from segcli.inference.video.encoding import ClipWriter, Part, Sound, join
from segcli.render import Style, draw
from segcli.render.colours import PALETTE, class_colours, segment_colours
from segcli.results.kinds.csv_tables import COLUMNS, cell
from segcli.segments import Segments
from segcli.types import LabelSet, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIP_KINDS: dict[str, type[ClipKind]] = {}
_MOST_IDS = 65_535  # of a 16-bit PNG


@dataclass(frozen=True)
class ClipRun:
    """What is the same for every frame."""

    clip: Clip
    out: Path
    stem: str  # of the clip's files
    kinds: tuple[str, ...]
    task: Task
    labels: LabelSet
    style: Style
    facts: Mapping[str, Any]  # of the run: {"model": …, "task": …, "input": …, "rule": …}

    def path(self, suffix: str, *, partial: bool = False) -> Path:
        """A file or folder of the clip."""
        return self.out / f"{self.stem}{'.partial' if partial else ''}{suffix}"


@dataclass(frozen=True)
class FrameAnswer:
    """One frame with its segments, their classes by vote, ids, and records as `clip.jsonl` has them."""

    place: int  # among the frames that are predicted, from 0
    frame: ClipFrame
    segments: Segments
    ids: np.ndarray  # int64 [N]
    rows: list[dict[str, Any]]


class ClipKind(ABC):
    """Base of the kinds; a subclass with a `name` registers itself under it."""

    name: ClassVar[str] = ""  # what --save calls it
    suffixes: ClassVar[tuple[str, ...]] = ()  # of what it leaves behind, after the clip's name
    tasks: ClassVar[tuple[Task, ...]] = ("panoptic", "instance", "semantic", "detect")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            CLIP_KINDS[cls.name] = cls

    def __init__(self, run: ClipRun, state: Any = None) -> None:
        """state: what `state` gave of the frame after which to go on; None begins anew. Raises OutputError."""
        if run.task not in self.tasks:
            raise UsageError(f"--save {self.name} needs --task {' or '.join(self.tasks)}, not {run.task}")
        self.run = run

    @abstractmethod
    def write(self, answer: FrameAnswer) -> None:
        """Append a frame. Raises OutputError."""

    def skip(self) -> None:  # noqa: B027 (most need nothing)
        """Take note of a frame that could not be predicted."""

    @abstractmethod
    def state(self) -> Any:
        """A JSON value by which a later run goes on after the last frame but, of the overlay, this one."""

    def close(self) -> None:  # noqa: B027 (the same)
        """Let go of what is open."""

    def discard(self) -> None:
        """Remove what was written of a clip in which there is nothing."""
        self.close()
        for partial in self.run.out.glob(f"{glob.escape(self.run.stem)}.partial*"):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)

    @abstractmethod
    def finish(self) -> None:
        """Give the files their names, unless they have them. Raises OutputError."""


class _Lines:
    """A file that grows by whole pieces of text, each of them there at once."""

    def __init__(self, path: Path, length: int | None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: FileIO = open(path, "ab" if length is not None else "wb", buffering=0)  # noqa: SIM115
            if length is not None:
                if path.stat().st_size < length:
                    raise OutputError(f"{path}: is shorter than it was; predict the clip again with --overwrite")
                os.truncate(path, length)
        except OSError as error:
            raise output_error(path, error) from error
        self.length = length or 0

    def add(self, text: str) -> None:
        """Raises OutputError; the file is as before then."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            os.truncate(self.path, self.length)
            raise output_error(self.path, error) from error
        self.length += len(data)

    def close(self) -> None:
        self._file.close()


class LineKind(ClipKind):
    """Base of those that are a file of lines until the end."""

    spool: ClassVar[str] = ""  # its suffix while it grows

    def __init__(self, run: ClipRun, state: Any = None) -> None:
        super().__init__(run, state)
        self.lines: _Lines | None = None
        if state is None or self.spooled.exists():
            self.lines = _Lines(self.spooled, state)

    @property
    def spooled(self) -> Path:
        """The file of lines."""
        return self.run.path(self.spool or self.suffixes[0], partial=True)

    def add(self, text: str) -> None:
        """Append. Raises OutputError."""
        if self.lines is None:
            raise OutputError(f"{self.spooled}: is not there any more; predict the clip again with --overwrite")
        self.lines.add(text)

    def state(self) -> Any:
        return self.lines.length if self.lines else 0

    def close(self) -> None:
        if self.lines:
            self.lines.close()

    def finish(self) -> None:
        self.close()
        if self.spooled.exists():
            self.render()
            self.spooled.unlink(missing_ok=True)

    def render(self) -> None:
        """Make the final file of the lines."""
        self.spooled.replace(self.run.path(self.suffixes[0]))


class Frames(LineKind):
    """clip.jsonl, a line a frame; clip.video.json, about the clip."""

    name = "json"
    suffixes = (".jsonl", ".video.json")

    def write(self, answer: FrameAnswer) -> None:
        frame = answer.frame
        self.add(to_line({"frame": frame.number, "time": round(frame.time, 6), "segments": answer.rows}))

    def render(self) -> None:
        super().render()
        text = json.dumps({"clip": self.run.facts}, ensure_ascii=False, indent=1) + "\n"
        write_file(self.run.path(self.suffixes[1]), text.encode("utf-8", "backslashreplace"))


class Overlay(ClipKind):
    """clip.overlay.mp4. A run that is continued adds a part, and all are joined in the end."""

    name = "overlay"
    suffixes = (".overlay.mp4",)

    def __init__(self, run: ClipRun, state: Any = None) -> None:
        super().__init__(run, state)
        self._parts: list[tuple[str, int, int]] = [(name, first, last) for name, first, last in state or ()]
        number = f"-{len(self._parts) + 1}" if self._parts else ""
        self._writer = ClipWriter(run.path(f"{number}{self.suffixes[0]}", partial=True), run.clip.rate)

    def write(self, answer: FrameAnswer) -> None:
        image = answer.frame.image.copy()
        colours = track_colours(answer.segments, answer.ids, self.run.style)
        drawn, _ = draw(image, answer.segments, self.run.style, colours, answer.ids.tolist())
        self._writer.write(drawn, answer.frame.time - self.run.clip.start)

    def state(self) -> Any:
        own = self._writer
        return self._parts if own.first is None else [*self._parts, (own.path.name, own.first, own.last)]

    def close(self) -> None:
        self._writer.close()

    def finish(self) -> None:
        self.close()
        parts = [Part(self.run.out / name, first, last) for name, first, last in self.state()]
        if not parts or not parts[0].path.exists():
            return
        clip = self.run.clip
        sound = None
        if clip.keeps_sound:
            end = None if clip.end is None else clip.end - clip.start
            sound = Sound(clip.source, (clip.first or 0.0) + clip.start, end)
        join(parts, self.run.path(self.suffixes[0]), sound)
        for part in reversed(parts):
            part.path.unlink(missing_ok=True)


class IdMaps(ClipKind):
    """clip.ids/000123.png, 16 bits."""

    name = "png"
    suffixes = (".ids",)

    def __init__(self, run: ClipRun, state: Any = None) -> None:
        super().__init__(run, state)
        self._folder = run.path(self.suffixes[0], partial=True)
        if state is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, answer: FrameAnswer) -> None:
        from segcli.codecs.png import encode_png

        if answer.ids.max(initial=0) > _MOST_IDS:
            raise OutputError(f"{self._folder}: more than {_MOST_IDS:,} ids; use --save coco-panoptic or json instead")
        numbers = np.concatenate([[0], answer.ids]).astype(np.uint16)
        write_file(self._folder / f"{answer.frame.number:06d}.png", encode_png(numbers[answer.segments.id_map()]))

    def state(self) -> Any:
        return True  # frames that were written after it are written again

    def finish(self) -> None:
        replace_folder(self._folder, self.run.path(self.suffixes[0]))


class CsvRows(LineKind):
    """clip.segments.csv, a row a frame and id, with the columns of photos."""

    name = "csv"
    suffixes = (".segments.csv",)

    def __init__(self, run: ClipRun, state: Any = None) -> None:
        super().__init__(run, state)
        if state is None:
            self._row(("frame", "time", *COLUMNS[1:]))

    def write(self, answer: FrameAnswer) -> None:
        for id_, row in zip(answer.ids.tolist(), answer.segments.to_rows(), strict=True):
            values = (cell((row | {"id": id_}).get(column)) for column in COLUMNS[1:])
            self._row((answer.frame.number, round(answer.frame.time, 6), *values))

    def _row(self, cells: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        self.add(text.getvalue())


def to_line(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def read_lines(path: Path) -> Iterator[Any]:
    """The values again, one at a time."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            yield json.loads(text)


def replace_folder(partial: Path, final: Path) -> None:
    """Give a folder its name; an older one goes."""
    if partial.exists():
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        sync_folder(final.parent)


def track_colours(segments: Segments, ids: np.ndarray, style: Style) -> np.ndarray:
    """uint8 [N, 3]: things in the colour of their id, stuff in that of its class, unless the style says otherwise."""
    if style.color_by in ("class", "score"):
        return segment_colours(segments, style.color_by)
    own = class_colours(segments.label_set)[segments.labels]
    things = np.array(segments.isthing(), dtype=bool)
    return np.where(things[:, None], PALETTE[ids % len(PALETTE)], own).astype(np.uint8)
