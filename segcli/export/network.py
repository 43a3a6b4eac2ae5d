"""An exported graph in the place of a network: the rest of segcli does not know the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segcli.errors import CheckpointError, InputError, UsageError
from segcli.export.contract import BOXES, CLASSES, EMBEDDINGS, FEATURES, IMAGES, MASKS, PADDING, WHOLE, ExportFacts
from segcli.export.runtimes import Runtime
from segcli.layers.masks import DenseMasks, ProductMasks
from segcli.types import Batch, Masks, QueryPredictions

_CLOSED = "{}: an exported model shows nothing from inside and cannot be trained; use the model it was made from"


class ExportedNetwork(nn.Module):
    """Answers like a Segmenter in evaluation; it cannot be trained and shows nothing from inside."""

    def __init__(self, runtime: Runtime, facts: ExportFacts, name: str, classes: int, files: Sequence[Path]) -> None:
        """classes: how many the folder's config.json names. files: the graph's own, by which its weights are known.

        Raises CheckpointError for a graph with other inputs or outputs than segcli gives one.
        """
        super().__init__()
        halves = (EMBEDDINGS in runtime.outputs) != (FEATURES in runtime.outputs)
        if not {IMAGES} <= set(runtime.inputs) <= {IMAGES, PADDING} or CLASSES not in runtime.outputs or halves:
            raise CheckpointError(
                f"{name}: the inputs or outputs of its graph are not segcli's; export the model again"
            )
        self.runtime, self.facts, self.name, self.classes, self.files = runtime, facts, name, classes, files

    def __getattr__(self, name: str) -> Any:
        """Raises UsageError for the parts of a Segmenter, which views of its inside ask for."""
        if name in ("backbone", "pixel_decoder", "query_decoder", "head"):
            raise UsageError(_CLOSED.format(self.name))
        return super().__getattr__(name)

    def forward(self, batch: Batch, every_layer: bool = False) -> list[QueryPredictions]:
        """-> one prediction, of the last layer.

        Raises InputError for a size the graph does not take, UsageError where the predictions of every layer are asked
        for.
        """
        if every_layer:
            raise UsageError(_CLOSED.format(self.name))
        self._check_size((batch.images.shape[2], batch.images.shape[3]))
        images, padding = _array(batch.images.float()), _array(batch.padding)
        count = len(images)
        step = self.facts.batch or count
        parts = []
        for start in range(0, count, step):
            inputs = {IMAGES: _filled(images[start : start + step], step)}
            if PADDING in self.runtime.inputs:
                inputs[PADDING] = _filled(padding[start : start + step], step)
            parts.append(self._run(inputs))
        joined = {name: np.concatenate([part[name] for part in parts])[:count] for name in self.runtime.outputs}
        return [prediction_of(joined)]

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises CheckpointError where the graph refuses its input, or answers for other classes than were promised."""
        try:
            outputs = self.runtime.run(inputs)
        except Exception as error:  # ONNX Runtime's have no common base
            reason = (str(error).strip().splitlines() or ["?"])[-1][:160]
            if isinstance(error, MemoryError) or "alloc" in reason:
                raise MemoryError(reason) from error
            raise CheckpointError(f"{self.name}: its graph cannot be run ({reason}); export the model again") from error
        self._check(outputs, len(inputs[IMAGES]))
        return outputs

    def _check(self, outputs: dict[str, np.ndarray], batch: int) -> None:
        """Raises CheckpointError for answers of other shapes than the contract's, which a damaged graph may give."""
        found = outputs[CLASSES].shape[-1] - 1 if outputs[CLASSES].ndim else 0
        if found != self.classes:
            raise CheckpointError(
                f"{self.name}: its graph has {found} classes, its config.json {self.classes}; export the model again"
            )
        queries, width = (outputs[name].shape[1:2] for name in (CLASSES, FEATURES if FEATURES in outputs else CLASSES))
        for name, shape in {  # None: any number above 0
            CLASSES: (batch, None, found + 1),
            EMBEDDINGS: (batch, *queries, *width),
            FEATURES: (batch, *width, None, None),
            MASKS: (batch, *queries, None, None),
            BOXES: (batch, *queries, 4),
        }.items():
            if name in outputs and not (outputs[name].dtype.kind == "f" and _fits(outputs[name].shape, shape)):
                raise CheckpointError(
                    f"{self.name}: its graph's {name} are {outputs[name].dtype} {list(outputs[name].shape)}, which do "
                    "not fit its other answers; export the model again"
                )
            with np.errstate(all="ignore"):
                finite = name not in outputs or np.isfinite(outputs[name].sum(dtype=np.float32))
            if not finite:
                remedy = "export it again" if self.facts.dtype == "fp32" else "export it again with --dtype fp32"
                raise CheckpointError(f"{self.name}: its graph's {name} hold NaN or infinite values; {remedy}")

    def _check_size(self, size: tuple[int, int]) -> None:
        fixed = self.facts.size
        if fixed is not None and size != fixed:
            raise InputError(
                f"{self.name} takes {fixed[0]}×{fixed[1]} pixels (height × width), this photo becomes "
                f"{size[0]}×{size[1]}; export the model again with --size {size[0]}x{size[1]}, or without --size for "
                "photos of every size"
            )
        if size[0] % WHOLE or size[1] % WHOLE:
            raise InputError(f"{self.name} takes multiples of {WHOLE} pixels, not {size[0]}×{size[1]}")


def prediction_of(arrays: Mapping[str, np.ndarray]) -> QueryPredictions:
    """A graph's outputs by name, as the network would have answered."""
    outputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return QueryPredictions(outputs[CLASSES], _masks(outputs), outputs.get(BOXES))


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(
        side == wish if wish else side > 0 for side, wish in zip(found, wanted, strict=True)
    )


def _masks(outputs: dict[str, Tensor]) -> Masks | None:
    if FEATURES in outputs:
        return ProductMasks(outputs[EMBEDDINGS], outputs[FEATURES])
    return DenseMasks(outputs[MASKS]) if MASKS in outputs else None


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _filled(images: np.ndarray, count: int) -> np.ndarray:
    """As many images as the graph takes at a time; what is too few is filled up with zeros."""
    if len(images) == count:
        return images
    return np.concatenate([images, np.zeros((count - len(images), *images.shape[1:]), images.dtype)])
