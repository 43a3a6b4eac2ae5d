"""The data of a run: found, scanned, and told apart from other data. Torch-free: mistakes are met at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segcli.codecs.depth import Levels, pooled
from segcli.codecs.image import own_levels
from segcli.config import MODEL_TYPES, ModelConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.data.checking.scan import ScanReport, scan
from segcli.data.dataset import Dataset, open_split
from segcli.data.detect import detect
from segcli.data.layouts.folders import with_validation
from segcli.data.records import DatasetInfo, Record
from segcli.errors import UsageError
from segcli.training.recipe import FittedRecipe, Recipe

if TYPE_CHECKING:
    from segcli.distributed import Ranks

Say = Callable[[str], None]
_LOOKED_AT = 64  # pictures, for the levels of all


@dataclass(frozen=True)
class Material:
    """A dataset that was scanned, without what cannot be read."""

    info: DatasetInfo
    scan: ScanReport
    train: Dataset
    val: Dataset


def find_data(recipe: Recipe) -> DatasetInfo:
    """The data of a recipe. Raises UsageError for a folder that holds none it can be used for."""
    if recipe.data.path is None:
        raise UsageError("which data? give its folder: segcli train DATA")
    task, possible = recipe.data.task, architecture(recipe).tasks
    if task is None and len(possible) == 1:
        task = possible[0]
    return detect(recipe.data.path, format=recipe.data.format, task=task, binary=recipe.data.binary)


def gather(info: DatasetInfo, ranks: Ranks, say: Say, progress: Callable[[int, int], None] | None = None) -> Material:
    """Scan the data; what was found and what is wrong with it is said aloud.

    Raises UsageError for data that cannot be used as it is.
    """
    say(f"data: {info.found}")
    for note in info.notes:
        say(note)
    report: ScanReport = ranks.broadcast(scan(info, progress=progress) if ranks.is_first else None)
    _say_flaws(info, report, say)
    given = info.splits["val"]
    info = info.without(problem.file for problem in report.problems)
    if info.held_out and not (info.splits["train"] and info.splits["val"]):  # one part has nothing that can be read
        usable = [record for split in ("train", "val") for record in info.splits[split]]
        splits, again = with_validation(info.splits | {"train": usable, "val": []})
        info = dataclasses.replace(info, splits=splits)
        for note in again:
            say(note)
    if not info.splits["val"]:
        first = next(problem for problem in report.problems if problem.file == str(given[0].image))
        raise UsageError(
            f"{info.root}: none of the {len(given)} images to validate on can be used; the first: {first.message}"
        )
    levels = ranks.broadcast(_levels(info.splits["train"]) if ranks.is_first else None)
    if levels:
        info = dataclasses.replace(info, levels=levels)
        say(f"pictures of more than 8 bits: {levels[0]:g} is black and {levels[1]:g} white in all, and in prediction")
    return Material(info, report, open_split(info, "train"), open_split(info, "val"))


def _levels(records: list[Record]) -> Levels | None:
    """The levels of some of the pictures together; None if those are of 8 bits."""
    some = records[:: max(1, len(records) // _LOOKED_AT)][:_LOOKED_AT]
    return pooled(levels for record in some if (levels := own_levels(record.image)))


def _say_flaws(info: DatasetInfo, report: ScanReport, say: Say) -> None:
    for line in report.left_out:
        say(line)
    for problem in report.problems[:5]:
        say(f"left out: {problem.message}")
    if len(report.problems) > 5:
        say(f"left out: {len(report.problems) - 5} more files that cannot be read")
    if report.paged:
        files = "1 file has" if len(report.paged) == 1 else f"{len(report.paged)} files have"
        say(f"{files} more than one page, such as {report.paged[0]}; the first is used")
    if report.turned:
        photos = "1 photo is" if len(report.turned) == 1 else f"{len(report.turned)} photos are"
        say(
            f"warning: {photos} shown rotated by the EXIF tag, with masks that are not, such as {report.turned[0]}; "
            f"segcli data check {info.root} --fix OUT writes a copy with the masks rotated"
        )


def architecture(recipe: Recipe) -> type[ModelConfig]:
    """Of a new network, as far as the recipe says."""
    return MODEL_TYPES[recipe.model.arch or Mask2FormerConfig.model_type]


def fingerprint(recipe: FittedRecipe, material: Material, raw_config: dict[str, Any]) -> dict[str, Any]:
    """What a run is about: a resumed one must agree with it, entry by entry. Where the data lie is no part of it."""
    splits = {name: sorted(r.image_id for r in records) for name, records in material.info.splits.items()}
    annotations = {
        f"{split.name} annotations": f"{split.objects + split.crowds} objects, "
        + _digest(repr([(c.label.id, c.images, c.objects + c.crowds, round(c.share, 6)) for c in split.classes]))
        for split in material.scan.splits
    }
    keys = (
        "backbone_config", "decoder_config", "hidden_dim", "encoder_layers", "decoder_layers", "num_queries",
        "dim_feedforward", "hidden_size", "num_hidden_layers", "num_blocks",
    )  # fmt: skip
    return {
        "classes": [[x.id, x.name, "thing" if x.isthing else "stuff"] for x in material.info.labels],
        "task": material.info.task,
        "data": {
            **{f"{name} images": len(ids) for name, ids in splits.items()},
            **{f"{name} names": _digest("\0".join(ids)) for name, ids in splits.items()},
            **annotations,
        },
        "model": {"start": recipe.model.origin} | {key: raw_config[key] for key in keys if key in raw_config},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What two fingerprints disagree in, in words."""
    found = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if isinstance(before, list) and isinstance(now, list):
            gone = [str(x[1]) for x in before if x not in now]
            come = [str(x[1]) for x in now if x not in before]
            parts = [f"{word} {', '.join(names[:6])}" for word, names in (("without", gone), ("with", come)) if names]
            found.append(f"{key}: {' and '.join(parts) or 'in another order'}")
        elif isinstance(before, dict) and isinstance(now, dict):
            found += [f"{key}, {line}" for line in differences(before, now)]
        else:
            found.append(f"{key}: was {before}, now {now}")
    return found
