"""The training loop: steps, validations, checkpoints, and what ends a run early.

    for report in train(recipe, folder, ranks): show(report)

A run is a function of its recipe and its data. Interruptions leave no trace in the result: the loop has no
state but the learner's and `RunState`, both in every checkpoint, and every draw is a function of (seed, step, image).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from segcli.data.loading.loader import Step
from segcli.distributed import Ranks
from segcli.errors import SegcliError
from segcli.files.text import percent
from segcli.inference.predict import is_out_of_memory
from segcli.training.learner import Learner, StepOutcome
from segcli.training.memory import OUT_OF_MEMORY, peak_memory
from segcli.training.recipe import FullRecipe
from segcli.training.record.card import model_card
from segcli.training.record.run_folder import Checkpoint, RunFolder
from segcli.training.reports import (
    EndReport,
    LastReport,
    MeasureReport,
    Report,
    SavedReport,
    SkipReport,
    StepReport,
    SweepReport,
    ValidationReport,
)
from segcli.training.setup import Material, loader_of
from segcli.training.stopping import Interrupts, Stopped, is_lost_worker
from segcli.training.validate import RuleScore, best_of, candidates, validate
from segcli.types import MergeRule, Task
from segcli.weights.adapt import described
from segcli.weights.checkpoint import LoadedModel, load_model

CHECKPOINT_SECONDS = 300.0  # at most this much work is lost, where no number of steps is given
RECENT = 50  # steps whose speed makes the forecast
_NEXT_TO_NOTHING = 0.01  # a metric below it is no model that anybody can use


@dataclass
class RunState:
    """The state of a run beside its weights."""

    best: float | None = None  # value of the metric so far
    best_step: int | None = None
    worse: int = 0  # validations since then
    unmeasured: bool = False  # whether the validation that is due at this step was not finished
    bad: int = 0  # batches in a row that were not finite
    final: str | None = None  # the metric of best/ with its final thresholds, in words, once it has them


@dataclass
class Run:
    """One run and the files it keeps."""

    recipe: FullRecipe
    material: Material
    learner: Learner
    folder: RunFolder
    ranks: Ranks
    about: dict[str, Any]  # the fingerprint
    state: RunState = field(default_factory=RunState)
    _validation: float = 0.0  # seconds that the last one took
    _found_nothing: bool = False  # by best/, at last
    _interrupts: Interrupts = field(default_factory=Interrupts)

    # ------------------------------------------------------------------------------------------------------- the loop

    def train(self) -> Iterator[Report]:
        """Until the last step, a signal, or the end of patience. Raises SegcliError where continuing makes no sense."""
        with self._interrupts:
            try:
                yield from self._train()
            except Stopped as stopped:  # a validation was left, which is done first when the run is resumed
                yield from self._end(stopped.name)

    def _train(self) -> Iterator[Report]:
        learner, steps = self.learner, self._steps
        if self.state.unmeasured:
            yield from self._validate()
        self._tick = time.monotonic()
        durations: deque[float] = deque(maxlen=RECENT)
        stream = iter(loader_of(self.recipe, self.material, learner.loaded.spec, self.ranks, learner.step))
        with closing(stream):  # type: ignore[type-var]  # a generator
            while learner.step < steps:
                stop = self._agreed(self._interrupts.name)
                if stop or self._is_out_of_patience():
                    yield from self._end(stop or "patience")
                    return
                begun = time.perf_counter()
                batch = self._next(stream)
                outcome = self._update(batch.batches)
                durations.append(time.perf_counter() - begun)
                if outcome.problem:
                    yield self._skipped(outcome.problem, batch.files)
                else:
                    self.state.bad = 0
                    yield self._stepped(outcome, durations)
                self.state.unmeasured = learner.step % self._every == 0 or learner.step == steps
                if self._is_checkpoint_due():
                    yield self._save()
                if self.state.unmeasured:
                    yield from self._validate()
        yield from self._end(self._agreed(self._interrupts.name) or "finished")

    @property
    def _steps(self) -> int:
        return self.learner.schedule.steps

    @property
    def _validations_left(self) -> int:
        return -(-self._steps // self._every) - self.learner.step // self._every

    @property
    def _every(self) -> int:
        return self.recipe.validate.every

    def _agreed(self, signal: str | None) -> str | None:
        """Whether any rank was told to stop: all stop after the same step."""
        if self.ranks.size == 1:
            return signal
        return next((name for name in self.ranks.gather(signal) if name), None)

    def _is_out_of_patience(self) -> bool:
        patience = self.recipe.validate.patience
        return bool(patience) and self.state.worse >= patience

    def _next(self, stream: Iterator[Step]) -> Step:
        """The next batch. If it cannot be had, the steps so far are saved."""
        try:
            with self._interrupts.hearing_children():
                return next(stream)
        except Exception as error:
            if self.learner.step:
                self._save()
            if not is_lost_worker(error):
                raise
            raise SegcliError(
                f"step {self.learner.step + 1}: an image-loading process was killed, most likely because memory ran "
                f"out ({str(error).strip('. ')}); continue with --resume --workers 0, which needs the least"
            ) from error

    def _update(self, parts: Any) -> StepOutcome:
        try:
            return self.learner.update(parts)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise SegcliError(f"step {self.learner.step + 1}: {OUT_OF_MEMORY}") from error

    # -------------------------------------------------------------------------------------------------------- reports

    def _stepped(self, outcome: StepOutcome, durations: deque[float]) -> StepReport:
        learner, table = self.learner, self.recipe.schedule
        seconds = sum(durations) / len(durations)
        report = StepReport(
            step=learner.step,
            steps=self._steps,
            loss=outcome.loss,
            terms=outcome.terms,
            lr=learner.lr * learner.schedule.factor(learner.step - 1),
            gradient=outcome.gradient,
            seconds=durations[-1],
            images_per_second=table.batch * table.accumulate * self.ranks.size / seconds,
            eta=(self._steps - learner.step) * seconds + self._validations_left * self._validation,
            memory=peak_memory(learner.loaded.device),
        )
        self.folder.append(report.record())
        return report

    def _skipped(self, problem: str, files: list[str]) -> SkipReport:
        """Count a bad batch; enough of them in a row end the run, with the likely cause."""
        self.state.bad += 1
        everybody = tuple(name for names in self.ranks.gather(files) for name in names)
        report = SkipReport(self.learner.step, problem, everybody, self.state.bad)
        self.folder.append(report.record())
        if self.state.bad >= self.recipe.run.give_up_after:
            held = ", ".join(everybody[:4])
            raise SegcliError(
                f"step {self.learner.step}: {problem} for {self.state.bad} batches in a row, "
                f"{self._likely_cause()}; the last one held {held}"
            )
        return report

    def _likely_cause(self) -> str:
        half = self.learner.autocast is not None
        if self.learner.step == self.state.bad:  # no learning rate has done anything yet
            return "from the first one on: the model it began from may be damaged" + ", or try --dtype fp32" * half
        lr = self.learner.lr * self.learner.schedule.factor(self.learner.step - 1)
        slower = f"try --lr {min(self.learner.lr / 5, 4e-4):.1g}" + ", or --dtype fp32" * half
        return f"most likely because the learning rate {lr:.2g} is too high: {slower}"

    def _validate(self) -> Iterator[Report]:
        """Measure, keep the best and the last model, and save. Raises Stopped for a signal meanwhile."""
        learner, started = self.learner, time.perf_counter()
        show = self.folder.write_picture if self.ranks.is_first else None
        with learner.average.applied():
            rules = [learner.loaded.spec.rule]
            (finding,) = yield from self._measure(learner.loaded, rules, learner.autocast, show=show)
            self.state.unmeasured = False
            is_best = self._is_best(finding.metric.value)
            report = _report(learner.step, finding, self._task, time.perf_counter() - started, is_best)
            if is_best:
                self._publish("best", learner.loaded, report)
            self._publish("last", learner.loaded, report)
        self.folder.append(report.record())
        self._validation = report.seconds
        yield report
        yield self._save()

    def _measure(
        self, loaded: LoadedModel, rules: list[MergeRule], autocast: torch.dtype | None, **options: Any
    ) -> Generator[MeasureReport, None, list[RuleScore]]:
        steps = validate(
            loaded,
            self.material.val,
            self._task,
            self.ranks,
            rules,
            step=self.learner.step,
            images=self.recipe.validate.images,
            autocast=autocast,
            stop=lambda: self._interrupts.name,
            **options,
        )
        try:
            return (yield from steps)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise SegcliError(
                f"validation at step {self.learner.step}: not enough memory; reduce --short-side or use --tile"
            ) from error

    def _is_best(self, value: float) -> bool:
        """Count a validation. An equal value is the best too (the later model has seen more), but no progress."""
        best = self.state.best
        if math.isfinite(value) and (best is None or value > best):
            self.state.worse = 0
        else:
            self.state.worse += 1
        if best is not None and not value >= best:
            return False
        self.state.best = value if math.isfinite(value) else None
        self.state.final = None
        self.state.best_step = self.learner.step
        return True

    @property
    def _task(self) -> Task:
        return self.material.info.task

    # ---------------------------------------------------------------------------------------------------------- files

    def _is_checkpoint_due(self) -> bool:
        every = self.recipe.run.checkpoint_every
        if every is not None:
            return self.learner.step % every == 0
        return time.monotonic() - self._tick > CHECKPOINT_SECONDS

    def _save(self) -> SavedReport:
        self._tick = time.monotonic()
        self.folder.save(self.checkpoint())
        return SavedReport(self.learner.step, self.folder.path)

    def checkpoint(self) -> Checkpoint:
        """Everything the rest of the run depends on."""
        state = self.learner.numbers() | {"progress": asdict(self.state), "about": self.about}
        state |= {"network": described(self.learner.loaded), "threads": torch.get_num_threads()}
        return Checkpoint(self.learner.tensors(), state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint was taken."""
        self.learner.restore(checkpoint.tensors, checkpoint.state)
        self.state = RunState(**checkpoint.state["progress"])
        swept, unmeasured = self.state.final is not None, self.state.unmeasured
        self.folder.rewind(self.learner.step, swept=swept, unmeasured=unmeasured)

    def _publish(self, name: str, loaded: LoadedModel, report: ValidationReport) -> None:
        value = report.metric.value
        measured = {report.metric.name: round(100 * value, 2)} if math.isfinite(value) else {}
        facts = loaded.facts | {"metrics": measured, "thresholds": report.thresholds, "step": report.step}
        published = dataclasses.replace(loaded, facts=facts)
        self.folder.publish(name, published, model_card(published, self.recipe, self.material, report))

    def _end(self, why: str) -> Iterator[Report]:
        """A last checkpoint, and the thresholds that serve the validation split best."""
        over = why in ("finished", "patience")
        if over and self.state.final is None:  # a run that is over may be resumed: there is nothing left to do
            try:
                self.state.final = yield from self._finish()
                yield self._save()
            except Stopped as stopped:
                over, why = False, stopped.name
        if not over:
            yield self._save()
            self.ranks.gather(None)  # nobody leaves while the first rank writes
        final, during = self.state.final, self.state.best
        yield EndReport(self.learner.step, self._steps, why, self.folder.path, final, during, self._found_nothing)

    def _finish(self) -> Generator[Report, None, str]:
        """Give best/ the thresholds that serve the validation split best, and a last measurement -> that in words.

        It is measured on what predict and eval will load, in fp32: half precision, which the validations of a run may
        have, is some tenths of a point away.
        """
        loaded, step = self._best_model(), self.state.best_step or 0
        rules = [loaded.spec.rule, *candidates(self._task, loaded.spec.rule)]
        yield LastReport(self.learner.step, len(rules))
        findings = yield from self._measure(loaded, rules, None)
        best = best_of(findings)  # the rule in force is the first
        loaded = dataclasses.replace(loaded, spec=dataclasses.replace(loaded.spec, rule=best.rule))
        report = dataclasses.replace(_report(step, best, self._task, 0.0, True), is_final=True)
        self._publish("best", loaded, report)
        if len(rules) > 1:
            yield self._swept(findings, best)
        self.folder.append(report.record())
        value = best.metric.value
        self._found_nothing = value < _NEXT_TO_NOTHING or best.tally.empty == best.tally.images
        return f"{best.metric.name} {percent(value)} at step {step}" if math.isfinite(value) else f"step {step}"

    def _swept(self, findings: list[RuleScore], best: RuleScore) -> SweepReport:
        report = SweepReport(
            measure="PQ" if self._task == "panoptic" else "F1 at IoU 0.5",
            value=best.measure,
            thresholds=best.rule.shown_in_words(self._task),
            tried=tuple((finding.rule.shown_in_words(self._task), finding.measure) for finding in findings),
        )
        self.folder.append(
            {"kind": "sweep", "step": self.learner.step, "measure": report.measure, "value": report.value}
            | {"thresholds": report.thresholds, "tried": [list(item) for item in report.tried]}
        )
        return report

    def _best_model(self) -> LoadedModel:
        """best/, on the learner's device."""
        self.ranks.gather(None)  # best/ is there when the first rank has come this far
        loaded = load_model(self.folder.path / "best", "cpu", "fp32")
        device = self.learner.loaded.device
        loaded.model.to(device)
        return dataclasses.replace(loaded, device=device, stored_dtype=torch.float32)


def _report(step: int, finding: RuleScore, task: Task, seconds: float, is_best: bool) -> ValidationReport:
    tally = finding.tally
    return ValidationReport(
        step=step,
        metric=finding.metric,
        thresholds=finding.rule.in_words(task),
        histogram=tuple(tally.histogram.tolist()),
        empty=tally.empty / max(1, tally.images),
        best_score=tally.best,
        images=tally.images,
        seconds=seconds,
        is_best=is_best,
    )


def autocast_of(recipe: FullRecipe, device: torch.device) -> torch.dtype | None:
    """The half precision of a recipe; None is fp32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.run.dtype)
