"""What an evaluation is scored on: the split of a dataset as each task has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from segcli.data.dataset import Dataset, Sample, open_split
from segcli.data.detect import detect
from segcli.data.formats import coco_panoptic
from segcli.data.records import DatasetInfo
from segcli.errors import UsageError
from segcli.types import OBJECT_TASKS, TASKS, InferenceSpec, LabelSet, Task
from segcli.weights.manifest import models_for


def open_data(path: Path, task: str | None, format: str | None, split: str, *, binary: bool = False) -> DatasetInfo:
    """The dataset as the first task to be scored has it.

    task: a task, "all", or None for the data's own. split: "val" of data without one is the part that training holds
    out. binary: as `detect` has it.
    Raises UsageError if there is no such split, and as `detect`.
    """
    wanted = None if task == "all" else task
    info = detect(path, format=format, task=wanted, training=False, binary=binary)
    if split == "val" and split not in info.splits and info.splits.keys() & {"train", "all"}:
        info = detect(path, format=format, task=wanted, binary=binary)
    open_split(info, split)
    return info


def for_model(info: DatasetInfo, spec: InferenceSpec, task: str | None) -> DatasetInfo:
    """The dataset as the model can be scored on it, its pictures scaled as the model's were in training: if no task was
    given, for the first one that both support.

    Raises UsageError if there is none.
    """
    info = dataclasses.replace(info, levels=spec.levels)
    if task not in (None, "all") or info.task in spec.tasks:
        return info
    common = [own for own in info.tasks if own in spec.tasks]
    if not common:
        raise UsageError(
            f"{info.root}: the data supports {', '.join(info.tasks)}, the model {', '.join(spec.tasks)}; "
            "choose a model that supports one of the data's tasks"
        )
    return dataclasses.replace(info, task=common[0])


def choose_tasks(spec: InferenceSpec, info: DatasetInfo, task: str | None) -> tuple[Task, ...]:
    """The tasks to score, `info.task` first. Raises UsageError for one that the model does not support."""
    if info.task not in spec.tasks:
        raise UsageError(f"--task {info.task}: this checkpoint is for {', '.join(spec.tasks)}; {models_for(info.task)}")
    if task != "all":
        return (info.task,)
    others = (own for own in TASKS if own in spec.tasks and own in info.tasks and own != info.task)
    return (info.task, *others)


def open_tasks(info: DatasetInfo, split: str, tasks: Sequence[Task]) -> dict[Task, Dataset]:
    """The split as each task has it: things alone for instances, everything else with all classes.

    Where the folder holds the same images with COCO instances too, these are the truth of instances, as they are with
    --task instance: objects may overlap there. Raises UsageError if there are no instances to score.
    """
    first = open_split(info, split)
    datasets = {}
    for task in tasks:
        dataset = dataclasses.replace(first, task=task, labels=info.source_labels, as_listed=task == "panoptic")
        datasets[task] = _instances(info, dataset) if task in OBJECT_TASKS else dataset
    return datasets


def two_truths(datasets: Mapping[Task, Dataset]) -> list[str]:
    """The note for the user if instances have ground truth of their own."""
    readers = {task: dataset.reader for task, dataset in datasets.items()}
    own = (
        len(readers) > 1
        and "instance" in readers
        and sum(reader == readers["instance"] for reader in readers.values()) == 1
    )
    return ["instances are scored with the COCO instance annotations, as by --task instance"] if own else []


def _instances(info: DatasetInfo, dataset: Dataset) -> Dataset:
    things = LabelSet(tuple(label for label in info.source_labels if label.isthing))
    if not len(things):
        raise UsageError(f"{info.root}: no class is a thing, so there are no instances; leave out --task instance")
    if info.task not in OBJECT_TASKS and info.format == coco_panoptic.FORMAT:
        other = detect(info.root, task="instance", training=False)
        places = {record.image: record for records in other.splits.values() for record in records}
        known = {label.id: label for label in things}
        same = all(label.id in known and known[label.id].name == label.name for label in other.labels)
        if other.format != info.format and same and all(record.image in places for record in dataset.records):
            records = [places[record.image] for record in dataset.records]
            labels = LabelSet(tuple(known[label.id] for label in other.labels))  # in the colours of the other tasks
            return dataclasses.replace(dataset, records=records, reader=other.reader, labels=labels)
    return dataclasses.replace(dataset, labels=things)


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
