"""PyAV, which brings FFmpeg: the extra `video`."""

from __future__ import annotations

from typing import Any

from segcli.errors import UsageError


def pyav() -> Any:
    """The package. Raises UsageError if it is not installed."""
    try:
        import av
    except ImportError:
        raise UsageError("videos need PyAV: pip install 'segcli[video]'") from None
    return av


MAX_PIXELS = 100_000_000
"""Frames with more are refused before they are decoded: four times 8K is 133 million, and nobody films that."""

# What a file may be, whatever its name says. FFmpeg looks at the content, and there are playlists and session
# descriptions among its formats, which make it read other files or connect to other machines.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,dv,h264,hevc,m4v,ivf"
_LOCAL = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_REMOTE = {"protocol_blacklist": "file,fd,pipe,concat,concatf,subfile,cache,async"}  # a server names no files of here


def open_file(path: str) -> Any:
    """The container of a video file. Raises UsageError without PyAV, and `failures`."""
    return _bounded(path, _LOCAL)


def open_remote(url: str, options: dict[str, str], timeout: float) -> Any:
    """The container of what a server sends. options: FFmpeg's. Raises as `open_file`."""
    return _bounded(url, _REMOTE | options, timeout=timeout)


def _bounded(source: str, options: dict[str, str], **how: Any) -> Any:
    most = {"max_pixels": str(MAX_PIXELS)}
    container = pyav().open(source, options=options | most, **how)
    for stream in container.streams.video:
        if stream.codec_context is not None:  # it is, of a codec that FFmpeg does not know
            stream.codec_context.options = most
    return container


def failures() -> tuple[type[Exception], ...]:
    """What PyAV raises for data and files that are not as they should be."""
    return (pyav().error.FFmpegError, OSError, ValueError)


def line(error: BaseException) -> str:
    """An error in one short line, without the name of the file, which whoever tells it knows."""
    if strerror := getattr(error, "strerror", None):
        return str(strerror)[:1].lower() + str(strerror)[1:160]
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def own_decoder(stream: Any) -> Any:
    """What decodes a stream: FFmpeg's decoders of VP8 and VP9 leave transparency out, those of libvpx do not."""
    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") != "1" or library not in pyav().codecs_available:
        return stream.codec_context
    return pyav().CodecContext.create(library, "r")


def stated_length(stream: Any) -> float | None:
    """How many seconds of a stream there were when it was written, where Matroska and WebM say it."""
    for name, value in stream.metadata.items():
        if name.startswith("DURATION") and value.count(":") == 2:
            try:
                hours, minutes, seconds = map(float, value.split(":"))
            except ValueError:
                return None
            return 3600 * hours + 60 * minutes + seconds
    return None
