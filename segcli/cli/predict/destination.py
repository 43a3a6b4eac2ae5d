"""`--out` where it has ://: results are made in a folder of this machine and sent as they are done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from segcli import console
from segcli.cli.predict.request import PredictRequest
from segcli.files.remote_folder import staged, url_of

if TYPE_CHECKING:
    from segcli.results.kinds.kind import Shard


@contextmanager
def at_destination(request: PredictRequest, part: Shard | None) -> Iterator[PredictRequest]:
    """The request, which writes to a folder of this machine; whatever is in it is at --out in the end.

    Raises what `segcli.files.remote_folder.staged` raises.
    """
    url = url_of(request.out)
    if url is None or not request.kinds:
        yield request
        return
    from segcli.results.shards import FAILURES, forget_done
    from segcli.results.writer import run_targets

    names = [path.name for path in run_targets(request.out, request.kinds)]
    names = [part.part_of(name) if part else name for name in (*names, FAILURES)]
    seen_json = False

    def wanted(name: str) -> bool:
        """What a run that is continued reads: files for all photos, unfinished clips, and how a photo was made."""
        nonlocal seen_json
        if not request.skip_existing:
            return False
        first = name.endswith(".json") and not (seen_json or name.startswith("."))
        seen_json = seen_json or first
        return first or name in names or ".partial." in name

    with staged(url) as folder:
        console.alias(folder.local, folder.url)
        folder.fetch(wanted)
        if part:
            forget_done(folder.local, part)
            folder.remove_gone()
        yield replace(request, out=folder.local, remote=folder)
