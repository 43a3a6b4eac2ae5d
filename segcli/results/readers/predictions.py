"""What every reader of predictions returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segcli.files.fields import MOST_ID, Fields, is_file_name
from segcli.segments import Segments
from segcli.types import LabelSet, Task

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{0,20})?([eE][+-]?\d{1,2})?")


@dataclass(frozen=True)
class PredictedImage:
    """How the files identify the image of a prediction: by its id, its file's name, or both."""

    id: int | str | None
    file: str | None

    def __str__(self) -> str:
        return str(self.file if self.id is None else self.id)


class Predictions(Protocol):
    """The predictions of many images, on disk until each is read."""

    @property
    def path(self) -> Path:
        """What the user named."""

    @property
    def what(self) -> str:
        """The format, in a few words."""

    @property
    def task(self) -> Task:
        """Their task."""

    @property
    def images(self) -> Sequence[PredictedImage]:
        """The images that there are predictions of."""

    @property
    def labels(self) -> LabelSet:
        """The classes in the files' own terms: every id that was predicted, "" for a name that they do not tell."""

    @property
    def least_score(self) -> float | None:
        """The lowest score of all instances, or the threshold they were kept by; None where that means nothing."""

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """The prediction of the `number`-th image, which is `size` = (H, W); instances in descending order of score.

        Raises:
            InputError: naming file and image: unreadable, of another size, a class or a form that does not fit.
        """


def in_pixels(size: tuple[int, int]) -> str:
    """(H, W) as "width×height"."""
    return f"{size[1]}×{size[0]}"


def image_id(row: Fields, name: str) -> int | str:
    """An image's id: a number (12.0 is one, as pandas writes it), or a name as segcli predict gives photos without."""
    value = row.raw.get(name)
    if isinstance(value, float) and value.is_integer() and abs(value) <= MOST_ID:
        return int(value)
    if type(value) is int and abs(value) < 2**63:
        return value
    if isinstance(value, str) and is_file_name(value):
        return value
    raise row.wrong(name, "a number or a name")


def with_numbers(value: Any, *names: str) -> Any:
    """An object in which numbers that a tool wrote as text ("18", "0.93") are numbers."""
    if not isinstance(value, dict) or not any(isinstance(value.get(name), str) for name in names):
        return value
    return value | {name: _number(value[name]) for name in names if isinstance(value.get(name), str)}


def _number(text: str) -> int | float | str:
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if set(text) & set(".eE") else int(text)
