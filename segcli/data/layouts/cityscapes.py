"""Cityscapes' `*_instanceIds.png`: classes and objects in one map, from which every task can be served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.data.layouts.label_values import check_size, numbered, values_of
from segcli.data.records import Record, out_of_range
from segcli.data.truth import MapTruth
from segcli.errors import InputError

ENDING = "_gtFine_instanceIds.png"
_OBJECTS_A_CLASS = 1000  # a value is class · 1000 + number, or for pixels that belong to no single object the class


@dataclass(frozen=True)
class CityscapesReader:
    """ids: the evaluated classes; things: those with objects; ignore: classes that count as void."""

    ids: tuple[int, ...]
    things: tuple[int, ...]
    ignore: tuple[int, ...]

    def files(self, record: Record) -> list[Path]:
        """The map of objects."""
        return [Path(str(record.truth))]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """One object a value; a class of things without a number is a group that was not told apart: a crowd."""
        file = Path(str(record.truth))
        objects = read_label_map(file)
        check_size(objects, size, file)
        if objects.ndim == 3:
            raise InputError(f"{file}: colours, not the numbers of objects; take the file as Cityscapes publishes it")
        values = values_of(objects)
        labels = np.where(values < _OBJECTS_A_CLASS, values, values // _OBJECTS_A_CLASS)
        strange = np.setdiff1d(labels, (*self.ids, *self.ignore))
        if len(strange):
            raise out_of_range(file, strange.tolist(), self.ids, self.ignore)
        is_void = np.isin(labels, self.ignore)
        ids = numbered(objects, values[~is_void], values[is_void].tolist())
        labels, values = labels[~is_void], values[~is_void]
        crowd = (values < _OBJECTS_A_CLASS) & np.isin(labels, self.things)
        return MapTruth(ids, labels.astype(np.int64), crowd)
