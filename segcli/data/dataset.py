"""One split of a dataset: the i-th image and its truth, decoded and rasterised when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from segcli.codecs.image import read_image
from segcli.codecs.rle import RLE
from segcli.data.objects import gathered, joined, painted, rles_of
from segcli.data.records import DatasetInfo, Reader, Record
from segcli.data.truth import NOTHING, VOID, MapTruth, ShapeTruth, Truth, Window
from segcli.errors import UsageError
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, CocoObjects, LabelSet, Task


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its N objects.

    image: uint8 [H, W, 3] RGB, upright. truth: the objects, rasterised by what is below or, in part and at another
    size, by `truth.crop(window)`. image_id: unique within the split (in COCO data the id of the file).
    """

    image: np.ndarray
    truth: Truth
    file: Path
    image_id: str

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return (int(self.image.shape[0]), int(self.image.shape[1]))

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], class indices."""
        return self.truth.labels

    @property
    def crowd(self) -> np.ndarray:
        """bool [N], regions of many objects that were not told apart."""
        return self.truth.crowd

    @property
    def stated(self) -> CocoObjects | None:
        """What a COCO instance file says of the objects; None in other formats. In the file's own category ids, and
        with those objects too that the task leaves out."""
        return self.truth.stated

    @cached_property
    def rles(self) -> list[RLE]:
        """The objects' masks; an object without pixels has an empty one."""
        return rles_of(self.truth)

    @property
    def masks(self) -> np.ndarray:
        """The same as bool [N, H, W], made when asked for: of a large photo with many objects they are gigabytes."""
        index, masks = self.truth.crop(Window.whole(self.size))
        if len(index) == len(self.labels):
            return masks
        all_masks = np.zeros((len(self.labels), *self.size), dtype=bool)
        all_masks[index] = masks
        return all_masks

    @property
    def void(self) -> np.ndarray | None:
        """bool [H, W], pixels whose truth is unknown; None if the format has none."""
        return self.truth.void(Window.whole(self.size))

    def id_map(self) -> np.ndarray:
        """uint16 or int64 [H, W]: i + 1 = object i, 0 = none of them or void; which one is on top, see `painted`."""
        ids = np.maximum(painted(self.truth).ids, NOTHING)
        return ids.astype(np.uint16 if len(self.labels) < 1 << 16 else np.int64)  # with int32 hotcoco takes 6 × as long


@dataclass(frozen=True)
class Dataset:
    """A split. Picklable and without open files, so that worker processes get it whole.

    as_listed: panoptic truth keeps the stuff segments that the annotation lists, as panopticapi counts them; otherwise
        those of a class are one.
    """

    records: list[Record]
    reader: Reader
    labels: LabelSet
    source_labels: LabelSet
    task: Task
    as_listed: bool = False
    levels: tuple[float, float] | None = None  # of pictures of more than 8 bits; None: each one's own

    @property
    def form(self) -> str:
        """ "map" if every pixel is of one segment at most, else "shapes": what remembered counts depend on."""
        return "shapes" if self.task in OBJECT_TASKS else "map"

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Decode an image and read its truth. Raises InputError or UsageError naming the file."""
        record = self.records[index]
        image = read_image(record.image, levels=self.levels)
        return Sample(image, self.truth(index, image.shape[:2]), record.image.place, record.image_id)

    def truth(self, index: int, size: tuple[int, ...]) -> Truth:
        """The objects of an image that is `size` = (H, W), for this dataset's task, labels as class indices."""
        truth = self.annotated(self.records[index], (int(size[0]), int(size[1])))
        return for_task(truth, self.task, self.labels, as_listed=self.as_listed)

    def annotated(self, record: Record, size: tuple[int, int]) -> Truth:
        """What the files say of an image that is `size` = (H, W), labels as dataset ids, in the form of `as_seen`."""
        return self.as_seen(self.reader.read(record, size))

    def as_seen(self, truth: Truth) -> Truth:
        """Where the task gives a pixel to one segment, outlines are painted into a map, the smaller over the larger;
        what none of them covers is void, and the regions of a class of stuff are one segment.
        """
        if self.task in OBJECT_TASKS or not isinstance(truth, ShapeTruth):
            return truth
        ids = painted(truth).ids
        ids[ids == NOTHING] = VOID
        stuff = {label.id for label in self.source_labels if not label.isthing}
        return joined(MapTruth(ids, truth.labels, truth.crowd), stuff)


def open_split(info: DatasetInfo, split: str) -> Dataset:
    """One split of what was found. Raises UsageError if there is no such split."""
    if split not in info.splits:
        raise UsageError(f"{info.root}: no {split!r} split; there are {', '.join(info.splits)}")
    return Dataset(info.splits[split], info.reader, info.labels, info.source_labels, info.task, levels=info.levels)


def for_task(truth: Truth, task: Task, labels: LabelSet, *, as_listed: bool = False) -> Truth:
    """Dataset ids -> class indices, and the objects as the task has them: stuff of one class is one object (and in
    semantic segmentation everything is) unless `as_listed`; classes the task does not have are left out. In semantic
    segmentation there are no crowds: a pixel has its class, whether or not its objects were told apart.
    """
    if task == "semantic" and isinstance(truth, MapTruth):
        truth = replace(truth, crowd=np.zeros_like(truth.crowd))
    index_of = {label.id: index for index, label in enumerate(labels)}
    classes = [index_of.get(label_id) for label_id in truth.labels.tolist()]
    stuff = {index for index, label in enumerate(labels) if not label.isthing}
    once = set(index_of.values()) if task == "semantic" else stuff if task == "panoptic" and not as_listed else set()
    return truth.relabelled(*gathered(classes, once))


def truth_segments(sample: Sample, task: Task, labels: LabelSet) -> Segments:
    """The objects of a sample as `Segments` without scores: segment i is object i of the sample.

    labels: the classes that the sample's labels index. Void pixels and those of no object have id 0 in the map; where
    objects overlap, instances keep their whole masks.
    """
    scores = np.full(len(sample.labels), np.nan, dtype=np.float32)
    if task == "detect":
        boxes = np.array([rle.bbox for rle in sample.rles], dtype=np.float64).reshape(-1, 4)
        return Segments.of_boxes(sample.size, labels, sample.labels, scores, boxes)
    if task in OBJECT_TASKS:
        return Segments(task, sample.size, labels, sample.labels, scores, rles=tuple(sample.rles))
    return Segments(task, sample.size, labels, sample.labels, scores, map=sample.id_map())
