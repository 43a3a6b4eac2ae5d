"""Never lose work: killed runs end as if they had not been, checkpoints are whole, and another run is refused."""

from __future__ import annotations

import errno
import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from segcli.cli import app
from segcli.distributed import Ranks
from segcli.errors import OutputError, SegcliError, UsageError
from segcli.training.record import loggers
from segcli.training.record.run_files import devices_of, is_over, last_unfinished
from segcli.training.reports import EndReport, MeasureReport, Report, SavedReport, SweepReport, ValidationReport
from segcli.training.resolve import resolve
from segcli.training.resume import resumed_recipe
from segcli.training.session import open_run
from segcli.training.stopping import Stopped
from segcli.training.validate import validate
from segcli.weights.pretrained import LITE0_PACKAGE
from tests.training.shapes import write_shapes
from tests.training.small_runs import TINY, command, environment, losses, open_tiny, run_command, state, tiny_config

pytest.importorskip(LITE0_PACKAGE)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", images=6, side=64)


def _interrupt(arguments: list[object], out: Path, step: int, number: signal.Signals, wait: float) -> int:
    """Start a run and send it a signal some time after it has begun `step`; -> its exit code."""
    process = subprocess.Popen(command(*arguments), env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline and _last_step(out) < step:
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(number)
    return process.wait(60)


def _last_step(out: Path) -> int:
    try:
        return losses(out)[-1][0]
    except (OSError, IndexError, json.JSONDecodeError):
        return 0


def _interrupted_run_equals_another(
    shapes: Path, folder: Path, signals: list[signal.Signals], steps: int, seed: int
) -> None:
    config = tiny_config(folder)
    options = ["--config", config, "--max-steps", steps, "--checkpoint-every", 2]
    whole, broken = folder / "whole", folder / "broken"
    finished = run_command(shapes, "--out", whole, *options)
    assert finished.returncode == 0, finished.stderr
    draw = random.Random(seed)
    start: list[object] = [shapes, "--out", broken, *options]
    landed = 0
    for count, number in enumerate(signals, start=1):
        step = max(1, steps * count // (len(signals) + 1))
        # Half of the killings hit the writing of a checkpoint or a validation, which take longest.
        code = _interrupt(start, broken, step, number, draw.uniform(0, 0.3))
        assert code in (-number, 128 + number, 0)  # killed, stopped in order, or it was done already
        landed += code != 0
        if (broken / "config.toml").exists():
            # Workers load ahead of the step that is lost, and make no difference.
            start = ["--resume", "--out", broken, "--workers", int(count % 3 == 1)]
    finished = run_command(*start)
    assert finished.returncode == 0, finished.stderr
    assert landed > len(signals) // 2
    assert losses(broken) == losses(whole)
    mine, theirs = state(broken), state(whole)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for name in ("best", "last"):
        files = [(folder / run / name / "model.safetensors").read_bytes() for run in ("broken", "whole")]
        assert files[0] == files[1]
    assert not list(broken.rglob(".*"))


def test_a_killed_run_ends_bit_identical(shapes: Path, tmp_path: Path) -> None:
    _interrupted_run_equals_another(shapes, tmp_path, [signal.SIGKILL] * 3, steps=12, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_a_run_killed_twenty_times_ends_bit_identical(shapes: Path, tmp_path: Path, seed: int) -> None:
    _interrupted_run_equals_another(shapes, tmp_path, [signal.SIGKILL] * 20, steps=60, seed=seed)


def test_a_signal_saves_and_says_how_to_go_on(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(shapes, "--config", tiny_config(tmp_path), "--max-steps", 500, "--out", out),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and _last_step(out) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"continue with: segcli train --resume --out {out}" in messages
    assert state(out)
    assert len(losses(out)) < 500


@pytest.mark.parametrize("how", ["announced", "write", "library"])
def test_a_full_disk_leaves_the_last_good_checkpoint(
    shapes: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run = open_tiny(shapes, out, {"schedule": {"steps": 4}, "validate": {"every": 2}})
    reports = run.train()
    while run.learner.step < 2 or not (out / "checkpoint.safetensors").exists():
        next(reports)
    before = (out / "checkpoint.safetensors").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        if how == "write":
            raise OSError(errno.ENOSPC, "No space left on device")
        from safetensors import SafetensorError

        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    if how == "announced":
        usage = type("usage", (), {"free": 10})
        monkeypatch.setattr("segcli.training.record.run_folder.shutil.disk_usage", lambda path: usage)
    else:
        monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match=r"the disk is full.*checkpoint of step 2 is untouched.*--resume"):
        list(reports)
    assert (out / "checkpoint.safetensors").read_bytes() == before
    assert not list(out.glob(".*"))


def test_what_a_killed_process_left_half_written_goes_with_resume(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes: dict[str, Any] = {"schedule": {"steps": 1}, "validate": {"every": 1}}
    open_tiny(shapes, out, changes)
    for name in (".segcli-1-0.part/checkpoint.safetensors", ".segcli-1-0.part/.tmpAbCdEf", ".best.part-1/config.json"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"half")
    (out / ".tmpAbCdEf").write_bytes(b"half")  # as an earlier version left it
    list(open_tiny(shapes, out, changes, resume=True).train())
    assert not list(out.rglob(".*"))


def test_another_run_is_refused_with_the_difference(shapes: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    write_shapes(data, images=6, side=64)
    list(open_tiny(data, out, {"schedule": {"steps": 1}, "validate": {"every": 1}}).train())

    def resume(change: dict[str, Any]) -> None:
        recipe = resumed_recipe(out, None, None, change)
        tables = {"data": {"path": recipe.data.path}, "schedule": {"steps": recipe.schedule.steps}}
        open_tiny(data, out, tables | {"validate": {"every": 1}}, resume=True)

    resume({"data": {"path": str(data)}})  # the same
    resume({"data": {"path": str(shapes)}})  # the same images elsewhere
    with pytest.raises(UsageError, match=r"is not in .*gone; if it has moved, .*: segcli train DATA --resume --out"):
        resume({"data": {"path": str(tmp_path / "gone")}})
    with pytest.raises(UsageError, match=r"lr was 0.001, now 0.1"):
        resume({"schedule": {"lr": 0.1}})
    config = tmp_path / "slip.toml"
    for slip, said in (("lr = 0.1", "unknown table or key 'lr'"), ("[model]\nstart = 5", "start = 5")):
        config.write_text(slip)
        with pytest.raises(UsageError, match=f"slip.toml: .*{said}"):
            resumed_recipe(out, None, config, {})
    others = write_shapes(tmp_path / "others", images=6, side=64, seed=1)
    with pytest.raises(UsageError, match=r"train annotations: was .* objects, .*, now .* start .* --model .*last"):
        resume({"data": {"path": str(others)}})
    with pytest.raises(UsageError, match=r"backbone was lite0, now swin-tiny"):
        resume({"model": {"backbone": "swin-tiny"}})
    for split in ("train", "val"):
        path = data / f"panoptic_{split}.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"disc"', '"ball"'), encoding="utf-8")
    with pytest.raises(UsageError, match=r"classes: without disc and with ball"):
        resume({})


def test_resuming_what_never_was_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run to resume"):
        resumed_recipe(tmp_path, None, None, {})


def test_resuming_without_a_folder_takes_the_last_run_that_is_not_over(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["train", "--resume"])
    assert answer.exit_code == 2
    assert "there is no interrupted run in runs; give its folder with --out" in answer.stderr
    changes: dict[str, Any] = {"schedule": {"steps": 1}, "validate": {"every": 1}}
    begun, over = open_tiny(shapes, Path("runs/a"), changes), open_tiny(shapes, Path("runs/b"), changes)
    list(over.train())
    assert (is_over(over.folder.path), is_over(begun.folder.path), devices_of(begun.folder.path)) == (True, False, 1)
    assert last_unfinished(Path("runs"), None) == last_unfinished(Path("runs"), shapes) == Path("runs/a")
    with pytest.raises(UsageError, match="no interrupted run of elsewhere"):
        last_unfinished(Path("runs"), Path("elsewhere"))
    answer = CliRunner().invoke(app, ["train", "--resume"])
    assert answer.exit_code == 0, answer.stderr
    assert "resuming runs/a" in answer.stderr
    assert is_over(Path("runs/a"))


def test_a_folder_without_data_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    script = "import sys; from segcli.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", script, "train", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (2, "False\n")
    assert "no dataset recognised" in answer.stderr


def test_a_run_goes_on_by_the_command_that_began_it(shapes: Path, tmp_path: Path) -> None:
    """Epochs come to steps, and a warm-up longer than the run is cut: neither is a change."""
    asked: dict[str, Any] = {"schedule": {"epochs": 0.5, "least_steps": 0, "warmup": 50}}
    list(open_tiny(shapes, tmp_path / "run", asked | {"validate": {"every": 1, "images": 1}}).train())
    recipe = resumed_recipe(tmp_path / "run", None, None, asked)
    assert (recipe.schedule.epochs, recipe.schedule.warmup, recipe.schedule.steps) == (0.5, 50, 2)
    with pytest.raises(UsageError, match=r"epochs was 0.5, now 1"):
        resumed_recipe(tmp_path / "run", None, None, {"schedule": {"epochs": 1.0}})


def test_a_run_is_a_recipe_for_other_data(shapes: Path, tmp_path: Path) -> None:
    """What was detected is no part of it."""
    run = open_tiny(shapes, tmp_path / "run", {"schedule": {"steps": 1}})
    assert (run.recipe.data.format, run.recipe.data.task) == (None, None)


def test_a_run_does_not_overwrite_another(shapes: Path, tmp_path: Path) -> None:
    open_tiny(shapes, tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already"):
        open_tiny(shapes, tmp_path / "run")


def test_a_run_that_is_refused_leaves_no_folder(shapes: Path, tmp_path: Path) -> None:
    """Another task is no remedy for who asked for this one."""
    with pytest.raises(UsageError, match=r"the data for detect; add --arch detr"):
        open_tiny(shapes, tmp_path / "run", {"data": {"task": "detect"}})
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_without_the_model_it_began_from(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where it was called from matters: --model was a path from there."""
    monkeypatch.chdir(tmp_path)
    list(open_tiny(shapes, tmp_path / "first", {"schedule": {"steps": 1}, "validate": {"every": 1}}).train())
    (tmp_path / "rest.toml").write_text("[augment]" + TINY.partition("[augment]")[2], encoding="utf-8")
    given: dict[str, Any] = {"model": {"start": "first/last"}, "data": {"path": str(shapes)}}
    given["run"] = {"checkpoint_every": 2}
    recipe = resolve(None, tmp_path / "rest.toml", given)
    list(open_run(recipe, tmp_path / "whole", Ranks(), print).train())
    reports = open_run(recipe, tmp_path / "broken", Ranks(), print).train()
    while not isinstance(next(reports), SavedReport):
        pass
    reports.close()  # type: ignore[attr-defined]  # a generator
    assert resumed_recipe(tmp_path / "broken", None, None, given) == resumed_recipe(
        tmp_path / "broken", None, None, {}
    )  # the same by another name
    (tmp_path / "first").rename(tmp_path / "gone")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = resumed_recipe(tmp_path / "broken", None, None, {})
    list(open_run(recipe, tmp_path / "broken", Ranks(), print, resume=True).train())
    mine, theirs = state(tmp_path / "broken"), state(tmp_path / "whole")
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for file in ("model.safetensors", "config.json", "preprocessor_config.json", "README.md"):
        both = [(tmp_path / run / "best" / file).read_bytes() for run in ("broken", "whole")]
        assert both[0] == both[1], file


def test_a_killed_worker_costs_no_step(shapes: Path, tmp_path: Path) -> None:
    """Wherever the run is when it happens: torch would raise there. What was loaded before is still learnt from."""
    changes: dict[str, Any] = {"run": {"workers": 1}, "schedule": {"steps": 99}, "validate": {"every": 99}}
    run = open_tiny(shapes, tmp_path / "run", changes)
    reports = run.train()
    while run.learner.step < 2:
        next(reports)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    with pytest.raises(SegcliError, match=r"an image-loading process was killed.*pid.*--resume.*--workers 0") as raised:
        list(reports)
    step = losses(tmp_path / "run")[-1][0]
    assert run.folder.load().state["step"] == step >= 2
    assert str(raised.value).startswith(f"step {step + 1}: ")


@pytest.mark.parametrize("moment", [SavedReport, MeasureReport])
def test_a_signal_after_the_last_step_is_heard(shapes: Path, tmp_path: Path, moment: type[Report]) -> None:
    """Also while thresholds are compared, which takes longest."""
    changes: dict[str, Any] = {"schedule": {"steps": 2}, "validate": {"every": 2}}
    whole = list(open_tiny(shapes, tmp_path / "whole", changes).train())
    run = open_tiny(shapes, tmp_path / "run", changes)
    reports: list[Report] = []
    heard = False
    for report in run.train():
        validated = any(isinstance(earlier, ValidationReport) for earlier in reports)
        reports.append(report)
        if validated and type(report) is moment and not heard:
            heard = True  # a second one would end the tests
            signal.raise_signal(signal.SIGTERM)
    end = reports[-1]
    assert isinstance(end, EndReport)
    assert (end.why, end.final) == ("SIGTERM", None)
    measured = [isinstance(report, MeasureReport) for report in reports]
    assert sum(measured) == 2 + (moment is MeasureReport)  # and not the whole split again
    again = list(open_tiny(shapes, tmp_path / "run", changes, resume=True).train())
    assert again[-1].final == whole[-1].final  # type: ignore[union-attr]
    assert [type(report) for report in again[-3:]] == [SweepReport, SavedReport, EndReport]


@pytest.mark.parametrize("killed", [False, True])
def test_a_signal_ends_a_validation_which_comes_first_when_the_run_goes_on(
    shapes: Path, tmp_path: Path, killed: bool
) -> None:
    """killed: the process ended when the validation was done but not saved."""
    changes: dict[str, Any] = {"schedule": {"steps": 4}, "validate": {"every": 2}, "run": {"checkpoint_every": 1}}
    list(open_tiny(shapes, tmp_path / "whole", changes).train())
    run = open_tiny(shapes, tmp_path / "run", changes)
    reports: list[Report] = []
    for report in run.train():
        reports.append(report)
        if killed and isinstance(report, ValidationReport):
            break
        if not killed and isinstance(report, MeasureReport):
            signal.raise_signal(signal.SIGTERM)
    if not killed:
        assert isinstance(reports[-1], EndReport)
        assert (reports[-1].step, reports[-1].why) == (2, "SIGTERM")
        assert sum(isinstance(report, MeasureReport) for report in reports) == 1
    list(open_tiny(shapes, tmp_path / "run", changes, resume=True).train())
    ours, theirs = (
        [{k: v for k, v in json.loads(line).items() if k in ("kind", "step", "value", "loss")} for line in lines]
        for lines in ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("run", "whole"))
    )
    assert ours == theirs
    assert [record["step"] for record in ours if record["kind"] == "validation"] == [2, 4]


def test_a_signal_to_another_rank_ends_measuring_here(shapes: Path, tmp_path: Path) -> None:
    run = open_tiny(shapes, tmp_path / "run")

    class Two(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [value, ("SIGINT", *value[1:])]

    loaded = run.learner.loaded
    with pytest.raises(Stopped, match="SIGINT"):
        list(validate(loaded, run.material.val, "panoptic", Two(0, 2), [loaded.spec.rule], images=1))


def test_a_run_killed_after_its_sweep_has_it_once(shapes: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"schedule": {"steps": 1}, "validate": {"every": 1}}
    reports = open_tiny(shapes, tmp_path / "run", changes).train()
    while not isinstance(next(reports), SweepReport):
        pass
    reports.close()  # type: ignore[attr-defined]  # before the checkpoint
    for _ in range(2):  # and a run that is over keeps it
        list(open_tiny(shapes, tmp_path / "run", changes, resume=True).train())
        lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["train", "validation", "sweep", "final"]


def test_a_tracker_is_missed_before_there_is_a_folder(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers.TensorBoard, "package", "no_such_package")
    answer = CliRunner().invoke(app, ["train", str(shapes), "--log", "tensorboard", "--out", str(tmp_path / "run")])
    assert (answer.exit_code, "pip install no_such_package" in answer.stderr) == (2, True)
    answer = CliRunner().invoke(app, ["train", str(shapes), "--log", "paper", "--out", str(tmp_path / "run")])
    assert answer.exit_code == 2
    assert "--log ['paper']; expected a list, each one of tensorboard, wandb, mlflow, trackio" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_a_signal_to_two_ranks_saves_once_and_together(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--config", tiny_config(tmp_path), "--max-steps", 500, "--devices", 2, "--out", out]
    process = subprocess.Popen(command(shapes, *options), env=environment(), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and _last_step(out) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 143, messages
    assert messages.count("stopped by SIGTERM") == 1
    assert "Traceback" not in messages
    step = losses(out)[-1][0]
    alone = run_command("--resume", "--out", out, "--devices", 1)
    assert (alone.returncode, "devices: was 2, now 1" in alone.stderr) == (2, True)
    process = subprocess.Popen(
        command("--resume", "--out", out), env=environment(), stderr=subprocess.PIPE, text=True
    )  # as many as before
    while process.poll() is None and _last_step(out) <= step:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert (process.returncode, f"resumed at step {step}" in messages) == (143, True)
