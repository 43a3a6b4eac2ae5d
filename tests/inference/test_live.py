"""Cameras and streams: frames arrive as they are shown, and an end that nobody planned is told."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest

from segcli.errors import InputError
from segcli.inference.video import live
from segcli.inference.video.clip import Clip, is_clip
from tests.inference.test_odd_clips import FRAMES, write
from tests.streams import serving

av = pytest.importorskip("av")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 0.4)


@pytest.mark.parametrize("source", ["http:/cam", "http:/live.ts?key=1", "rtsp:/1"])
def test_frames_of_a_stream_arrive(source: str) -> None:
    scheme, path = source.split(":")
    with serving(scheme) as address:
        name = address + path
        assert is_clip(name)
        with Clip(name.replace("//", "//me:secret@")) as clip:
            assert (clip.is_live, clip.keeps_up, clip.count, clip.sound, clip.name) == (True, True, None, None, name)
            frames = list(islice(clip, 30))
    assert [frame.number for frame in frames] == list(range(30))
    times = [frame.time for frame in frames]
    assert times[0] == 0
    assert times == sorted(times)  # also those that FFmpeg's reader of RTSP leaves out
    for frame in frames:  # a red square of 16 columns over black
        red = frame.image[24, :, 0] > 128
        assert (frame.image.shape, frame.error) == ((48, 64, 3), None)
        assert red.sum() == pytest.approx(16, abs=3)


@pytest.mark.parametrize("source", ["http:/cam", "rtsp:/1"])
def test_a_stream_that_falls_silent_ends(source: str) -> None:
    scheme, path = source.split(":")
    with serving(scheme, frames=25) as address, Clip(address + path) as clip:
        frames = list(clip)
        assert len(frames) > 10
        assert clip.damage == "nothing came for 0.4 seconds"


def test_a_file_behind_a_url_is_no_stream(tmp_path: Path) -> None:
    """MPEG-TS does not say how long it is, but the server says how many bytes there are."""
    write(tmp_path / "clip.ts", "libx264", "yuv420p")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Clip(f"http://127.0.0.1:{server.server_address[1]}/clip.ts") as clip:
            assert (clip.is_live, clip.keeps_up, len(list(clip))) == (False, False, FRAMES)
        server.shutdown()


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=f"^rtsp://{address}/1: cannot be opened as a stream .nothing came for"):
            Clip(f"rtsp://me:secret@{address}/1")
        with pytest.raises(InputError, match=f"^http://{address}/cam: nothing came for 0.4 seconds"):
            is_clip(f"http://{address}/cam")
    with pytest.raises(InputError, match=f"^rtsp://{address}/1: cannot be opened as a stream .connection refused"):
        Clip(f"rtsp://me:secret@{address}/1")


def test_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's test picture, 25 times a second, in place of a device."""
    device = ("testsrc=size=64x48:rate=25,realtime", {"format": "lavfi"})
    monkeypatch.setattr(live, "_camera", lambda name: device)
    before = time.monotonic()
    with Clip("camera:0", end=0.2) as clip:
        frames = list(clip)
    assert [round(frame.time, 2) for frame in frames] == [0, 0.04, 0.08, 0.12, 0.16]
    assert frames[0].image.std() > 50
    assert time.monotonic() - before > 0.1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.ENOENT, "this machine has no camera|it does not exist; there are camera:"),
        (errno.EBUSY, "another program is using it"),
        (errno.EACCES, "permission denied; add your user to the group video"),
        (errno.EIO, "input/output error"),
    ],
)
def test_why_a_camera_cannot_be_opened(error: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error), "/dev/video9")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(InputError, match=rf"^camera:9: cannot be opened as a camera \(({said})"):
        Clip("camera:9")
