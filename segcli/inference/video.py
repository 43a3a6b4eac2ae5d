"""Clips as frames with their times, and frames as a clip that plays everywhere: PyAV (FFmpeg), the extra `video`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from segcli.codecs.image import read_image
from segcli.errors import InputError, UsageError
from segcli.files.image_names import is_image_name
from segcli.files.writing import output_error

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
_LIVE = re.compile(r"camera:(\d+)|(rtsp|rtmp|udp)://.+")
_HD = 720  # rows from which a clip that does not name its colours has those of HDTV


@dataclass(frozen=True)
class ClipFrame:
    """One frame, upright."""

    number: int  # in the clip, from 0
    time: float  # seconds from the clip's beginning
    image: np.ndarray  # uint8 [H, W, 3] RGB


def is_clip(name: str) -> bool:
    """Whether a source is a clip: a video file, a camera, a stream, or numbered frames such as frames/%06d.png."""
    path = Path(name)
    if _LIVE.fullmatch(name) or ("%" in path.name and re.search(r"%0?\d*d", path.name)):
        return True
    lower = name.lower()
    if lower.startswith(("http://", "https://")):
        return lower.split("?")[0].endswith(SUFFIXES)
    return lower.endswith(SUFFIXES) or (lower.endswith((".gif", ".webp")) and _is_animated(path))


def _is_animated(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return bool(getattr(picture, "is_animated", False))
    except (OSError, ValueError):
        return False


class Clip:
    """A clip to read, frame by frame; memory does not grow with its length.

    name: as `is_clip` takes it, or a folder of pictures. fps: of numbered frames, which have no times of their own.
    every: take every N-th frame. start, end: seconds between which frames are wanted.
    Raises InputError for what cannot be opened or has no video stream, UsageError if PyAV is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        fps: float | None = None,
        every: int = 1,
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        self.name, self._every, self._start, self._end = name, every, start, end
        self.is_live = bool(_LIVE.fullmatch(name))
        self.rate = Fraction(fps or 25).limit_denominator(100_000)
        self._pictures = _numbered(name)
        self._container: Any = None
        if self._pictures:
            return
        av = _av()
        camera = re.fullmatch(r"camera:(\d+)", name)
        source, form = (f"/dev/video{camera[1]}", "v4l2") if camera else (name, None)
        try:
            self._container = av.open(source, format=form)
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: cannot be opened as a video ({_line(error)})") from error
        if not self._container.streams.video:
            raise InputError(f"{name}: has no video stream, only sound")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = self._stream.average_rate or self._stream.guessed_rate or self.rate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None:
            self._container.close()

    @property
    def count(self) -> int | None:
        """How many frames are expected, if known."""
        frames = len(self._pictures) if self._pictures else (self._stream.frames or 0)
        if not frames or self._start or self._end is not None:
            return None
        return -(-frames // self._every)

    def __iter__(self) -> Iterator[ClipFrame]:
        """Frames in the order they are shown. Raises InputError where the file is damaged."""
        for frame in self._all():
            if self._end is not None and frame.time >= self._end:
                return
            yield frame

    def _wants(self, number: int, time: float) -> bool:
        return number % self._every == 0 and time >= self._start

    def _all(self) -> Iterator[ClipFrame]:
        if self._pictures:
            for number, picture in enumerate(self._pictures):
                if self._wants(number, number / float(self.rate)):
                    yield ClipFrame(number, number / float(self.rate), read_image(picture))
            return
        first: float | None = None
        try:
            for number, frame in enumerate(self._container.decode(self._stream)):
                time = frame.time if frame.time is not None else number / float(self.rate)
                first = time if first is None else first
                if self._wants(number, time - first):
                    yield ClipFrame(number, time - first, _upright(frame))
                elif self._end is not None and time - first >= self._end:
                    return
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}: the video is damaged or cut short ({_line(error)})") from error


def _upright(frame: Any) -> np.ndarray:
    """The frame as it is meant to be seen: colours by the matrix the clip names, turned by its rotation flag."""
    unspecified = int(getattr(frame, "colorspace", 2)) == 2
    matrix = {"src_colorspace": "ITU709" if frame.height >= _HD else "ITU601"} if unspecified else {}
    image = frame.reformat(format="rgb24", **matrix).to_ndarray()
    turns = round(float(getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _numbered(name: str) -> list[Path]:
    """The pictures of a folder or of a pattern such as frames/%06d.png, in order."""
    path = Path(name)
    if path.is_dir():
        found = [file for file in path.iterdir() if is_image_name(file.name)]
        return sorted(found, key=lambda file: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", file.name)])
    if not re.search(r"%0?\d*d", path.name):
        return []
    pattern = re.compile(re.sub(r"%0?\d*d", r"(\\d+)", re.escape(path.name).replace("\\%", "%")))
    found = [file for file in (path.parent.iterdir() if path.parent.is_dir() else ()) if pattern.fullmatch(file.name)]
    if not found:
        raise InputError(f"{name}: no file matches")
    return sorted(found, key=lambda file: int(pattern.fullmatch(file.name)[1]))  # type: ignore[index]


class ClipWriter:
    """An H.264 clip in MP4 (VP9 where FFmpeg has no x264), with the times that its frames are given.

    It is written in pieces that stand alone, so that a run that is killed leaves a clip that plays.
    source: a clip whose sound is copied. Raises OutputError.
    """

    def __init__(self, path: Path, rate: Fraction, source: str | None = None) -> None:
        self.path, self._rate, self._source = path, rate, source
        self._container: Any = None
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(copy_sound=error is None)

    def write(self, image: np.ndarray, time: float) -> None:
        """Append a frame, uint8 [H, W, 3] RGB, shown from `time` seconds on; H and W of an odd number lose a row."""
        av = _av()
        image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        try:
            if self._container is None:
                self._open(image.shape[1], image.shape[0])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            pts = max(self._last + 1, round(time * 90_000))
            frame.pts, frame.time_base, self._last = pts, Fraction(1, 90_000), pts
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise output_error(self.path, error) from error

    def _open(self, width: int, height: int) -> None:
        av = _av()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container = av.open(str(self.path), "w", format="mp4", options=options)
        codec = "libx264" if "libx264" in av.codecs_available else "libvpx-vp9"
        self._stream = self._container.add_stream(codec, rate=self._rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, 90_000)
        x264 = {"crf": "20", "preset": "veryfast", "tune": "zerolatency"}  # which holds no frames back
        self._stream.options = x264 if codec == "libx264" else {"crf": "30", "b:v": "0"}
        context = self._stream.codec_context
        context.gop_size = max(1, round(float(self._rate) * 2))
        for name in ("color_primaries", "color_trc", "colorspace"):
            with contextlib.suppress(AttributeError):
                setattr(context, name, 1)  # BT.709
        self._sound = self._sound_template(av)

    def _sound_template(self, av: Any) -> Any:
        """A stream for the source's sound, if it has one that MP4 takes as it is."""
        if self._source is None:
            return None
        try:
            with av.open(self._source) as source:
                if source.streams.audio and source.streams.audio[0].codec_context.name in ("aac", "mp3", "ac3", "opus"):
                    return self._container.add_stream_from_template(source.streams.audio[0])
        except (OSError, ValueError, AttributeError):
            pass
        return None

    def close(self, *, copy_sound: bool = True) -> None:
        """Finish the clip."""
        if self._container is None:
            return
        av = _av()
        try:
            self._container.mux(self._stream.encode())
            if copy_sound and self._sound is not None and self._source is not None:
                with av.open(self._source) as source:
                    for packet in source.demux(source.streams.audio[0]):
                        if packet.dts is not None:
                            packet.stream = self._sound
                            self._container.mux(packet)
            self._container.close()
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self._container = None


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise UsageError("videos need PyAV: pip install 'segcli[video]'") from None
    return av


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
