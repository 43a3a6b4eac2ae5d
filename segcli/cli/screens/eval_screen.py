"""What `segcli eval` shows: the metric while it is measured, then the numbers in tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from segcli.cli.screens.train_screen import duration
from segcli.console import Column, Console
from segcli.files.text import some

if TYPE_CHECKING:
    from segcli.evaluation.explain import Explanation
    from segcli.evaluation.run import Evaluation
    from segcli.types import Task

SECONDS_BETWEEN_LINES = 10.0  # outside a terminal
SECONDS_BETWEEN_NUMBERS = 1.0  # in a terminal: AP over many classes takes a moment

# (name of a row, the form of the names of its numbers)
_PANOPTIC: tuple[tuple[str, str], ...] = (("all", "{}"), ("things", "{} things"), ("stuff", "{} stuff"))
_INSTANCE: tuple[tuple[str, str], ...] = (("masks", "{}"), ("boxes", "box {}"))
_DETECT: tuple[tuple[str, str], ...] = (("boxes", "box {}"),)
MMSEG = "mIoU mmseg"
_OF_CLASS: dict[str, tuple[str, ...]] = {
    "panoptic": ("PQ", "SQ", "RQ", "matched", "missed", "false positives"),
    "instance": ("AP", "AP50", "AP75", "instances", "box AP", "APs", "APm", "APl"),
    "semantic": ("IoU", "Acc", "pixels"),
    "detect": ("box AP", "box AP50", "box AP75", "instances", "box APs", "box APm", "box APl"),
}


class EvalScreen:
    """Shows how far an evaluation is, and the metric so far."""

    def __init__(self, say: Console, evaluation: Evaluation) -> None:
        self.say, self.evaluation = say, evaluation
        self._stack = ExitStack()
        self._renew: Any = None
        self._began = self._last = time.monotonic()
        self.done = 0

    def __enter__(self) -> EvalScreen:
        self._renew = self._stack.enter_context(self.say.panel())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is not None and self.done and self.evaluation.writers:
            self.say.note(f"stopped after {self._count()}; the same command with --skip-existing continues from here")

    def step(self) -> None:
        """One more image."""
        self.done += 1
        now = time.monotonic()
        wait = SECONDS_BETWEEN_LINES if self._renew is None else SECONDS_BETWEEN_NUMBERS
        if now - self._last < wait and self.done > 1:
            return
        self._last = now
        pace = (now - self._began) / self.done
        left = duration(pace * (self.evaluation.images - self.done))
        numbers = "  ".join(f"{r.name} {with_sign(r.value)}" for r in self.evaluation.scores.reports().values())
        if self._renew is None:
            self.say.note(f"{self._count()}: {numbers} so far; {pace:.2f} s per image, {left} left")
        else:
            rows = [("images", self._count()), ("so far", numbers), ("speed", f"{pace:.2f} s per image   {left} left")]
            self._renew(rows)

    def _count(self) -> str:
        ranks = self.evaluation.ranks.size
        return f"{self.done} of {self.evaluation.images} images" + (
            f" (of the first of {ranks} ranks)" if ranks > 1 else ""
        )


def show(say: Console, document: Mapping[str, Any], protocol: str) -> None:
    """One task's numbers: the headline, its parts, the classes, and what they were measured with.

    document: what metrics.json says. protocol: a line in words.
    """
    task, data = document["task"], document["data"]
    say.say(
        f"{document['metric']} {with_sign(document['value'])}  {task}, "
        f"{some(data['images'], 'image')} of {data['split']} ({data['root']})"
    )
    columns, rows = summary(task, document["summary"])
    say.table(columns, rows, full="--json")
    if MMSEG in document["summary"]:
        say.say(f"{MMSEG}: as mmsegmentation counts, with 0 for a class that is predicted and not in the truth")
    say.say()
    names = [name for name in _OF_CLASS[task] if document["per_class"] and name in document["per_class"][0]]
    measured = [row for row in document["per_class"] if row[names[0]] is not None]
    say.table(
        [Column("class"), *(Column(name, numeric=True) for name in names)],
        [[row["name"], *(_cell(row[name]) for name in names)] for row in measured],
        title="classes, in %",
        full="--json",
    )
    if rest := len(document["per_class"]) - len(measured):
        say.say(f"{rest} more class{'es have' if rest > 1 else ' has'} nothing to measure")
    say.say(f"measured with {protocol}")


def show_ladder(say: Console, explanation: Explanation) -> None:
    """What holds the model back: a table and one sentence."""
    say.say()
    say.table([Column(head, numeric=number) for head, number in explanation.headings()], explanation.rows())
    for note in explanation.notes():
        say.say(note)
    say.say(explanation.sentence())


def summary(task: Task, numbers: Mapping[str, float | None]) -> tuple[list[Column], list[list[str]]]:
    """The numbers over all classes as a table."""
    if task == "semantic":
        columns = [Column("%"), *(Column(name, numeric=True) for name in numbers)]
        return columns, [["all", *(percent(value) for value in numbers.values())]]
    kinds = {"panoptic": _PANOPTIC, "detect": _DETECT}.get(task, _INSTANCE)
    first = kinds[0][1].format("")  # what stands before or after a number's name in the first row
    heads = [name.replace(first, "") for name in numbers if (first in name if first else " " not in name)]
    rows = [[row, *(percent(numbers[form.format(name)]) for name in heads)] for row, form in kinds]
    return [Column("%"), *(Column(name, numeric=True) for name in heads)], rows


def percent(value: float | None) -> str:
    """A fraction as people write metrics, 53.21; "-" where there was nothing to measure."""
    return "-" if value is None or value != value else f"{100 * value:.2f}"


def with_sign(value: float | None) -> str:
    """The same where no heading says that it is in percent: 53.21 %."""
    text = percent(value)
    return text if text == "-" else f"{text} %"


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else percent(value)
