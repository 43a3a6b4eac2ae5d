"""The numbers of a dataset as charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcli.data.checking.stats import SplitStats
from segcli.errors import OutputError
from segcli.render.charts import bars, histogram
from segcli.render.plots import save
from segcli.types import Task


def write_charts(splits: Sequence[SplitStats], task: Task, folder: Path) -> list[Path]:
    """classes.png, objects.png, areas.png and sizes.png; the files that were written.

    Raises:
        OutputError: the folder cannot be written to.
    """
    semantic = task == "semantic"
    names = [c.label.name if c.label.isthing or semantic else f"{c.label.name} (stuff)" for c in splits[0].classes]
    numbers = {
        s.name: np.array([c.images if semantic or not c.label.isthing else c.objects for c in s.classes])
        for s in splits
    }
    stuff = not semantic and not all(c.label.isthing for c in splits[0].classes)
    counted = "images" if semantic else "objects; of stuff images" if stuff else "objects"
    order = np.argsort(-sum(numbers.values()), kind="stable")
    figures = {
        "classes.png": bars(
            [names[i] for i in order],
            {split: values[order] for split, values in numbers.items()},
            "Images of each class" if semantic else "Objects of each class",
            unit=counted,
            log=True,
        ),
        "objects.png": histogram(
            {s.name: s.present if semantic else s.objects for s in splits if len(s.objects)},
            "Classes in an image" if semantic else "Objects in an image (things)",
            xlabel="classes" if semantic else "objects",
        ),
        "sizes.png": histogram(
            {side: np.concatenate([s.sizes[:, axis] for s in splits]) for axis, side in ((1, "width"), (0, "height"))},
            "Image sides",
            xlabel="pixels",
        ),
    }
    areas = {s.name: s.areas for s in splits if len(s.areas)}
    if areas and not semantic:
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
