"""Clips as frames with their times: video files, animations, numbered pictures, cameras and streams."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from segcli.codecs.depth import Levels, pooled
from segcli.codecs.image import OWN_LIMIT, own_levels, read_image
from segcli.errors import InputError, UsageError
from segcli.files.image_names import VIDEO_SUFFIXES, is_image_name
from segcli.files.image_ref import FileRef
from segcli.inference.video import live
from segcli.inference.video.pyav import MAX_PIXELS, failures, line, own_decoder, stated_length
from segcli.inference.video.upright import over_white, upright

_ANIMATIONS = (".gif", ".webp")
_SAMPLED = 8  # pictures whose levels stand for those of all
_NOTHING = np.zeros((0, 0, 3), dtype=np.uint8)
_MP4_SOUND = ("aac", "mp3", "ac3", "opus", "alac")  # what MP4 takes as it is
_COUNTER = re.compile(r"%\d*d")  # as FFmpeg counts: its %5d is %05d


@dataclass(frozen=True)
class ClipFrame:
    """One frame, upright."""

    number: int  # in the clip, from 0
    time: float  # seconds from the clip's beginning
    image: np.ndarray  # uint8 [H, W, 3] RGB
    error: str | None = None  # why there is no image


def is_clip(name: str) -> bool:
    """Whether a source is a clip: a video file, a camera, a stream, or numbered frames such as frames/%06d.png."""
    path = Path(name)
    if is_live(name) or is_numbered(name):
        return True
    if live.is_http(name):
        return live.sends_video(name, VIDEO_SUFFIXES)
    lower = name.lower()
    return lower.endswith(VIDEO_SUFFIXES) or (lower.endswith(_ANIMATIONS) and _is_animated(path))


def is_numbered(name: str) -> bool:
    """Whether a source names numbered frames, such as frames/%06d.png, and not a file that is there, or a URL: those
    may be called my%20dog.jpg.
    """
    path = Path(name)
    return bool(_COUNTER.search(path.name)) and "://" not in name and not os.path.lexists(path)


def is_live(name: str) -> bool:
    """Whether a source has no end of its own, as its name says: a camera or a stream."""
    return live.is_camera(name) or live.is_stream(name)


def _is_animated(path: Path) -> bool:
    from PIL import Image

    if not path.is_file():
        return False
    try:
        with OWN_LIMIT, Image.open(path) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # Pillow's parsers raise nearly anything on malformed data; whoever reads it says what is wrong
        return False


class Clip:
    """A clip to read, frame by frame; memory does not grow with its length.

    name: as `is_clip` takes it, or a folder of pictures.
    fps: of numbered frames, which have no times of their own.
    every: take every N-th frame; "auto" takes what a live source shows when the last frame is done; None is "auto"
        for a live source and 1 for others.
    start, end: seconds between which frames are wanted.
    levels, max_pixels: attributes, of pictures, as `read_image` takes them. Without levels all pictures of more than 8
        bits have the same, those of a few of them together: a clip must not flicker as its brightest pixel changes.

    What comes over HTTP and does not say how long or large it is, is a live source too. Raises InputError for what
    cannot be opened or has no video stream, UsageError if PyAV is not installed, or for "auto" of a file.
    """

    def __init__(
        self,
        name: str,
        *,
        fps: float | None = None,
        every: int | Literal["auto"] | None = None,
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        self.source, self.name = name, live.without_password(name)
        self.start, self.end = start, end
        self.is_live = is_live(name)
        self._every = every if isinstance(every, int) else 1
        self.rate = Fraction(fps or 25).limit_denominator(100_000)
        self.first: float | None = None  # the time that the file gives its first frame
        self.damage: str | None = None  # what was wrong with the file, once it has been read
        self.levels: Levels | None = None
        self.max_pixels: int | None = None
        self.left_out = 0  # frames of a live source that came while the network was busy
        self.stopped = False
        self._reading = False  # whether a thread waits for the next packet
        self._size: tuple[int, ...] | None = None  # of the first frame
        self._container: Any = None
        self._pictures = _numbered(name)
        self._is_animation = name.lower().endswith(_ANIMATIONS) and "://" not in name
        if self._is_animation:
            self._expected = self._open_animation()
        elif self._pictures:
            self._expected = len(self._pictures)
        else:
            self._open()
            self._expected = self._stream.frames or 0
        if every == "auto" and not self.is_live:
            raise UsageError(f"--every auto: {name} is not a camera or stream, and waits for each frame; give a number")
        self.keeps_up = self.is_live and every in (None, "auto")

    def _open(self) -> None:
        self._container = live.open_source(self.source)
        self.is_live = self.is_live or live.is_endless(self.source, self._container)
        if not len(self._container.streams):
            raise InputError(f"{self.name}: its index, which is at the end, is missing; copy or export it again")
        if not self._container.streams.video:
            raise InputError(f"{self.name}: has no video stream, only sound")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            raise InputError(f"{self.name}: has a video codec that FFmpeg does not know; convert it to H.264")
        self._stream.thread_type = "SLICE" if self.is_live else "AUTO"  # threads by frames add a delay
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = rate if rate and 0 < rate <= 1000 else self.rate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None and not self._reading:  # FFmpeg's memory must not go while a thread is in it
            self._container.close()

    @property
    def count(self) -> int | None:
        """How many frames are expected, if known."""
        if not self._expected or self.start or self.end is not None:
            return None
        return -(-self._expected // self._every)

    @property
    def sound(self) -> str | None:
        """The codec of its sound; None if it has none, or is live."""
        if self._container is None or self.is_live or not self._container.streams.audio:
            return None
        codec = self._container.streams.audio[0].codec_context  # None for one that FFmpeg does not know
        return codec and str(codec.name)

    @property
    def keeps_sound(self) -> bool:
        """Whether MP4 takes its sound as it is."""
        return self.sound in _MP4_SOUND

    def stop(self) -> None:
        """End after the last frame that was read."""
        self.stopped = True

    def frames(self, after: int = -1) -> Iterator[ClipFrame]:
        """Frames in the order they are shown, from number after + 1 on.

        What cannot be decoded is left out, and told in `damage`. Raises InputError if nothing can be.
        """
        number = -1
        found = self._animated if self._is_animation else self._pictured if self._pictures else self._decoded
        for number, shown, read in found():
            if self.stopped or (self.end is not None and shown >= self.end):
                return
            if number > after and number % self._every == 0 and shown >= self.start:
                yield self._frame(number, shown, read)
        if number < 0:
            why = self.damage or "it may be cut short: copy it again"
            raise InputError(f"{self.name}: no frame can be decoded ({why})")

    __iter__ = frames

    def _frame(self, number: int, time: float, read: Callable[[], np.ndarray]) -> ClipFrame:
        try:
            image = read()
        except InputError as error:
            return ClipFrame(number, time, _NOTHING, str(error))
        self._size = self._size or image.shape
        if image.shape != self._size:  # of numbered pictures
            (height, width), (first_height, first_width) = image.shape[:2], self._size[:2]
            reason = f"is {width}×{height}, the first is {first_width}×{first_height}; make all of one size"
            return ClipFrame(number, time, _NOTHING, f"{self._pictures[number]}: {reason}")
        return ClipFrame(number, time, image)

    def _open_animation(self) -> int:
        from PIL import Image

        try:
            with Image.open(self.name) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"{picture.width}×{picture.height} pixels, more than {MAX_PIXELS:,}")
                self.rate = Fraction(1000, _duration(picture))
                return int(getattr(picture, "n_frames", 1))
        except Exception as error:  # Pillow's parsers raise nearly anything on malformed data
            raise InputError(f"{self.name}: cannot be opened as an animation ({line(error)})") from error

    def _animated(self) -> Iterator[tuple[int, float, Any]]:
        """By Pillow: FFmpeg does not read animated WebP."""
        from PIL import Image

        milliseconds = 0
        with Image.open(self.name) as picture:
            for number in range(self._expected):
                try:
                    picture.seek(number)
                    see_through = picture.has_transparency_data
                    image = np.array(picture.convert("RGBA" if see_through else "RGB"))
                    image = over_white(image) if see_through else image
                except Exception as error:  # as above
                    self.damage = line(error)
                    return
                yield number, milliseconds / 1000, lambda image=image: image
                milliseconds += _duration(picture)

    def _pictured(self) -> Iterator[tuple[int, float, Any]]:
        some = self._pictures[:: -(-len(self._pictures) // _SAMPLED)]
        levels = self.levels or pooled(own for file in some if (own := own_levels(FileRef(str(file)))))
        how: dict[str, Any] = {"levels": levels, "max_pixels": self.max_pixels}
        for number, picture in enumerate(self._pictures):
            yield number, number / float(self.rate), lambda picture=picture: read_image(picture, **how)

    def _decoded(self) -> Iterator[tuple[int, float, Any]]:
        number, size, shown, step = 0, None, 0.0, 1 / float(self.rate)
        untimed = self._container.format.name in ("mpjpeg", "mjpeg") and self.is_live
        for frame in self._all_frames():
            told = time.monotonic() if untimed else frame.time
            shown = told if told is not None else shown + step if number else 0.0
            self.first = shown if self.first is None else self.first
            size = size or (frame.width, frame.height)
            yield number, shown - self.first, lambda frame=frame, size=size: upright(frame, size)
            number += 1
        if not self.damage and number < 0.9 * self._expected:
            self.damage = f"it ends after {number} of {self._expected} frames"
        stated = stated_length(self._stream)
        if not self.damage and stated and number and shown + 2 * step < 0.9 * stated:
            self.damage = f"it ends after {shown:.1f} of {stated:.1f} seconds"

    def _all_frames(self) -> Iterator[Any]:
        """Whatever can be decoded; a damaged packet costs its own frames alone.

        Those of a stream are no damage to tell: whoever joins it late misses what its first packets refer to.
        """
        decoder = own_decoder(self._stream)
        try:
            for packet in self._packets():
                try:
                    yield from decoder.decode(packet)
                except failures() as error:
                    self.damage = self.damage or (None if self.is_live else line(error))
        except failures() as error:
            self.damage = self.damage or live.why(error)
            try:
                yield from decoder.decode(None)  # those that the decoder still has
            except failures():
                return

    def _packets(self) -> Iterator[Any]:
        packets = iter(self._container.demux(self._stream))
        while True:
            self._reading = True
            try:
                packet = next(packets, None)
            finally:
                self._reading = False
            if packet is None:
                return
            yield packet


def _duration(picture: Any) -> int:
    """How long a frame of an animation is shown, in milliseconds; what says nothing gets 100, as in browsers."""
    picture.load()
    return round(picture.info.get("duration") or 100)


def _numbered(name: str) -> list[Path]:
    """The pictures of a folder or of a pattern such as frames/%06d.png, in order."""
    path = Path(name)
    if path.is_dir():
        found = [file for file in path.iterdir() if is_image_name(file.name)]
        if not found:
            raise InputError(f"{name}: no images in this folder")
        return sorted(found, key=lambda file: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", file.name)])
    if not is_numbered(name):
        return []
    pattern = re.compile(r"(\d+)".join(re.escape(part) for part in _COUNTER.split(path.name)))
    found = [file for file in (path.parent.iterdir() if path.parent.is_dir() else ()) if pattern.fullmatch(file.name)]
    if not found:
        raise InputError(f"{name}: no file matches")
    return sorted(found, key=lambda file: int(pattern.fullmatch(file.name)[1]))  # type: ignore[index]
