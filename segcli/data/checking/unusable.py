"""Rows of annotation files that cannot be used: counted by their reason, and refused where they are most of a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from segcli.data.records import DatasetInfo, Fault, bad_rows
from segcli.errors import UsageError

MOST = 0.5
"""Share of a class's rows that may be unusable: a typo costs its row, a dataset that is misread is refused."""


class UnusableRows:
    """What a scan of a dataset meets, beside the rows that were known to be unusable when its files were opened."""

    def __init__(self, info: DatasetInfo) -> None:
        self._info = info
        self._reasons: dict[str, tuple[str, int]] = {}  # reason -> the first such row, their number
        self._bad: Counter[int | None] = Counter()
        self._good: Counter[int | None] = Counter()

    def add(self, left_out: Sequence[Sequence[Any]], objects: Mapping[str, int]) -> None:
        """One image. left_out: (reason, where, class) each; objects: class -> the objects that are there."""
        for reason, where, label in left_out:
            first, count = self._reasons.get(reason, (where, 0))
            self._reasons[reason] = (first, count + 1)
            self._bad[label] += 1
        for label, count in objects.items():
            self._good[int(label)] += count

    def faults(self) -> list[Fault]:
        """A line a reason, the most frequent first."""
        rows = sorted(self._reasons.items(), key=lambda item: -item[1][1])
        return [bad_rows(str(self._info.root), reason, first, count) for reason, (first, count) in rows]

    def refuse_misread(self) -> None:
        """Raise UsageError if more than `MOST` of the rows of a class, or of all rows, cannot be used."""
        names = {label.id: label.name for label in self._info.source_labels}
        known = self._info.rows
        total_bad = total = 0
        for label in {*self._bad, *self._good, *known}:
            bad, all_ = known.get(label, (0, 0))
            bad += self._bad[label]
            all_ = max(all_, bad + self._good[label])
            total_bad, total = total_bad + bad, total + (all_ if label is not None else bad)
            if label in names and bad > MOST * all_:
                self._refuse(bad, all_, f"rows of class {names[label]!r}")
        if total_bad > MOST * total:
            self._refuse(total_bad, total, "rows")

    def _refuse(self, bad: int, total: int, what: str) -> None:
        first = [fault.message for fault in (*self.faults(), *self._info.faults) if fault.kind == "bad-row"][:1]
        raise UsageError(
            f"{self._info.root}: {bad:,} of {total:,} {what} cannot be used, more than {MOST:.0%}, so the data is "
            f"probably misread: {first[0] if first else 'see segcli data check'}; correct them, or write a copy "
            f"without them: segcli data check {self._info.root} --fix OUT"
        )
