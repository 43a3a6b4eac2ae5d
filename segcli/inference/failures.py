"""Pictures that failed, a line each, in a file that `segcli predict` takes as its sources."""

from __future__ import annotations

import json
from pathlib import Path

from segcli.files.writing import output_error
from segcli.inference.sources import Source
from segcli.results.kinds.kind import Shard
from segcli.results.shards import FAILURES


class FailureList:
    """failures.jsonl, which is there only if something failed. An earlier one is replaced."""

    def __init__(self, out: Path, shard: Shard | None = None) -> None:
        self.path = out / (shard.part_of(FAILURES) if shard else FAILURES)
        self._lines: list[str] = []
        self._before = self.path.exists()

    def add(self, source: Source, reason: str) -> None:
        """Write one down. Raises OutputError if it cannot be written."""
        row = {"image": str(source), "error": reason}
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("wb" if self._before else "ab") as file:
                file.write(line)
            self._before = False
        except OSError as error:
            raise output_error(self.path, error) from error

    def close(self) -> None:
        """Remove an earlier list if nothing failed now."""
        if self._before:
            self.path.unlink(missing_ok=True)
