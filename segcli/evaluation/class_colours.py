"""The same class in the same colour, whether a prediction is drawn alone or beside ground truth."""

from __future__ import annotations

import dataclasses

from segcli.data.records import DatasetInfo
from segcli.metrics.match_classes import ClassMatch
from segcli.render.colours import class_colours
from segcli.types import LabelSet


def in_colours_of(predicted: LabelSet, info: DatasetInfo, classes: ClassMatch) -> DatasetInfo:
    """The data with its classes in the colours of the predictor's, as far as there is such a class.

    classes: predicted -> `info.source_labels`. A predictor that has no palette takes that of the data, and one whose
    files hold no names keeps the data's colours.
    """
    given: dict[int, tuple[int, int, int]] = {}
    for label, colour, index in zip(predicted, class_colours(predicted).tolist(), classes.index.tolist(), strict=True):
        if index >= 0 and (label.color is not None or (label.name and classes.labels[index].color is None)):
            given[classes.labels[index].id] = (colour[0], colour[1], colour[2])

    def coloured(labels: LabelSet) -> LabelSet:
        return LabelSet(tuple(dataclasses.replace(label, color=given.get(label.id, label.color)) for label in labels))

    return dataclasses.replace(info, labels=coloured(info.labels), source_labels=coloured(info.source_labels))
