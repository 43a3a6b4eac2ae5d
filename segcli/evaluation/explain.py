"""What limits a model: its metric, and what that would be if one kind of error were fixed.

The oracle ladder of `segcli eval --explain`. Errors are told apart in `evaluation/mistakes.py`; each rung is the task's
real metric over the repaired prediction, so that every figure is exact and comparable with the first. A second column
repairs one kind after the other; it ends at the perfect prediction, which is 100 (but for a COCO file with an
annotation of id 0, which the official AP never credits).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from segcli.evaluation.mistakes import Judged, MistakeKind, judge, objects_of, parts_of, repair, repair_next
from segcli.evaluation.observers import Evaluated
from segcli.files.writing import write_file
from segcli.metrics import Metric, MetricReport, metric_for
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, MergeRule, Task

FILE = "explain.json"
_AS_IT_IS = "as it is"
_THRESHOLDS = "thresholds"
# A kind of error: its name, what the rung supposes, and what the sentence calls it.
_RUNGS: dict[MistakeKind, tuple[str, str, str]] = {
    MistakeKind.CLASS: ("classes", "every matched segment had the right class", "classes"),
    MistakeKind.MASK: ("masks", "every matched segment had the right mask", "masks"),
    MistakeKind.DUPLICATE: ("duplicates", "duplicates were gone", "duplicates"),
    MistakeKind.INVENTED: ("invented", "invented segments were gone", "invented segments"),
    MistakeKind.MISSED: ("recall", "every missed object was found", "recall, objects that are missed,"),
}
# Semantic results answer every pixel once: there are no duplicates, and a region is invented where another is missed.
_KINDS: dict[Task, tuple[MistakeKind, ...]] = {
    "panoptic": tuple(_RUNGS),
    "instance": tuple(_RUNGS),
    "detect": tuple(_RUNGS),
    "semantic": (MistakeKind.CLASS, MistakeKind.MASK, MistakeKind.MISSED),
}
_NO_THRESHOLDS: dict[Task, str] = {
    "panoptic": "needs the model's own predictions: without --predictions or --skip-existing",
    "instance": "AP is measured without thresholds",
    "detect": "AP is measured without thresholds",
    "semantic": "the class of a pixel is an argmax, without thresholds",
}
_EVERY_SCORE = (
    "concerns: so many predictions of every score, as AP ranks them, most of which predict does not show; of recall, "
    "objects"
)
_NOTHING = 0.0005  # a gain that a table with one decimal shows as 0.0


@dataclass(frozen=True)
class Rung:
    """The metric if one kind of error were fixed.

    name, what: of the kind of error. report: the metric if only this kind were repaired; None if that cannot be told.
    count: how many segments or objects that concerns. ladder: the metric with this and all kinds before it repaired.
    note: what else there is to say. lacking: of the objects, those of classes that the predictor does not have.
    """

    name: str
    what: str
    report: MetricReport | None
    count: int | None = None
    ladder: float | None = None
    note: str = ""
    lacking: int = 0


@dataclass(frozen=True)
class Explanation:
    """The ladder of one task. plain: the metric as it is."""

    plain: MetricReport
    rungs: tuple[Rung, ...]

    def gain(self, rung: Rung) -> float:
        """What the repair would add, as a fraction; NaN if unknown."""
        return rung.report.value - self.plain.value if rung.report else math.nan

    def headings(self) -> list[tuple[str, bool]]:
        """(heading, whether it is a number) of the table's columns."""
        name = self.plain.name
        return [("if …", False), (f"{name} %", True), ("gain", True), ("concerns", True), ("with all above", True)]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The table, for a person."""
        rows = [(f"({_AS_IT_IS})", _cell(self.plain.value), "", "", _cell(self.plain.value))]
        for rung in self.rungs:
            if rung.report is None:
                continue
            value = rung.report.value if rung.report else math.nan
            gain, count = self.gain(rung), "" if rung.count is None else f"{rung.count:,}"
            signed = "" if math.isnan(gain) else f"{100 * gain:+.2f}"
            ladder = "" if rung.ladder is None else _cell(rung.ladder)
            rows.append((rung.what, _cell(value), signed, count, ladder))
        return rows

    def notes(self) -> list[str]:
        """Remarks on the counts and on single rungs."""
        notes = [f"{rung.name}: {rung.note}" for rung in self.rungs if rung.note]
        if self.plain.task in OBJECT_TASKS:
            notes.insert(0, _EVERY_SCORE)
        return notes

    def sentence(self) -> str:
        """Which kind of error costs most, with the figures."""
        name, value = self.plain.name, self.plain.value
        if math.isnan(value):
            return f"There is no {name} to explain: nothing in these images can be measured."
        called = {called: words for called, _, words in _RUNGS.values()} | {_THRESHOLDS: _THRESHOLDS}
        known = [(self.gain(rung), called[rung.name]) for rung in self.rungs if rung.report]
        ranked = sorted(known, key=lambda pair: -pair[0])
        if not ranked or ranked[0][0] < _NOTHING:
            return f"None of these limits the model: {name} {_percent(value)} would not rise if any of them were fixed."
        (most, what), others = ranked[0], [(gain, words) for gain, words in ranked[1:] if gain >= _NOTHING]
        verb = "holds" if what.startswith("recall") else "hold"
        text = f"{what[0].upper()}{what[1:]} {verb} this model back most: {name} {_percent(value)} would be "
        text += f"{_percent(value + most)} without that ({100 * most:+.1f})"
        if others:
            text += "; then " + ", ".join(f"{words.rstrip(',').split(',')[0]} {100 * g:+.1f}" for g, words in others)
        lacking = next((rung.lacking for rung in self.rungs if rung.name == "recall"), 0)
        if lacking and what.startswith("recall"):
            text += f"; {lacking:,} of the missed objects are of classes that the model does not have"
        return f"{text}."

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, fractions, null where there is nothing to say."""
        rungs = []
        for rung in self.rungs:
            measured = rung.report.to_json() if rung.report else {}
            entry: dict[str, Any] = {"name": rung.name, "if": rung.what, "value": measured.get("value")}
            entry |= {"gain": _plain(self.gain(rung)), "concerns": rung.count, "one_by_one": _plain(rung.ladder)}
            entry |= {"of_classes_not_predicted": rung.lacking} if rung.name == "recall" else {}
            rungs.append(entry | {"summary": measured.get("summary"), "note": rung.note or None})
        plain = self.plain.to_json()
        facts = {"kind": "segcli explain"} | {key: plain[key] for key in ("task", "metric", "value", "summary")}
        return facts | {"rungs": rungs, "sentence": self.sentence()}


class Explain:
    """An observer of an evaluation that climbs the ladder for one task, and keeps nothing but metrics.

    labels: the truth's classes. rule: the model's, None for predictions that come from files. others: the rules of
    `Evaluated.others`. max_dets: as in the evaluation. lacking: places in `labels` of classes that the predictor does
    not have.
    """

    def __init__(
        self,
        task: Task,
        labels: LabelSet,
        *,
        rule: MergeRule | None = None,
        others: Sequence[MergeRule] = (),
        max_dets: int = 100,
        lacking: frozenset[int] = frozenset(),
    ) -> None:
        self.task = task
        self._lacking, self._missed = np.array(sorted(lacking), dtype=np.int64), 0
        self._rule = rule
        self._rules = [rule, *others] if rule and task == "panoptic" else []
        self._counts = dict.fromkeys(_KINDS[task], 0)
        self._untried = 0  # images without results by the other rules
        self._shown = _Shown.nothing()

        def new() -> Metric:
            return metric_for(task, labels, max_dets=max_dets)

        self._plain = new()
        self._alone = {kind: new() for kind in _KINDS[task]}
        self._ladder = {kind: new() for kind in _KINDS[task]}
        self._swept = [new() for _ in self._rules]

    def see(self, evaluated: Evaluated) -> None:
        """Take note of one image."""
        sample, segments = evaluated.samples[self.task], evaluated.segments[self.task]
        self._plain.update(segments, sample)
        objects, parts = objects_of(sample, segments), parts_of(segments)
        judged = judge(objects, parts)
        self._shown.add(parts, judged, len(objects.labels))
        self._missed += int(np.isin(objects.labels[judged.missed], self._lacking).sum())
        for kind, metric in self._alone.items():
            self._counts[kind] += judged.count(kind)
            metric.update(repair(objects, parts, judged, kind), sample)
        for kind, metric in self._ladder.items():
            parts = repair_next(objects, parts, kind)
            metric.update(parts, sample)
        if len(self._rules) == 1 + len(evaluated.others):
            for metric, other in zip(self._swept, (segments, *evaluated.others), strict=True):
                metric.update(other, sample)
        else:
            self._untried += 1

    def merge(self, other: Self) -> None:
        """Add what another rank has seen."""
        self._plain.merge(other._plain)
        for kind in self._alone:
            self._alone[kind].merge(other._alone[kind])
            self._ladder[kind].merge(other._ladder[kind])
            self._counts[kind] += other._counts[kind]
        for mine, theirs in zip(self._swept, other._swept, strict=True):
            mine.merge(theirs)
        self._untried += other._untried
        self._missed += other._missed
        self._shown.merge(other._shown)

    def report(self) -> Explanation:
        """The ladder so far."""
        rungs = []
        for kind, metric in self._alone.items():
            name, what, _ = _RUNGS[kind]
            value = self._ladder[kind].compute().value
            lacking = self._missed if kind is MistakeKind.MISSED else 0
            rungs.append(Rung(name, what, metric.compute(), self._counts[kind], value, lacking=lacking))
        rungs.insert(2, self._thresholds())
        return Explanation(self._plain.compute(), tuple(rungs))

    def _thresholds(self) -> Rung:
        what = "the thresholds were best"
        if self.task in OBJECT_TASKS and self._rule is not None:
            note = f"{_NO_THRESHOLDS[self.task]}; {self._shown.in_words(self.task, self._rule.instance_score)}"
            return Rung(_THRESHOLDS, what, None, note=note)
        if not self._rules or self._untried:
            return Rung(_THRESHOLDS, what, None, note=_NO_THRESHOLDS[self.task])
        reports = [metric.compute() for metric in self._swept]
        values = np.nan_to_num([report.value for report in reports], nan=-1.0)
        best = int(values.argmax())
        rule = self._rules[best]
        flags = f"segcli predict --threshold {rule.score:g} --overlap-threshold {rule.overlap:g}"
        note = f"best of {len(values)} tried on these very images: {flags}"
        return Rung(_THRESHOLDS, what, reports[best], note=note if best else f"{note}, those of the model")

    def finish(self, folder: Path | None) -> None:
        """Write `explain.json`."""
        if folder is not None:
            text = json.dumps(self.report().to_json(), allow_nan=False, indent=1)
            write_file(folder / FILE, (text + "\n").encode())


_STEPS = 101


@dataclass
class _Shown:
    """Instances at each threshold 0, 0.01 … 1: right, counted (thus not ignored), and the true ones; int64 [101]."""

    right: np.ndarray
    counted: np.ndarray
    true: int

    @classmethod
    def nothing(cls) -> _Shown:
        return cls(np.zeros(_STEPS, dtype=np.int64), np.zeros(_STEPS, dtype=np.int64), 0)

    def add(self, segments: Segments, judged: Judged, objects: int) -> None:
        shown = segments.scores >= np.arange(_STEPS)[:, None] / (_STEPS - 1)
        self.right += (shown & (judged.kinds == MistakeKind.RIGHT)).sum(1)
        self.counted += (shown & (judged.kinds != MistakeKind.IGNORED)).sum(1)
        self.true += objects

    def merge(self, other: _Shown) -> None:
        self.right += other.right
        self.counted += other.counted
        self.true += other.true

    def in_words(self, task: Task, threshold: float) -> str:
        """F1 of the instances that predict shows, and the threshold at which it is best."""
        f1 = 200 * self.right / np.maximum(self.counted + self.true, 1)
        now, best = min(round(threshold * (_STEPS - 1)), _STEPS - 1), int(f1.argmax())
        return (
            f"of what predict shows, F1 at IoU 0.5 is {f1[now]:.1f} at {threshold:g} and best, {f1[best]:.1f}, "
            f"with segcli predict --task {task} --threshold {best / (_STEPS - 1):g}"
        )


def _cell(value: float) -> str:
    """As in the tables of numbers beside it."""
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
