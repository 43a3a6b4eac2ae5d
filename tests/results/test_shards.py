"""Shards leave behind what one run would have written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segcli.codecs.rle import RLE
from segcli.errors import UsageError
from segcli.results.kinds.kind import Shard
from segcli.results.plan import plan
from segcli.results.shards import merge, note_done
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments
from tests.fakes import LABELS

KINDS = ("coco", "coco-panoptic", "png", "jsonl", "parquet")
PHOTOS = plan([(Path(f"/photos/{name}.jpg"), Path("/photos")) for name in "abcdefg"])


def write(out: Path, shard: Shard | None, *, until: int | None = None, resume: bool = False) -> None:
    """Write a shard; until: it is killed there."""
    share = shard.share(len(PHOTOS)) if shard else range(len(PHOTOS))
    writer = ResultsWriter(out, KINDS, [], task="panoptic", labels=LABELS, run={}, shard=shard, skip_existing=resume)
    for number in share[:until]:
        if writer.is_complete(PHOTOS[number]):
            continue
        ids = np.zeros((4, 5), dtype=np.uint16)
        ids[: number % 4] = 1
        count = int(number % 4 > 0)
        found = Segments("panoptic", (4, 5), LABELS, np.zeros(count, int), np.full(count, 0.9, np.float32), ids)
        writer.write(PHOTOS[number], None, found, timings={})
    if until is None:
        writer.close()
        if shard:
            note_done(out, shard, {"images": "x", "failed": 0})


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("count", [1, 3, 9])
def test_shards_equal_one_run(tmp_path: Path, count: int) -> None:
    write(tmp_path / "one", None)
    for index in reversed(range(count)):
        write(tmp_path / "many", Shard(index, count))
    merged = merge(tmp_path / "many")
    assert merged.shards == count
    assert files(tmp_path / "many") == files(tmp_path / "one")


def test_a_killed_shard_is_run_again(tmp_path: Path) -> None:
    write(tmp_path / "one", None)
    write(tmp_path / "many", Shard(0, 2), until=2)
    write(tmp_path / "many", Shard(1, 2))
    with pytest.raises(UsageError, match=r"1 of 2 shards are not done \(0\)"):
        merge(tmp_path / "many")
    write(tmp_path / "many", Shard(0, 2), resume=True)
    merge(tmp_path / "many")
    assert files(tmp_path / "many") == files(tmp_path / "one")


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no shard has finished here"):
        merge(tmp_path)
    for index in (0, 1):
        note_done(tmp_path, Shard(index, 2), {"model": f"m{index}", "failed": 0})
    with pytest.raises(UsageError, match="shard 1 was made with another model than shard 0"):
        merge(tmp_path)
    note_done(tmp_path, Shard(0, 3), {})
    with pytest.raises(UsageError, match=r"holds shards of different runs \(of 2 and of 3 shards\)"):
        merge(tmp_path)


def test_failures_are_joined_too(tmp_path: Path) -> None:
    for index in (0, 1):
        (tmp_path / Shard(index, 2).part_of("failures.jsonl")).write_text(json.dumps({"image": f"{index}.jpg"}) + "\n")
        note_done(tmp_path, Shard(index, 2), {"failed": 1})
    assert merge(tmp_path).failed == 2
    assert (tmp_path / "failures.jsonl").read_text().count("\n") == 2


def test_rows_hold_the_masks(tmp_path: Path) -> None:
    """The same rows in both files; one that was there is continued."""
    write(tmp_path, Shard(0, 2))
    for index in (0, 1):
        write(tmp_path / "again", Shard(index, 2))
    merge(tmp_path / "again")
    rows = [json.loads(line) for line in (tmp_path / "again" / "segments.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["b.jpg", "c.jpg", "d.jpg", "f.jpg", "g.jpg"]  # a and e hold nothing
    assert RLE.from_coco(rows[1]["segmentation"]).area == rows[1]["area"] == 10
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(tmp_path / "again" / "segments.parquet").to_pylist() == rows
