"""Finds the photos that results belong to: results keep names or paths, and photos may have moved."""

from __future__ import annotations

from collections.abc import Sequence
from filecmp import cmp
from functools import cached_property
from pathlib import Path

from segcli.errors import InputError, UsageError
from segcli.files.fields import Fields
from segcli.files.image_places import ImagePlaces, leaves
from segcli.files.json_file import read_json
from segcli.results.own import holds_record
from segcli.results.readers import PredictedImage

STDIN = "stdin"  # what a photo that was piped in is called


class PhotoFinder:
    """Finds the photo of a prediction.

    Args:
        results: the folder of the results. Where they say where their photos lie, those are taken.
        photos: the folder to look in; without it, the current folder and those in it.

    Raises:
        UsageError: `photos` is not a folder.
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
        """file_name -> path, from the records of `segcli predict`."""
        places: dict[str | None, Path] = {}
        for file in self.results.rglob("*.json") if self.results.is_dir() else ():
            try:
                record = Fields(read_json(file), str(file))
                places[record.file_name("file_name")] = file.parent / record.file_name("photo")
            except InputError:
                continue  # not a record, or one without a photo
        return places

    @cached_property
    def _roots(self) -> Sequence[Path]:
        if self.photos is not None:
            return [self.photos]
        here = Path()
        folders = [here, *sorted(path for path in here.iterdir() if path.is_dir() and not path.name.startswith("."))]
        return [folder for folder in folders if folder.resolve() != self.results.resolve()]

    def _in(self, root: Path, image: PredictedImage) -> list[Path]:
        """The photos below a folder that are meant; for results with a path, the one at that path before others."""
        if image.file is not None and not leaves(image.file) and (root / image.file).is_file():
            return [root / image.file]
        if root not in self._places:
            self._places[root] = ImagePlaces(root, depth=99 if self.photos is not None else 0)
        return self._places[root].of_result(image.file, image.id)

    @cached_property
    def _places(self) -> dict[Path, ImagePlaces]:
        return {}
