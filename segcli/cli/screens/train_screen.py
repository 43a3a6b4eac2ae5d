"""What `segcli train` shows while it works: a panel in a terminal, single lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from segcli import console
from segcli.console import Console
from segcli.files.text import percent, some

if TYPE_CHECKING:
    from segcli.training.reports import (
        EndReport,
        MeasureReport,
        Report,
        SkipReport,
        StepReport,
        SweepReport,
        ValidationReport,
    )

SECONDS_BETWEEN_LINES = 10.0  # outside a terminal
FIRST_LINES = 5  # steps that are always worth a line there


class TrainScreen:
    """Shows reports as they come. why: how the run ended, once it has."""

    def __init__(self, say: Console, out: Path) -> None:
        self.say, self.out, self.why = say, out, ""
        self._stack = ExitStack()
        self._renew: Any = None
        self._metric = "none yet"
        self._rows: list[tuple[str, str]] = []  # of the last step
        self._shown, self._last_line = 0, 0.0

    def __enter__(self) -> TrainScreen:
        self._renew = self._stack.enter_context(self.say.panel())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, report: Report) -> None:
        """One report, in the way of its kind."""
        from segcli.training import reports

        match report:
            case reports.StepReport():
                self._step(report)
            case reports.SkipReport():
                self._skip(report)
            case reports.MeasureReport():
                self._measure(report)
            case reports.ValidationReport():
                self._validation(report)
            case reports.LastReport():
                tried = (
                    f"the best of {some(report.tried, 'threshold')} is looked for" if report.tried > 1 else "once more"
                )
                self.say.note(f"the last validation, of best/: {tried}")
            case reports.SweepReport():
                self._sweep(report)
            case reports.EndReport():
                self._end(report)

    def _step(self, report: StepReport) -> None:
        if self._renew is not None:
            self._rows = [
                ("step", f"{report.step} / {report.steps}"),
                ("loss", f"{report.loss:.2f}; of its last layer, unweighted: {_terms(report)}"),
                ("learning rate", f"{report.lr:.2e}   gradient {report.gradient:.1f}"),
                ("speed", f"{report.images_per_second:.1f} images/s   {duration(report.eta)} left"),
                ("memory", _gigabytes(report.memory)),
                ("last metric", self._metric),
            ]
            self._renew(self._rows)
            return
        self._shown += 1
        now = time.monotonic()
        if self._shown <= FIRST_LINES or report.step == report.steps or now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say.note(
                f"step {report.step}/{report.steps}  loss {report.loss:.2f} "
                f"(last layer, unweighted: {_terms(report)})  lr {report.lr:.2e}  "
                f"{report.images_per_second:.1f} images/s  {duration(report.eta)} left  {_gigabytes(report.memory)}"
            )

    def _skip(self, report: SkipReport) -> None:
        if not self.say.quiet:
            console.warning(
                f"step {report.step}: {report.reason}, skipped {', '.join(report.files)}"
                + (f" ({report.in_a_row} in a row)" if report.in_a_row > 1 else "")
            )

    def _measure(self, report: MeasureReport) -> None:
        if self._renew is not None:
            self._renew([*self._rows, ("validation", f"{report.done} / {report.images} images")])
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.say.note(f"  validation: {report.done}/{report.images} images")

    def _validation(self, report: ValidationReport) -> None:
        metric = report.metric
        self._metric = f"{metric.name} {percent(metric.value)} at step {report.step}"
        star = " (best so far)" if report.is_best else ""
        others = [f"{name} {percent(value)}" for name, value in list(metric.summary.items())[1:6]]
        self.say.note(
            f"validation at step {report.step}: {metric.name} {percent(metric.value)}{star} on {report.images} images "
            f"({report.thresholds}); {', '.join(others)}; {duration(report.seconds)}"
        )
        self.say.note(
            f"  surest class probability of an image: {_middle(report.histogram)}at most {report.best_score:.2f}; "
            f"{percent(report.empty)} of the images show no segment at these thresholds"
        )
        if report.empty == 1:
            self.say.note("  no segment in any image: nothing passes all of these thresholds yet")

    def _sweep(self, report: SweepReport) -> None:
        self.say.note(
            f"thresholds stored in best/: {report.thresholds}, the best of {len(report.tried)} tried on the validation "
            f"images ({report.measure}: {percent(report.value)})"
        )

    def _end(self, report: EndReport) -> None:
        self.why = report.why
        if report.why.startswith("SIG"):
            self.say.note(
                f"stopped by {report.why} after step {report.step}; "
                f"continue with: segcli train --resume --out {self.out}"
            )
            return
        early = " early, as the metric stopped improving" if report.why == "patience" else ""
        final = f"; best/ has {report.final}" if report.final else ""
        if report.final and report.during is not None:
            final += f", measured as predict and eval will use it ({percent(report.during)} during training)"
        self.say.note(f"done{early} after {some(report.step, 'step')}{final}")
        if report.found_nothing:
            self.say.note(
                "the model finds next to nothing correct in the validation images yet. What helps most: train longer "
                "(--max-steps), start from a stronger model (--model), show objects larger (--short-side, --tile). "
                f"To see what is missing: segcli eval DATA --model {self.out / 'best'} --explain"
            )
        self.say.say(f"{self.out / 'best'}")
        self.say.note(f"try it: segcli predict photo.jpg --model {self.out / 'best'}")


def _middle(histogram: Sequence[int]) -> str:
    """Between which tenths half of the images have less and half have more."""
    total, seen = sum(histogram), 0
    for tenth, count in enumerate(histogram):
        seen += count
        if total and 2 * seen >= total:
            return f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f} for the middle one, "
    return ""


def _terms(report: StepReport) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in report.terms.items())


def _gigabytes(memory: int | None) -> str:
    return "memory unknown" if memory is None else f"{memory / 2**30:.1f} GB"


def duration(seconds: float) -> str:
    """90 -> 1 min, 5400 -> 1 h 30 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
