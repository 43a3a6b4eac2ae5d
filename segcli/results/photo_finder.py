"""Where the photos are that results belong to: results keep names, at most a path, and photos may have moved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from filecmp import cmp
from functools import cached_property
from pathlib import Path

from segcli.errors import InputError, UsageError
from segcli.results.own import holds_record
from segcli.results.plan import COCO_NAME
from segcli.results.readers import PredictedImage

STDIN = "stdin"  # what a photo that was piped in is called
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")  # of photos whose suffix is not known


class PhotoFinder:
    """Finds the photo of a prediction.

    Args:
        results: the folder of the results. Where they say where their photos lie, those are taken.
        photos: the folder to look in; without it, the current folder and those in it.

    Raises:
        UsageError: `photos` is no folder.
    """

    def __init__(self, results: Path, photos: Path | None = None) -> None:
        if photos is not None and not photos.is_dir():
            raise UsageError(f"--photos {photos}: no such folder")
        self.results, self.photos = results, photos

    def find(self, image: PredictedImage) -> Path:
        """The photo's path.

        Raises:
            InputError: there is none, or more than one that it could be.
        """
        if self.photos is None and image.file in self._recorded and self._recorded[image.file].is_file():
            return self._recorded[image.file]
        # Among results a photo's name may be that of its id map, which has its record beside it.
        paths = [path for root in self._roots for path in self._in(root, image)]
        found = [path for path in paths if not holds_record(path.with_suffix(".json"))]
        if any(path.suffix != ".png" for path in found):
            found = [path for path in found if path.suffix != ".png" or path.name == image.file]
        other = next((path for path in found[1:] if not cmp(path, found[0], shallow=False)), None)
        if other is not None:
            raise InputError(f"{image}: its photo could be {found[0]} or {other}; give its folder with --photos")
        if found:
            return found[0]
        if self.photos is None and image.file == STDIN:
            raise InputError(
                f"{image}: this photo was piped into segcli predict, which does not keep it; save it as {STDIN}.jpg "
                "and name its folder with --photos"
            )
        where = f"in {self.photos}" if self.photos else "where it was, nor here"
        raise InputError(f"{image}: its photo is not {where}; give the folder of the photos with --photos")

    @cached_property
    def _recorded(self) -> dict[str | None, Path]:
        """file_name -> path, as far as records of `segcli predict` tell."""
        places: dict[str | None, Path] = {}
        for file in self.results.rglob("*.json") if self.results.is_dir() else ():
            try:
                record = json.loads(file.read_bytes())
                places[str(record["file_name"])] = file.parent / str(record["photo"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not a record, or one without a photo
        return places

    @cached_property
    def _roots(self) -> Sequence[Path]:
        if self.photos is not None:
            return [self.photos]
        here = Path()
        folders = [here, *sorted(path for path in here.iterdir() if path.is_dir() and not path.name.startswith("."))]
        return [folder for folder in folders if folder.resolve() != self.results.resolve()]

    def _in(self, root: Path, image: PredictedImage) -> Iterator[Path]:
        name = image.file if image.file is not None else image.id if isinstance(image.id, str) else None
        if name is not None:
            names = [name] if Path(name).suffix else [name + suffix for suffix in _SUFFIXES]
            yield from (root / name for name in names if (root / name).is_file())
        elif isinstance(image.id, int):
            yield from self._by_number(root).get(image.id, ())

    def _by_number(self, root: Path) -> dict[int, list[Path]]:
        """Photos that are named by a number, as COCO's are."""
        if root not in self._numbered:
            numbers: dict[int, list[Path]] = {}
            for path in sorted(root.iterdir()):
                match = COCO_NAME.fullmatch(path.stem)
                if match and path.suffix.lower() in _SUFFIXES:
                    numbers.setdefault(int(match[1]), []).append(path)
            self._numbered[root] = numbers
        return self._numbered[root]

    @cached_property
    def _numbered(self) -> dict[Path, dict[int, list[Path]]]:
        return {}
