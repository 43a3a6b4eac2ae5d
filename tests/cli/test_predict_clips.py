"""`segcli predict clip.mp4` as a user meets it."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.inference.video import live, predict_clip
from segcli.inference.video.clip import Clip
from segcli.inference.video.encoding import ClipWriter
from tests.cli.conftest import Predict, photo
from tests.streams import serving

pytest.importorskip("av")


@pytest.fixture(autouse=True)
def clip(predict: Predict) -> None:
    """clip.mp4: a red square that moves to the right over black, in the folder that `predict` works in."""
    with ClipWriter(Path("clip.mp4"), Fraction(25)) as clip:
        for number in range(5):
            image = np.zeros((48, 64, 3), dtype=np.uint8)
            image[16:32, 2 + number : 18 + number, 0] = 255
            clip.write(image, number / 25)


def test_a_clip_and_its_lines(predict: Predict) -> None:
    done = predict("clip.mp4", "--json", "--save", "json,overlay")
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0].keys() == {
        "path", "ok", "frame", "time", "model", "task", "size", "timings", "best_score", "segments",
    }  # fmt: skip
    about = json.loads(Path("segcli-out/clip.video.json").read_text())["clip"]
    assert (about["file_name"], about["task"], about["fps"]) == ("clip.mp4", "panoptic", 25.0)
    assert [path.name for path in sorted(Path("segcli-out").iterdir()) if not path.name.startswith(".")] == [
        "clip.jsonl", "clip.overlay.mp4", "clip.video.json",
    ]  # fmt: skip
    assert "exists already" in predict("clip.mp4", "--save", "json").stderr
    assert "already done" in predict("clip.mp4", "--save", "json", "--skip-existing").stderr
    for option, differing in (
        ("--task=semantic", "task"),
        ("--end=0.1", "end"),
        ("--classes=red", "choice of classes"),
    ):
        other = predict("clip.mp4", "--save", "json", "--skip-existing", option)
        assert other.exit_code == 2
        assert re.search(rf"clip\.video\.json was made with another .*\b{differing}\b", other.stderr.replace("\n", " "))
    Path("segcli-out/clip.video.json").write_text('{"clip": []}')  # somebody else's: nothing to compare with
    again = predict("clip.mp4", "--save", "json", "--skip-existing", "--end=0.1")
    assert (again.exit_code, "already done" in again.stderr) == (0, True)


def test_a_clip_that_is_done_is_not_opened(predict: Predict) -> None:
    """It may be a camera's, or have moved."""
    predict("clip.mp4", "--save", "json")
    Path("clip.mp4").write_bytes(b"no clip any more")
    assert predict("clip.mp4", "--save", "json", "--skip-existing").exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--every", "0"], 2, "--every 0: give a number from 1 on, or auto"),
        (["--every", "auto"], 2, "--every auto: clip.mp4 is not a camera or stream"),
        (["--start", "2", "--end", "1"], 2, "--end 1: is not after --start 2"),
        (["--start", "9"], 1, "clip.mp4: no frame between --start and --end"),
        (["--save", "rgba"], 2, "--save rgba: "),
    ],
)
def test_what_cannot_be_done_is_one_line(predict: Predict, options: list[str], code: int, said: str) -> None:
    done = predict("clip.mp4", *options)
    assert done.exit_code == code, done.output
    assert said in done.stderr.replace("\n", " ")
    assert not list(Path("segcli-out").glob("[!.]*"))


def test_no_camera_no_table(predict: Predict) -> None:
    done = predict("camera:99")
    assert done.exit_code == 1
    assert done.stderr.startswith("segcli: error: camera:99: cannot be opened as a camera (")
    assert done.stderr.count("\n") == 1


def interrupted(monkeypatch: pytest.MonkeyPatch, frames: int, network: float = 0.0) -> None:
    """Ctrl-C a moment after the network has seen so many frames; it takes some seconds for each."""
    seen = itertools.count(1)
    forward = predict_clip.forward

    def look(*inputs: Any) -> Any:
        time.sleep(network)
        if next(seen) == frames:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        return forward(*inputs)

    monkeypatch.setattr(predict_clip, "forward", look)


def test_ctrl_c_ends_a_stream_whose_results_are_whole(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, 4, network=0.03)
    with serving("http") as address:
        done = predict(f"{address}/cam", "--save", "overlay,json,png")
    assert done.exit_code == 0, done.output
    said = re.search(r": (\d+) frames in [\d.]+ s \([\d.]+ a second\), (\d+) skipped to keep up; ", done.stderr)
    assert said, done.stderr
    count, skipped = map(int, said.groups())
    rows = [json.loads(line) for line in Path("segcli-out/cam.jsonl").read_text().splitlines()]
    numbers = [row["frame"] for row in rows]
    assert len(rows) == count >= 4
    assert numbers == sorted(set(numbers))
    assert 0 < skipped <= numbers[-1] + 1 - count + 20  # those after the last that was predicted count too
    with Clip("segcli-out/cam.overlay.mp4") as overlay:
        assert [frame.time for frame in overlay] == pytest.approx([row["time"] for row in rows], abs=2e-3)
    assert sorted(path.stem for path in Path("segcli-out/cam.ids").iterdir()) == [f"{n:06d}" for n in numbers]
    assert not list(Path("segcli-out").glob("*partial*"))


def test_ctrl_c_is_heard_while_a_stream_is_silent(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, 3)
    with serving("http", frames=3) as address:
        before = time.monotonic()
        done = predict(f"{address}/cam", "--save", "json", "--every", "1")
    assert (done.exit_code, time.monotonic() - before < 2) == (0, True), done.output
    assert len(Path("segcli-out/cam.jsonl").read_text().splitlines()) == 3


def test_a_stream_that_falls_silent_is_one_line(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE", 0.3)
    with serving("http", frames=5) as address:
        done = predict(f"{address}/cam", "--save", "json", "--every", "1", "--quiet")
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1), done.output
        assert f"{address}/cam: ended (nothing came for 0.3 seconds); what came before is predicted" in done.stderr
    assert len(Path("segcli-out/cam.jsonl").read_text().splitlines()) == 5


def test_a_killed_camera_leaves_what_it_has_done(predict: Predict) -> None:
    Path("segcli-out").mkdir()
    Path("segcli-out/camera-0.partial.overlay.mp4").write_bytes(b"a film")
    done = predict("camera:0")
    assert (done.exit_code, "an earlier run was killed" in done.stderr.replace("\n", " ")) == (2, True)
    assert Path("segcli-out/camera-0.partial.overlay.mp4").read_bytes() == b"a film"


def test_folders_of_clips_and_frames_are_told(predict: Predict) -> None:
    Path("clips").mkdir()
    Path("clips/A.MOV").touch()
    done = predict("clips")
    assert (done.exit_code, "clips are predicted by name, as in clips/A.MOV" in done.stderr) == (2, True)
    for number in range(10):
        photo(f"frames/f{number:03}.png")
    Path("frames/b.mkv").touch()
    done = predict("frames", "--save", "none")
    assert done.exit_code == 0
    assert "frames: its clips are passed over; name them to predict them, as in frames/b.mkv" in done.stderr
    assert "frames: 10 images numbered in a row; if they are frames, --fps 25 gives objects ids" in done.stderr
    Path("frames/f004.png").unlink()
    assert "in a row" not in predict("frames", "--save", "none").stderr
