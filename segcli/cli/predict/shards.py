"""`segcli predict` as one of several: `--shard i/n`, or a rank that torchrun started."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from segcli.console import Console
from segcli.errors import UsageError
from segcli.files.remote_folder import url_of
from segcli.results.kinds.kind import Shard

_POLL = 0.5  # seconds between two looks for ranks that have finished


def choose_shard(text: str | None, device: str, out: Path) -> Shard | None:
    """The part of the images that this process works on; None for all of them.

    Ranks of torchrun wait for each other here, after all have removed their old marks. Raises UsageError.
    """
    from segcli.inference.planning import parse_shard
    from segcli.results.shards import forget_done

    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if text is not None and ranks > 1:
        raise UsageError("--shard: torchrun already divides the images; leave it out")
    if ranks > 1 and url_of(out):
        raise UsageError(
            f"--out {url_of(out)}: ranks of torchrun need a folder that all see; use --shard i/n, then segcli results "
            "merge"
        )
    shard = Shard(int(os.environ["RANK"]), ranks) if ranks > 1 else parse_shard(text) if text else None
    if shard:
        forget_done(out, shard)
    if ranks > 1:
        from segcli.distributed import join, leave

        join(device).broadcast(None)
        leave()
    return shard


def finish_shard(out: Path, shard: Shard, facts: dict[str, Any], say: Console) -> None:
    """Note that the shard is done; the first rank of torchrun waits for the others and joins what they wrote.

    facts: what all shards must share, and "failed". Raises as `segcli.results.shards.merge`.
    """
    from segcli.results.shards import count_done, merge, note_done

    note_done(out, shard, facts)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        say.note(f"shard {shard.index} of {shard.count} is done; when all are, join them: segcli results merge {out}")
    elif shard.index == 0:
        while count_done(out, shard.count) < shard.count:  # torchrun ends all if one of them fails
            time.sleep(_POLL)
        merge(out)
