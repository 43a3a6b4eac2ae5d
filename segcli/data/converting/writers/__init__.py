"""Datasets written in the formats that other tools read, and segcli too."""

from __future__ import annotations

from collections.abc import Callable

from segcli.data.converting.writers.base import Encoded, Item, Kind, Writer, kind_of, things_of
from segcli.data.converting.writers.coco import CocoWriter, PanopticWriter
from segcli.data.converting.writers.maps import InstanceMapWriter, SemanticWriter, VocWriter
from segcli.data.converting.writers.yolo import YoloWriter
from segcli.data.records import DatasetInfo
from segcli.errors import UsageError
from segcli.types import LabelSet

__all__ = ["OWN", "WRITERS", "Encoded", "Item", "Writer", "kind_of", "writer_for"]

WRITERS: dict[str, Callable[[LabelSet, Kind], Writer]] = {
    "coco": CocoWriter,
    "coco-panoptic": PanopticWriter,
    "semantic-png": SemanticWriter,
    "instance-png": InstanceMapWriter,
    "yolo": YoloWriter,
    "voc": VocWriter,
}
OWN = {
    "coco-instance": "coco",
    "coco-panoptic": "coco-panoptic",
    "semantic-png": "semantic-png",
    "instance-png": "instance-png",
    "yolo-seg": "yolo",
    "voc": "voc",
    "labelme": "coco",
}
"""What a dataset in each format that is read is written as, if it shall stay what it is."""
_NEED_OBJECTS = ("coco", "instance-png", "yolo")


def writer_for(to: str, info: DatasetInfo) -> Writer:
    """The writer for a format. Raises UsageError if the format cannot hold this data."""
    if to not in WRITERS:
        raise UsageError(f"--to {to}: unknown format; known are {', '.join(WRITERS)}")
    if info.tasks == ("detect",):
        raise UsageError(f"{info.root}: holds boxes without masks, and what is written here is made of masks")
    kind = kind_of(info)
    if (
        to in _NEED_OBJECTS
        and not (info.outlines and to != "instance-png")
        and (kind == "semantic" or not len(things_of(info.source_labels)))
    ):
        raise UsageError(
            f"{info.root}: tells only classes apart, and --to {to} holds objects; "
            "possible here: coco-panoptic, semantic-png, voc"
        )
    return WRITERS[to](info.source_labels, kind)
