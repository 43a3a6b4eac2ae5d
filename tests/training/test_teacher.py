"""`--teacher`: what a model learns from another one, and which one cannot teach it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segcli.config.per_pixel import PerPixelConfig
from segcli.errors import UsageError
from segcli.training.reports import EndReport, SavedReport, StepReport
from segcli.training.resume import resumed_recipe
from segcli.training.teacher import Teacher, load_teacher
from segcli.types import Batch, InputSize
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.pretrained import LITE0_PACKAGE
from tests.training.shapes import write_shapes
from tests.training.small_runs import open_tiny, state

pytest.importorskip(LITE0_PACKAGE)

SHORT: dict[str, Any] = {"schedule": {"steps": 2}, "validate": {"every": 2, "images": 1}}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", images=4, side=64)


@pytest.fixture(scope="module")
def teacher(shapes: Path) -> Path:
    save_model(open_tiny(shapes, shapes.parent / "run", {"run": {"seed": 1}}).learner.loaded, shapes.parent / "teacher")
    return shapes.parent / "teacher"


def test_a_run_that_learns_from_a_teacher_goes_on_bit_identical(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    taught = SHORT | {"loss": {"teacher": str(teacher)}, "run": {"checkpoint_every": 1}}
    whole = list(open_tiny(shapes, tmp_path / "whole", taught).train())
    updates = [report for report in whole if isinstance(report, StepReport)]
    assert all(0 < report.terms["teacher"] < 1000 for report in updates)
    for report in open_tiny(shapes, tmp_path / "broken", taught).train():
        if isinstance(report, SavedReport):
            break
    moved = shutil.copytree(teacher, tmp_path / "moved")
    rest = taught | {"loss": {"teacher": str(moved)}}
    assert isinstance(list(open_tiny(shapes, tmp_path / "broken", rest, resume=True).train())[-1], EndReport)
    ours, theirs = state(tmp_path / "broken"), state(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    card = (tmp_path / "whole" / "best" / "README.md").read_text(encoding="utf-8")
    assert "- Taught by: teacher\n" in card
    other = SHORT | {"loss": {"teacher": str(tmp_path / "whole" / "last")}}
    with pytest.raises(UsageError, match=r"this is not the run in .*teacher: was weights \w+, now weights \w+"):
        open_tiny(shapes, tmp_path / "broken", other, resume=True)


def test_a_teacher_that_has_moved_is_asked_for(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    copy, moved, out = tmp_path / "copy", tmp_path / "moved", tmp_path / "run"
    shutil.copytree(teacher, copy)
    open_tiny(shapes, out, {"loss": {"teacher": str(copy)}})
    copy.rename(moved)
    with pytest.raises(UsageError, match=r"the teacher of the run in .*run is not in .*copy; .* --teacher MODEL"):
        resumed_recipe(out, None, None, {})
    assert resumed_recipe(out, None, None, {"loss": {"teacher": str(moved)}}).loss.teacher == str(moved)


def test_a_model_that_begins_as_its_teacher_is_as_near_as_can_be(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    loaded = load_model(teacher, "cpu", "fp32")
    learner = open_tiny(shapes, tmp_path / "run", {"loss": {"teacher": str(teacher)}}).learner
    learner.loaded.model.load_state_dict(loaded.model.state_dict())
    batch = Batch(torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.bool), [(64, 64)] * 2)
    assert learner.teacher is not None
    student = learner.loaded.model.eval()(batch)[-1]
    assert learner.teacher.loss(batch, student, 1.0, None).abs().item() < 1e-4


def test_a_teacher_sees_pixels_in_its_own_normalisation(teacher: Path, shapes: Path, tmp_path: Path) -> None:
    learner = open_tiny(shapes, tmp_path / "run", {"loss": {"teacher": str(teacher)}}).learner
    assert learner.teacher is not None
    own = learner.teacher.loaded
    other = replace(own, spec=replace(own.spec, mean=(10.0,) * 3, std=(2.0,) * 3, size=InputSize(fill="black")))
    padding = torch.zeros(1, 1, 2, dtype=torch.bool)
    padding[..., 1] = True
    pixels = torch.tensor([(30.0 - own.spec.mean[0]) / own.spec.std[0], 0.0]).expand(1, 3, 1, 2)
    seen = Teacher(other, own.spec, torch.zeros(0), learner.teacher.distance, 1.0)._seen(Batch(pixels, padding, []))
    torch.testing.assert_close(seen.images[0, 0, 0], torch.tensor([10.0, -5.0]))


def test_who_cannot_teach_is_told_why(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    run = open_tiny(shapes, tmp_path / "run", {"loss": {"teacher": str(teacher)}})
    loss, student = run.recipe.loss, run.learner.loaded
    with pytest.raises(UsageError, match=r"--teacher everyday: its classes .* but it lacks disc, .* and has aeroplane"):
        load_teacher(replace(loss, teacher="everyday"), student, None)
    other: Any = replace(student, config=PerPixelConfig(student.config.backbone, 4))
    with pytest.raises(UsageError, match=r"the model that learns is a .*, without masks of queries"):
        load_teacher(loss, other, None)
