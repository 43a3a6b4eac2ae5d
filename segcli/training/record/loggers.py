"""Where else a run's numbers go, beside metrics.jsonl: experiment trackers, each behind the same four functions.

A tracker is a class here that is in `LOGGERS` under its name on the command line. Its package is imported when a run
begins, and a tracker that fails is left out with a warning: it must not cost a run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from segcli.errors import UsageError
from segcli.training.recipe import LoggerName, Recipe, to_tables
from segcli.training.record.run_files import run_id
from segcli.training.reports import Report, StepReport, ValidationReport


class Logger(Protocol):
    """One tracker, for one run."""

    package: ClassVar[str]  # what must be installed

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        """Start a record, or continue the one of the same run. settings: the recipe, flat."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """What was measured at a step."""

    def close(self) -> None:
        """Bring everything to where it belongs."""


class TensorBoard:
    """Event files in the run's folder."""

    package: ClassVar[str] = "tensorboard"

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and the rest of its variables hold."""

    package: ClassVar[str] = "wandb"

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT", "segcli")
        self._run = wandb.init(
            project=project, name=run.name, dir=run, config=dict(settings), id=run_id(run), resume="allow"
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI says, in the experiment MLFLOW_EXPERIMENT_NAME or "segcli"."""

    package: ClassVar[str] = "mlflow"

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "segcli")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        earlier = self._client.search_runs([experiment], f"tags.`segcli.run` = '{run_id(run)}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        self._id = self._client.create_run(experiment, run_name=run.name, tags={"segcli.run": run_id(run)}).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._id, key, value)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Trackio:
    """A run of Trackio, in its project "segcli" unless TRACKIO_PROJECT says otherwise."""

    package: ClassVar[str] = "trackio"

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", "segcli")
        name = f"{run.name}-{run_id(run)[:6]}"
        self._run = trackio.init(project=project, name=name, config=dict(settings), resume="allow")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


LOGGERS: dict[LoggerName, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def require(names: Sequence[LoggerName]) -> None:
    """Raises UsageError for a tracker whose package is not installed."""
    for name in names:
        package = LOGGERS[name].package
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"--log {name} needs its package: pip install {package}")


def numbers_of(report: StepReport | ValidationReport) -> dict[str, float]:
    """What is tracked of a report; the metric in percent, as everywhere a person reads it."""
    if isinstance(report, StepReport):
        terms = {f"loss/{name}": value for name, value in report.terms.items()}
        return {"loss/total": report.loss, "lr": report.lr, "gradient": report.gradient} | terms
    shares = report.metric.summary | {"empty": report.empty}
    return {f"val/{name} percent": 100 * value for name, value in shares.items()}


class Loggers:
    """The trackers that a recipe names; none for None."""

    def __init__(self, recipe: Recipe | None, run: Path, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._open: dict[LoggerName, Logger] = {}
        if recipe is None or not recipe.run.log:
            return
        flat = {f"{table}.{key}": _plain(v) for table, row in to_tables(recipe).items() for key, v in row.items()}
        for name in recipe.run.log:
            self._try(name, partial(self._begin, name, run, flat))

    def _begin(self, name: LoggerName, run: Path, settings: Mapping[str, Any]) -> None:
        self._open[name] = LOGGERS[name](run, settings)

    def write(self, report: Report) -> None:
        """The numbers of a report, if it has any."""
        if isinstance(report, StepReport | ValidationReport):
            numbers = {name: value for name, value in numbers_of(report).items() if math.isfinite(value)}
            for name, logger in list(self._open.items()):
                self._try(name, partial(logger.log, report.step, numbers))

    def close(self) -> None:
        """Bring everything to where it belongs."""
        for name, logger in list(self._open.items()):
            self._try(name, logger.close)

    def _try(self, name: LoggerName, act: Callable[[], object]) -> None:
        """Any failure of a tracker, and theirs are many, ends the tracking and not the run."""
        try:
            act()
        except Exception as error:
            self._open.pop(name, None)
            text = str(error).strip().partition("\n")[0]
            self._warn(f"--log {name} has failed ({type(error).__name__}: {text[:200]}); the run goes on without it")


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value
