"""`segcli predict clip.mp4` as a user meets it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from segcli.inference.video.encoding import ClipWriter
from tests.cli.conftest import Predict

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
    assert "camera:99: cannot be opened as a camera (no such file or directory)" in done.stderr.replace("\n", " ")
