"""Planning and merging of many shards over empty work: names and ledgers alone, to see that both stay linear.

    python benchmarks/shards.py --shards 1000 --images 50000 100000 200000

Printed for each number of images: CPU seconds and peak memory (traced) to plan one shard, to write all parts, and to
merge them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from segcli.inference.planning import plan_work
from segcli.inference.sources import Source
from segcli.results.kinds.kind import Shard
from segcli.results.ledger import CocoResults
from segcli.results.shards import merge, note_done


def one(images: int, shards: int, traced: bool) -> tuple[list[float], list[float]]:
    """CPU seconds to plan one shard, to write all parts and to merge them; the peak megabytes of each, if traced."""
    seconds, megabytes = [], []

    def measure(work: Callable[[], None]) -> None:
        if traced:
            tracemalloc.start()
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
        if traced:
            megabytes.append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()

    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "out")
        names = (f"/photos/{number // 1000:05d}/{number:09d}.jpg" for number in range(images))
        sources = [Source(Path(name), Path("/photos")) for name in names]
        result = {"category_id": 1, "segmentation": {"size": [480, 640], "counts": "x" * 300}, "score": 0.5}

        def write() -> None:
            for shard in (Shard(index, shards) for index in range(shards)):
                ledger = CocoResults(out / shard.part_of("predictions.json"))
                for number in shard.share(images):
                    ledger.add(number, [{"image_id": number} | result])
                ledger.close()
                note_done(out, shard, {"failed": 0})

        measure(lambda: void(plan_work(sources, out, ("coco",), shard=Shard(0, shards))))
        measure(write)
        measure(lambda: void(merge(out)))
    return seconds, megabytes


def void(_: object) -> None:
    """Forget a result."""


def main() -> None:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--images", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    options = parser.parse_args()
    for images in options.images:
        seconds, _ = one(images, options.shards, traced=False)
        _, megabytes = one(images, options.shards, traced=True)
        steps = zip(("plan one shard", "write all parts", "merge"), seconds, megabytes, strict=True)
        words = "; ".join(f"{step} {spent:.1f} s, {memory:.1f} MB" for step, spent, memory in steps)
        print(f"{images:,} images in {options.shards} shards: {words}", flush=True)


if __name__ == "__main__":
    main()
