"""The parts that the shards of a run write, and merging them into what a single run would have written.

Every shard writes its photos' own files, its part of the files for all photos (`predictions-00003-of-00016.json`), and
when it is done a note about itself (`.shard-00003-of-00016.json`). A shard that was killed leaves no note and is run
again. The parts in order are the whole in order, so merging copies lines, in memory that stays flat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from segcli.errors import InputError, UsageError, shown
from segcli.files.json_file import read_object
from segcli.files.writing import write_file
from segcli.results.kinds.kind import Shard
from segcli.results.kinds.row_files import merge_json_rows, merge_parquet
from segcli.results.ledger import merge_coco_panoptic, merge_coco_results
from segcli.results.writer import run_targets

_NOTE = ".shard.json"
_NAME = re.compile(r"\.shard-(\d{5,})-of-(\d{5,})\.json")
_PART = re.compile(r"[^/]+-\d{5,}-of-\d{5,}\.[^/]+")
_MERGERS: dict[str, Callable[[Path, Sequence[Path]], None]] = {
    "predictions.json": merge_coco_results,
    "panoptic.json": merge_coco_panoptic,
    "segments.jsonl": merge_json_rows,
    "segments.parquet": merge_parquet,
}
FAILURES = "failures.jsonl"


@dataclass(frozen=True)
class Merged:
    """The result of merging."""

    shards: int
    files: tuple[Path, ...]
    failed: int  # images


def refuse_unmergeable(out: Path, kinds: Collection[str]) -> None:
    """Raise UsageError for a kind of --save whose files for all photos cannot be joined."""
    for path in run_targets(out, kinds):
        if path.name not in _MERGERS:
            raise UsageError(f"--shard: {path.name} cannot be joined from parts; save it in a run of its own")


def is_part(name: str) -> bool:
    """Whether a file in --out is what a shard leaves for `merge`."""
    return _PART.fullmatch(name) is not None


def note_done(out: Path, shard: Shard, facts: dict[str, Any]) -> None:
    """Note that a shard is done. facts: what all shards of a run must share, with "failed", its failed images."""
    write_file(out / shard.part_of(_NOTE), json.dumps(facts, sort_keys=True).encode() + b"\n")


def forget_done(out: Path, shard: Shard) -> None:
    """Remove an earlier note of a shard."""
    (out / shard.part_of(_NOTE)).unlink(missing_ok=True)


def count_done(out: Path, count: int) -> int:
    """How many of `count` shards are done."""
    return sum((out / Shard(index, count).part_of(_NOTE)).exists() for index in range(count))


def merge(out: Path) -> Merged:
    """Join the parts in a folder and remove them.

    Raises UsageError if there are none, some are missing, or they are of different runs; InputError for a damaged file.
    """
    notes = {}
    for path in out.iterdir() if out.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            notes[Shard(int(match[1]), int(match[2]))] = path
    if not notes:
        raise UsageError(f"{out}: no shard has finished here; give the --out of segcli predict --shard")
    counts = {shard.count for shard in notes}
    if len(counts) > 1:
        runs = " and of ".join(map(str, sorted(counts)))
        raise UsageError(f"{out}: holds shards of different runs (of {runs} shards); give each run its own --out")
    count = counts.pop()
    if missing := count - len(notes):  # a number from a file's name, of any size
        first = islice((str(index) for index in range(count) if Shard(index, count) not in notes), 10)
        named = ", ".join(first) + (" …" if missing > 10 else "")
        raise UsageError(f"{out}: {missing} of {count} shards are not done ({named}); run them again, then merge")
    shards = [Shard(index, count) for index in range(count)]
    facts = [_read(notes[shard]) for shard in shards]
    failed = sum(fact.pop("failed", 0) for fact in facts)
    for shard, fact in zip(shards, facts, strict=True):
        if fact != facts[0]:
            key = next(key for key in (*fact, *facts[0]) if fact.get(key) != facts[0].get(key))
            raise UsageError(
                f"{out}: shard {shard.index} was made with another {key} than shard 0; run it again with --overwrite"
            )
    made = []
    parts: list[Path] = []
    for name, merger in _MERGERS.items():
        own = [out / shard.part_of(name) for shard in shards]
        if own[0].exists():
            if lost := [path for path in own if not path.exists()]:
                raise UsageError(f"{lost[0]} is missing; run its shard again, then merge")
            merger(out / name, own)
            made.append(out / name)
            parts += own
    lists = [path for path in (out / shard.part_of(FAILURES) for shard in shards) if path.exists()]
    if lists:
        write_file(out / FAILURES, (path.read_bytes() for path in lists))
        made.append(out / FAILURES)
    for path in (*parts, *lists, *notes.values()):
        path.unlink(missing_ok=True)
    return Merged(count, tuple(made), failed)


def _read(path: Path) -> dict[str, Any]:
    value = read_object(path, remedy="run its shard again")
    failed = value.get("failed", 0)
    if type(failed) is not int or failed < 0:
        raise InputError(f'{path}: "failed" is {shown(failed)}; expected a number of images; run its shard again')
    return value
