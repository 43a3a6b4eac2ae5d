"""What lies in a folder? Finds the format, the splits, the classes and the task, and says so in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segcli.data.coco.files import kind_of
from segcli.data.formats import coco_instance, coco_panoptic, formats, instance_png, semantic_png
from segcli.data.hub import downloaded
from segcli.data.layouts.folders import files_in, subfolders, with_validation
from segcli.data.layouts.split_lists import listed_splits
from segcli.data.records import DatasetInfo, Found, Record
from segcli.data.settings import FILE_NAME, Settings, read_settings
from segcli.errors import UsageError
from segcli.files.image_names import IMAGE_SUFFIXES
from segcli.files.own_pictures import refusal_of_pictures
from segcli.files.text import some
from segcli.types import OBJECT_TASKS, TASKS, LabelSet, Task

_MAX_CHILDREN = 20
_USUAL = (coco_instance.FORMAT, semantic_png.FORMAT, "yolo-seg", "voc", "labelme")  # named first
_OFTEN_STUFF = {
    *("ceiling", "floor", "grass", "ground", "pavement", "road", "sand", "sea"),
    *("sidewalk", "sky", "snow", "street", "terrain", "vegetation", "wall", "water"),
}


def detect(
    path: Path | str,
    *,
    format: str | None = None,
    task: str | None = None,
    training: bool = True,
    binary: bool = False,
) -> DatasetInfo:
    """Find out what a folder holds. `format` (one of `formats()`) and `task` override what is found and `dataset.toml`.

    training: there must be images to train on, and a part of them is held out if nothing else is there to validate on.
    Without it the splits are as they lie, "all" for data that is not divided.
    binary: label maps are black and white, as `binary = true` in `dataset.toml` says.

    Raises:
        UsageError: no such folder, nothing recognised, more than one possibility (the message names --format), a task
            that the data cannot serve, or data that contradicts itself.
    """
    root = downloaded(path) or Path(path)
    given = root if root.suffix == ".json" and root.is_file() and kind_of(root) else None
    if root.is_file() and root.suffix in (".yaml", ".yml", ".toml", ".json"):
        root = root.parent
    if not root.is_dir():
        raise UsageError(f"{path}: no such folder; give the folder that holds the images and their annotations")
    settings = read_settings(root)
    settings = replace(settings, binary=binary or settings.binary, chosen=given)
    wanted, wanted_task = format or settings.format, task or settings.task
    if wanted is not None and wanted not in formats():
        raise UsageError(f"--format {wanted}: unknown format; known are {', '.join(formats())}")
    if wanted_task is not None and wanted_task not in TASKS:
        raise UsageError(f"--task {wanted_task}: unknown task; known are {', '.join(TASKS)}")
    _refuse_other_annotations(settings)
    notes: list[str] = []
    hits = _hits(root, settings, wanted)
    if not hits:
        settings = replace(settings, everywhere=True)
        hits = _hits(root, settings, wanted)
    if not hits:
        child = _only_child(root, wanted)
        info = detect(child, format=format, task=task, training=training, binary=binary)
        return replace(info, notes=(f"the dataset is in {child}", *info.notes))
    name = wanted or _choose(root, hits, settings, wanted_task, notes)
    if binary and not formats()[name].IS_LABEL_MAPS:
        raise UsageError(f"{root}: --binary is for black and white label maps, and this is {name}; leave it out")
    notes += _unused_places(name, settings)
    found: Found = formats()[name].load(root, settings)
    if found.splits.keys() == {"all"}:
        listed, said = listed_splits(root, found.splits["all"])
        found = replace(found, splits=listed or found.splits)
        notes += [said] if said else []
    chosen = _task(root, found, wanted_task)
    splits, held_out = (
        with_validation(found.splits, found.train_from) if training else (_as_they_lie(root, found.splits), ())
    )
    notes += [*found.notes, *(fault.message for fault in found.faults), *held_out]
    notes += [*_unread_settings(root), *_perhaps_stuff(found, settings), *_perhaps_one(found)]
    return replace(_info(root, found, chosen, splits, tuple(notes)), held_out=bool(held_out))


def is_dataset(path: Path) -> bool:
    """Whether a folder holds annotations in some format, or could; `detect` says which, or what is wrong with them."""
    return bool(_hits(path, read_settings(path)))


def detect_for_checking(
    path: Path | str, *, format: str | None = None, task: str | None = None, binary: bool = False
) -> DatasetInfo:
    """As for training if there is anything to train on, the held-out part included; else the splits as they lie."""
    info = detect(path, format=format, task=task, training=False, binary=binary)
    if not info.splits.keys() & {"train", "all"}:
        return info
    splits, held_out = with_validation(info.splits)
    if splits["val"] == splits["train"]:  # of one image: training may measure what it learnt from, a check need not
        return replace(info, splits={name: splits[name] for name in splits if name != "val"})
    return replace(info, splits=splits, notes=(*info.notes, *held_out), held_out=bool(held_out))


def _only_child(root: Path, wanted: str | None) -> Path:
    """The folder in a folder that holds the dataset, as archives are often unpacked. Raises UsageError if none or
    several do, or if something is declared for the folder itself."""
    inside = [child for child in subfolders(root)[:_MAX_CHILDREN] if _hits(child, read_settings(child), wanted)]
    if len(inside) == 1 and not (root / FILE_NAME).is_file():
        return inside[0]
    if inside:
        names = ", ".join(child.name for child in inside)
        raise UsageError(f"{root}: no dataset here, but in the folder {names}; give that one")
    if wanted:
        raise UsageError(f"{root}: holds no data in the format {wanted}; leave out --format to see what is found")
    if refusal := refusal_of_pictures(root):
        raise UsageError(refusal)
    known = sorted(formats(), key=lambda name: _USUAL.index(name) if name in _USUAL else len(_USUAL))
    sought = ", ".join(dict.fromkeys(formats()[name].SOUGHT.partition(" (")[0] for name in known))
    photos = len(files_in(root, IMAGE_SUFFIXES, deep=True))
    raise UsageError(
        f"{root}: no dataset recognised: "
        + (f"{some(photos, 'image')} and no annotations" if photos else "neither images nor annotations")
        + f"; looked for {sought}; {FILE_NAME} can name the folders"
    )


def _choose(root: Path, hits: dict[str, str], settings: Settings, task: str | None, notes: list[str]) -> str:
    structured = {name: what for name, what in hits.items() if not formats()[name].IS_LABEL_MAPS}
    if set(structured) == {coco_panoptic.FORMAT, coco_instance.FORMAT}:
        # COCO publishes both for the same images. Panoptic serves every task; for instances alone the instance file is
        # the fuller truth: objects may overlap there.
        chosen = coco_instance.FORMAT if task in OBJECT_TASKS else coco_panoptic.FORMAT
        other = next(name for name in structured if name != chosen)
        notes.append(f"also here, not used: {structured[other]} (--format {other})")
        return chosen
    if len(structured) > 1:
        listed = "; ".join(f"{name} ({what})" for name, what in structured.items())
        raise UsageError(f"{root}: could be {listed}; choose with --format {' or --format '.join(structured)}")
    return next(iter(structured), None) or _kind_of_label_maps(root, settings, task)


def _hits(root: Path, settings: Settings, wanted: str | None = None) -> dict[str, str]:
    """format -> what speaks for it, without those that another one explains. wanted: look for this one alone."""
    asked = {wanted: formats()[wanted]} if wanted else formats()
    hits = {name: what for name, module in asked.items() if (what := module.probe(root, settings)) is not None}
    explained = {other for name in hits for other in formats()[name].EXPLAINS}
    return {name: what for name, what in hits.items() if name not in explained}


def _kind_of_label_maps(root: Path, settings: Settings, task: str | None) -> str:
    objects = instance_png.values_are_objects(root, settings)
    if objects is None and task == "semantic":
        return semantic_png.FORMAT
    if objects is None:
        file = instance_png.scattered_map(root, settings)
        odd = f"; in {file} a value lies in many pieces, as classes do" if file else ""
        raise UsageError(
            f"{root}: the label maps could number objects or classes; say which: --format instance-png (every value is "
            f"one object) or --format semantic-png (every value is a class){odd}"
        )
    return instance_png.FORMAT if objects else semantic_png.FORMAT


class NoSuchTask(UsageError):
    """The annotations cannot serve the task; `possible` are those that they can."""

    def __init__(self, message: str, possible: tuple[Task, ...]) -> None:
        super().__init__(message)
        self.possible = possible


def _task(root: Path, found: Found, wanted: str | None) -> Task:
    if wanted is None:
        return _tasks(found)[0]
    for task in _tasks(found):
        if task == wanted:
            return task
    remedy = ""
    if _outlines_of_stuff(found):
        remedy = f"; no countable class is left, see stuff and things in {FILE_NAME}"
    elif found.tasks == ("instance",) and wanted != "detect":
        to = "coco-panoptic" if wanted == "panoptic" else "semantic-png"
        remedy = (
            f"; if some of these classes are stuff, such as walls or sky, {FILE_NAME} beside the data says so "
            f"(stuff = [...]); if all are objects, `segcli data convert {root} OUT --to {to}` adds their background"
        )
        if found.format == instance_png.FORMAT and wanted == "semantic":
            remedy += "; if every value is a class, say --format semantic-png"
    raise NoSuchTask(
        f"{root}: --task {wanted} needs annotations that are not there ({found.what}); "
        f"possible here: {', '.join(_tasks(found))}{remedy}",
        _tasks(found),
    )


def _tasks(found: Found) -> tuple[Task, ...]:
    """What the annotations can serve: where there are instances there are their boxes, and where some of the outlines
    are declared to be of stuff, whole pictures."""
    tasks = found.tasks
    if _outlines_of_stuff(found):
        tasks = ("panoptic", "instance", "semantic") if any(found.labels.isthing) else ("semantic",)
    return (*tasks, "detect") if "instance" in tasks else tasks


def _outlines_of_stuff(found: Found) -> bool:
    return found.tasks == ("instance",) and not all(found.labels.isthing)


def _refuse_other_annotations(settings: Settings) -> None:
    for split, place in settings.places.items():
        if place.annotations and not (place.annotations.is_file() and kind_of(place.annotations)):
            raise UsageError(
                f"{settings.file}: [{split}] annotations = {place.annotations} is no COCO file (images, annotations, "
                "categories); a folder of label maps goes under labels"
            )


def _unused_places(name: str, settings: Settings) -> list[str]:
    """What to say of declared folders that a format does not look into. Raises UsageError for half a pair of them."""
    read = formats()[name].PLACES
    if not read:
        return [f"{settings.file}: [{split}] is not read for the format {name}" for split in settings.places]
    for split, place in settings.places.items():
        if "labels" in read and "annotations" not in read and not (place.images and place.labels):
            given = "images" if place.images else "labels"
            raise UsageError(f"{settings.file}: [{split}] names {given} alone; label maps need images and labels")
    return []


def _unread_settings(root: Path) -> list[str]:
    """A file that somebody wrote and nothing reads."""
    strays = [str(folder / FILE_NAME) for folder in subfolders(root) if (folder / FILE_NAME).is_file()]
    return [f"{stray} is ignored; settings are read from {root / FILE_NAME}" for stray in strays]


def _perhaps_stuff(found: Found, settings: Settings) -> list[str]:
    """Outlines with the names of what cannot be counted, where nobody has said what they are."""
    names = [name for name in found.labels.names if name.lower() in _OFTEN_STUFF]
    if found.tasks != ("instance",) or settings.things or settings.stuff or settings.declared_kinds or not names:
        return []
    listed = ", ".join(f'"{name}"' for name in names)
    return [f"every class is taken as countable; if {names[0]} is stuff, {FILE_NAME} says so: stuff = [{listed}]"]


def _perhaps_one(found: Found) -> list[str]:
    """Classes whose names differ in capital letters or blanks alone, which somebody may have typed two ways."""
    alike: dict[str, list[str]] = {}
    for name in found.labels.names:
        alike.setdefault("".join(name.casefold().replace("_", " ").split()), []).append(name)
    pairs = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    return [f"classes whose names are nearly the same: {', '.join(pairs[:4])}"] if pairs else []


def _as_they_lie(root: Path, splits: dict[str, list[Record]]) -> dict[str, list[Record]]:
    splits = {name: records for name, records in splits.items() if records}
    if not splits:
        raise UsageError(f"{root}: holds annotations but no images")
    return splits


def _info(root: Path, found: Found, task: Task, splits: dict[str, list[Record]], notes: tuple[str, ...]) -> DatasetInfo:
    labels = found.labels
    if task in OBJECT_TASKS:
        labels = LabelSet(tuple(label for label in labels if label.isthing))
    if not len(labels):
        raise UsageError(f"{root}: no class for the task {task}; instances need things (see things in {FILE_NAME})")
    counts = ", ".join(
        f"{len(records)} {split}" if split != "all" else f"{len(records)}" for split, records in splits.items()
    )
    total = sum(map(len, splits.values()))
    if task not in OBJECT_TASKS and _outlines_of_stuff(found):
        notes = (*notes, "where outlines overlap, the smaller one wins; pixels that none of them covers are void")
    kinds = _kinds(labels) if task == "panoptic" else f"{len(labels)} class" + "es" * (len(labels) != 1)
    return DatasetInfo(
        root=root,
        format=found.format,
        found=f"{found.what}; {counts} {'image' if total == 1 else 'images'}; {kinds}; task {task}",
        task=task,
        tasks=_tasks(found),
        labels=labels,
        source_labels=found.labels,
        splits=splits,
        reader=found.reader,
        ignore=found.ignore,
        notes=notes,
        faults=found.faults,
        outlines=_outlines_of_stuff(found),
        rows=found.rows,
    )


def _kinds(labels: LabelSet) -> str:
    things = sum(labels.isthing)
    return f"{len(labels)} classes ({things} things, {len(labels) - things} stuff)"
