"""Writes the kinds given by `--save`, one photo at a time; each kind's own part is in `segcli.results.kinds`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from segcli.errors import OutputError, UsageError
from segcli.files.writing import below, remove_left_over
from segcli.results.kinds import SAVE_KINDS, Answer, SaveRun
from segcli.results.kinds.kind import Shard, in_order
from segcli.results.ledger import Entry
from segcli.results.plan import Photo
from segcli.segments import Segments
from segcli.types import LabelSet, Task


def photo_targets(out: Path, kinds: Collection[str], photo: Photo) -> dict[str, Path]:
    """The files and folders below `out` that belong to one photo alone, by kind, in the order they are written."""
    targets = {kind: SAVE_KINDS[kind].target(out, photo) for kind in in_order(kinds)}
    return {kind: path for kind, path in targets.items() if path is not None}


def run_targets(out: Path, kinds: Collection[str]) -> list[Path]:
    """The files below `out` that cover all photos of a run."""
    return [out / name for kind in in_order(kinds) for name in SAVE_KINDS[kind].files]


def refuse_collisions(out: Path, kinds: Collection[str], photos: Sequence[Photo]) -> None:
    """Raise UsageError if a result would replace an input, or two photos would be written to one place."""
    inputs = {os.path.normcase(os.path.abspath(photo.path)) for photo in photos}
    seen: dict[str, Photo] = {}
    for photo in photos:
        for path in photo_targets(out, kinds, photo).values():
            place = os.path.normcase(os.path.abspath(path))
            if place in inputs:
                raise UsageError(f"{path}: a result would replace this input; choose another --out")
            if seen.setdefault(place, photo) is not photo:
                other = seen[place].path
                raise UsageError(f"{path}: {other} and {photo.path} would both be written here; use separate runs")


class ResultsWriter:
    """Writes the wanted kinds below one folder, keeping the source tree.

    Args:
        out: the folder; made when first needed.
        kinds: names of `SAVE_KINDS`.
        photos: every photo of the run, as planned together.
        task, labels: what the segments to come answer, and their classes.
        run: what every record says of the run: {"model": …, "input": …, "rule": …}.
        draw: photo and segments -> the overlay picture; needed for "overlay".
        overwrite: replace results that are there.
        skip_existing: keep them, and write what is missing.
        shard: write the files for all photos as this part of them, for `segcli results merge`.
        relays: leave the files for all photos to another process, which `keep`s what `take_entries` gives.

    Raises:
        UsageError: a kind that the task has no answer for, or results that would replace an input.
        OutputError: a file for all images is there already, and neither overwrite nor skip_existing is set.
    """

    def __init__(
        self,
        out: Path,
        kinds: Collection[str],
        photos: Sequence[Photo],
        *,
        task: Task,
        labels: LabelSet,
        run: Mapping[str, Any],
        draw: Callable[[np.ndarray, Segments], np.ndarray] | None = None,
        overwrite: bool = False,
        skip_existing: bool = False,
        shard: Shard | None = None,
        relays: bool = False,
    ) -> None:
        self.run, self.overwrite = run, overwrite
        self._run = SaveRun(out, task, labels, run, draw, overwrite, skip_existing, shard, relays)
        classes = [SAVE_KINDS[name] for name in in_order(kinds)]
        for kind in classes:
            kind.check(task)
        refuse_collisions(out, kinds, photos)
        self.needs_image = any(kind.needs_image for kind in classes)
        self.counts = "csv" in kinds  # whether tables say how many there are
        self._kinds = [kind(self._run) for kind in classes]
        for own in self._kinds:
            own.check_photos(photos)
        self._ledgers = [ledger for kind in self._kinds for ledger in kind.ledgers]
        self._tidied: set[Path] = set()
        self._tidy(out)

    def _tidy(self, folder: Path) -> None:
        """Remove what a run that was killed left half written in a folder, before the first file is written there."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            remove_left_over(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError:
            if error is None:  # a full disk has already been told
                raise

    def targets(self, photo: Photo) -> dict[str, Path]:
        """The files and folders that belong to one photo alone."""
        return photo_targets(self._run.out, [kind.name for kind in self._kinds], photo)

    def existing(self, photo: Photo) -> list[Path]:
        """Those of a photo's targets that exist already."""
        return [path for path in self.targets(photo).values() if os.path.lexists(path)]

    def is_complete(self, photo: Photo) -> bool:
        """Whether nothing is left to write for a photo."""
        return all(kind.is_done(photo) for kind in self._kinds)

    def write(
        self,
        photo: Photo,
        image: np.ndarray | None,
        segments: Segments,
        *,
        unthresholded: Segments | None = None,
        timings: Mapping[str, float],
    ) -> list[Path]:
        """Write everything for one photo; returns its own files and folders (those for all photos come with `close`).

        Args:
            image: uint8 RGB [H, W, 3]; may be None unless `needs_image`.
            segments: what is shown.
            unthresholded: what `coco` gets instead, so that the evaluator sees the low scores too.
            timings: milliseconds by step, for the record.

        Raises:
            OutputError: results are there (and neither overwrite nor skip_existing is set), or cannot be written.
        """
        targets, existing = self.targets(photo), self.existing(photo)
        if existing and not (self._run.overwrite or self._run.resume):
            raise OutputError(f"{existing[0]}: exists; replace it with --overwrite or keep it with --skip-existing")
        answer = Answer(photo, segments, image, segments if unthresholded is None else unthresholded, timings)
        written = []
        for path in targets.values():
            self._tidy(below(self._run.out, path).parent)
        for kind in self._kinds:
            if self._run.overwrite or not kind.is_done(photo):
                kind.write(answer, targets.get(kind.name))
                written += [targets[kind.name]] if kind.name in targets else []
        return written

    def take_entries(self) -> list[list[Entry]]:
        """What has been written since the last call for the files for all photos, if another process writes them."""
        taken = [list(ledger.relayed or ()) for ledger in self._ledgers]
        for ledger in self._ledgers:
            if ledger.relayed:
                ledger.relayed.clear()
        return taken

    def keep(self, entries: Sequence[Sequence[Entry]]) -> None:
        """Take what another process's writer relays. Raises OutputError if it cannot be written."""
        for ledger, own in zip(self._ledgers, entries, strict=False):  # none if this process has written them
            for image_id, texts in own:
                if image_id not in ledger.done:
                    ledger.append(image_id, texts)

    def close(self) -> list[Path]:
        """Bring the files for all images into their final form; returns them."""
        return [path for kind in self._kinds for path in kind.close()]
