"""Live sources on loopback: MJPEG and MPEG-TS over HTTP, and an RTSP server of H.264 over its own connection."""

from __future__ import annotations

import contextlib
import io
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

PAUSE = 0.005  # seconds between two frames


def picture(number: int) -> np.ndarray:
    """A red square that moves over black."""
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[16:32, 2 + number % 40 : 18 + number % 40, 0] = 255
    return image


def packets() -> Iterator[Any]:
    """H.264 of the pictures without end, a key frame in ten."""
    import av

    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 64, 48, "yuv420p", 25
    context.time_base, context.gop_size = 1 / context.framerate, 10
    context.options = {"tune": "zerolatency", "preset": "ultrafast"}
    number = 0
    while True:
        yield from context.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24"))
        number += 1


class _Http(BaseHTTPRequestHandler):
    frames: int | None = None  # after which it falls silent

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        mjpeg = "ts" not in self.path
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame" if mjpeg else "video/mp2t")
        self.end_headers()
        with contextlib.suppress(Exception):  # by which PyAV says that the client has gone
            (self._mjpeg if mjpeg else self._mpegts)()

    def _mjpeg(self) -> None:
        for number in self._turns():
            data = io.BytesIO()
            Image.fromarray(picture(number)).save(data, "jpeg", quality=95)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
            self.wfile.write(head.encode() + data.getvalue() + b"\r\n")

    def _mpegts(self) -> None:
        import av

        with av.open(self, "w", format="mpegts") as out:
            stream = out.add_stream("libx264", rate=25, options={"tune": "zerolatency", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in self._turns():
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))

    def write(self, data: bytes) -> int:
        """What PyAV writes to."""
        return self.wfile.write(data)

    def _turns(self) -> Iterator[int]:
        yield from turns(self.frames)


def turns(frames: int | None) -> Iterator[int]:
    """Numbers at the pace of the pictures; after `frames` a silence that outlasts a test's patience."""
    number = 0
    while frames is None or number < frames:
        yield number
        number += 1
        time.sleep(PAUSE)
    time.sleep(3)


class _Rtsp(socketserver.StreamRequestHandler):
    """What a client of RTSP asks for, and RTP in the same connection once it has asked for PLAY."""

    frames: int | None = None

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while request := self.rfile.readline():
                fields = dict(line.split(": ", 1) for line in iter(lambda: self.rfile.readline().decode().strip(), ""))
                if self._answer(request.decode().split()[0], fields) == "PLAY":
                    self._play()

    def _answer(self, verb: str, fields: dict[str, str]) -> str:
        head, body = {"CSeq": fields["CSeq"], "Session": "1"}, ""
        code = "200 OK"
        if verb == "OPTIONS":
            head["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
        elif verb == "DESCRIBE":
            body = (
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            )
            head |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
        elif verb == "SETUP":
            tcp = "RTP/AVP/TCP" in fields["Transport"]
            code = code if tcp else "461 Unsupported Transport"
            head["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.wfile.write(f"RTSP/1.0 {code}\r\n{lines}\r\n{body}".encode())
        return verb

    def _play(self) -> None:
        """RFC 6184, a NAL unit a packet; from the middle of a group of pictures, as a camera's client meets it."""
        sequence, encoded = 0, packets()
        for number, packet in zip(turns(self.frames), encoded, strict=False):
            units = [unit for unit in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
            for place, unit in enumerate(units if number > 3 else []):
                last = place == len(units) - 1
                head = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence & 0xFFFF, number * 3600, 7)
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(head) + len(unit)) + head + unit)
                sequence += 1


@contextlib.contextmanager
def serving(scheme: str, frames: int | None = None) -> Iterator[str]:
    """The address, host and port, of a server that falls silent after so many frames."""
    handler = type("Handler", (_Rtsp if scheme == "rtsp" else _Http,), {"frames": frames})
    kind: Callable[..., Any] = socketserver.ThreadingTCPServer if scheme == "rtsp" else ThreadingHTTPServer
    server = kind(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
