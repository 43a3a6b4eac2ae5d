"""Reads and prepares one photo, for the views that show one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from segcli.codecs.image import read_image
from segcli.errors import CheckpointError, InputError, UsageError
from segcli.inference.predict import OUT_OF_MEMORY, is_out_of_memory
from segcli.inference.preprocess import Prepared, collate, prepare
from segcli.inference.sources import find_sources
from segcli.types import Batch, Frame, QueryPredictions
from segcli.weights.checkpoint import LoadedModel


@dataclass(frozen=True)
class OpenedPhoto:
    """image: uint8 [H, W, 3] RGB, upright. path: where it came from ("stdin" for a pipe)."""

    image: np.ndarray
    path: Path

    def prepared(self, loaded: LoadedModel) -> Prepared:
        """Resized, normalised and padded as the model wants it."""
        spec = loaded.spec
        if spec.size.frame == "windows":  # a view shows one pass of the network over the whole photo
            spec = replace(spec, size=replace(spec.size, frame="square"))
        image = self.image
        if spec.levels and self.path.is_file():  # as the model was trained; what is shown beside it is scaled by itself
            image = read_image(self.path, levels=spec.levels)
        return prepare(image, spec)


def read_photo(name: str) -> OpenedPhoto:
    """The one photo that a user named: a file, or - for standard input.

    Raises UsageError for what is not there, a folder or several files, InputError for what cannot be read.
    """
    if Path(name).is_dir():
        raise UsageError(f"{name}: a folder; this view shows one photo, give its file")
    sources = find_sources([name])
    if len(sources) != 1:
        raise UsageError(f"{name}: {len(sources)} photos; this view shows one, give its file")
    if sources[0].missing:
        raise UsageError(sources[0].missing)
    return OpenedPhoto(read_image(sources[0].open(), name=str(sources[0])), sources[0].path)


def batch_of(loaded: LoadedModel, prepared: Prepared) -> Batch:
    """The photo alone, on the model's device, in its precision."""
    return collate([prepared], loaded.device, loaded.dtype)


def share_of(frame: Frame) -> tuple[float, float]:
    """The photo's share of the padded frame, (rows, columns)."""
    return frame.resized[0] / frame.padded[0], frame.resized[1] / frame.padded[1]


def check_finite(predictions: list[QueryPredictions], loaded: LoadedModel) -> None:
    """Raises CheckpointError if the network's output is not finite."""
    if not all(bool(torch.isfinite(p.classes).all()) for p in predictions):
        raise CheckpointError(f"{loaded.name}: the network predicts NaN or infinity; its weights are damaged")


@contextmanager
def looking(name: object) -> Iterator[None]:
    """Without gradients; memory that runs out becomes an InputError that names the photo and the remedy."""
    try:
        with torch.inference_mode():
            yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"{name}: {OUT_OF_MEMORY}") from error
