"""Experiment trackers get the numbers of a run, one record for a run however often it was resumed, and cost no run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from segcli.metrics import MetricReport
from segcli.training.recipe import LoggerName, Recipe
from segcli.training.record.loggers import LOGGERS, Loggers, numbers_of, require
from segcli.training.reports import StepReport, ValidationReport
from segcli.training.resolve import resolve

STEP = StepReport(3, 9, 2.5, {"mask": 0.5}, 1e-3, 4.0, 0.1, 10.0, 60.0, None)
MEASURED = MetricReport("AP", 0.0076, {"AP": 0.0076, "AP50": float("nan")}, [])
VALIDATION = ValidationReport(3, MEASURED, "no threshold", (0,) * 10, 0.5, 0.3, 4, 1.0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "nuclei-1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"id": "0123456789ab"}))
    return folder


def recipe(*names: LoggerName) -> Recipe:
    return resolve(None, None, {"run": {"log": list(names)}})


def track(run: Path, name: LoggerName, warnings: list[str]) -> None:
    """Two steps of a run that was resumed between them."""
    for report in (STEP, VALIDATION):
        loggers = Loggers(recipe(name), run, warnings.append)
        loggers.write(report)
        loggers.close()


def test_every_name_has_a_tracker() -> None:
    assert tuple(LOGGERS) == get_args(LoggerName)


def test_the_metric_is_in_percent_and_says_so() -> None:
    assert numbers_of(STEP) == {"loss/total": 2.5, "lr": 1e-3, "gradient": 4.0, "loss/mask": 0.5}
    assert numbers_of(VALIDATION)["val/AP percent"] == pytest.approx(0.76)
    assert numbers_of(VALIDATION)["val/empty percent"] == 50


def test_tensorboard(run: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said: list[str] = []
    track(run, "tensorboard", said)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    (loss,), (metric,) = events.Scalars("loss/total"), events.Scalars("val/AP percent")
    assert (loss.step, loss.value, metric.step, metric.value) == (3, 2.5, 3, pytest.approx(0.76))
    assert said == []


def test_mlflow(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (run.parent / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    said: list[str] = []
    track(run, "mlflow", said)
    assert said == []
    client = MlflowClient()
    experiment = client.get_experiment_by_name("segcli")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("nuclei-1", "FINISHED")
    assert found.data.params["schedule.lr"] == "0.0004"
    assert found.data.metrics["loss/total"] == 2.5
    assert found.data.metrics["val/AP percent"] == pytest.approx(0.76)
    assert "val/AP50 percent" not in found.data.metrics  # could not be measured


def test_weights_and_biases_offline(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "120")  # seconds; its service is slow to start on a busy machine
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "120")
    said: list[str] = []
    track(run, "wandb", said)
    assert said == []
    content = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (b"val/AP percent" in content and b"loss/mask" in content):
        time.sleep(0.1)  # its service writes when it comes to it
        written = list((run / "wandb").glob("offline-run-*-0123456789ab/*.wandb"))
        content = b"".join(file.read_bytes() for file in written)
    assert b"val/AP percent" in content
    assert b"loss/mask" in content
    assert len(written) == 2  # offline, a resumed run is joined when it is uploaded


def test_trackio(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(run.parent / "trackio"))
    said: list[str] = []
    track(run, "trackio", said)
    assert said == []


def test_a_tracker_that_fails_does_not_end_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        package = "torch"

        def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
            pass

        def log(self, step: int, numbers: Mapping[str, float]) -> None:
            raise ConnectionError("no route to host\nand much more")

        def close(self) -> None:
            raise AssertionError("it was left out")

    monkeypatch.setitem(LOGGERS, "wandb", Broken)
    require(["wandb"])
    said: list[str] = []
    loggers = Loggers(recipe("wandb"), run, said.append)
    loggers.write(STEP)
    loggers.write(STEP)
    loggers.close()
    assert said == ["--log wandb has failed (ConnectionError: no route to host); the run goes on without it"]
