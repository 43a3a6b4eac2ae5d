"""A model over one split of a dataset, as a stream: every image once through the network, for all tasks asked for.

    tasks = choose_tasks(spec, info, "all")
    datasets = {task: …}                               # `open_tasks`
    for evaluated in evaluate(loaded, datasets, protocol, classes):
        for observer in observers: observer.see(evaluated)

Images are read ahead on a thread of their own. What is ahead is bounded: memory does not grow with the dataset.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.data.dataset import Dataset, Sample, open_split
from segcli.data.detect import detect
from segcli.data.records import DatasetInfo
from segcli.engine.observers import Evaluated
from segcli.engine.predict import OUT_OF_MEMORY, Settings, forward, is_out_of_memory, segment
from segcli.engine.preprocess import Prepared, prepare
from segcli.engine.tta import SCALES, segment_averaged, sizes
from segcli.errors import SegcliError, UsageError
from segcli.metrics import COCO_DETS
from segcli.metrics.match_classes import ClassMatch
from segcli.segments import Segments
from segcli.types import TASKS, InferenceSpec, LabelSet, QueryPredictions, Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

Stored = Callable[[int, Mapping[Task, Sample]], dict[Task, Segments] | None]


@dataclass(frozen=True)
class Protocol:
    """How images become predictions and predictions numbers; all of it is named in the result.

    spec: the checkpoint's own size, rule and classes, with what the user overrode.
    max_dets: the most instances of a class and image that count.
    tta: semantic scores averaged over sizes and mirror images.
    """

    spec: InferenceSpec
    tasks: tuple[Task, ...]
    max_dets: int = COCO_DETS
    tta: bool = False

    @classmethod
    def of(
        cls, spec: InferenceSpec, tasks: Sequence[Task], *, max_dets: int | None = None, tta: bool = False
    ) -> Protocol:
        """The checkpoint's protocol. max_dets: also as many instances are kept; None keeps the checkpoint's number, of
        which at least COCO's 100 count.

        Raises UsageError for options that the tasks cannot follow.
        """
        if tta and tuple(tasks) != ("semantic",):
            raise UsageError(
                "--tta averages the scores of semantic segmentation, as published; other tasks have no such protocol: "
                "add --task semantic, or leave out --tta"
            )
        if max_dets is not None and "instance" not in tasks:
            raise UsageError(f"--max-dets counts instances, which --task {tasks[0]} has not; leave it out")
        if max_dets is not None:
            spec = dataclasses.replace(spec, rule=dataclasses.replace(spec.rule, top_k=max_dets))
        return cls(spec, tuple(tasks), max_dets or max(COCO_DETS, spec.rule.top_k), tta)

    def describe(self, task: Task) -> dict[str, Any]:
        """What belongs beside a task's number: test size and every threshold that it depends on."""
        rule = self.spec.rule
        facts: dict[str, Any] = {"size": asdict(self.spec.size)}
        if task == "panoptic":
            facts["rule"] = {"score": rule.score, "overlap": rule.overlap, "mask_min": rule.mask_min}
            facts["rule"] |= {"normalise": rule.normalise, "min_area": rule.min_area}
        elif task == "instance":
            facts |= {"score": "no threshold", "instances": rule.top_k, "max_dets": self.max_dets}
        else:
            where = "the padded input" if self.spec.tasks == ("semantic",) else "the photo"
            facts |= {"rule": {"normalise": rule.normalise}, "combined at": f"the size of {where}"}
            short = [size.short for size in sizes(self.spec.size)]
            facts["tta"] = {"scales": list(SCALES), "short": short, "flip": True} if self.tta else None
        return facts

    def in_words(self, task: Task) -> str:
        """The same in a line for a person."""
        size, rule = self.spec.size, self.spec.rule
        words = [f"short side {size.short}, long side at most {size.long}"]
        if task == "panoptic":
            words.append(f"score > {rule.score:g}, overlap ≥ {rule.overlap:g}")
            words.append("masks by argmax" if rule.mask_min is None else f"mask ≥ {rule.mask_min:g}")
        elif task == "instance":
            words.append(f"the {rule.top_k} best of an image, no threshold, max_dets {self.max_dets}")
        elif self.tta:
            words[0] = f"mean of short sides {', '.join(str(s.short) for s in sizes(size))} and their mirror images"
        return "; ".join(words)


# ------------------------------------------------------------------------------------------------------ what is scored


def open_data(path: Path, task: str | None, format: str | None, split: str) -> DatasetInfo:
    """The dataset as the first task to be scored has it.

    task: a task, "all", or None for the data's own. split: "val" of data without one is the part that training holds
    out.
    Raises UsageError if there is no such split, and as `detect`.
    """
    wanted = None if task == "all" else task
    info = detect(path, format=format, task=wanted, training=False)
    if split == "val" and split not in info.splits and info.splits.keys() & {"train", "all"}:
        info = detect(path, format=format, task=wanted)
    open_split(info, split)
    return info


def for_model(info: DatasetInfo, spec: InferenceSpec, task: str | None) -> DatasetInfo:
    """The dataset as the model can be scored on it: if no task was asked for, for the first that both do.

    Raises UsageError if they have no task in common.
    """
    if task not in (None, "all") or info.task in spec.tasks:
        return info
    common = [own for own in info.tasks if own in spec.tasks]
    if not common:
        raise UsageError(
            f"{info.root}: the data serves {', '.join(info.tasks)}, the model {', '.join(spec.tasks)}; "
            "choose a model with a task in common"
        )
    return dataclasses.replace(info, task=common[0])


def choose_tasks(spec: InferenceSpec, info: DatasetInfo, task: str | None) -> tuple[Task, ...]:
    """The tasks to score, `info.task` first. Raises UsageError for one that the model has not."""
    if info.task not in spec.tasks:
        raise UsageError(f"--task {info.task}: this checkpoint is for {', '.join(spec.tasks)}")
    if task != "all":
        return (info.task,)
    others = (own for own in TASKS if own in spec.tasks and own in info.tasks and own != info.task)
    return (info.task, *others)


def open_tasks(info: DatasetInfo, split: str, tasks: Sequence[Task]) -> dict[Task, Dataset]:
    """The split as each task has it: things alone for instances, everything else with all classes."""
    first = open_split(info, split)
    things = LabelSet(tuple(label for label in info.source_labels if label.isthing))
    if "instance" in tasks and not len(things):
        raise UsageError(f"{info.root}: no class is a thing, so there are no instances; leave out --task instance")
    return {
        task: dataclasses.replace(
            first, task=task, labels=things if task == "instance" else info.source_labels, as_listed=task == "panoptic"
        )
        for task in tasks
    }


# ---------------------------------------------------------------------------------------------------------- the stream


@dataclass
class _Image:
    """One image that was read ahead. stored: results that are on disk already."""

    number: int
    samples: dict[Task, Sample]
    prepared: Prepared | None
    stored: dict[Task, Segments] | None


def evaluate(
    loaded: LoadedModel,
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    classes: ClassMatch,
    *,
    numbers: Sequence[int] | None = None,
    batch_size: int = 1,
    stored: Stored | None = None,
    failed: Callable[[str], None],
) -> Iterator[Evaluated]:
    """Predict the images of a split, in order.

    datasets: the split as each task has it. classes: the model's onto all of the dataset's. numbers: which images;
    None is all. stored(number, samples): results of an earlier run, which spare the network. failed(reason) hears of
    an image that cannot be read or does not fit into memory; the others go on.
    Raises CheckpointError if the network's answer is not finite.
    """
    matches = {task: classes.onto(dataset.labels) for task, dataset in datasets.items()}
    wanted = range(len(next(iter(datasets.values())))) if numbers is None else numbers
    with closing(_read_ahead(datasets, protocol, wanted, 2 * batch_size, stored, failed)) as images:
        for group in _groups(images, 1 if protocol.tta else batch_size):
            yield from _answer(loaded, group, protocol, matches, failed)


def _read_ahead(
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    numbers: Sequence[int],
    count: int,
    stored: Stored | None,
    failed: Callable[[str], None],
) -> Generator[_Image, None, None]:
    def read(number: int) -> _Image:
        samples = read_samples(datasets, number)
        earlier = stored(number, samples) if stored else None
        photo = next(iter(samples.values())).image
        return _Image(number, samples, None if earlier or protocol.tta else prepare(photo, protocol.spec), earlier)

    reader = ThreadPoolExecutor(1, thread_name_prefix="segcli-read")
    ahead: deque[Future[_Image]] = deque()
    remaining = iter(numbers)
    try:
        while True:
            while len(ahead) < count and (number := next(remaining, None)) is not None:
                ahead.append(reader.submit(read, number))
            if not ahead:
                return
            try:
                image = ahead.popleft().result()
            except (SegcliError, MemoryError) as error:
                failed(OUT_OF_MEMORY if isinstance(error, MemoryError) else str(error))
            else:
                yield image
    finally:
        reader.shutdown(cancel_futures=True)


def read_samples(datasets: Mapping[Task, Dataset], number: int) -> dict[Task, Sample]:
    """One image, decoded once, with its truth for each task. Raises InputError or UsageError naming the file."""
    samples: dict[Task, Sample] = {}
    for task, dataset in datasets.items():
        if not samples:
            samples[task] = dataset[number]
            continue
        first = next(iter(samples.values()))
        samples[task] = Sample(first.image, dataset.truth(number, first.size), first.file, first.image_id)
    return samples


def _groups(images: Iterator[_Image], size: int) -> Iterator[list[_Image]]:
    """Consecutive images of one padded size; one with stored results, or without a network input, stands alone."""
    group: list[_Image] = []
    for image in images:
        if group and (len(group) == size or _padded(image) is None or _padded(image) != _padded(group[0])):
            yield group
            group = []
        group.append(image)
    if group:
        yield group


def _padded(image: _Image) -> tuple[int, int] | None:
    return image.prepared.frame.padded if image.prepared else None


def _answer(
    loaded: LoadedModel,
    group: list[_Image],
    protocol: Protocol,
    matches: Mapping[Task, ClassMatch],
    failed: Callable[[str], None],
) -> Iterator[Evaluated]:
    """Network and post-processing for images that share a batch."""
    start = time.perf_counter()
    done = 0
    try:
        inputs = [image.prepared for image in group if image.prepared]
        prediction = forward(loaded, inputs) if inputs else None
        shared = (time.perf_counter() - start) / len(group)
        for index, image in enumerate(group):
            start = time.perf_counter()
            own = None if prediction is None else _alone(prediction, index)
            segments = image.stored or {
                task: match.apply(_segments(loaded, task, own, image, protocol)) for task, match in matches.items()
            }
            seconds = shared + time.perf_counter() - start
            yield Evaluated(image.number, image.samples, segments, own, image.prepared, seconds, protocol.max_dets)
            done += 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for image in group[done:]:
            failed(f"{next(iter(image.samples.values())).file}: {OUT_OF_MEMORY}")


def _segments(
    loaded: LoadedModel, task: Task, prediction: QueryPredictions | None, image: _Image, protocol: Protocol
) -> Segments:
    if prediction is None or image.prepared is None:
        return segment_averaged(loaded, next(iter(image.samples.values())).image, protocol.spec)
    return segment(prediction, 0, image.prepared, Settings(task, protocol.spec, keep_all=task == "instance"))


def _alone(prediction: QueryPredictions, index: int) -> QueryPredictions:
    """One image's part of a batch's answer, B = 1."""
    masks = None if prediction.masks is None else prediction.masks.images()[index]
    boxes = None if prediction.boxes is None else prediction.boxes[index : index + 1]
    return QueryPredictions(prediction.classes[index : index + 1], masks, boxes)
