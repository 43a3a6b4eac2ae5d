"""`segcli export --data`: the metric of a model before and after, and images that int8 learns its ranges from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segcli import console
from segcli.console import Console

if TYPE_CHECKING:
    from segcli.data.records import Record
    from segcli.files.image_ref import ImageRef
    from segcli.inference.preprocess import Prepared
    from segcli.types import InferenceSpec
    from segcli.weights.checkpoint import LoadedModel


@dataclass(frozen=True)
class Headline:
    """The headline metric of a model."""

    name: str  # PQ, AP or mIoU
    points: float  # of 100
    images: int


def measure(loaded: LoadedModel, data: Path, format: str | None, images: int | None, say: Console) -> Headline:
    """Of a model on the validation split. Raises what `segcli eval` raises for data it cannot use."""
    from segcli.cli.screens.eval_screen import EvalScreen
    from segcli.evaluation.dataset import choose_tasks, for_model, open_data, open_tasks
    from segcli.evaluation.from_model import of_model
    from segcli.evaluation.protocol import Protocol
    from segcli.metrics.match_classes import match_classes

    info = for_model(open_data(data, None, format, "val"), loaded.spec, None)
    tasks = choose_tasks(loaded.spec, info, None)
    datasets = open_tasks(info, "val", tasks)
    classes = match_classes(loaded.labels, info.source_labels, "the model", tasks[0])
    protocol = Protocol.of(loaded.spec, tasks)
    evaluation = of_model(loaded, info, "val", datasets, protocol, classes, images=images)
    say.note(f"measuring {loaded.name}")
    with EvalScreen(say, evaluation) as screen:
        for _ in evaluation.run():
            screen.step()
    for reason in evaluation.failed:
        console.error(reason)
    document = evaluation.finish()[tasks[0]]
    value, images = document["value"], evaluation.images - len(evaluation.failed)
    return Headline(document["metric"], float("nan") if value is None else 100 * value, images)


def calibration(data: Path, format: str | None, spec: InferenceSpec, count: int) -> Iterator[Prepared]:
    """As many training images (validation images where there are no others), from all over the split; of a photo that
    is predicted in tiles, the one in the middle."""
    from segcli.codecs.image import read_image
    from segcli.evaluation.dataset import for_model, open_data
    from segcli.inference.preprocess import prepare
    from segcli.inference.tiling import windows

    info = for_model(open_data(data, None, format, "val"), spec, None)
    records = info.splits.get("train") or next(records for records in info.splits.values() if records)
    for record in _from_all_over(records, count):
        image = read_image(record.image, levels=spec.levels)
        side = spec.size.tile_of((image.shape[0], image.shape[1]))
        if side is not None:
            boxes = windows((image.shape[0], image.shape[1]), side, spec.size.tile_overlap)
            box = boxes[len(boxes) // 2]
            image = image[box.y0 : box.y1, box.x0 : box.x1]
        yield prepare(image, spec)


def validation_photos(data: Path, format: str | None, spec: InferenceSpec, count: int) -> list[ImageRef]:
    """As many images of the validation split, from all over it."""
    from segcli.evaluation.dataset import for_model, open_data

    info = for_model(open_data(data, None, format, "val"), spec, None)
    return [record.image for record in _from_all_over(info.splits["val"], count)]


def _from_all_over(records: Sequence[Record], count: int) -> Sequence[Record]:
    return records[:: max(1, len(records) // count)][:count]
