"""The content of `<stem>.json`: one image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segcli.results.ledger import to_json
from segcli.segments import Segments
from segcli.types import LabelSet


def image_record(
    file_name: str, segments: Segments, run: Mapping[str, Any], timings: Mapping[str, float]
) -> dict[str, Any]:
    """One image's record.

    Args:
        run: what is the same for every image of the run (model, rule, …); its keys come first.
        timings: milliseconds by step.

    "classes" are all that the model knows: colours follow from the whole table, not from what one photo shows.
    A segment's id is its value in the panoptic or instance PNG; category_id is the dataset's own; bbox is x, y,
    width, height in pixels; score is null for semantic results, which have none. Instances, which may overlap, carry
    their mask as COCO's compressed RLE; the others' masks are in the PNG.
    """
    return {
        "file_name": file_name,
        **run,
        "task": segments.task,
        "size": {"width": segments.size[1], "height": segments.size[0]},
        "timings": {step: round(milliseconds, 1) for step, milliseconds in timings.items()},
        "best_score": _score(segments.best_score),
        "classes": class_records(segments.label_set),
        "segments": segment_records(segments),
    }


def class_records(labels: LabelSet) -> list[dict[str, Any]]:
    """The "classes" of a record: id, name, kind, and the colour of those that have one of their own."""
    return [
        {"id": label.id, "name": label.name, "isthing": label.isthing}
        | ({"color": list(label.color)} if label.color is not None else {})
        for label in labels
    ]


def segment_records(segments: Segments) -> list[dict[str, Any]]:
    """The "segments" of a record, in the order of the segments."""
    records = []
    areas, boxes = segments.areas().tolist(), segments.boxes().tolist()
    for index, label in enumerate(segments.labels.tolist()):
        x0, y0, x1, y1 = boxes[index]
        record: dict[str, Any] = {
            "id": index + 1,
            "category_id": segments.label_set[label].id,
            "category_name": segments.label_set[label].name,
            "score": _score(segments.scores[index]),
            "area": areas[index],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "isthing": segments.label_set[label].isthing,
        }
        colour = segments.label_set[label].color
        if colour is not None:
            record["color"] = list(colour)
        if segments.rles is not None:
            record["segmentation"] = segments.rles[index].to_coco()
        records.append(record)
    return records


def mask_records(segments: Segments, *, masks: bool = True) -> list[dict[str, Any]]:
    """Rows of a table: records without colours, each with its mask as COCO's run-length code if `masks`."""
    rows = segment_records(segments)
    for row, rle in zip(rows, segments.to_rles() if masks else [None] * len(rows), strict=True):
        row.pop("color", None)
        row.pop("segmentation", None)
        if rle is not None:
            row["segmentation"] = rle.to_coco()
    return rows


def record_text(record: Mapping[str, Any]) -> str:
    """A record as JSON for people: one key or one segment per line."""
    lines = [f"{to_json(key)}: {to_json(value)}" for key, value in record.items() if key != "segments"]
    segments = ",\n".join("  " + to_json(segment) for segment in record["segments"])
    lines.append(f'"segments": [\n{segments}\n ]' if segments else '"segments": []')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _score(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
