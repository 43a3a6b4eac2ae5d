"""Clips: what is decoded, what is written, and that an object keeps its id."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.rle import encode
from segcli.errors import InputError
from segcli.inference.clips import ClipFiles, predict_clip
from segcli.inference.predict import resolve
from segcli.inference.tracking import Tracker
from segcli.inference.video import Clip, ClipWriter, is_clip
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
    with pytest.raises(InputError, match=r"no\.mp4: cannot be opened as a video"):
        Clip(str(tmp_path / "no.mp4"))


def test_a_clip_is_predicted(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", [number / 25 for number in range(12)])
    loaded, out = FakeLoaded(), tmp_path / "out"
    files = ClipFiles.of(str(tmp_path / "clip.mp4"), out, ("overlay", "json", "png"))
    with Clip(str(tmp_path / "clip.mp4")) as clip:
        reports = list(predict_clip(loaded, clip, resolve(loaded.spec, "panoptic"), files))  # type: ignore[arg-type]
    assert [report.number for report in reports] == list(range(12))
    rows = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert [row["time"] for row in rows] == pytest.approx([number / 25 for number in range(12)], abs=1e-3)
    reds = {row["id"] for line in rows for row in line["segments"] if row["category_name"] == "red"}
    assert len(reds) == 1
    with Clip(str(out / "clip.overlay.mp4")) as clip:
        assert len(list(clip)) == 12
    first = np.array(Image.open(out / "clip.ids" / "000000.png"))
    assert set(np.unique(first)) - {0} == {row["id"] for row in rows[0]["segments"]}
    assert not list(out.glob("*partial*"))


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
