"""What a runtime does: open a graph on a device, run it on arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from segcli.errors import UsageError

RUNTIMES: dict[str, type[Runtime]] = {}


class Runtime(ABC):
    """A graph that is ready to run. A subclass with a `name` registers itself."""

    name: ClassVar[str]  # as `--to` calls it
    title: ClassVar[str]
    package: ClassVar[str]  # what is imported, and the extra of segcli that installs it
    extra: ClassVar[str]
    suffix: ClassVar[str]  # of the exported folder
    file: ClassVar[str]  # the graph in it
    dtypes: ClassVar[tuple[str, ...]] = ()  # precisions it can be asked for beside the file's own

    device: str  # where it runs, by the name of --device: the same there in another process
    reason: str  # that and why, in words
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            RUNTIMES[cls.name] = cls

    @abstractmethod
    def __init__(self, path: Path, device: str, dtype: str | None, threads: int) -> None:
        """Open a graph. device: a name of `--device`. dtype: one of `dtypes`, None: the file's own.

        Raises UsageError if the runtime or the device is not here, CheckpointError for a file it cannot open.
        """

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name."""

    @classmethod
    def missing(cls) -> UsageError:
        """The error where its package is not installed."""
        return UsageError(f"{cls.title} is not installed: pip install 'segcli[{cls.extra}]'")
