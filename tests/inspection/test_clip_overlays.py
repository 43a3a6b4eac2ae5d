"""A clip's tracks drawn from its files are those that `segcli predict` drew."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segcli.cli import app
from segcli.errors import InputError, UsageError
from segcli.inference.predict import resolve
from segcli.inference.video.clip import Clip
from segcli.inference.video.encoding import ClipWriter
from segcli.inference.video.kinds import ClipRun
from segcli.inference.video.predict_clip import predict_clip
from segcli.inspection.clip_overlays import clips_in, draw_clip
from segcli.inspection.overlays import Selection
from segcli.render import Style
from segcli.results.record import class_records
from segcli.types import Task
from tests.fakes import LABELS, FakeLoaded

pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A red square that moves to the right over black."""
    with ClipWriter(tmp_path / "clip.mp4", Fraction(25)) as clip:
        for number in range(4):
            image = np.zeros((48, 64, 3), dtype=np.uint8)
            image[16:32, 2 + number : 18 + number, 0] = 255
            clip.write(image, number / 25)
    return tmp_path / "clip.mp4"


def predict(path: Path, out: Path, kinds: tuple[str, ...], task: Task = "panoptic") -> None:
    loaded, facts = FakeLoaded(), {"file_name": str(path), "task": task, "classes": class_records(LABELS)}
    with Clip(str(path)) as clip:
        run = ClipRun(clip, out, "clip", kinds, task, LABELS, Style(), facts)
        list(predict_clip(loaded, resolve(loaded.spec, task), run))  # type: ignore[arg-type]


def pixels(path: Path) -> np.ndarray:
    with Clip(str(path)) as clip:
        return np.stack([frame.image for frame in clip])


@pytest.mark.parametrize(
    ("kinds", "task"),
    [(("json", "png", "overlay"), "panoptic"), (("json", "overlay"), "semantic"), (("json", "overlay"), "instance")],
)
def test_the_same_is_drawn(clip: Path, tmp_path: Path, kinds: tuple[str, ...], task: Task) -> None:
    predict(clip, tmp_path / "out", kinds, task)
    [results] = clips_in(str(tmp_path / "out"))
    assert list(draw_clip(results, None, Selection(), Style(), tmp_path / "viz", None)) == [1, 2, 3, 4]
    assert np.array_equal(pixels(tmp_path / "viz" / "clip.overlay.mp4"), pixels(tmp_path / "out" / "clip.overlay.mp4"))
    assert not list((tmp_path / "viz").glob("*partial*"))
    list(draw_clip(results, None, Selection(frozenset()), Style(), tmp_path / "none", 2))
    assert np.abs(pixels(tmp_path / "none" / "clip.overlay.mp4").astype(int) - pixels(clip)[:2]).mean() < 3


def test_what_is_missing_is_named(clip: Path, tmp_path: Path) -> None:
    predict(clip, tmp_path / "out", ("json",))
    [results] = clips_in(str(tmp_path / "out" / "clip.jsonl"))
    clip.rename(tmp_path / "moved.mp4")
    with pytest.raises(InputError, match=r"clip\.mp4: the clip is not there; say with --photos"):
        list(draw_clip(results, None, Selection(), Style(), tmp_path, None))
    moved = tmp_path / "moved.mp4"
    assert list(draw_clip(results, moved, Selection(), Style(), tmp_path / "renamed", None)) == [1, 2, 3, 4]
    moved.rename(clip)
    lines = tmp_path / "out" / "clip.jsonl"
    lines.write_text(lines.read_text()[:-20])
    with pytest.raises(InputError, match=r"clip\.jsonl, line 4: not JSON"):
        list(draw_clip(results, clip.parent, Selection(), Style(), tmp_path / "viz", None))
    results.name = "camera:0"
    with pytest.raises(UsageError, match="frames were not kept"):
        list(draw_clip(results, None, Selection(), Style(), tmp_path / "viz", None))


def test_a_sheet_of_photos_is_not_for_clips(clip: Path, tmp_path: Path) -> None:
    predict(clip, tmp_path / "out", ("json",))
    done = CliRunner().invoke(app, ["viz", "overlays", str(tmp_path / "out" / "clip.jsonl"), "--grid", "4"])
    assert done.exit_code == 2
    assert "--grid: is for photos; the frames of a clip are drawn one after the other" in done.stderr
