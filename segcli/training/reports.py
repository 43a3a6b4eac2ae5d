"""What a training run tells while it works. The loop yields these; whoever runs it shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcli.metrics import MetricReport


@dataclass(frozen=True)
class StepReport:
    """One update.

    loss: weighted sum; terms: the last layer's, unweighted. lr: of the head (the backbone's is a share of it).
    seconds: of this step; images_per_second and eta (seconds, with the validations to come, once one was
    timed) follow from the recent steps. memory: bytes, at most so
    far: the GPU's where there is one, else the process's; None where it cannot be known.
    """

    step: int
    steps: int
    loss: float
    terms: dict[str, float]
    lr: float
    gradient: float
    seconds: float
    images_per_second: float
    eta: float
    memory: int | None

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
    """A batch that was not learnt from. in_a_row: so many by now."""

    step: int
    reason: str
    files: tuple[str, ...]
    in_a_row: int

    def record(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        return {"kind": "skipped", "step": self.step, "reason": self.reason, "files": list(self.files)}


@dataclass(frozen=True)
class MeasureReport:
    """A validation, or the search for thresholds after the last step, has come to image `done` of `images`."""

    step: int
    done: int
    images: int


@dataclass(frozen=True)
class ValidationReport:
    """The metric on the validation split and what helps to understand it.

    thresholds: what the metric was taken at, in words. histogram: images by their best class probability, in ten equal
    parts of [0, 1]. empty: share of images without a segment at these thresholds. best_score: over all images.
    """

    step: int
    metric: MetricReport
    thresholds: str
    histogram: tuple[int, ...]
    empty: float
    best_score: float
    images: int
    seconds: float
    is_best: bool = False
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
class SweepReport:
    """What thresholds serve the validation split best. tried: (thresholds in words, value), in the order tried."""

    measure: str
    value: float
    thresholds: str
    tried: tuple[tuple[str, float], ...]


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


Report = StepReport | SkipReport | MeasureReport | ValidationReport | SweepReport | SavedReport | EndReport
