"""Matches the classes of a model or of prediction files to those of a dataset: by id, else by name."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segcli.class_names import has_name, meaning_of
from segcli.errors import UsageError
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, Label, LabelSet, Task

_LISTED = 5


@dataclass(frozen=True, eq=False)
class ClassMatch:
    """How the classes of one side map to the other.

    labels: the truth's classes. index: int64 [K], for each predicted class its position in `labels`, or -1.
    by: what they were matched by. notes: messages for the user.
    """

    labels: LabelSet
    index: np.ndarray
    by: Literal["id", "name"]
    notes: tuple[str, ...] = ()

    def onto(self, labels: LabelSet) -> ClassMatch:
        """The same match onto some of the truth's classes, as a task has them."""
        place = {label.id: position for position, label in enumerate(labels)}
        places = np.array([*(place.get(label.id, -1) for label in self.labels), -1], dtype=np.int64)
        return dataclasses.replace(self, labels=labels, index=places[self.index])

    def lacking(self) -> frozenset[int]:
        """Places in `labels` of classes that are never predicted."""
        return frozenset(range(len(self.labels))) - set(self.index.tolist())

    def keeping(self, predicted: LabelSet) -> ClassMatch:
        """The same match with the predictor's other classes behind the truth's, for pictures that show them too.

        Those whose id means another class in the truth get a new one.
        """
        labels, index = list(self.labels), self.index.copy()
        free = max([*self.labels.ids, *predicted.ids], default=0) + 1
        for place in np.flatnonzero(index < 0).tolist():
            label = predicted[place]
            if any(label.id == known.id for known in labels):
                label, free = dataclasses.replace(label, id=free), free + 1
            index[place] = len(labels)
            labels.append(label)
        return dataclasses.replace(self, labels=LabelSet(tuple(labels)), index=index)

    def apply(self, segments: Segments) -> Segments:
        """Segments in the truth's classes; those of classes it does not have are left out."""
        if segments.label_set == self.labels:
            return segments
        index = self.index[segments.labels]
        if (index < 0).any():
            segments, index = segments.filter(index >= 0), index[index >= 0]
        return dataclasses.replace(segments, label_set=self.labels, labels=index)


def match_classes(predicted: LabelSet, truth: LabelSet, what: str, task: Task = "panoptic") -> ClassMatch:
    """Match by the dataset's own ids if the names there agree (or are unknown on one side), else by name.

    Names are compared without case, blanks and signs, and by what they mean (tvmonitor is tv). what: who predicted, for
    the messages ("the model").
    task: for instances only things are mentioned; every class is matched.
    Raises UsageError where neither ids nor names fit, and for an id without a name that the truth does not have.
    """
    by_id, agreeing = _by_id(predicted, truth)
    by_name = _by_name(predicted, truth)
    named = int((by_name >= 0).sum())
    if agreeing and agreeing >= named:
        match = ClassMatch(truth, by_id, "id")
    elif named:
        match = ClassMatch(truth, by_name, "name")
    else:
        raise UsageError(
            f"{what} and the data have no class in common, neither by id nor by name: {_odd(predicted, truth)}"
        )
    unknown = [p.id for p, index in zip(predicted, match.index, strict=True) if index < 0 and not _name(p)]
    if unknown:
        known = f"is not a class of the data, whose {len(truth)} ids are {_some([str(id_) for id_ in truth.ids])}"
        why = known if match.by == "id" else "has no name, and the others fit the data by their names alone"
        raise UsageError(f"{what}: category id {unknown[0]} {why}")
    return dataclasses.replace(match, notes=tuple(_notes(match, predicted, what, task)))


def _by_id(predicted: LabelSet, truth: LabelSet) -> tuple[np.ndarray, int]:
    """(positions by id, how many of these do not contradict each other by their names)."""
    place = {label.id: position for position, label in enumerate(truth)}
    index = np.array([place.get(label.id, -1) for label in predicted], dtype=np.int64)
    pairs = [(p, truth[int(i)]) for p, i in zip(predicted, index, strict=True) if i >= 0]
    whole = bool((index >= 0).all())  # a name against none says something only if every id is there
    return index, sum(not _name(p) or (whole and not _name(t)) or _name(p) == _name(t) for p, t in pairs)


def _by_name(predicted: LabelSet, truth: LabelSet) -> np.ndarray:
    """Positions by names that occur once on either side."""
    once = [{name for name, count in Counter(map(_name, side)).items() if count == 1} for side in (predicted, truth)]
    place = {_name(label): position for position, label in enumerate(truth) if _name(label) in once[0] & once[1]}
    return np.array([place.get(_name(label), -1) if _name(label) else -1 for label in predicted], dtype=np.int64)


def _name(label: Label) -> str:
    """The name as it is compared; "" if the class has none."""
    return meaning_of(label.name) if has_name(label.name) else ""


def _odd(predicted: LabelSet, truth: LabelSet) -> str:
    theirs, ours = (_some([f"{label.id} {label.name}" for label in side]) for side in (predicted, truth))
    return f"{theirs}; and {ours}"


def _notes(match: ClassMatch, predicted: LabelSet, what: str, task: Task) -> list[str]:
    """Notes to read before trusting the metric."""
    pairs = [(p, match.labels[int(i)]) for p, i in zip(predicted, match.index, strict=True) if i >= 0]
    notes = []
    if match.by == "name":
        moved = next(((p, t) for p, t in pairs if p.id != t.id), None)
        example = f" ({moved[0].name} is {moved[0].id} in {what}, {moved[1].id} in the data)" if moved else ""
        notes.append(f"classes are matched by name, as the ids differ{example}")
    else:
        other = [f"{p.id} {p.name} / {t.name}" for p, t in pairs if _name(p) and _name(p) != _name(t)]
        if other:
            notes.append(f"taken as the same class by their id, though the names differ: {_some(other)}")
    relevant = [i for i, label in enumerate(predicted) if task not in OBJECT_TASKS or label.isthing]
    extra = [predicted[i].name for i in relevant if match.index[i] < 0]
    if extra:
        count = f"{len(extra)} of the {len(relevant)} classes of {what}"
        notes.append(f"left out: {count}, which the data does not have: {_some(extra)}")
    known = {t.id for _, t in pairs}
    wanted = [label for label in match.labels if task not in OBJECT_TASKS or label.isthing]
    missing = [label.name for label in wanted if label.id not in known]
    if missing:
        count = f"{len(missing)} of the data's {len(wanted)} classes"
        notes.append(f"always missed: {count}, of which {what} has none: {_some(missing)}")
    return notes


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:_LISTED]) + (", …" if len(words) > _LISTED else "")
