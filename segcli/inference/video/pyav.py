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


def failures() -> tuple[type[Exception], ...]:
    """What PyAV raises for data and files that are not as they should be."""
    return (pyav().error.FFmpegError, OSError, ValueError)


def line(error: BaseException) -> str:
    """An error in one short line, without the name of the file, which whoever tells it knows."""
    if strerror := getattr(error, "strerror", None):
        return str(strerror)[:1].lower() + str(strerror)[1:160]
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
