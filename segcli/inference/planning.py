"""Decides what a run will read and write, before a model is loaded (which may mean a download)."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segcli.errors import InputError, OutputError, UsageError
from segcli.files.json_file import read_object
from segcli.files.writing import refuse_existing
from segcli.inference.sources import STDIN_NAME, Source
from segcli.results.kinds.kind import Shard
from segcli.results.plan import Photo, plan
from segcli.results.shards import refuse_unmergeable
from segcli.results.writer import photo_targets, refuse_collisions, run_targets


@dataclass(frozen=True)
class Work:
    """The images of a run and where their results go."""

    out: Path
    kinds: tuple[str, ...]
    photos: list[Photo]  # every image named, done before or not: ids and names are given to all of them together
    images: list[tuple[Source, Photo]]  # those there is something left to do for, as far as their own files tell
    done: list[tuple[Source, Photo]]  # the others
    skip_existing: bool
    shard: Shard | None = None  # whose images these are; None if all
    digest: str = ""  # of the names of all images, by which the shards of one plan are known


def plan_work(
    sources: Sequence[Source],
    out: Path,
    kinds: tuple[str, ...],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: Shard | None = None,
) -> Work:
    """Decide where everything goes and which images need work.

    Raises UsageError if a result exists already (and neither option says what to do about it), or would replace an
    input; OutputError if `out` cannot be written to.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; give one of them")
    check_writable(out)
    photos = plan([(source.path, source.folder) for source in sources])
    if not (overwrite or skip_existing):
        piped = (isinstance(source.data, bytes) for source in sources)
        photos = [_unused(out, kinds, own) if isin else own for own, isin in zip(photos, piped, strict=True)]
    refuse_collisions(out, kinds, photos)
    images, done, digest = list(zip(sources, photos, strict=True)), [], ""
    if shard:
        refuse_unmergeable(out, kinds)
        digest, share = _digest(photos), shard.share(len(images))
        images, photos = images[share.start : share.stop], photos[share.start : share.stop]
    if (
        skip_existing and kinds and not run_targets(out, kinds)
    ):  # else only the writer knows which images a file for all holds
        done = [image for image in images if _is_done(out, kinds, image[1])]
        images = [image for image in images if not _is_done(out, kinds, image[1])]
    if overwrite:
        _refuse_photos(out, kinds, images)
    elif not skip_existing:
        _refuse_existing(out, kinds, photos, shard)
    return Work(out, kinds, photos, images, done, skip_existing, shard, digest)


def _digest(photos: Sequence[Photo]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for photo in photos:
        digest.update(photo.file_name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _unused(out: Path, kinds: tuple[str, ...], photo: Photo) -> Photo:
    """What came on stdin with a name of its own: stdin, stdin-2, … whichever has no results yet."""
    for number in itertools.count(2):
        if not any(os.path.lexists(path) for path in photo_targets(out, kinds, photo).values()):
            break
        name = f"{STDIN_NAME}-{number}"
        photo = replace(photo, file_name=name, stem=Path(name), image_id=name)
    return photo


def _is_done(out: Path, kinds: tuple[str, ...], photo: Photo) -> bool:
    return all(path.exists() for path in photo_targets(out, kinds, photo).values())


def _refuse_existing(out: Path, kinds: tuple[str, ...], photos: Sequence[Photo], shard: Shard | None) -> None:
    targets = run_targets(out, kinds)
    targets += [path.with_name(shard.part_of(path.name)) for path in targets] if shard else []
    for photo in photos:
        targets += photo_targets(out, kinds, photo).values()
    refuse_existing(
        targets, "replace results with --overwrite, keep them with --skip-existing, or choose another --out"
    )


def _refuse_photos(out: Path, kinds: tuple[str, ...], images: Sequence[tuple[Source, Photo]]) -> None:
    """Raise UsageError if --overwrite would replace a `.png` among the photos: nothing tells it from a photo."""
    for source, photo in images:
        target = photo_targets(out, kinds, photo).get("png")
        beside = source.data is None and target and target.parent.resolve() == source.path.parent.resolve()
        if target and beside and target.exists():
            raise UsageError(
                f"--overwrite: {target} lies among the photos and may be one of them; choose another --out"
            )


def refuse_other_run(work: Work, run: Mapping[str, Any]) -> None:
    """Raise UsageError if results that --skip-existing would keep were made with other settings, by their JSON files.

    run: what the results of this run will record: task, model, input, rule.
    """
    for photo in work.photos:
        path = photo_targets(work.out, ("json",), photo)["json"]
        try:
            record = read_object(path)
        except InputError:  # not there, or not ours
            continue
        _refuse_other(path, record, run)


def refuse_other_clip(path: Path, run: Mapping[str, Any]) -> None:
    """As `refuse_other_run`, for the file about a clip."""
    with contextlib.suppress(InputError):  # not there, or not ours
        if isinstance(record := read_object(path).get("clip"), dict):
            _refuse_other(path, record, run)


def _refuse_other(path: Path, record: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    differing = [key for key, value in run.items() if key in record and record[key] != value]
    if "model" in run and record.get("only") != run.get("only"):
        differing.append("choice of classes")
    if differing:
        raise UsageError(
            f"--skip-existing: {path} was made with another {' and another '.join(differing)}; "
            "choose another --out, or replace it with --overwrite"
        )


def check_writable(out: Path) -> None:
    """Raise OutputError if `out` is not writable or cannot be created."""
    place = out.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"--out {out}: {place} is a file, not a folder; choose another --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: {place} is not writable; check its permissions or choose another --out")


def parse_shard(text: str) -> Shard:
    """ "3/16" -> the fourth of sixteen shards. Raises UsageError."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(f"--shard {text}: give i/n, where i goes from 0 to n - 1; 0/4 is the first of four shards")
    return Shard(int(index), int(count))
