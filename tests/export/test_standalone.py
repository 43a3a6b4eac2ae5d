"""predict.py of an exported folder, in a process that can import neither torch nor segcli, finds what segcli finds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from typer.testing import CliRunner

from segcli.cli import app
from segcli.codecs import depth
from segcli.codecs.image import read_image
from segcli.export import standalone
from segcli.export.verify import own_photos

BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "segcli", "torchvision", "scipy", "cv2"):
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("tile", [None, 200])
def test_it_writes_what_segcli_writes(exported: Path, tmp_path: Path, task: str, tile: int | None) -> None:
    folder = tmp_path / "small-onnx"
    shutil.copytree(exported, folder)
    config = json.loads((folder / "config.json").read_text())
    config["segcli"]["rule"] |= {"part_min": 0.9, "repeat_iou": 0.8, "top_k": 20}
    if tile:
        config["segcli"]["size"] |= {"tile": tile, "tile_overlap": 0.2}
    (folder / "config.json").write_text(json.dumps(config))
    photos = [str(path) for path in own_photos()[:2]]
    mine, theirs = tmp_path / "segcli", tmp_path / "alone"
    args = ["predict", *photos, "-m", str(folder), "--task", task, "--save", "json,png", "--out", str(mine)]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    command = [sys.executable, "-c", BLOCKED, str(folder / "predict.py"), *photos, "--task", task, "--out", str(theirs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for photo in photos:
        name = Path(photo).stem
        same(mine / name, theirs / name)


def alone(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, str(folder / "predict.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_in_openvino_too(in_openvino: Path, tmp_path: Path) -> None:
    photo = str(own_photos()[0])
    result = CliRunner().invoke(app, ["predict", photo, "-m", str(in_openvino), "--out", str(tmp_path / "segcli")])
    assert result.exit_code == 0, result.output
    done = alone(in_openvino, photo, "--out", str(tmp_path / "alone"))
    assert done.returncode == 0, done.stderr
    same(tmp_path / "segcli" / Path(photo).stem, tmp_path / "alone" / Path(photo).stem)


def test_a_graph_of_a_fixed_number_of_images_gets_them(exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    folder, photo = tmp_path / "three-onnx", str(own_photos()[0])
    shutil.copytree(exported, folder)
    graph = onnx.load(folder / "model.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(graph, str(folder / "model.onnx"))
    config = json.loads((folder / "config.json").read_text())
    config["segcli_export"]["batch"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    for place in (folder, exported):
        done = alone(place, photo, "--out", str(tmp_path / place.name))
        assert done.returncode == 0, done.stderr
    same(tmp_path / "three-onnx" / Path(photo).stem, tmp_path / exported.name / Path(photo).stem)


def test_no_photo_and_no_result_is_replaced(exported: Path, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.jpg"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / name)
    one, other = str(tmp_path / "a/x.png"), str(tmp_path / "b/x.jpg")
    before = Path(one).read_bytes()
    for args, words in (
        ((one, "--out", str(tmp_path / "a")), "its result would replace a photo; choose another --out"),
        ((other, one, "--out", str(tmp_path / "out")), "would have results of one name"),
    ):
        done = alone(exported, *args)
        assert done.returncode == 1
        assert words in done.stderr
    assert Path(one).read_bytes() == before
    assert not (tmp_path / "out").exists()
    assert alone(exported, one, one, "--out", str(tmp_path / "out")).returncode == 0
    again = alone(exported, one, "--out", str(tmp_path / "out"))
    assert (again.returncode, "x.png: exists already; replace results with --overwrite" in again.stderr) == (1, True)
    assert alone(exported, one, "--out", str(tmp_path / "out"), "--overwrite").returncode == 0
    assert json.loads((tmp_path / "out/x.json").read_text())["photo"] == "../a/x.png"
    assert "2 is not from 0 to 1" in alone(exported, one, "--threshold", "2").stderr


def test_photos_it_does_not_take_do_not_stop_the_others(exported: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "fixed-onnx"
    shutil.copytree(exported, folder)
    config = json.loads((folder / "config.json").read_text())
    config["segcli_export"]["size"] = [64, 64]
    (folder / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (150, 50)).save(tmp_path / "wide.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "square.png")
    grey = np.arange(2500, dtype=np.uint16).reshape(50, 50)
    cv2.imwrite(str(tmp_path / "twelve.png"), np.stack([grey] * 3, -1))
    cv2.imwrite(str(tmp_path / "sixteen.png"), np.stack([grey * 26] * 3, -1))
    photos = [str(tmp_path / f"{name}.png") for name in ("wide", "twelve", "square", "sixteen")]
    done = alone(folder, *photos, "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "wide.png: becomes 32x96 pixels (height x width), this model takes 64x64" in done.stderr
    assert "twelve.png: no photo that can be read (colours of 16 bits that it does not use" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["sixteen.png", "square.png"]


@pytest.mark.parametrize(
    ("blocked", "change", "args", "words"),
    [
        ("", lambda folder: (folder / "config.json").unlink(), [], "config.json cannot be used"),
        ("", lambda folder: (folder / "model.onnx").write_bytes(b"no"), [], "cannot be opened on cpu"),
        ("", lambda folder: (folder / "model.onnx").unlink(), [], "nor model.xml is there; copy the whole folder"),
        ("", lambda folder: None, ["--device", "quantum"], "this ONNX Runtime has"),
        ("onnxruntime", lambda folder: None, [], "pip install numpy pillow onnxruntime"),
        ("", lambda folder: (folder / "photo.jpg").write_bytes(b"no"), [], "photo.jpg: no photo that can be read"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    exported: Path, tmp_path: Path, blocked: str, change: Any, args: list[str], words: str
) -> None:
    folder = tmp_path / "small-onnx"
    shutil.copytree(exported, folder)
    shutil.copy(own_photos()[0], folder / "photo.jpg")
    change(folder)
    program = BLOCKED.replace('("torch", ', f'("{blocked}", "torch", ')
    command = [sys.executable, "-c", program, str(folder / "predict.py"), str(folder / "photo.jpg"), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_programs_are_no_photos(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(OSError, match="EPS is a program"):
        standalone.read_photo(tmp_path / "a.jpg", None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("labels"), r"cannot be used \(KeyError: 'labels'\); copy the whole folder again"),
        (ModuleNotFoundError("No module named 'openvino'"), "No module named 'openvino'; install it with pip"),
        (PermissionError(13, "Permission denied", "out/a.json"), "^out/a.json: Permission denied$"),
        (RuntimeError("a\n  b"), r"\(RuntimeError: a b\)"),
    ],
)
def test_whatever_goes_wrong_is_one_line(error: Exception, words: str) -> None:
    said = standalone.in_one_line(error)
    assert re.search(words, said)
    assert "\n" not in said


def same(mine: Path, theirs: Path) -> None:
    """Equal ids on 99.9 % of the pixels, equal records but for rounding and the time of day."""
    ids = [np.asarray(Image.open(path.with_suffix(".png"))) for path in (mine, theirs)]
    assert ids[0].dtype == ids[1].dtype
    assert np.mean(ids[0] == ids[1]) > 0.999
    records: list[dict[str, Any]] = [json.loads(path.with_suffix(".json").read_text()) for path in (mine, theirs)]
    for record in records:
        for key in ("timings", "photo", "model"):
            record.pop(key, None)
    segments = [record.pop("segments") for record in records]
    assert records[0].pop("best_score") == pytest.approx(records[1].pop("best_score"), abs=1e-4)
    assert records[0] == records[1]
    assert len(segments[0]) > 0
    assert len(segments[0]) == len(segments[1])
    for one, other in zip(*segments, strict=True):
        assert one["score"] == other["score"] or one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["area"] == pytest.approx(other["area"], rel=0.01, abs=20)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=4)
        for key in ("id", "category_id", "category_name", "isthing", "color"):
            assert one.get(key) == other.get(key)
        assert ("segmentation" in one) == ("segmentation" in other)


@given(
    hnp.arrays(bool, st.tuples(st.integers(0, 7), st.just(5), st.just(6))),
    hnp.arrays(np.int64, 7, elements=st.integers(0, 1)),
    st.sampled_from([0.3, 0.6, 0.8]),
)
def test_repeats_are_found_within_boxes(masks: np.ndarray, labels: np.ndarray, iou: float) -> None:
    labels, alive = labels[: len(masks)], [True] * len(masks)
    for j in range(len(masks)):
        for i in range(j):
            common, both = (masks[i] & masks[j]).sum(), (masks[i] | masks[j]).sum()
            if alive[i] and labels[i] == labels[j] and common and common >= iou * both:
                alive[j] = False
    found = {"labels": labels, "scores": np.arange(len(masks))[::-1], "masks": list(masks), "best": 1.0}
    assert standalone.without_repeats(found, iou)["scores"].tolist() == found["scores"][np.array(alive, bool)].tolist()


@given(hnp.arrays(np.uint16, (20, 60)), st.integers(0, 15), st.sampled_from([np.uint16, np.int32, np.float32]))
def test_deep_pictures_have_the_levels_that_segcli_gives_them(values: np.ndarray, shift: int, dtype: Any) -> None:
    values = (values >> shift).astype(dtype)
    assert standalone.levels_of(values) == depth.levels_of(values)


@pytest.mark.parametrize("levels", [None, (0, 65535), (0, 4095), (0, 255), (100, 900), (7, 7)])
def test_deep_pictures_are_scaled_as_segcli_scales_them(levels: tuple[int, int] | None, tmp_path: Path) -> None:
    values = (np.arange(300).reshape(15, 20) * 218).astype(np.uint16)  # to 65,182
    Image.fromarray(values).save(tmp_path / "a.png")
    found = standalone.read_photo(tmp_path / "a.png", list(levels) if levels else None)
    assert np.array_equal(found, read_image(tmp_path / "a.png", levels=levels))
