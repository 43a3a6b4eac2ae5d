"""Clips: what is decoded, what is written, and that an object keeps its id."""

from __future__ import annotations

import csv
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.panoptic_png import read_panoptic_png
from segcli.codecs.rle import RLE, encode
from segcli.errors import InputError, UsageError
from segcli.inference.predict import resolve
from segcli.inference.video.ahead import Ahead
from segcli.inference.video.clip import Clip, is_clip
from segcli.inference.video.encoding import ClipWriter
from segcli.inference.video.kinds import ClipRun, FrameAnswer, IdMaps
from segcli.inference.video.predict_clip import FrameReport, clip_stem, predict_clip
from segcli.inference.video.tally import Tally
from segcli.inference.video.tracking import Tracker
from segcli.render import Style
from segcli.segments import Segments
from tests.fakes import LABELS, FakeLoaded

av = pytest.importorskip("av")


def write_clip(path: Path, times: list[float], size: tuple[int, int] = (48, 64)) -> Path:
    """A red square that moves to the right over black."""
    with ClipWriter(path, Fraction(25)) as clip:
        for number, time in enumerate(times):
            image = np.zeros((*size, 3), dtype=np.uint8)
            image[16:32, 2 + number : 18 + number, 0] = 255
            clip.write(image, time)
    return path


def test_times_and_colours_come_back(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.24, 0.9]  # of a variable rate
    with Clip(str(write_clip(tmp_path / "clip.mp4", times))) as clip:
        frames = list(clip)
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    red = frames[0].image[24, 10].astype(int)
    assert red[0] > 200 > 60 > red[1:].max()
    with Clip(str(tmp_path / "clip.mp4"), every=2, start=0.1, end=0.5) as clip:
        assert [frame.number for frame in clip] == [2]


def test_hd_colours_are_those_of_hdtv(tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "hd.mp4", Fraction(25)) as clip:
        clip.write(np.full((720, 64, 3), (20, 200, 60), dtype=np.uint8), 0.0)
    with Clip(str(tmp_path / "hd.mp4")) as clip:
        (frame,) = clip
    assert np.abs(frame.image[300, 30].astype(int) - (20, 200, 60)).max() <= 6


def test_a_killed_run_leaves_a_clip_that_plays(tmp_path: Path) -> None:
    clip = ClipWriter(tmp_path / "clip.mp4", Fraction(5))
    for number in range(60):
        clip.write(np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8), number / 5)
    (tmp_path / "left.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes())
    clip.close()
    with Clip(str(tmp_path / "left.mp4")) as left:
        assert len(list(left)) >= 10


def test_numbered_frames_and_animations(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        Image.new("RGB", (32, 32), (number * 20, 0, 0)).save(tmp_path / f"f{number}.png")
    pattern = str(tmp_path / "f%d.png")
    assert is_clip(pattern)
    with Clip(pattern, fps=10) as clip:
        assert clip.count == 3
        assert [(frame.time, int(frame.image[0, 0, 0])) for frame in clip] == [(0.0, 20), (0.1, 40), (0.2, 200)]
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert is_clip(str(tmp_path / "a.gif"))
    assert not is_clip(str(tmp_path / "f1.png"))
    with Clip(str(tmp_path / "a.gif")) as clip:
        assert [round(frame.time, 2) for frame in clip] == [0.0, 0.1]
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=[100, 50])
    with Clip(str(tmp_path / "a.webp")) as clip:  # which FFmpeg does not read
        assert [(frame.time, int(frame.image[0, 0].argmax())) for frame in clip] == [(0.0, 0), (0.1, 2)]
    with pytest.raises(InputError, match=r"no\.mp4: cannot be opened as a video"):
        Clip(str(tmp_path / "no.mp4"))


KINDS = ("overlay", "json", "png", "coco", "coco-panoptic", "csv")


def predicted(clip: Clip, out: Path, kinds: tuple[str, ...] = KINDS, **options: Any) -> list[FrameReport]:
    loaded = FakeLoaded()
    run = ClipRun(clip, out, "clip", kinds, "panoptic", LABELS, Style(), {"model": "fake"})
    return list(predict_clip(loaded, resolve(loaded.spec, "panoptic"), run, **options))  # type: ignore[arg-type]


def files(out: Path) -> dict[str, bytes]:
    """All but the overlay, whose key frames depend on where a run was interrupted."""
    found = (path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".mp4")
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def test_a_clip_is_predicted(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", [number / 25 for number in range(12)])
    out = tmp_path / "out"
    with Clip(str(tmp_path / "clip.mp4")) as clip:
        reports = predicted(clip, out)
    assert [report.number for report in reports] == list(range(12))
    rows = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert [row["time"] for row in rows] == pytest.approx([number / 25 for number in range(12)], abs=1e-3)
    assert [row["segments"] for row in rows] == [report.segments for report in reports]
    [red] = {row["id"] for line in rows for row in line["segments"] if row["category_name"] == "red"}
    with Clip(str(out / "clip.overlay.mp4")) as clip:
        assert [frame.time for frame in clip] == pytest.approx([number / 25 for number in range(12)], abs=1e-3)
    first = np.array(Image.open(out / "clip.ids" / "000000.png"))
    assert set(np.unique(first)) - {0} == {row["id"] for row in rows[0]["segments"]}
    table = (out / "clip.segments.csv").read_text().splitlines()
    assert table[0].startswith("frame,time,id,category_id,category_name,score,area,x,y")
    assert len(table) == 1 + sum(len(row["segments"]) for row in rows)
    assert {row["border"] for row in csv.DictReader(table)} <= {"0", "1"}
    assert json.loads((out / "clip.video.json").read_text())["clip"] == {"model": "fake"}
    assert not list(out.glob("*partial*"))

    tracks = json.loads((out / "clip.youtube-vis.json").read_text())
    [own] = [track for track in tracks if track["category_id"] == 3]
    assert (own["video_id"], len(own["segmentations"])) == ("clip", 12)
    assert np.array_equal(RLE.from_coco(own["segmentations"][5]).decode(), np.array(ids_of(out, 5)) == red)
    vipseg = json.loads((out / "clip.vipseg.json").read_text())
    [video] = vipseg["annotations"]
    assert [entry["file_name"] for entry in video["annotations"]][:2] == ["000000.png", "000001.png"]
    assert video["annotations"][5]["segments_info"][0].keys() >= {"id", "category_id", "area", "bbox", "iscrowd"}
    assert len(vipseg["videos"][0]["images"]) == 12
    assert np.array_equal(read_panoptic_png(out / "clip.panoptic" / "000005.png"), ids_of(out, 5))


def ids_of(out: Path, number: int) -> np.ndarray:
    return np.array(Image.open(out / "clip.ids" / f"{number:06d}.png")).astype(np.int32)


def test_what_the_files_of_a_clip_are_called() -> None:
    names = [
        "a/clip.v2.mp4",
        "camera:0",
        "frames/%06d.png",
        "rtsp://me:secret@host:554/cam/1?x=2",
        "https://h/a/b.mp4?t=1",
    ]
    assert [clip_stem(name) for name in names] == ["clip.v2", "camera-0", "frames", "host-554-cam-1", "b"]


def test_a_folder_that_is_named_by_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walk" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "walk" / "in")
    assert [clip_stem(name) for name in (".", "..", "%d.png", ".hidden.mp4")] == ["in", "walk", "in", "hidden"]


def test_masks_lie_in_the_lines_if_nowhere_else(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", [0.0])
    with Clip(str(tmp_path / "clip.mp4")) as clip:
        [report] = predicted(clip, tmp_path, ("json",))
    assert all(RLE.from_coco(row["segmentation"]).area == row["area"] for row in report.segments)


@pytest.mark.parametrize("at", [0, 5, 11])
def test_an_interrupted_clip_is_continued(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that stops while it is at a frame stands for a process that is killed there."""
    monkeypatch.setattr("segcli.inference.video.progress._EVERY", 0)
    write_clip(tmp_path / "clip.mp4", [number / 25 for number in range(12)])
    write = IdMaps.write
    tallies = {"whole": Tally(), "cut": Tally()}
    for out, stop in ((tmp_path / "whole", None), (tmp_path / "cut", at)):
        with monkeypatch.context() as patch, Clip(str(tmp_path / "clip.mp4")) as clip:

            def fail(kind: IdMaps, answer: FrameAnswer, stop: int | None = stop) -> None:
                if answer.place == stop:
                    raise KeyboardInterrupt
                write(kind, answer)

            patch.setattr(IdMaps, "write", fail)
            with pytest.raises(KeyboardInterrupt) if stop is not None else nullcontext():
                predicted(clip, out, tally=tallies[out.name] if stop is None else None)
    assert not (tmp_path / "cut" / "clip.jsonl").exists()
    with Clip(str(tmp_path / "clip.mp4")) as clip:
        again = predicted(clip, tmp_path / "cut", resume=True, tally=tallies["cut"])
    assert tallies["cut"].state() == tallies["whole"].state()
    assert (tallies["cut"].frames, tallies["cut"].earlier) == (12, 12 - len(again))
    assert len(again) == (12 if at == 0 else 12 - at + 1)  # the overlay may lack the frame before
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    with Clip(str(tmp_path / "cut" / "clip.overlay.mp4")) as clip:
        assert [frame.time for frame in clip] == pytest.approx([number / 25 for number in range(12)], abs=1e-3)


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "clip.partial.state.json").write_text(
        json.dumps({"run": {"save": list(KINDS), "model": "other"}, "frames": 1, "last": 0, "complete": False})[:-1]
        + ', "first": 0.0, "tracker": {}, "tally": {}, "kinds": {}}'
    )
    write_clip(tmp_path / "clip.mp4", [0.0])
    with Clip(str(tmp_path / "clip.mp4")) as clip, pytest.raises(UsageError, match="another model"):
        predicted(clip, tmp_path, resume=True)


def test_damage_costs_what_is_damaged(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "clip.mp4", [number / 25 for number in range(30)]).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    with Clip(str(tmp_path / "cut.mp4")) as clip:
        found = list(clip)
    assert 15 <= len(found) < 30
    Image.new("RGB", (32, 32)).save(tmp_path / "f0.png")
    (tmp_path / "f1.png").write_bytes(b"no picture")
    Image.new("RGB", (32, 48)).save(tmp_path / "f2.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "f3.png")
    with Clip(str(tmp_path / "f%d.png")) as clip:
        reports = predicted(clip, tmp_path / "out", ("json", "coco"))
    assert [bool(report.error) for report in reports] == [False, True, True, False]
    assert "f2.png: is 32×48, the first is 32×32" in str(reports[2].error)
    tracks = json.loads((tmp_path / "out" / "clip.youtube-vis.json").read_text())
    assert [bool(mask) for mask in tracks[0]["segmentations"]] == [True, False, False, True]


def test_a_file_of_video_can_name_no_other(tmp_path: Path) -> None:
    """FFmpeg goes by the content, and would follow a list of files that is called a video."""
    write_clip(tmp_path / "clip.mp4", [0.0])
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(InputError, match="cannot be opened as a video"):
        Clip(str(tmp_path / "list.mp4"))


def test_clips_that_ffmpeg_cannot_read_to_the_end(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "clip.mp4", [0.0, 0.04]).read_bytes()
    (tmp_path / "codec.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match="a video codec that FFmpeg does not know"):
        Clip(str(tmp_path / "codec.mp4"))


def test_a_name_with_a_percent_sign_is_no_pattern(tmp_path: Path) -> None:
    """`my%20dog.jpg` is what a browser saves."""
    for name in ("%03d.png", "my%20dog.jpg", "50%dark.png"):
        (tmp_path / name).touch()
        assert not is_clip(str(tmp_path / name))
    assert not is_clip("https://host/my%20dog.jpg")
    assert is_clip(str(tmp_path / "%06d.png"))
    assert is_clip(str(tmp_path / "%5d.png"))


def test_frames_of_16_bits_are_scaled_alike(tmp_path: Path) -> None:
    """A clip must not flicker where its brightest pixel crosses a depth; a model may say what black and white are."""
    for number, most in enumerate((1000, 1100)):
        ramp = np.linspace(0, most, 64 * 64).reshape(64, 64).astype(np.uint16)
        ramp[:32, :32] = 500
        Image.fromarray(ramp).save(tmp_path / f"{number}.png")
    with Clip(str(tmp_path / "%d.png")) as clip:
        assert [int(frame.image[0, 0, 0]) for frame in clip] == [500 >> 4] * 2
    with Clip(str(tmp_path)) as clip:
        clip.levels = (0, 1250)
        assert [int(frame.image[0, 0, 0]) for frame in clip] == [102] * 2
        clip.max_pixels = 1000
        assert all("--max-pixels" in str(frame.error) for frame in clip)


def test_frames_too_large_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip.mp4", [0.0])
    header = b"GIF89a" + struct.pack("<HH", 65500, 65500) + b"\0\0\0"
    frame = b"\x21\xf9\x04\0\x04\0\0\0" + b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02D\x01\0"
    (tmp_path / "a.gif").write_bytes(header + frame * 2 + b";")
    with pytest.raises(InputError, match=r"65500|pixels"):
        Clip(str(tmp_path / "a.gif"))
    monkeypatch.setattr("segcli.inference.video.pyav.MAX_PIXELS", 1000)
    with Clip(str(tmp_path / "clip.mp4")) as clip, pytest.raises(InputError, match="no frame can be decoded"):
        predicted(clip, tmp_path / "out")
    assert files(tmp_path / "out") == {}


def test_pictures_numbered_in_signs_of_every_kind(tmp_path: Path) -> None:
    for name in ("1\u00b22", "1", "10", "\u00b2", "2"):  # a superscript is a digit to Python, and no number
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    with Clip(str(tmp_path)) as clip:
        assert len(list(clip)) == 5


def test_a_phone_held_upright(tmp_path: Path) -> None:
    """The matrix in the track's header says that the frames are turned by 90°."""
    data = write_clip(tmp_path / "clip.mp4", [0.0, 0.04]).read_bytes()
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    header = data.index(b"tkhd")
    place = data.index(plain, header)
    (tmp_path / "turned.mp4").write_bytes(data[:place] + turned + data[place + len(plain) :])
    with Clip(str(tmp_path / "clip.mp4")) as before, Clip(str(tmp_path / "turned.mp4")) as after:
        for one, other in zip(before, after, strict=True):
            assert np.array_equal(np.rot90(one.image, -1), other.image)  # clockwise


def test_sound_goes_along(tmp_path: Path) -> None:
    write_clip(tmp_path / "mute.mp4", [number / 25 for number in range(50)])
    with av.open(str(tmp_path / "mute.mp4")) as mute, av.open(str(tmp_path / "clip.mp4"), "w") as out:
        video, sound = out.add_stream_from_template(mute.streams.video[0]), out.add_stream("aac", rate=16_000)
        for packet in mute.demux(mute.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for number in range(32):
            tone = (8000 * np.sin(np.arange(1000) / 5)).astype(np.float32).reshape(1, -1) / 32768
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, number * 1000
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    with Clip(str(tmp_path / "clip.mp4"), start=0.5, end=1.5) as clip:
        assert (clip.sound, clip.keeps_sound) == ("aac", True)
        predicted(clip, tmp_path / "out", ("overlay",))
    with av.open(str(tmp_path / "out" / "clip.overlay.mp4")) as made:
        seconds = [float(packet.dts * packet.time_base) for packet in made.demux(audio=0) if packet.dts is not None]
    assert seconds[0] == pytest.approx(0, abs=0.1)
    assert seconds[-1] == pytest.approx(1, abs=0.1)


def test_a_stream_that_is_too_fast_is_thinned_out() -> None:
    taken = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        taken.wait(5)
        yield from range(1, 100)

    ahead = Ahead(source(), 1, newest=True)
    found = []
    for number in ahead:
        found.append(number)
        taken.set()
        while number == 0 and ahead.left_out < 98:
            time.sleep(0.001)
    assert found == [0, 99]
    assert list(Ahead(range(100), 4)) == list(range(100))


def things(*boxes: tuple[int, int, int, int]) -> Segments:
    """Red rectangles x0, y0, x1, y1 in a frame of 40×100."""
    rles = []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros((40, 100), dtype=bool)
        mask[y0:y1, x0:x1] = True
        rles.append(encode(mask))
    count = len(boxes)
    return Segments(
        "instance", (40, 100), LABELS, np.zeros(count, int), np.full(count, 0.9, np.float32), rles=tuple(rles)
    )


def ids(tracker: Tracker, *boxes: tuple[int, int, int, int], embeddings: np.ndarray | None = None) -> list[int]:
    return tracker.update(things(*boxes), embeddings)[0].tolist()


def test_ids_follow_objects_that_move() -> None:
    tracker = Tracker()
    for step in range(10):
        left, right = (10 + 4 * step, 5, 20 + 4 * step, 15), (80 - 4 * step, 25, 90 - 4 * step, 35)
        boxes = (left, right) if step % 2 else (right, left)
        assert ids(tracker, *boxes) == ([2, 1] if step % 2 else [1, 2])


def test_a_hidden_object_keeps_its_id_for_a_while() -> None:
    tracker = Tracker(memory=5)
    for step in range(4):
        assert ids(tracker, (10 + 3 * step, 5, 26 + 3 * step, 21)) == [1]
    for _ in range(4):
        assert ids(tracker) == []
    assert ids(tracker, (34, 5, 50, 21)) == [1]
    for _ in range(6):
        ids(tracker)
    assert ids(tracker, (34, 5, 50, 21)) == [2]


def test_embeddings_tell_apart_what_crosses() -> None:
    tracker, one, other = Tracker(), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert ids(tracker, (40, 10, 50, 20), (44, 10, 54, 20), embeddings=np.stack([one, other])) == [1, 2]
    assert ids(tracker, (42, 10, 52, 20), (42, 10, 52, 20), embeddings=np.stack([other, one])) == [2, 1]


def test_a_class_is_what_most_frames_say() -> None:
    tracker = Tracker()
    for label in (0, 0, 1, 0):
        segments = things((10, 10, 30, 30))
        segments.labels[:] = label
        _, labels = tracker.update(segments)
    assert labels.tolist() == [0]
