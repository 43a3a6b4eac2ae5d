"""Training as a whole: it learns, accumulation and ranks change nothing, and what goes wrong is said."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segcli
from segcli.data.detect import detect
from segcli.data.loading.copy_paste import CopyPaste
from segcli.data.loading.mosaic import Mosaic
from segcli.data.loading.transforms import JitterCrop
from segcli.distributed import Ranks
from segcli.errors import SegcliError, UsageError
from segcli.metrics import metric_for
from segcli.training.learner import Learner
from segcli.training.material import gather
from segcli.training.memory import largest_batch
from segcli.training.recipe import Tables
from segcli.training.reports import (
    EndReport,
    MeasureReport,
    Report,
    SavedReport,
    SkipReport,
    StepReport,
    SweepReport,
    ValidationReport,
)
from segcli.training.resolve import resolve
from segcli.training.session import open_run
from segcli.training.setup import examples_of, nearer_start, transform_of
from segcli.weights.checkpoint import load_model
from segcli.weights.pretrained import LITE0_PACKAGE
from tests.data import layouts
from tests.data.layouts import scenes
from tests.training.shapes import CATEGORIES, write_shapes
from tests.training.small_runs import losses, open_tiny, run_command, state, tiny_config

pytest.importorskip(LITE0_PACKAGE)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", images=8, side=64)


def _of(kind: type[Any], reports: list[Report]) -> list[Any]:
    return [report for report in reports if isinstance(report, kind)]


def test_it_learns_sixteen_images_by_heart(tmp_path: Path) -> None:
    """PQ ≥ 60 of things and stuff together, and the folder it leaves is a model for segcli and a record for people."""
    data, out = write_shapes(tmp_path / "shapes", images=16, side=96), tmp_path / "run"
    sizes = {"queries": 12, "hidden_dim": 64, "encoder_feedforward_dim": 128, "dim_feedforward": 128}
    steps = {"steps": 100, "batch": 4, "warmup": 10, "ema": 0.95}
    changes = {"model": sizes, "schedule": steps, "augment": {"crop": [96, 96]}, "loss": {"points": 512}}
    reports = list(open_tiny(data, out, changes | {"validate": {"every": 50, "images": 16}}).train())
    updates = _of(StepReport, reports)
    assert np.mean([r.loss for r in updates[-10:]]) < 0.4 * np.mean([r.loss for r in updates[:5]])
    told = _of(MeasureReport, reports)
    assert [(r.step, r.done, r.images) for r in told if r.done in (1, 16)] == [
        (step, done, 16)
        for step in (50, 100, 100)
        for done in (1, 16)  # and once more at the end
    ]
    validations = _of(ValidationReport, reports)
    best, last = max(validations, key=lambda report: report.metric.value), validations[-1]
    assert last.metric.name == "PQ"
    assert last.metric.value >= 0.60
    assert "score > 0.5" in last.thresholds
    assert sum(last.histogram) == last.images == 16
    assert last.empty == 0
    (sweep,) = _of(SweepReport, reports)
    assert sweep.value >= best.metric.value
    (end,) = _of(EndReport, reports)  # which of two nearly equal steps is the best, the processor decides
    assert (end.why, end.final) == ("finished", f"PQ {100 * sweep.value:.1f} % at step {best.step}")

    loaded = segcli.load_model(out / "best", dtype="fp32")
    assert [label.id for label in loaded.labels] == [c["id"] for c in CATEGORIES]
    assert [label.isthing for label in loaded.labels] == [True, True, False, False]
    assert f"score > {loaded.spec.rule.score:g}" in sweep.thresholds
    segments = segcli.predict(loaded, data / "images" / "000.png")
    assert {"sky", "ground"} <= set(segments.names())
    card = (out / "best" / "README.md").read_text(encoding="utf-8")
    assert f"PQ {100 * sweep.value:.1f} % on 16 validation images" in card
    assert "| disc | 1 |" in card
    assert len(list((out / "pictures").glob("*.png"))) == 3 * 2
    width, height = Image.open(next((out / "pictures").glob("*.png"))).size
    assert width == 200
    assert height > 96  # with captions
    facts = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["data"]["splits"][0]["images"] == 16


def test_what_it_says_of_its_best_model_is_what_others_will_measure(shapes: Path, tmp_path: Path) -> None:
    """Validations may be in half precision; the last word is not."""
    changes: Tables = {"schedule": {"steps": 40}, "validate": {"every": 40, "images": 0}, "run": {"dtype": "bf16"}}
    run = open_tiny(shapes, tmp_path / "run", changes | {"data": {"task": "semantic"}})
    reports = list(run.train())
    (during,), (end,) = _of(ValidationReport, reports), _of(EndReport, reports)
    loaded = load_model(str(tmp_path / "run" / "best"), dtype="fp32")
    metric = metric_for("semantic", loaded.labels)
    for sample in run.material.val:
        metric.update(segcli.predict(loaded, sample.image), sample)
    value = metric.compute().value
    assert during.metric.value != value > 0.1
    assert end.final == f"mIoU {100 * value:.1f} % at step 40"
    assert loaded.facts["metrics"] == {"mIoU": round(100 * value, 2)}


def test_a_run_that_is_over_has_nothing_left_to_do(shapes: Path, tmp_path: Path) -> None:
    changes = {"schedule": {"steps": 1}, "validate": {"every": 1, "images": 1}}
    run = open_tiny(shapes, tmp_path / "run", changes)
    assert [type(report) for report in run.train()][-3:] == [SweepReport, SavedReport, EndReport]
    kept = run.folder.load()
    again = open_tiny(shapes, tmp_path / "again", changes)
    again.restore(kept)
    assert [type(report) for report in again.train()] == [EndReport]


def test_tiles_are_remembered(shapes: Path, tmp_path: Path) -> None:
    changes: Tables = {
        "data": {"tile": 64, "short": 96},
        "augment": {"kind": "jitter", "crop": None},
        "schedule": {"steps": 1},
        "validate": {"every": 1},
    }
    run = open_tiny(shapes, tmp_path / "run", changes)
    assert run.recipe.augment.crop == (96, 96)  # as much as a tile
    geometry = transform_of(run.recipe).geometry
    assert isinstance(geometry, JitterCrop)
    assert geometry.prediction is not None
    assert (geometry.prediction.short, geometry.prediction.tile) == (96, 64)
    list(run.train())
    size = load_model(str(tmp_path / "run" / "best")).spec.size
    assert (size.short, size.tile) == (96, 64)
    assert "tiles of 64 pixels, resized to 96" in (tmp_path / "run" / "best" / "README.md").read_text(encoding="utf-8")


def test_transformers_loads_what_was_trained(shapes: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    list(open_tiny(shapes, tmp_path / "run", {"schedule": {"steps": 1}, "validate": {"every": 1}}).train())
    theirs, found = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
        tmp_path / "run" / "best", output_loading_info=True
    )
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.id2label == {0: "disc", 1: "square", 2: "sky", 3: "ground"}


def _gradient(out: Path) -> dict[str, torch.Tensor]:
    """Adam's first moment; after one step that is a tenth of the (clipped) gradient."""
    prefix = "optimizer.exp_avg."
    return {name: tensor for name, tensor in state(out).items() if name.startswith(prefix)}


def _assert_same_gradient(one: Path, other: Path) -> None:
    mine, theirs = _gradient(one), _gradient(other)
    assert mine.keys() == theirs.keys()
    scale = max(float(tensor.abs().max()) for tensor in mine.values())
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=1e-5 * scale, msg=name)


def test_two_ranks_and_accumulation_equal_one_batch(shapes: Path, tmp_path: Path) -> None:
    """Loss and gradient are compared, not the weights: Adam divides by the gradient's own size, so where that is near
    nothing the last bit of a sum decides whether a weight goes up or down.
    """
    schedule, validate = {"steps": 1, "ema": 0.0}, {"validate": {"every": 1}}
    one, two, ranks = (tmp_path / name for name in ("one", "two", "ranks"))
    list(open_tiny(shapes, one, {"schedule": schedule | {"batch": 4}} | validate).train())
    list(open_tiny(shapes, two, {"schedule": schedule | {"accumulate": 2}} | validate).train())
    options = ["--max-steps", 1, "--ema", 0, "--validate-every", 1, "--batch", 2, "--devices", 2]
    answer = run_command(shapes, "--config", tiny_config(tmp_path), "--out", ranks, *options)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("step 1/1") == 1  # only the first rank talks
    for other in (two, ranks):
        assert losses(other)[0][1] == pytest.approx(losses(one)[0][1], rel=1e-5)
        _assert_same_gradient(one, other)
    measured = [_validations(folder)[0] for folder in (one, ranks)]
    assert measured[0]["images"] == measured[1]["images"]
    assert measured[0]["value"] == pytest.approx(measured[1]["value"], abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accumulation_stays_with_one_batch_for_some_steps(shapes: Path, tmp_path: Path, seed: int) -> None:
    for name, batch, accumulate in (("one", 4, 1), ("two", 2, 2)):
        schedule = {"steps": 2, "batch": batch, "accumulate": accumulate}
        changes = {"schedule": schedule, "run": {"seed": seed}, "validate": {"every": 2, "images": 1}}
        list(open_tiny(shapes, tmp_path / name, changes).train())
    for (_, mine), (_, theirs) in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5)


def _validations(out: Path) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for line in lines if (record := json.loads(line))["kind"] == "validation"]


def _poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """The loss of these steps is NaN."""
    honest = Learner._loss

    def loss(self: Learner, *arguments: Any) -> Any:
        total, terms, good = honest(self, *arguments)
        bad = self.step in steps
        return (total * math.nan, terms, False) if bad else (total, terms, good)

    monkeypatch.setattr(Learner, "_loss", loss)


def test_a_bad_batch_is_skipped_and_named(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _poison(monkeypatch, {1})
    run = open_tiny(shapes, tmp_path / "run", {"schedule": {"steps": 3}, "validate": {"every": 3}})
    before: dict[str, torch.Tensor] = {}
    reports = []
    for report in run.train():
        if isinstance(report, SkipReport):
            assert all(torch.equal(before[n], t) for n, t in run.learner.loaded.model.state_dict().items())
        before = {name: tensor.clone() for name, tensor in run.learner.loaded.model.state_dict().items()}
        reports.append(report)
    (skipped,) = _of(SkipReport, reports)
    assert skipped.step == 2
    assert len(skipped.files) == 2
    assert all(Path(name).is_file() for name in skipped.files)
    assert len(_of(StepReport, reports)) == 2


def test_bad_batches_in_a_row_end_the_run_with_a_cause(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _poison(monkeypatch, set(range(1, 99)))
    run = open_tiny(shapes, tmp_path / "run", {"run": {"give_up_after": 3}})
    with pytest.raises(SegcliError, match=r"3 batches in a row.*learning rate.*--lr 0.0002.*\.png"):
        list(run.train())
    # Four times the images a step: the rate was scaled up, and the advice is below what was used.
    _poison(monkeypatch, set(range(1, 99)))
    scaled = {"schedule": {"reference_batch": 1, "batch": 4, "warmup": 1, "lr": 1e-3}, "run": {"give_up_after": 3}}
    with pytest.raises(SegcliError, match=r"learning rate 0.00.*--lr 0.0004"):
        list(open_tiny(shapes, tmp_path / "scaled", scaled).train())
    _poison(monkeypatch, set(range(99)))
    with pytest.raises(SegcliError, match=r"from the first one on: the model it began from may be damaged; the last"):
        list(open_tiny(shapes, tmp_path / "first", {"run": {"give_up_after": 3}}).train())


def test_out_of_memory_names_the_flags_that_help(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried …")

    monkeypatch.setattr(Learner, "_loss", full)
    with pytest.raises(SegcliError, match=r"step 1: not enough memory.*--batch 1 --accumulate"):
        list(open_tiny(shapes, tmp_path / "run").train())
    monkeypatch.undo()
    monkeypatch.setattr("segcli.inference.stream.segment", full)
    with pytest.raises(SegcliError, match=r"validation at step 1: not enough memory.*--short-side"):
        list(open_tiny(shapes, tmp_path / "val", {"schedule": {"steps": 1}, "validate": {"every": 1}}).train())


def test_patience_ends_a_run_that_gets_no_better(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(*arguments: Any, **options: Any) -> Any:
        from segcli.training.validate import validate

        findings = yield from validate(*arguments, **options)
        return [
            replace(finding, metric=replace(finding.metric, summary={**finding.metric.summary, "PQ": 0.5}))
            for finding in findings
        ]

    monkeypatch.setattr("segcli.training.train.validate", same)
    changes = {"schedule": {"steps": 50}, "validate": {"every": 1, "patience": 3, "images": 1}}
    reports = list(open_tiny(shapes, tmp_path / "run", changes).train())
    assert len(_of(ValidationReport, reports)) == 4  # one that is the best so far, three that are not better
    assert _of(EndReport, reports)[0].why == "patience"


def test_a_frozen_backbone_and_stored_statistics_stay(shapes: Path, tmp_path: Path) -> None:
    run = open_tiny(
        shapes,
        tmp_path / "run",
        {"model": {"freeze_backbone": True}, "schedule": {"steps": 2}, "loss": {"pilots": True}},
    )
    before = {name: tensor.clone() for name, tensor in run.learner.loaded.model.state_dict().items()}
    list(run.train())
    after = run.learner.loaded.model.state_dict()
    backbone = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    assert not torch.equal(before["head.classifier.weight"], after["head.classifier.weight"])


def test_batch_auto_fits_and_learns_nothing_meanwhile(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    automatic = open_tiny(shapes, tmp_path / "a", {"schedule": {"batch": 0, "reference_batch": 2}}, say=said.append)
    fixed = open_tiny(shapes, tmp_path / "b", {"schedule": {"batch": 2, "reference_batch": 2}})
    assert "--batch auto: 2" in said
    mine, theirs = automatic.learner.loaded.model.state_dict(), fixed.learner.loaded.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_batch_auto_with_a_learning_rate_keeps_to_the_usual_batch(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    open_tiny(shapes, tmp_path / "run", {"schedule": {"batch": 0, "lr": 1e-3, "reference_batch": 0}}, say=said.append)
    assert "--batch auto: 4" in said


def test_memory_that_reading_took_is_no_room_for_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak was reached before: two images take at most what lies between it and what is in use now."""
    gigabyte = 1 << 30
    monkeypatch.setattr("segcli.training.memory.peak_memory", lambda device: 3 * gigabyte)
    monkeypatch.setattr("segcli.training.memory._memory_now", lambda device: gigabyte)
    monkeypatch.setattr("segcli.training.memory.free_memory", lambda device: 8 * gigabyte)
    assert largest_batch(lambda images: None, torch.device("cpu")) == 4


def test_the_held_out_part_has_images_that_can_be_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_shapes(data, images=6, side=64)
    for path in [*data.glob("panoptic_val*"), data / "panoptic_train.json"]:
        if path.name != "panoptic_train.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (held,) = detect(data).splits["val"]
    (data / "panoptic_train" / f"{held.image_id}.png").unlink(missing_ok=True)
    held.image.place.write_bytes(b"damaged")
    said: list[str] = []
    run = open_tiny(data, tmp_path / "run", say=said.append)
    assert (len(run.material.train), len(run.material.val)) == (4, 1)
    assert sum("held out" in line for line in said) == 2


def test_a_validation_split_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    root = layouts.semantic(tmp_path / "data", scenes())
    for file in (root / "val/labels").iterdir():
        file.unlink()
    with pytest.raises(UsageError, match=r"none of the 2 images to validate on can be used; the first: .*shot100.png"):
        open_tiny(root, tmp_path / "run")


def test_a_model_of_many_queries_may_show_as_many_instances(shapes: Path, tmp_path: Path) -> None:
    """Also where it is only begun from."""
    list(
        open_tiny(
            shapes, tmp_path / "run", {"model": {"queries": 120}, "schedule": {"steps": 1}, "validate": {"every": 1}}
        ).train()
    )
    config = tmp_path / "next.toml"
    config.write_text('[run]\ndtype = "fp32"\n', encoding="utf-8")
    start = {"model": {"start": str(tmp_path / "run" / "last")}, "data": {"path": str(shapes)}}
    run = open_run(resolve(None, config, start | {"schedule": {"steps": 1}}), tmp_path / "next", Ranks(), print)
    assert run.learner.loaded.spec.rule.top_k == 120


@pytest.mark.parametrize(("task", "things", "once"), [
    ("panoptic", {0, 1}, {2, 3}), ("instance", {0, 1}, set()), ("semantic", None, {0, 1, 2, 3})
])  # fmt: skip
def test_what_pictures_are_put_together_from(
    shapes: Path, tmp_path: Path, task: str, things: set[int] | None, once: set[int]
) -> None:
    changes: Tables = {"data": {"task": task, "repeat_threshold": 1.0}, "augment": {"copy_paste": 0.5, "mosaic": 0.2}}
    run = open_tiny(shapes, tmp_path / "run", changes)
    maker = examples_of(run.recipe, run.material)
    assert maker.mosaic == Mosaic(0.2, frozenset(once))
    assert maker.paste == (None if things is None else CopyPaste(0.5, frozenset(things)))
    assert run.recipe.augment.copy_paste == (0.0 if things is None else 0.5)
    assert maker.order.repeats is not None
    shares = {c.label.name: c.images / 8 for c in run.material.scan.train.classes}
    assert maker.order.repeats.max() == pytest.approx(max(1, min(shares.values()) ** -0.5))


def test_preview_writes_what_the_network_sees(shapes: Path, tmp_path: Path) -> None:
    answer = run_command(shapes, "--config", tiny_config(tmp_path), "--preview", 2, "--out", tmp_path / "seen")
    assert answer.returncode == 0, answer.stderr
    files = [Path(line) for line in answer.stdout.splitlines()]
    assert len(files) == 2
    assert all(np.asarray(Image.open(file)).shape[2] == 3 for file in files)


@pytest.mark.parametrize(("name", "across", "grey", "hinted"), [
    ("object", 4, True, True), ("nucleus", 4, False, True), ("object", 4, False, False), ("object", 30, True, False)
])  # fmt: skip
def test_cells_are_told_of_their_model(tmp_path: Path, name: str, across: int, grey: bool, hinted: bool) -> None:
    """By many small objects of one class, on grey photos or called so; a hint and no other start."""
    step = across + 4
    ids = np.zeros((120, 120), dtype=np.uint16)
    for number, place in enumerate(np.ndindex(120 // step, 120 // step), start=1):
        ids[place[0] * step : place[0] * step + across, place[1] * step : place[1] * step + across] = number
    photo = np.zeros((120, 120, 3), dtype=np.uint8)
    photo[...] = (90, 90, 90) if grey else (200, 90, 150)
    for count in range(3):
        layouts.save(tmp_path / "images" / f"{count}.png", photo)
        layouts.save(tmp_path / "labels" / f"{count}.png", ids)
    (tmp_path / "dataset.toml").write_text(f'format = "instance-png"\nclasses = ["{name}"]\n')
    hint = nearer_start(gather(detect(tmp_path), Ranks(), lambda said: None, None))
    assert ("--model nuclei" in hint if hint else False) is hinted
