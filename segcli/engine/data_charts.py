"""The numbers of a dataset as charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcli.data.stats import SplitStats
from segcli.errors import OutputError
from segcli.render.charts import bars, histogram
from segcli.render.plots import save
from segcli.types import Task


def write_charts(splits: Sequence[SplitStats], task: Task, folder: Path) -> list[Path]:
    """classes.png, objects.png, areas.png and sizes.png; the files that were written.

    Raises:
        OutputError: the folder cannot be written to.
    """
    counted = "images" if task == "semantic" else "objects"
    names = [of_class.label.name for of_class in splits[0].classes]
    numbers = {
        of_split.name: np.array([c.images if task == "semantic" else c.objects for c in of_split.classes])
        for of_split in splits
    }
    order = np.argsort(-sum(numbers.values()), kind="stable")
    figures = {
        "classes.png": bars(
            [names[i] for i in order],
            {split: values[order] for split, values in numbers.items()},
            f"{counted.capitalize()} of each class",
            unit=counted,
            log=True,
        ),
        "objects.png": histogram(
            {s.name: s.objects for s in splits if len(s.objects)}, "Objects in an image", xlabel="objects"
        ),
        "sizes.png": histogram(
            {side: np.concatenate([s.sizes[:, axis] for s in splits]) for axis, side in ((1, "width"), (0, "height"))},
            "Image sides",
            xlabel="pixels",
        ),
    }
    areas = {s.name: s.areas for s in splits if len(s.areas)}
    if areas and task != "semantic":
        figures["areas.png"] = histogram(areas, "Mask areas of things", xlabel="pixels", log=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save(figure, folder / name)
    except OSError as error:
        raise OutputError(
            f"{folder}: charts cannot be written ({error.strerror or error}); give another --out"
        ) from error
    return [folder / name for name in figures]
