"""What a training run reports while it works. The loop yields these, and the command line shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcli.metrics import MetricReport


@dataclass(frozen=True)
class StepReport:
    """One update."""

    step: int
    steps: int  # of the whole run
    loss: float  # weighted sum of the terms of all layers
    terms: dict[str, float]  # of the last layer, unweighted
    lr: float  # of the head; the backbone's is a share of it
    gradient: float  # its norm before clipping
    seconds: float  # that this step took
    images_per_second: float  # over the recent steps
    eta: float  # seconds to the end at this speed, with the validations to come once one was timed
    memory: int | None  # bytes: the peak of the GPU, or else of the process; None where it is unknown

    def record(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        terms = {f"loss/{name}": value for name, value in self.terms.items()}
        return {"kind": "train", "step": self.step, "loss": self.loss, **terms, "lr": self.lr} | {
            "gradient": self.gradient,
            "images_per_second": round(self.images_per_second, 3),
            "memory": self.memory,
        }


@dataclass(frozen=True)
class SkipReport:
    """A batch that was skipped."""

    step: int
    reason: str
    files: tuple[str, ...]  # its images
    in_a_row: int  # how many were skipped one after the other by now

    def record(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        return {"kind": "skipped", "step": self.step, "reason": self.reason, "files": list(self.files)}


@dataclass(frozen=True)
class MeasureReport:
    """Progress of a validation, or of the search for thresholds after the last step."""

    step: int
    done: int  # images so far
    images: int  # in all


@dataclass(frozen=True)
class ValidationReport:
    """The metric on the validation split and what helps to understand it."""

    step: int
    metric: MetricReport
    thresholds: str  # that the metric was measured at, in words
    histogram: tuple[int, ...]  # images by their best class probability, in ten equal parts of [0, 1]
    empty: float  # share of images without a segment at these thresholds
    best_score: float  # the best class probability in all images
    images: int
    seconds: float
    is_best: bool = False  # of all validations so far
    is_final: bool = False  # measured after training, on best/ as predict and eval load it

    def record(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        return {
            "kind": "final" if self.is_final else "validation",
            "step": self.step,
            "metric": self.metric.name,
            "value": self.metric.value,
            "summary": self.metric.summary,
            "per_class": list(self.metric.table),
            "thresholds": self.thresholds,
            "best_score_histogram": list(self.histogram),
            "empty": self.empty,
            "best_score": self.best_score,
            "images": self.images,
            "best": self.is_best,
        }


@dataclass(frozen=True)
class LastReport:
    """The last measurement begins, of best/ as predict and eval load it."""

    step: int
    tried: int  # thresholds and other rules that are compared


@dataclass(frozen=True)
class SweepReport:
    """The thresholds that are best on the validation split."""

    measure: str  # by which they were compared: PQ, or F1 at IoU 0.5
    value: float  # of the best
    thresholds: str  # the best, in words
    tried: tuple[tuple[str, float], ...]  # (thresholds in words, value), in the order tried


@dataclass(frozen=True)
class SavedReport:
    """A checkpoint is on the disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class EndReport:
    """The run is over."""

    step: int
    steps: int
    why: str  # "finished", "patience", or the name of the signal that stopped it
    folder: Path
    final: str | None  # what best/ was measured to have at last, in words, unless it was stopped
    during: float | None = None  # the same metric of the same step as it was measured during training
    found_nothing: bool = False  # in any of the validation images, or nothing that is right


Report = StepReport | SkipReport | MeasureReport | ValidationReport | LastReport | SweepReport | SavedReport | EndReport
