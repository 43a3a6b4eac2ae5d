"""The official numbers: AP as pycocotools, PQ as panopticapi, mIoU as detectron2 and mmsegmentation.

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

from segcli.metrics.base import ImageTruth, Metric, MetricReport
from segcli.metrics.instance import InstanceMetric
from segcli.metrics.panoptic import PanopticMetric
from segcli.metrics.semantic import SemanticMetric
from segcli.types import OBJECT_TASKS, LabelSet, Task

COCO_DETS = 100  # the most instances of a class and image that COCO counts

__all__ = [
    "COCO_DETS",
    "ImageTruth",
    "InstanceMetric",
    "Metric",
    "MetricReport",
    "PanopticMetric",
    "SemanticMetric",
    "metric_for",
]


def metric_for(task: Task, labels: LabelSet, *, max_dets: int = COCO_DETS) -> Metric:
    """The metric of a task, over the truth's classes: AP for instances, box AP for boxes, PQ for panoptic, mIoU
    for semantic.

    max_dets: the most instances of a class and image that AP counts; COCO's 100, more where images hold more objects.
    """
    if task in OBJECT_TASKS:
        return InstanceMetric(labels, max_dets=max_dets, boxes_only=task == "detect")
    if task == "panoptic":
        return PanopticMetric(labels)
    return SemanticMetric(labels)
