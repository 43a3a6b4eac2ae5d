"""Images divided anew into training, validation and test: by a hash of their names, whole groups together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from segcli.data.layouts.folders import rank
from segcli.data.records import DatasetInfo, Record
from segcli.errors import UsageError


@dataclass(frozen=True)
class Division:
    """The dataset in its new splits. groups: how many there are in each."""

    info: DatasetInfo
    groups: dict[str, int]


def divided(info: DatasetInfo, shares: Mapping[str, float], pattern: str | None = None) -> Division:
    """Divide all images of `info` anew.

    Args:
        shares: part of the groups for each split but "train", which gets the rest: {"val": 0.1, "test": 0.1}.
        pattern: a regular expression on file names, or where it matches none, on names with their folders; images with
            the same match (of its first group, if it has one) stay together. Without it, every image is its own group.

    A group goes by a hash of its name: where it goes does not depend on the other images, so that a dataset that grows
    keeps what is tested on apart from what is trained on. Only if a split were empty the nearest group is put there.

    Raises:
        UsageError: a bad pattern, images that it does not match, fewer groups than splits, shares of nothing or all.
    """
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        shown = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise UsageError(f"fractions of {shown} leave nothing to train on; give parts of the whole, such as 0.1")
    records = [record for of_split in info.splits.values() for record in of_split]
    images = {record.image: record for record in records}
    common = Counter(image.name for image in images)
    names = {
        image: _group(image.name if common[image.name] == 1 else _path(record), _path(record), pattern)
        for image, record in images.items()
    }
    unmatched = [image for image, name in names.items() if name is None]
    if unmatched:
        raise UsageError(
            f"--group {pattern}: does not match {len(unmatched)} of {len(names)} file names, such as "
            f"{unmatched[0].name}; every image must belong to a group"
        )
    groups = sorted({str(name) for name in names.values()}, key=rank)
    if len(groups) <= len(shares):
        raise UsageError(
            f"{info.root}: {len(groups)} group{'s' * (len(groups) != 1)} cannot be divided into "
            f"{len(shares) + 1} splits; use a finer --group or more images"
        )
    split_of = _assigned(groups, shares)
    splits: dict[str, list[Record]] = {split: [] for split in ("train", *shares)}
    for image, record in images.items():
        splits[split_of[str(names[image])]].append(record)
    counted = {split: sum(where == split for where in split_of.values()) for split in splits}
    return Division(replace(info, splits=splits), counted)


def _path(record: Record) -> str:
    """A name with the folders that tell it from equal ones."""
    return record.name or record.image_id


def _group(name: str, path: str, pattern: str | None) -> str | None:
    if pattern is None:
        return name
    try:
        match = re.search(pattern, name) or re.search(pattern, path)
    except re.error as error:
        raise UsageError(f"--group {pattern}: not a regular expression ({error})") from error
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


def _assigned(groups: list[str], shares: Mapping[str, float]) -> dict[str, str]:
    """group -> split. groups: in the order of their ranks, which the shares cut into ranges."""
    bounds: list[tuple[str, float]] = []
    top = 0.0
    for split, share in shares.items():
        top += share
        bounds.append((split, top))
    split_of = {group: next((s for s, bound in bounds if rank(group) < bound), "train") for group in groups}
    wanted = [*shares, "train"]
    for place, split in enumerate(wanted):  # too few groups for chance: the nearest in rank fills the gap
        if split not in split_of.values():
            donor = max(wanted, key=lambda name: sum(where == name for where in split_of.values()))
            of_donor = [group for group in groups if split_of[group] == donor]
            split_of[of_donor[0] if place < wanted.index(donor) else of_donor[-1]] = split
    return split_of
