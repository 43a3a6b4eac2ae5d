"""A dataset without what `check` found wrong with it, as far as that can be mended without guessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segcli.data.checking.check import KINDS, CheckReport, Finding
from segcli.data.checking.facts import twins
from segcli.data.checking.rotation import read_truth
from segcli.data.glance import glance
from segcli.data.objects import rles_of
from segcli.data.records import DatasetInfo, Reader, Record
from segcli.data.truth import MapTruth, ShapeTruth, Truth
from segcli.errors import UsageError
from segcli.files.image_ref import ImageRef

_LEFT_OUT = ("unreadable", "labels", "all-void")


def mended(info: DatasetInfo, report: CheckReport) -> DatasetInfo:
    """The dataset as `segcli.data.converting.convert` shall write it: no unusable or repeated images"""
    dropped: set[tuple[str | None, str | None]] = {
        (finding.split, finding.file) for finding in report.findings if finding.kind in _LEFT_OUT
    }
    dropped |= {(finding.split, finding.file) for finding in report.of_kind("leakage") if finding.split == "train"}
    splits: dict[str, list[Record]] = {}
    for split, records in info.splits.items():
        seen: set[ImageRef] = set()
        splits[split] = []
        for record in records:
            if (split, str(record.image)) not in dropped and record.image not in seen:
                splits[split].append(record)
            seen.add(record.image)
    kept = {split: records for split, records in splits.items() if records}
    if not kept:
        worst = next(finding for finding in report.findings if finding.kind in _LEFT_OUT)
        raise UsageError(f"{info.root}: nothing would be left: no image can be used; the first: {worst.message}")
    cut, turned = (frozenset(f.file for f in report.of_kind(kind) if f.file) for kind in ("off-image", "rotation"))
    return replace(info, splits=kept, reader=MendingReader(info.reader, cut, turned))


def unmended(report: CheckReport) -> list[Finding]:
    """What `mended` leaves as it is: it may be meant so, or only somebody who sees the images can tell."""
    return [
        finding
        for finding in report.findings
        if not KINDS[finding.kind].mend or (finding.kind == "leakage" and finding.split != "train")
    ]


@dataclass(frozen=True)
class MendingReader:
    """Reads as another reader does, without objects that have no pixel or are drawn twice. cut: images with polygons
    that reach out of them, which become masks. turned: images whose masks were drawn on them as they are stored."""

    reader: Reader
    cut: frozenset[str]
    turned: frozenset[str]

    def files(self, record: Record) -> list[Path]:
        """Those of the other reader."""
        return self.reader.files(record)

    def read(self, record: Record, size: tuple[int, int]) -> Truth:
        """The objects that are left, on the upright image."""
        if str(record.image) in self.turned:
            truth, _ = read_truth(self.reader, record, glance(record.image))
        else:
            truth = self.reader.read(record, size)
        return truth if isinstance(truth, MapTruth) else self._without_waste(truth, record)

    def _without_waste(self, truth: Truth, record: Record) -> ShapeTruth:
        assert isinstance(truth, ShapeTruth)
        rles = rles_of(truth)
        twice = {j for _, j, _ in twins(rles, truth.labels.tolist(), truth.crowd.tolist())}
        kept = [index for index, rle in enumerate(rles) if rle.area and index not in twice]
        shapes = rles if str(record.image) in self.cut else truth.shapes
        places = np.array(kept, dtype=np.int64)
        stated = truth.stated and replace(
            truth.stated, annotations=tuple(truth.stated.annotations[index] for index in kept)
        )
        left = [shapes[index] for index in kept]
        return ShapeTruth(truth.size, left, truth.labels[places], truth.crowd[places], stated)
