"""Clips as the world makes them: every kind is read as what a player shows, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.errors import InputError
from segcli.inference.video.clip import Clip, is_clip

av = pytest.importorskip("av")
FRAMES = 6


def picture(number: int, height: int, width: int) -> np.ndarray:
    """RGBA: a red square that moves over blue; the right half is see-through, and green beneath."""
    image = np.zeros((height, width, 4), dtype=np.uint8)
    image[..., 2:] = 255
    image[:, width // 2 :] = (0, 200, 0, 0)
    image[height // 3 : 2 * height // 3, 2 + number : 2 + number + width // 4] = (255, 0, 0, 255)
    return image


def write(path: Path, codec: str, form: str, size: tuple[int, int] = (48, 64), frames: int = FRAMES) -> Path:
    """A clip of `picture`s in a codec and a pixel format."""
    see_through = form in ("rgba", "argb") or "yuva" in form
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, form
        for number in range(frames):
            pixels = picture(number, *size)
            pixels = pixels if see_through else np.ascontiguousarray(pixels[..., :3])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if see_through else "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


CODECS = [
    ("a.mkv", "ffv1", "yuv444p", (101, 151)),
    ("a.avi", "mjpeg", "yuvj444p", (101, 151)),
    ("a.mp4", "libx264", "yuv420p10le", (48, 64)),
    ("b.mp4", "libx264", "yuvj420p", (48, 64)),
    ("b.mkv", "ffv1", "yuv422p12le", (48, 64)),
    ("c.mkv", "ffv1", "gray", (48, 64)),
    ("d.mkv", "ffv1", "gray16le", (48, 64)),
    ("a.mpg", "mpeg2video", "yuv420p", (48, 64)),
    ("a.M2TS", "libx264", "yuv420p", (48, 64)),
    ("a.wmv", "wmv2", "yuv420p", (48, 64)),
    ("a.flv", "flv", "yuv420p", (48, 64)),
    ("a.3gp", "h263", "yuv420p", (144, 176)),
    ("a.mov", "qtrle", "argb", (48, 64)),
    ("b.mov", "prores_ks", "yuva444p10le", (48, 64)),
    ("a.webm", "libvpx-vp9", "yuva420p", (48, 64)),
]


@pytest.mark.parametrize(("name", "codec", "form", "size"), CODECS)
def test_every_kind_is_read_as_it_looks(
    name: str, codec: str, form: str, size: tuple[int, int], tmp_path: Path
) -> None:
    if codec not in av.codecs_available:  # an encoder, to make the clip: it depends on how FFmpeg was built
        pytest.skip(f"FFmpeg has no {codec} here")
    path = write(tmp_path / name, codec, form, size)
    assert is_clip(str(path))
    with Clip(str(path)) as clip:
        frames = list(clip)
        assert (len(frames), clip.damage) == (FRAMES, None)
    assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(FRAMES)], abs=2e-3)
    for number, frame in enumerate(frames):
        wanted = picture(number, *size).astype(int)
        wanted = np.where(wanted[..., 3:] == 255, wanted[..., :3], 255 if "a" in form[:4] else wanted[..., :3])
        if form.startswith("gray"):  # which has an a, but no transparency
            wanted = picture(number, *size)[..., :3] @ np.array([0.299, 0.587, 0.114])
            wanted = np.repeat(wanted[..., None], 3, axis=2)
        assert frame.image.shape == (*size, 3)
        assert np.abs(frame.image - wanted).mean() < 12


def test_one_frame_and_none(tmp_path: Path) -> None:
    with Clip(str(write(tmp_path / "one.mp4", "libx264", "yuv420p", frames=1))) as clip:
        assert [frame.number for frame in clip] == [0]
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (tmp_path / "empty.mp4").touch()
    for name, said in (
        ("sound", "has no video stream, only sound"),
        ("empty", "the file is empty"),
        ("no", "no such file"),
    ):
        with pytest.raises(InputError, match=rf"/{name}\.mp4: .*{said}"):
            Clip(str(tmp_path / f"{name}.mp4"))


@pytest.mark.parametrize("name", ["cut.mkv", "cut.webm", "cut.mp4", "cut.avi"])
def test_a_clip_whose_end_is_missing(name: str, tmp_path: Path) -> None:
    """What is there is read, and what is not is told, where the file says how much there was; an MP4 without its index,
    which comes last, cannot be read at all."""
    codec = {"cut.webm": "libvpx-vp9", "cut.mp4": "libx264", "cut.avi": "mjpeg"}.get(name, "ffv1")
    path = write(tmp_path / name, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", frames=20)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    if name == "cut.mp4":
        with pytest.raises(InputError, match=r"cut\.mp4: .*its (end|index).*missing"):
            Clip(str(path))
        return
    with Clip(str(path)) as clip:
        assert 1 <= len(list(clip)) < 20
        assert clip.damage


@pytest.mark.parametrize(("name", "disposal"), [("a.gif", 1), ("b.gif", 2), ("a.webp", None)])
def test_animations_are_over_white_as_photos_are(name: str, disposal: int | None, tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture(4 * number, 48, 64)) for number in range(4)]
    how = {"lossless": True} if disposal is None else {"disposal": disposal}
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=[40, 80, 40, 200], **how)
    with Clip(str(tmp_path / name)) as clip:
        frames = list(clip)
    assert [round(frame.time, 2) for frame in frames] == [0.0, 0.04, 0.12, 0.16]
    for number, frame in enumerate(frames):
        red = (frame.image[24] == (255, 0, 0)).all(1)
        shown = np.flatnonzero(red)
        assert (shown[0], shown[-1]) == (2 + 4 * number, 17 + 4 * number)
        assert frame.image[2, -2].tolist() == [255, 255, 255]
