"""Frames as a clip that plays everywhere: H.264 in MP4, with the times that the frames are given, and sound."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from segcli.errors import InputError
from segcli.files.writing import output_error, replace_file
from segcli.inference.video.pyav import failures, line, open_file, pyav

_TICK = Fraction(1, 90_000)  # seconds


class ClipWriter:
    """An H.264 clip in MP4 (VP9 where FFmpeg has no x264), of which every frame is on the disk when the next one is.

    So a run that is killed leaves a clip that plays. `join` makes a plain MP4 of one or several. Raises OutputError.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self._rate = path, rate
        self._container: Any = None
        self._stream: Any = None
        self.first: int | None = None  # the times of the first and the last frame, in ticks
        self.last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, image: np.ndarray, time: float) -> None:
        """Append a frame, uint8 [H, W, 3] RGB, shown from `time` seconds on; odd sides get one more row or column."""
        av = pyav()
        odd = [(0, side % 2) for side in image.shape[:2]]
        image = np.pad(image, (*odd, (0, 0)), mode="edge") if image.shape[0] % 2 or image.shape[1] % 2 else image
        try:
            if self._container is None:
                self._open(image.shape[1], image.shape[0])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            self.last = max(self.last + 1, round(time / _TICK))
            self.first = self.last if self.first is None else self.first
            frame.pts, frame.time_base = self.last, _TICK
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise output_error(self.path, error) from error

    def _open(self, width: int, height: int) -> None:
        av = pyav()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container = av.open(str(self.path), "w", format="mp4", options=options)
        codec = "libx264" if "libx264" in av.codecs_available else "libvpx-vp9"
        self._stream = self._container.add_stream(codec, rate=self._rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _TICK
        x264 = {"crf": "20", "preset": "veryfast", "tune": "zerolatency"}  # which holds no frames back
        self._stream.options = x264 if codec == "libx264" else {"crf": "30", "b:v": "0"}
        context = self._stream.codec_context
        context.gop_size = max(1, round(float(self._rate) * 2))
        for name in ("color_primaries", "color_trc", "colorspace"):
            with contextlib.suppress(AttributeError):
                setattr(context, name, 1)  # BT.709

    def close(self) -> None:
        """Finish the clip."""
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self._container = None


@dataclass(frozen=True)
class Part:
    """A clip of `ClipWriter`."""

    path: Path
    first: int  # the time of its first frame, in ticks, which MP4 does not keep
    last: int  # of the last that is taken


@dataclass(frozen=True)
class Sound:
    """The sound of a clip that goes with its frames."""

    source: str
    begin: float  # seconds of the source that are the first frame's
    length: float | None  # seconds; None for all


def join(parts: Sequence[Part], target: Path, sound: Sound | None = None) -> None:
    """Copy the frames of clips, one after the other, into one that appears whole, its index first.

    Raises InputError for a damaged part, OutputError if the target cannot be written.
    """
    av = pyav()

    def write(path: Path) -> None:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(av.open(str(parts[0].path)))
            out = stack.enter_context(av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}))
            streams = [_frames_of(parts, out.add_stream_from_template(first.streams.video[0]))]
            if sound is not None:
                source = stack.enter_context(open_file(sound.source))
                audio = source.streams.audio[0]
                streams.append(_sound_of(source, audio, out.add_stream_from_template(audio), sound))
            for _, _, packet in heapq.merge(*streams, key=lambda entry: entry[:2]):
                out.mux(packet)

    try:
        replace_file(target, write)
    except failures() as error:
        if isinstance(error, OSError):
            raise output_error(target, error) from error
        reason = f"damaged ({line(error)}); predict the clip again with --overwrite"
        raise InputError(f"{parts[0].path}: {reason}") from error


def _frames_of(parts: Sequence[Part], stream: Any) -> Iterator[tuple[float, int, Any]]:
    for part in parts:
        with pyav().open(str(part.path)) as clip:
            for packet in clip.demux(clip.streams.video[0]):
                if packet.dts is None:
                    break
                ticks = part.first + round(packet.dts * packet.time_base / _TICK)  # no frame refers to a later one
                if ticks > part.last:
                    break
                packet.pts = packet.dts = ticks
                packet.time_base, packet.stream = _TICK, stream
                yield float(ticks * _TICK), 0, packet


def _sound_of(source: Any, audio: Any, stream: Any, sound: Sound) -> Iterator[tuple[float, int, Any]]:
    """Packets of sound, moved to the frames' times; a damaged rest is left out."""
    shift = round(sound.begin / audio.time_base)
    try:
        for packet in source.demux(audio):
            if packet.dts is None or packet.dts < shift:
                continue
            time = float((packet.dts - shift) * audio.time_base)
            if sound.length is not None and time >= sound.length:
                return
            packet.dts -= shift
            packet.pts = packet.pts - shift if packet.pts is not None else packet.dts
            packet.stream = stream
            yield time, 1, packet
    except failures():
        return
