"""The validation split through the model under training: the task's metric, sanity figures, three pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from segcli.codecs.rle import shared_pixels
from segcli.data.dataset import Dataset, Sample, truth_segments
from segcli.distributed import Ranks
from segcli.evaluation.protocol import most_counted
from segcli.inference.predict import PredictSettings, finite, is_out_of_memory
from segcli.inference.preprocess import Prepared, collate
from segcli.inference.stream import Read, segment_all
from segcli.metrics import MetricReport, metric_for
from segcli.render import Style
from segcli.render.legend import panel, side_by_side
from segcli.segments import Segments
from segcli.training.reports import MeasureReport
from segcli.training.stopping import Stopped
from segcli.types import OBJECT_TASKS, InferenceSpec, LabelSet, MergeRule, QueryPredictions, Task
from segcli.weights.checkpoint import LoadedModel

PICTURES = 3
_REPEAT = 0.8  # IoU; mean AP of six classes of `everyday`: 0.410, at 0.7 0.409, at 0.6 0.407, without 0.405
_BINS = 10


@dataclass
class Tally:
    """Sanity figures; those of several ranks add up."""

    histogram: np.ndarray  # int64 [10], images by their best class probability, in equal parts of [0, 1]
    empty: int = 0  # images without a segment
    images: int = 0
    best: float = 0.0  # the best class probability of all

    @classmethod
    def nothing(cls) -> Tally:
        return cls(np.zeros(_BINS, dtype=np.int64))

    def count(self, segments: Segments) -> None:
        score = segments.best_score if np.isfinite(segments.best_score) else 0.0
        self.histogram[min(int(score * _BINS), _BINS - 1)] += 1
        self.empty += len(segments) == 0
        self.images += 1
        self.best = max(self.best, score)

    def add(self, other: Tally) -> None:
        self.histogram += other.histogram
        self.empty += other.empty
        self.images += other.images
        self.best = max(self.best, other.best)


@dataclass
class RuleScore:
    """What one rule makes of the validation split."""

    rule: MergeRule
    metric: MetricReport
    tally: Tally
    measure: float  # what a sweep compares rules by: PQ, or F1 at IoU 0.5


def best_of(findings: Sequence[RuleScore]) -> RuleScore:
    """The greatest measure; of equals the one with the better metric, else the first."""
    return max(findings, key=lambda finding: (finding.measure, finding.metric.value))


def validate(
    loaded: LoadedModel,
    dataset: Dataset,
    task: Task,
    ranks: Ranks,
    rules: Sequence[MergeRule],
    *,
    step: int = 0,
    images: int = 0,
    autocast: torch.dtype | None = None,
    show: Callable[[str, np.ndarray], None] | None = None,
    stop: Callable[[], str | None] = lambda: None,
) -> Generator[MeasureReport, None, list[RuleScore]]:
    """Measure the model with each rule, every rank its share of the images; the answer is the same on all ranks.

    Yields how far it has come. images: only the first so many; 0 all. show(name, picture) gets truth beside prediction,
    by the first rule, for the first three images. stop: gives the name of a signal once there is one; a rank that has
    it leaves its images, and Stopped is raised on all.
    """
    labels = loaded.spec.labels
    most = most_counted(loaded.spec)
    wanted = [_settings(loaded.spec, task, rule) for rule in rules]
    choices = [settings for index, settings in enumerate(wanted) if settings not in wanted[:index]]
    which = np.array([choices.index(settings) for settings in wanted])  # of the choices each rule is about
    metrics = [metric_for(task, labels, max_dets=most) for _ in choices]
    tallies = [Tally.nothing() for _ in rules]
    hits = np.zeros((len(rules), 3), dtype=np.int64)
    count = min(images or len(dataset), len(dataset))
    least = np.array([rule.instance_score for rule in rules])
    # Those that become pictures are the first rank's, which writes.
    mine = [n for n in range(count) if ranks.rank == (0 if n < PICTURES else n % ranks.size)]
    stream = _segmented(loaded, dataset, mine, choices, autocast)
    for number, sample, results in stream:
        for choice, (metric, segments) in enumerate(zip(metrics, results, strict=True)):
            metric.update(segments, sample)
            if task in OBJECT_TASKS:
                hits[which == choice] += _hits(segments, sample, least[which == choice])
        shown = [_shown(results[choice], task, rule) for choice, rule in zip(which, rules, strict=True)]
        for tally, segments in zip(tallies, shown, strict=True):
            tally.count(segments)
        if show is not None and number < PICTURES:
            show(picture_name(step, sample), truth_beside(sample, shown[0], labels))
        yield MeasureReport(step, number + 1, count)
        if stop():
            break
    stream.close()
    gathered = ranks.gather((stop(), metrics, tallies, hits.copy()))
    if name := next((name for name, *_ in gathered if name), None):
        raise Stopped(name)
    for index, (_, others, figures, counts) in enumerate(gathered):
        if index != ranks.rank:
            for metric, other in zip(metrics, others, strict=True):
                metric.merge(other)
            for tally, figure in zip(tallies, figures, strict=True):
                tally.add(figure)
            hits += counts
    reports = [metric.compute() for metric in metrics]
    f1 = 2 * hits[:, 0] / np.maximum(hits[:, 1] + hits[:, 2], 1)
    return [
        RuleScore(rule, report, tally, float(value) if task in OBJECT_TASKS else _finite(report))
        for rule, report, tally, value in zip(rules, (reports[choice] for choice in which), tallies, f1, strict=True)
    ]


def _settings(spec: InferenceSpec, task: Task, rule: MergeRule) -> PredictSettings:
    """What a rule asks of the network's answer, before anything is shown: of objects, all whatever their score."""
    if task in OBJECT_TASKS:
        rule = dataclasses.replace(rule, instance_score=spec.rule.instance_score)
    return PredictSettings(task, dataclasses.replace(spec, rule=rule), keep_all=task in OBJECT_TASKS)


def _shown(segments: Segments, task: Task, rule: MergeRule) -> Segments:
    return segments.filter(segments.scores >= rule.instance_score) if task in OBJECT_TASKS else segments


def _segmented(
    loaded: LoadedModel,
    dataset: Dataset,
    numbers: Sequence[int],
    choices: Sequence[PredictSettings],
    autocast: torch.dtype | None,
) -> Generator[tuple[int, Sample, list[Segments]], None, None]:
    """Some images of the split with their segments by each choice.

    Raises SegcliError for an image that cannot be read, and what memory that runs out raises.
    """
    loaded.model.eval()
    remedy = "the weights are damaged" if autocast is None else "try --dtype fp32"

    def network(images: Sequence[Prepared]) -> QueryPredictions:
        batch = collate(images, loaded.device)
        # Not inference_mode: what layers cache of their geometry would be useless to the next training step.
        with torch.no_grad(), torch.autocast(loaded.device.type, autocast, enabled=autocast is not None):
            return finite(loaded.model(batch)[-1], "validation", remedy)

    def read(number: int) -> Read[Sample]:
        sample = dataset[number]
        return Read(sample.image, sample)

    stream = segment_all(numbers, read, network, choices, name=lambda number: str(dataset.records[number].image))
    with closing(stream):
        for outcome in stream:
            if outcome.error is not None:
                cause = outcome.error.__cause__
                raise cause if cause is not None and is_out_of_memory(cause) else outcome.error
            assert outcome.read is not None
            yield outcome.item, outcome.read.extra, outcome.results


def candidates(task: Task, rule: MergeRule) -> list[MergeRule]:
    """The rules a sweep tries: thresholds, for masks as published and for cleaned ones.

    Those have no parts beside the largest, and no instance repeats a surer one.
    """
    if task == "panoptic":
        overlaps = (0.6, 0.8) if rule.overlap else (0.0,)
        # The last two are for models that are sure of little yet; of rules that do equally well, the first is taken.
        scores = (0.3, 0.5, 0.65, 0.8, 0.15, 0.05)
        tried = [dataclasses.replace(rule, score=s, overlap=o) for o in overlaps for s in scores]
    elif task in OBJECT_TASKS:
        low, usual = (0.01, 0.02, 0.03, 0.05, 0.07), (round(0.1 + 0.05 * i, 2) for i in range(17))
        tried = [dataclasses.replace(rule, instance_score=score) for score in (*usual, *low)]
    else:
        return []
    if task == "detect":  # has no masks
        return tried
    published, cleaned = {"part_min": 0.0, "repeat_iou": None}, {"part_min": 1.0, "repeat_iou": _REPEAT}
    return [dataclasses.replace(other, **masks) for masks in (published, cleaned) for other in tried]


def other_thresholds(rule: MergeRule) -> list[MergeRule]:
    """Those of `candidates` for a panoptic result that `segcli predict` has options for."""
    masks = {"part_min": rule.part_min, "repeat_iou": rule.repeat_iou}
    tried = [dataclasses.replace(other, **masks) for other in candidates("panoptic", rule)]  # type: ignore[arg-type]
    return [other for other in dict.fromkeys(tried) if other != rule]


def _hits(segments: Segments, sample: Sample, thresholds: np.ndarray) -> np.ndarray:
    """Matched, shown and true objects of one image at each threshold -> int64 [T, 3].

    Greedy by score, as COCO matches, so that the matches above a threshold do not depend on what lies below it.
    A prediction that is mostly inside a crowd region does not count.
    """
    true = np.flatnonzero(~sample.crowd)
    shared, sizes, areas = (_box_areas if segments.task == "detect" else _mask_areas)(segments, sample)
    free = np.ones(len(areas), dtype=bool)
    hit, counted = np.zeros(len(segments), dtype=bool), np.ones(len(segments), dtype=bool)
    for index in range(len(segments)):  # in descending order of score
        common, size = shared[index], sizes[index]
        alike = sample.labels == segments.labels[index]
        iou = np.where(alike & free & ~sample.crowd, common / np.maximum(areas + size - common, 1), 0)
        best = int(iou.argmax()) if len(iou) else 0
        if len(iou) and iou[best] > 0.5:
            hit[index], free[best] = True, False
        elif bool((alike & sample.crowd & (common > size / 2)).any()):
            counted[index] = False
    shown = (segments.scores[None] >= thresholds[:, None]) & counted
    return np.stack([(shown & hit).sum(1), shown.sum(1), np.full(len(thresholds), len(true))], axis=1)


def _mask_areas(segments: Segments, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that masks share with those of the truth [M, N], and of each [M], [N]."""
    areas = np.array([rle.area for rle in sample.rles], dtype=np.int64)
    return shared_pixels(segments.to_rles(), sample.rles), segments.areas(), areas


def _box_areas(segments: Segments, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of boxes."""
    truth = truth_segments(sample, "detect", segments.label_set)
    found, true = segments.boxes()[:, None], truth.boxes()[None]
    sides = np.minimum(found[..., 2:], true[..., 2:]) - np.maximum(found[..., :2], true[..., :2])
    return sides.clip(min=0).prod(-1), segments.areas(), truth.areas()


def _finite(report: MetricReport) -> float:
    return report.value if np.isfinite(report.value) else 0.0


# ------------------------------------------------------------------------------------------------------------ pictures


def picture_name(step: int, sample: Sample) -> str:
    """A file name that sorts by image, then by step."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in sample.image_id)[-60:]
    return f"{safe}-{step:07d}"


def truth_beside(sample: Sample, segments: Segments, labels: LabelSet) -> np.ndarray:
    """Truth and prediction with captions -> uint8 RGB."""
    truth = truth_segments(sample, segments.task, labels)
    named = (("truth", truth), ("prediction", segments))
    return side_by_side([panel(sample.image.copy(), shown, Style(), name) for name, shown in named])
