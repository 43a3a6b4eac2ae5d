"""Cameras and streams: which sources are some, how they are opened, and what is wrong when they are not."""

from __future__ import annotations

import errno
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from segcli.errors import InputError, UsageError
from segcli.inference.video.pyav import failures, line, open_file, open_remote, pyav

SILENCE = 15.0  # seconds without data after which a stream has ended
_SILENT = "nothing came for {:g} seconds"
_CAMERA = re.compile(r"camera:(\d+)")
_STREAM = re.compile(r"(rtsps?|rtmps?|rtp|srt|udp|tcp)://.+")
_HTTP = re.compile(r"https?://.+", re.IGNORECASE)
_PLAYLISTS = (".mjpg", ".mjpeg", ".m3u8", ".mpd")  # suffixes of streams over HTTP
_VIDEO_TYPES = ("multipart/x-mixed-replace", "application/vnd.apple.mpegurl", "application/x-mpegurl")
_PASSWORD = re.compile(r"(?<=://)[^/?#]*@")


def is_camera(name: str) -> bool:
    """Whether a source is a camera of this machine, such as camera:0."""
    return bool(_CAMERA.fullmatch(name))


def is_stream(name: str) -> bool:
    """Whether a source's scheme is one of streams, such as rtsp://."""
    return bool(_STREAM.fullmatch(name))


def is_http(name: str) -> bool:
    """Whether a source is behind http:// or https://."""
    return bool(_HTTP.fullmatch(name))


def is_endless(name: str, container: Any) -> bool:
    """Whether a server says neither how long its video is nor how many bytes it has."""
    return is_http(name) and container.duration is None and container.size <= 0


def sends_video(url: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a URL is of a video or a stream: by its suffix, or, if it has none, by what the server says it is.

    Raises InputError for a server that says nothing.
    """
    import urllib.request

    path = url.partition("?")[0].lower()
    if path.endswith((*suffixes, *_PLAYLISTS)):
        return True
    if path.endswith("/") or "." in path.rpartition("/")[2]:
        return False
    try:
        with urllib.request.urlopen(url, timeout=SILENCE) as answer:
            kind = str(answer.headers.get_content_type())
    except TimeoutError as error:
        raise InputError(f"{without_password(url)}: {_SILENT.format(SILENCE)}") from error
    except (OSError, ValueError):
        return False  # whoever opens it says why it cannot be
    return kind.startswith("video/") or kind in _VIDEO_TYPES


def without_password(name: str) -> str:
    """A source as it may be shown and recorded: rtsp://me:secret@host/1 -> rtsp://host/1."""
    return _PASSWORD.sub("", name)


def open_source(name: str) -> Any:
    """PyAV's container of a file, a camera or a stream. Raises InputError with what is wrong."""
    remote = "://" in name
    begun = time.monotonic()
    try:
        if is_camera(name):
            source, how = _camera(name)
            return pyav().open(source, **how)
        if not remote:
            return open_file(name)
        # Over UDP, which FFmpeg would try first, packets get lost and firewalls let none through.
        options = {"rtsp_flags": "prefer_tcp"} if name.startswith("rtsp") else {}
        return _interruptible(lambda: open_remote(name, options, SILENCE))
    except failures() as error:
        what = "camera" if is_camera(name) else "stream" if remote else "video"
        reason = _why_no_camera(error) if is_camera(name) else why(error) if remote else _why_no_file(error, name)
        if remote and time.monotonic() - begun >= SILENCE:  # RTSP's reader calls that invalid data
            reason = _SILENT.format(SILENCE)
        remedy = "; it is damaged or no video, copy it again" if "invalid data" in reason and what == "video" else ""
        raise InputError(f"{without_password(name)}: cannot be opened as a {what} ({reason}){remedy}") from error


def _interruptible(work: Callable[[], Any]) -> Any:
    """The result of work that waits for a network outside of Python, where Ctrl-C would not be heard."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="segcli-open", daemon=True).start()
    return done.result()


def _camera(name: str) -> tuple[str, dict[str, Any]]:
    """What PyAV opens a camera by."""
    number = name.partition(":")[2]
    if sys.platform == "darwin":
        return f"{number}:none", {"format": "avfoundation", "options": {"framerate": "30"}}
    if sys.platform == "win32":
        raise UsageError(f"{name}: cameras are read on Linux and macOS; on Windows give a stream such as rtsp://…")
    return f"/dev/video{number}", {"format": "v4l2"}


def why(error: BaseException) -> str:
    """What PyAV raised, in a few words."""
    return _SILENT.format(SILENCE) if isinstance(error, pyav().error.ExitError) else line(error)


def _why_no_file(error: BaseException, name: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if Path(name).is_file() and not Path(name).stat().st_size:
        return "the file is empty"
    return "its end is missing; copy it again" if isinstance(error, pyav().error.EOFError) else line(error)


def _why_no_camera(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EBUSY:
        return "another program is using it"
    if number in (errno.EACCES, errno.EPERM):
        return "permission denied; add your user to the group video, or allow the terminal to use the camera"
    if number == errno.ENOENT and sys.platform.startswith("linux"):
        found = sorted(Path("/dev").glob("video[0-9]*"), key=lambda path: (len(path.name), path.name))
        names = ", ".join(f"camera:{path.name.removeprefix('video')}" for path in found)
        return f"it does not exist; there are {names}" if names else "this machine has no camera"
    return line(error)
