"""How far a clip has come, in clip.partial.state.json, by which a run that was interrupted goes on.

It is written every few seconds and says, of one frame, how long every file was and what the tracker knew. Files are
cut to that length, and the clip is decoded again up to there: results are those of a run that was not interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from segcli.errors import InputError, OutputError, UsageError
from segcli.files.json_file import read_object
from segcli.files.writing import write_file
from segcli.inference.video.kinds import ClipKind, ClipRun
from segcli.inference.video.tally import Tally
from segcli.inference.video.tracking import Tracker

_SUFFIX = ".state.json"
_EVERY = 2.0  # seconds


@dataclass(frozen=True)
class Done:
    """What an earlier run has done."""

    frames: int  # that it predicted, or failed at
    last: int  # number of the last of them
    complete: bool  # nothing but the names of files is missing
    first: float | None  # as `Clip.first`
    tracker: Mapping[str, Any]
    tally: Mapping[str, Any]
    kinds: Mapping[str, Any]


class Progress:
    """Writes the file; `saved` is called after each frame is written."""

    def __init__(self, run: ClipRun) -> None:
        self.path = run.path(_SUFFIX, partial=True)
        self._run = run
        self._next = time.monotonic() + _EVERY
        self._waiting: str | None = None
        self._failed = False

    def read(self) -> Done | None:
        """What there is to go on from. Raises UsageError if it was made with other settings."""
        if not self.path.exists():
            return None
        try:
            state = read_object(self.path)
            done = Done(**{key: value for key, value in state.items() if key != "run"})
            before = state["run"]
        except (InputError, KeyError, TypeError) as error:
            raise OutputError(f"{self.path}: damaged; predict the clip again with --overwrite") from error
        now = json.loads(json.dumps(self._facts()))
        differing = [key for key in now if before.get(key) != now[key]]
        if differing:
            raise UsageError(
                f"--skip-existing: {self.path} is of a run with another {' and another '.join(differing)}; "
                "choose another --out, or replace it with --overwrite"
            )
        return done

    def restore(self, tracker: Tracker, tally: Tally, done: Done) -> None:
        """Let both know what they knew. Raises OutputError if that is damaged, or of another version."""
        try:
            tracker.restore(done.tracker)
            tally.restore(done.tally)
        except (InputError, LookupError, TypeError, ValueError) as error:
            raise OutputError(f"{self.path}: damaged; predict the clip again with --overwrite") from error

    def is_due(self) -> bool:
        """Whether it is time for another state."""
        return time.monotonic() >= self._next

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Where one frame is written; none after one that failed, as that one would be missing before it."""
        if self._failed:
            raise OutputError(f"{self.path}: an earlier frame could not be written")  # which is told first
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    def saved(self, state: Mapping[str, Any] | None, kinds: Sequence[ClipKind]) -> None:
        """A frame has been written; with what `Done` holds beside "kinds", if it shall be kept.

        It is kept once the next frame is written too, as then the overlay has this one.
        """
        if self._waiting is not None:
            write_file(self.path, self._waiting.encode())
            self._waiting = None
        if state is not None:
            self._waiting = self._text(state, kinds)
            self._next = time.monotonic() + _EVERY

    def complete(self, state: Mapping[str, Any], kinds: Sequence[ClipKind]) -> None:
        """All frames are written."""
        write_file(self.path, self._text(dict(state) | {"complete": True}, kinds).encode())

    def remove(self) -> None:
        """The files have their names."""
        self.path.unlink(missing_ok=True)

    def _text(self, state: Mapping[str, Any], kinds: Sequence[ClipKind]) -> str:
        return json.dumps({"run": self._facts(), **state, "kinds": {kind.name: kind.state() for kind in kinds}})

    def _facts(self) -> dict[str, Any]:
        return {"save": list(self._run.kinds), **self._run.facts}
