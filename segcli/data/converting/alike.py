"""Images that are nearly the same and would be divided: what one part shows of the other is no test of anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations

from segcli.data.checking.facts import facts_of
from segcli.data.checking.near import near_pairs
from segcli.data.records import DatasetInfo
from segcli.files.image_ref import ImageRef

_PATTERNS = (r"^.*(?=[_\- .][^_\- .]*$)", r"^[^_\- .]+", r"^\D*\d+", r"^[0-9]{8}")  # of names that tell a series


def alike_across(
    info: DatasetInfo, divided: DatasetInfo, *, threads: int | None = None, progress: Callable[[], None] | None = None
) -> list[tuple[ImageRef, ImageRef]]:
    """Pairs of images that show nearly the same and are in different parts of `divided`. info: where they come from."""
    thumbs: dict[ImageRef, str] = {}
    for split, records in info.splits.items():
        rows = facts_of(info, split, threads=threads, progress=progress)
        thumbs |= {record.image: facts.thumb for record, facts in zip(records, rows, strict=True)}
    parts = [[(r.image, thumbs.get(r.image, "")) for r in records] for records in divided.splits.values()]
    return [
        (one[i][0], other[j][0]) for one, other in combinations(parts, 2) for i, j in near_pairs(one, other)
    ]  # fmt: skip


def grouping(pairs: list[tuple[ImageRef, ImageRef]], info: DatasetInfo, parts: int) -> str | None:
    """A pattern of file names that keeps every pair together and leaves more groups than parts; None if none does."""
    names = [record.image.name for records in info.splits.values() for record in records]
    for pattern in _PATTERNS:
        groups = {name: match[0] for name in names if (match := re.search(pattern, name))}
        together = all(groups.get(a.name) is not None and groups.get(a.name) == groups.get(b.name) for a, b in pairs)
        if together and len(groups) == len(set(names)) and len(set(groups.values())) > parts:
            return pattern
    return None
