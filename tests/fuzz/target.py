"""What is damaged and read: a target of the fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data import layouts


@dataclass(frozen=True)
class Target:
    """One reader. write: honest files into a folder; read: all of them, as a command would."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    cost: int = 1  # of a case, in about 10 ms
    spared: tuple[str, ...] = ()  # endings of files that are left as they are: a runtime's own, written in C++


SHOT = layouts.scene(1)
HEIGHT, WIDTH = SHOT.image.shape[:2]
IDS = SHOT.map(list(range(1, len(SHOT.ids) + 1)))
