"""`segcli.Predictor`: a picklable callable over batches of rows, for engines that bring their own parallelism.

Ray Data `map_batches`, Spark `predict_batch_udf` and `datasets.map` copy it to their workers and hand it columns.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.codecs.depth import Levels
from segcli.codecs.image import MAX_PIXELS, from_pillow, read_image
from segcli.errors import InputError
from segcli.inference.predict import forward, resolve
from segcli.inference.stream import Read, segment_all
from segcli.results.record import mask_records
from segcli.types import Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel


class Predictor:
    """Columns in, columns out; the model is loaded at the first call, in the process that makes it.

        predictor = Predictor("everyday", "panoptic")
        predictor({"image": ["a.jpg", open("b.jpg", "rb").read()]})["segments"][0]

    Args:
        model: as --model. task, device, dtype: as the options of that name.
        image: the column with the pictures: paths, encoded bytes, uint8 arrays [H, W, 3] RGB, Pillow images, or
            {"bytes": …, "path": …} as `datasets` stores them.
        batch_size: images of one padded size that share a forward pass.
        masks: give each segment its mask as COCO's run-length code.
        threads: CPU threads; None leaves torch's own setting.
        options: as `segcli.predict`: threshold, short_side, tile, …
    """

    def __init__(
        self,
        model: str,
        task: Task | None = None,
        *,
        image: str = "image",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 1,
        masks: bool = True,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> None:
        self.model, self.task, self.image = model, task, image
        self.device, self.dtype, self.batch_size = device, dtype, batch_size
        self.masks, self.threads, self.max_pixels, self.options = masks, threads, max_pixels, options
        self._loaded: LoadedModel | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the model: every process loads its own, from one file that they map together."""
        return self.__dict__ | {"_loaded": None}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The other columns of a batch, and four more, with one entry per image each.

        segments: a list of {"id", "category_id", "category_name", "score", "area", "bbox", "isthing"} and, with
        `masks`, "segmentation". height, width: of the image. error: why it has no segments, or None: an image that
        cannot be read affects its own row only. Raises InputError if the column is not there.
        """
        if not isinstance(batch, Mapping):
            raise InputError(
                f"a batch is a mapping of columns, such as {{{self.image!r}: [photo]}}, not {type(batch).__name__}"
            )
        if self.image not in batch:
            raise InputError(f"the batch has no column {self.image!r}; there are {', '.join(map(str, batch))}")
        loaded = self._load()
        settings = resolve(loaded.spec, self.task, **self.options)
        stream = segment_all(
            range(len(batch[self.image])),
            lambda number: Read(self._read(batch[self.image][number], number, loaded.spec.levels), None),
            lambda inputs: forward(loaded, inputs),
            [settings],
            batch_size=self.batch_size,
            name=lambda number: f"row {number}",
        )
        made: dict[str, list[Any]] = {"segments": [], "height": [], "width": [], "error": []}
        for outcome in stream:
            found = outcome.results[0] if outcome.error is None else None
            made["segments"].append([] if found is None else mask_records(found, masks=self.masks))
            made["height"].append(found.size[0] if found else None)
            made["width"].append(found.size[1] if found else None)
            made["error"].append(None if outcome.error is None else str(outcome.error))
        return {name: column for name, column in batch.items() if name != self.image} | made

    def _load(self) -> LoadedModel:
        if self._loaded is None:
            import torch

            from segcli.weights.checkpoint import load_model

            if self.threads:
                torch.set_num_threads(self.threads)
            self._loaded = load_model(self.model, self.device, self.dtype)
        return self._loaded

    def _read(self, value: Any, number: int, levels: Levels | None) -> np.ndarray:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if hasattr(value, "convert"):  # Pillow
            value = from_pillow(value, levels)
        if isinstance(value, np.ndarray) and value.ndim == 3:
            if value.dtype != np.uint8 or value.shape[2] != 3:
                raise InputError(f"row {number}: {value.dtype} {list(value.shape)}; give uint8 [H, W, 3], RGB")
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return read_image(bytes(value), name=f"row {number}", max_pixels=self.max_pixels, levels=levels)
        if isinstance(value, str | Path):
            return read_image(Path(value), name=str(value), max_pixels=self.max_pixels, levels=levels)
        if isinstance(value, io.BytesIO):
            return read_image(value.getvalue(), name=f"row {number}", max_pixels=self.max_pixels, levels=levels)
        raise InputError(f"row {number}: a {type(value).__name__}; give a path, bytes or a uint8 array [H, W, 3], RGB")
