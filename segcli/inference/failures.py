"""Pictures that failed, one per line, in a file that `segcli predict` takes as its sources."""

from __future__ import annotations

import json
from pathlib import Path

from segcli.files.writing import output_error
from segcli.inference.pages import PageRef
from segcli.inference.sources import Source
from segcli.results.kinds.kind import Shard
from segcli.results.shards import FAILURES


class FailureList:
    """failures.jsonl, which exists only if something failed beside other results. An earlier one is replaced."""

    def __init__(self, out: Path, shard: Shard | None = None) -> None:
        self.path = out / (shard.part_of(FAILURES) if shard else FAILURES)
        self.succeeded = False  # whether another picture of the run has results
        self._is_part = shard is not None  # which is merged with others later
        self._before = self.path.exists()

    def add(self, source: Source, reason: str) -> None:
        """Add one failure. Raises OutputError if it cannot be written."""
        row: dict[str, object] = {"image": str(source), "error": reason}
        if isinstance(source.data, PageRef):  # the file is what can be a source again, with --pages all
            row = {"image": source.data.location, "page": source.data.page + 1, "error": reason}
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("wb" if self._before else "ab") as file:
                file.write(line)
            self._before = False
        except OSError as error:
            raise output_error(self.path, error) from error

    def close(self) -> None:
        """Remove an earlier list if nothing failed now, and a list of all that was named: no folder is left for it."""
        if self._before or not (self.succeeded or self._is_part or self._has_company()):
            self.path.unlink(missing_ok=True)

    def _has_company(self) -> bool:
        """Whether the folder holds results: hidden files are locks and what is in the making."""
        files = self.path.parent.iterdir() if self.path.exists() else iter(())
        return any(file != self.path and not file.name.startswith(".") for file in files)
