"""Many photos, of a dataset or given by name, for the views that need several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcli.codecs.image import read_image
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import SegcliError, UsageError
from segcli.inference.sources import Source, find_sources
from segcli.inspection.views.photo import OpenedPhoto


@dataclass(frozen=True)
class FoundPhotos:
    """name: what the pictures of them are called after."""

    name: str
    paths: tuple[Source, ...]


def find_photos(
    names: Sequence[str], split: str, limit: int, *, recursive: bool = False, skip: Path | None = None
) -> FoundPhotos:
    """The images of a dataset's split if one folder is named and holds a dataset, else the images that are named.

    limit: how many, evenly spread over all; 0: all. Raises UsageError where there is neither.
    """
    folder = Path(names[0])
    sources = _of_dataset(folder, split) if len(names) == 1 and folder.is_dir() and not recursive else None
    if sources is None:
        sources = find_sources(names, recursive=recursive, skip=skip)
        if all(source.missing for source in sources):
            raise UsageError(sources[0].missing)
    if limit and len(sources) > limit:
        sources = [sources[i * len(sources) // limit] for i in range(limit)]
    return FoundPhotos(folder.resolve().name if folder.is_dir() else folder.stem or "photos", tuple(sources))


def _of_dataset(folder: Path, split: str) -> list[Source] | None:
    """None for a folder that holds images and is no dataset."""
    try:
        info = detect(folder)
    except UsageError:
        try:
            find_sources([str(folder)])
        except UsageError:
            pass
        else:
            return None
        raise
    return [Source.of(record.image) for record in open_split(info, split).records]


def read_each(sources: Sequence[Source], failed: Callable[[Exception], None]) -> Iterator[OpenedPhoto]:
    """Read the photos one after the other; those that cannot be read are reported and skipped."""
    for source in sources:
        try:
            yield OpenedPhoto(read_image(source.open(), name=str(source)), source.path)
        except SegcliError as error:
            failed(error)
