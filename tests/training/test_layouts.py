"""The layouts of other people's tools, from the folder to a step of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from segcli.data.cache import VARIABLE
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import names, writer_class, writer_for
from segcli.data.detect import detect
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, Shot, Splits, scene, things_only
from tests.data.test_every_kind import KINDS
from tests.training.small_runs import losses, open_tiny, run_command, tiny_config

DATASETS = [name for name in names() if not writer_class(name).IS_FOR_EDITING]  # the others: test_tools

SIZE = (80, 112)


def shots(ids: dict[int, int] | None = None) -> Splits:
    """Three images to train on, two to validate on, classes renamed by `ids`."""

    def renamed(index: int) -> Shot:
        shot = scene(index, SIZE)
        shot.ids = [(ids or {}).get(i, i) for i in shot.ids]
        return shot

    return {"train": [renamed(i) for i in range(3)], "val": [renamed(i) for i in (100, 101)]}


AS_CITY = {1: 24, 7: 26, 90: 23}
WRITE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "yolo": (lambda root: layouts.yolo(root, things_only(shots()), THINGS), "instance"),
    "roboflow": (lambda root: layouts.roboflow(root, things_only(shots()), THINGS), "instance"),
    "cityscapes": (
        lambda root: layouts.cityscapes(root, shots(AS_CITY), things=(24, 26)),
        "panoptic",
    ),
    "ade20k": (lambda root: layouts.ade20k(root, shots()), "semantic"),
    "camvid": (lambda root: layouts.camvid(root, shots(), LABELS), "semantic"),
    "labelme": (lambda root: layouts.labelme(root, things_only(shots()), THINGS), "instance"),
}
ONE_STEP = {"steps": 1, "warmup": 0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))


def loss_of_a_step(data: Path, task: str, out: Path) -> float:
    run = open_tiny(data, out, {"data": {"task": task}, "schedule": ONE_STEP, "validate": {"images": 1}})
    with closing(run.train()) as reports:
        for _ in reports:
            pass
    ((_, loss),) = losses(out)
    return loss


@pytest.mark.parametrize("name", WRITE)
def test_a_step_on_every_layout(tmp_path: Path, name: str) -> None:
    write, task = WRITE[name]
    root = write(tmp_path / "data")
    assert np.isfinite(loss_of_a_step(root, task, tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_and_an_evaluation_of_every_kind(tmp_path: Path, kind: str) -> None:
    """What docs/data.md promises of the kinds that it lists."""
    (tmp_path / "in").mkdir()
    root = KINDS[kind][1](tmp_path / "in")
    steps = {"steps": 2, "warmup": 0}
    run = open_tiny(root, tmp_path / "run", {"schedule": steps, "validate": {"every": 2, "images": 1}})
    with closing(run.train()) as reports:
        for _ in reports:
            pass
    assert [step for step, loss in losses(tmp_path / "run") if np.isfinite(loss)][-1] == 2
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row for row in rows if row["kind"].startswith("val")]


@pytest.mark.slow
@pytest.mark.parametrize("to", [to for to in DATASETS if to != "instance-png"])
def test_converted_data_trains_as_it_lies_there(tmp_path: Path, to: str) -> None:
    info = detect(layouts.coco_panoptic(tmp_path / "source", shots(), LABELS), training=False)
    write_dataset(info, tmp_path / "data", writer_for(to, info))
    assert np.isfinite(loss_of_a_step(tmp_path / "data", detect(tmp_path / "data").task, tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo", "cityscapes", "ade20k", "roboflow", "camvid"])
def test_the_command_trains_on_every_layout(tmp_path: Path, name: str) -> None:
    root = WRITE[name][0](tmp_path / "data")
    answer = run_command(
        root, "--config", tiny_config(tmp_path), "--max-steps", 2, "--out", tmp_path / "run", timeout=900
    )
    assert answer.returncode == 0, answer.stderr
    assert len(losses(tmp_path / "run")) == 2


def test_a_damaged_image_is_left_out_of_the_run(tmp_path: Path) -> None:
    root = WRITE["camvid"][0](tmp_path / "data")
    (root / "train" / "shot1.png").write_bytes(b"")
    said: list[str] = []
    run = open_tiny(root, tmp_path / "run", {"schedule": ONE_STEP, "validate": {"images": 1}}, say=said.append)
    assert any("left out: " in line and "shot1.png" in line for line in said)
    with closing(run.train()) as reports:
        for _ in reports:
            pass
    assert len(losses(tmp_path / "run")) == 1
