"""The pictures of an evaluation: charts that show where the number comes from, and the images it is lowest on.

DIR/pictures/per_class.png         the metric of every class
DIR/pictures/confusion.png         what became of each true class
DIR/pictures/precision_recall.png  precision against recall at IoU 0.5 and 0.75 (instances)
DIR/pictures/calibration.png       whether scores say how often they are right
DIR/worst/01-NAME.png …            the 12 images with the lowest value of their own: truth, prediction, errors

Only counts are kept, and the worst pictures as they will be written: memory is flat over a dataset.
"""

from __future__ import annotations

import heapq
import math
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from hotcoco.metrics import precision_recall_curve

from segcli.codecs.image import resize
from segcli.codecs.png import encode_png
from segcli.data.dataset import truth_segments
from segcli.evaluation.folder import EvaluationFolder, read_evaluations
from segcli.evaluation.mistakes import Judged, MistakeKind, Objects, judge, objects_of
from segcli.evaluation.observers import Evaluated
from segcli.files.writing import below, write_file
from segcli.metrics.semantic import SemanticMetric
from segcli.render import Style
from segcli.render.charts import bars
from segcli.render.error_map import error_panels
from segcli.render.eval_charts import RECALLS, calibration, confusion, precision_recall
from segcli.render.legend import Entry, side_by_side
from segcli.render.plots import encode
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES, WORST = "pictures", "worst"
_MOST = 12
_BINS = 20
_WIDTH = 960  # of each of the three pictures of an image, at most
_IOUS = {"IoU 0.5": 0, "IoU 0.75": 5}  # title -> place among COCO's thresholds
_VALUE: dict[Task, str] = {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU", "detect": "box AP"}
_BESIDE: dict[Task, tuple[str, ...]] = {
    "panoptic": ("SQ", "RQ"),
    "instance": ("AP50", "AP75"),
    "semantic": ("Acc",),
    "detect": ("box AP50", "box AP75"),
}


class EvalPictures:
    """An observer of an evaluation that draws one task's pictures into its folder.

    labels: the truth's classes. threshold: the score from which instances are shown.
    """

    def __init__(
        self,
        task: Task,
        labels: LabelSet,
        *,
        threshold: float = 0.5,
    ) -> None:
        self.task, self.labels, self._threshold = task, labels, threshold
        self._matrix = np.zeros((len(labels) + 1, len(labels) + 1), dtype=np.int64)  # last row invented, column missed
        self._bins = np.zeros((3, _BINS))  # how many, how many right, their scores summed
        self._worst: list[tuple[float, int, str, bytes]] = []  # a heap: the best of the worst is first

    def see(self, evaluated: Evaluated) -> None:
        """Take note of one image."""
        segments = evaluated.segments[self.task]
        if self.task == "semantic":
            metric = evaluated.counts(self.task).metric
            assert isinstance(metric, SemanticMetric)
            self._matrix[:-1] += metric.confusion
            self._count_pixels(evaluated)
        else:
            objects = objects_of(evaluated.samples[self.task], segments)
            judged = judge(objects, segments)
            counted = judged.kinds != MistakeKind.IGNORED
            self._count(segments.scores[counted], judged.kinds[counted] == MistakeKind.RIGHT)
            self._confuse(objects, segments, judged)
        self._keep(evaluated)

    def _count(self, scores: np.ndarray, right: np.ndarray) -> None:
        known = np.isfinite(scores)
        scores, right = scores[known].astype(float), right[known]
        place = (scores * _BINS).astype(int).clip(0, _BINS - 1)
        for row, weights in enumerate((np.ones(len(place)), right, scores)):
            self._bins[row] += np.bincount(place, weights=weights, minlength=_BINS)

    def _count_pixels(self, evaluated: Evaluated) -> None:
        """Semantic results have no scores once they are made: those of the network's pixels, if there are any."""
        if not evaluated.pixels:
            return
        truth = truth_segments(evaluated.samples[self.task], self.task, self.labels)
        whole = np.append(-1, truth.labels)[truth.id_map()]
        for box, seen, scores in evaluated.pixels:
            true = _nearest(whole[box.y0 : box.y1, box.x0 : box.x1], seen.shape)
            self._count(scores[true >= 0], (seen == true)[true >= 0])

    def _confuse(self, objects: Objects, segments: Segments, judged: Judged) -> None:
        """Objects and shown segments by class, matched at IoU 0.5 whatever the class; the surest of several counts."""
        other = len(self.labels)
        shown = np.ones(len(segments), dtype=bool)
        if self.task in OBJECT_TASKS:
            shown = segments.scores >= self._threshold
        free = np.ones(len(objects.labels), dtype=bool)
        for kind in (MistakeKind.RIGHT, MistakeKind.CLASS):
            for segment in np.flatnonzero(shown & (judged.kinds == kind)).tolist():
                about = judged.objects[segment]
                true = objects.labels[about] if free[about] else other
                self._matrix[true, segments.labels[segment]] += 1
                free[about] = False
        rest = shown & np.isin(judged.kinds, (MistakeKind.DUPLICATE, MistakeKind.MASK, MistakeKind.INVENTED))
        np.add.at(self._matrix[other], segments.labels[rest], 1)
        if objects.ids is not None:  # an object that others cover counts nowhere
            free &= np.bincount(objects.ids.ravel(), minlength=len(free) + 1)[1 : len(free) + 1] > 0
        np.add.at(self._matrix[:, other], objects.labels[free], 1)

    def _keep(self, evaluated: Evaluated) -> None:
        """Draw the image if it is among the worst so far."""
        value = evaluated.counts(self.task).value
        if math.isnan(value):
            return
        key = (-value, -evaluated.number)
        if len(self._worst) == _MOST and key <= self._worst[0][:2]:
            return
        sample, segments = evaluated.samples[self.task], evaluated.segments[self.task]
        if self.task in OBJECT_TASKS:
            segments = segments.filter(segments.scores >= self._threshold)
        truth = truth_segments(sample, self.task, self.labels)
        panels = error_panels(sample.image, truth, segments, Style())
        panels[0][1].insert(1, Entry(sample.file.name))
        panels[1][1].insert(1, Entry(f"{_VALUE[self.task]} of this image {100 * value:.1f}"))
        picture = side_by_side(panels)
        shrink = min(1.0, 3 * _WIDTH / picture.shape[1])
        if shrink < 1:
            picture = resize(picture, (round(picture.shape[0] * shrink), round(picture.shape[1] * shrink)))
        entry = (*key, _safe(sample.file.stem), encode_png(picture))
        (heapq.heappush if len(self._worst) < _MOST else heapq.heappushpop)(self._worst, entry)

    def merge(self, other: Self) -> None:
        """Add what another rank has seen."""
        self._matrix += other._matrix
        self._bins += other._bins
        self._worst = heapq.nlargest(_MOST, self._worst + other._worst)
        heapq.heapify(self._worst)

    def finish(self, folder: Path | None) -> None:
        """Draw everything into the folder of the finished evaluation."""
        if folder is None:
            return
        for name in (PICTURES, WORST):
            for old in (folder / name).glob("*.png"):  # of an earlier run of the same evaluation
                old.unlink()
        for name, figure in self._figures(read_evaluations(folder)[self.task]).items():
            write_file(folder / PICTURES / f"{name}.png", encode(figure, ".png"))
        for place, (_, _, name, png) in enumerate(sorted(self._worst, reverse=True), start=1):
            write_file(below(folder, folder / WORST / f"{place:02d}-{name}.png"), png)

    def _figures(self, evaluation: EvaluationFolder) -> dict[str, Figure]:
        """File name -> chart, of those for which there is something to show."""
        figures = {"per_class": _per_class(evaluation)}
        names, unit = self.labels.names, "pixels" if self.task == "semantic" else "segments"
        # Classes that cannot occur, stuff among instances, would be empty rows; so would an absent kind of error.
        kept = np.array([self.task not in OBJECT_TASKS or thing for thing in self.labels.isthing] + [True])
        # Neither would one that no image shows and nothing was taken for.
        met = np.logical_or(self._matrix[:-1].any(axis=1), self._matrix[:, :-1].any(axis=0))
        kept[:-1] &= met[: len(names)]
        rows, columns = kept.copy(), kept.copy()
        rows[-1] = self.task != "semantic"
        columns[-1] = self.task != "semantic" or self._matrix[:, -1].any()
        missed = "(nothing)" if self.task == "semantic" else "(missed)"
        true, seen = (np.array([*names, last]) for last in ("(invented)", missed))
        shown = f", shown from score {self._threshold:g}" if self.task in OBJECT_TASKS else ""
        title = "What became of each class" + ("" if self.task == "semantic" else f" (IoU above 0.5{shown})")
        if self._matrix.any():
            matrix = self._matrix[rows][:, columns]
            figures["confusion"] = confusion(matrix, true[rows].tolist(), seen[columns].tolist(), title, unit)
        if self.task in OBJECT_TASKS:
            overall, curves = _curves(evaluation, self.labels)
            if overall:
                figures["precision_recall"] = precision_recall(overall, curves, "Precision against recall")
        if self._bins[0].any():
            counts, hits, scores = self._bins
            what = "share of pixels of the right class" if self.task == "semantic" else "share that matches (IoU 0.5)"
            figures["calibration"] = calibration(counts, hits, scores, "Calibration", what, unit)
        return figures


def _per_class(evaluation: EvaluationFolder) -> Figure:
    """The metric of every class with something to measure, the best first."""
    metrics, task = evaluation.metrics, evaluation.task
    name = "IoU" if task == "semantic" else metrics["metric"]
    rows = [row for row in metrics["per_class"] if row.get(name) is not None] or metrics["per_class"]

    def values(of: str) -> np.ndarray:
        return np.array([math.nan if row.get(of) is None else 100 * row[of] for row in rows], dtype=float)

    order = np.argsort(-np.nan_to_num(values(name), nan=-1), kind="stable")
    overall = "–" if metrics["value"] is None else f"{100 * metrics['value']:.2f}"
    return bars(
        [rows[i]["name"] for i in order],
        values(name)[order],
        f"{name} by class ({metrics['metric']} {overall} %)",
        unit=f"{name} (%)",
        marks={other: values(other)[order] for other in _BESIDE[task]},
    )


def _curves(
    evaluation: EvaluationFolder, labels: LabelSet
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Precision [101] at COCO's recalls: the mean over classes, and of each class with objects, by title of the IoU."""
    scores: dict[str, list[float]] = {}
    matched: dict[str, dict[str, list[int]]] = {}
    true: dict[str, int] = {}
    for row in evaluation.rows():
        for id_, counts in row["counts"].items():
            true[id_] = true.get(id_, 0) + counts["true"]
            scores.setdefault(id_, []).extend(counts["scores"])
            for title, place in _IOUS.items():
                flags = counts["matched"][place] if counts["matched"] else []
                matched.setdefault(id_, {}).setdefault(title, []).extend(flags)
    names = {str(label.id): label.name for label in labels}
    curves = {
        title: {names[id_]: _precision(scores[id_], matched[id_][title], true[id_]) for id_ in true if true[id_]}
        for title in _IOUS
    }
    return {title: np.mean(list(own.values()), axis=0) for title, own in curves.items() if own}, curves


def _precision(scores: list[float], matched: list[int], true: int) -> np.ndarray:
    """Precision [101] at COCO's recalls, interpolated as there. matched: 1 right, 0 wrong, 2 not counted."""
    flags = np.array(matched, dtype=np.int64)[np.argsort(-np.array(scores), kind="stable")]
    precision = np.zeros(len(RECALLS))
    found, wrong = (np.cumsum(flags == kind).tolist() for kind in (1, 0))
    for place, value, _ in precision_recall_curve(found, wrong, true)[1] if found else []:
        precision[place] = value
    return precision


def _nearest(ids: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """An id map at another size, by the pixels under the centres."""
    rows, columns = (
        ((np.arange(n) + 0.5) * (full / n)).astype(np.int64) for n, full in zip(size, ids.shape, strict=True)
    )
    return ids[rows[:, None], columns]


def _safe(name: str) -> str:
    """A name that any file system takes."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[-60:]
