"""The official metrics: AP as pycocotools, PQ as panopticapi, mIoU as detectron2 and mmsegmentation.

Matching and counting are hotcoco's; the adapters here bring `Segments` and truth into its form, one image at a time,
and keep only counts. Every metric can be pickled, so that ranks send theirs to rank 0, which merges them:

    metric = metric_for("panoptic", labels)
    for segments, truth in …:
        metric.update(segments, truth)
    metric.merge(metric_of_another_rank)
    report = metric.compute()
    report.name, report.value, report.table
"""

from __future__ import annotations

from segcli.metrics.instance import BoxMetric, InstanceMetric
from segcli.metrics.metric import (
    COCO_DETS,
    METRICS,
    Counts,
    ImageCounts,
    ImageTruth,
    Metric,
    MetricReport,
    metrics_of,
)
from segcli.metrics.panoptic import PanopticMetric
from segcli.metrics.semantic import SemanticMetric
from segcli.segments import Segments
from segcli.types import LabelSet, Task

__all__ = [
    "COCO_DETS",
    "METRICS",
    "BoxMetric",
    "Counts",
    "ImageCounts",
    "ImageTruth",
    "InstanceMetric",
    "Metric",
    "MetricReport",
    "PanopticMetric",
    "SemanticMetric",
    "count_image",
    "metric_for",
    "metrics_of",
]


def metric_for(task: Task, labels: LabelSet, *, max_dets: int = COCO_DETS) -> Metric:
    """The metric with a task's headline, over the truth's classes.

    max_dets: the most instances of a class and image that AP counts; COCO's 100, more where images hold more objects.
    """
    return metrics_of(task)[0](labels, max_dets=max_dets)


def count_image(segments: Segments, truth: ImageTruth, labels: LabelSet, *, max_dets: int = COCO_DETS) -> ImageCounts:
    """What one image contributes to the headline of the task that `segments` answer.

    labels: the truth's classes; those of `segments` are among them. Raises as `Metric.update`.
    """
    return metrics_of(segments.task)[0].of_image(segments, truth, labels, max_dets)
