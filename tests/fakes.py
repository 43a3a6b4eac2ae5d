"""A network small enough to read: its answer depends on the photo alone, so that order and batching can be seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.codecs.rle import RLE, encode
from segcli.config import ModelConfig
from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.files.image_ref import ImageRef
from segcli.layers.masks import DenseMasks
from segcli.types import (
    Batch,
    CocoObjects,
    InferenceSpec,
    InputSize,
    Label,
    LabelSet,
    MergeRule,
    QueryPredictions,
    Task,
)

LABELS = LabelSet((Label(3, "red", True), Label(7, "green", True), Label(9, "dark", False)))
TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")


class ColourNetwork(nn.Module):
    """Four queries: the red pixels, the green pixels, the dark pixels, and one that finds nothing.

    The first three are certain of their class (logit 6), the mask logits are how red, green or dark a pixel is.
    """

    def __init__(self, confidence: float = 6.0) -> None:
        super().__init__()
        self.confidence = nn.Parameter(torch.tensor(confidence))

    def forward(self, batch: Batch, every_layer: bool = False) -> list[QueryPredictions]:
        pixels: Tensor = F.avg_pool2d(batch.images, 4)  # [B, 3, H/4, W/4]
        red, green, blue = pixels.unbind(1)
        dark = -(red + green + blue) - 2
        masks = torch.stack([red - green - 1, green - red - 1, dark, torch.full_like(red, -9.0)], dim=1)
        classes = torch.zeros(len(pixels), 4, len(LABELS) + 1)
        for query in range(4):
            classes[:, query, query] = self.confidence
        return [QueryPredictions(classes, DenseMasks(20 * masks))]


@dataclass
class FakeLoaded:
    """What the engine uses of a LoadedModel."""

    model: nn.Module = field(default_factory=ColourNetwork)
    spec: InferenceSpec = field(
        default_factory=lambda: InferenceSpec(
            TASKS, LABELS, InputSize(64, 96, 32), MergeRule(), (127.5,) * 3, (127.5,) * 3
        )
    )
    config: ModelConfig = field(default_factory=lambda: Mask2FormerConfig(EfficientNetLiteConfig(), len(LABELS)))
    name: str = "fake"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    facts: dict[str, Any] = field(default_factory=lambda: {"source": "local", "device_reason": "cpu, as asked"})
    ref: str = "models/fake"
    place: str = "cpu"
    precision: str = "fp32"

    @property
    def labels(self) -> LabelSet:
        """As LoadedModel has it."""
        return self.spec.labels

    def with_tasks(self, *tasks: Task) -> FakeLoaded:
        """The same network, for other tasks."""
        return replace(self, spec=replace(self.spec, tasks=tasks))


@dataclass
class Picture:
    """The truth of one image, as metrics ask for it, from masks [N, H, W] and a map of void pixels.

    In the map the last object wins, and a crowd region shows only where there is no object.
    """

    image_id: str
    masks: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    void: np.ndarray | None = None
    stated: CocoObjects | None = None

    @property
    def size(self) -> tuple[int, int]:
        return (self.masks.shape[1], self.masks.shape[2])

    @property
    def rles(self) -> list[RLE]:
        return [encode(mask) for mask in self.masks]

    def id_map(self) -> np.ndarray:
        count = len(self.labels)
        rank = np.where(self.crowd, 0, count) + np.arange(1, count + 1)
        top = (self.masks * rank[:, None, None]).max(axis=0, initial=0)
        ids = np.where(top > 0, (top - 1) % max(count, 1) + 1, 0)
        return ids if self.void is None else np.where(self.void, 0, ids)


@dataclass(frozen=True)
class BytesRef(ImageRef):
    """A picture in memory."""

    data: bytes

    @property
    def place(self) -> Path:
        return Path("picture")

    @property
    def file(self) -> Path:
        return Path("picture")

    def read(self) -> bytes:
        return self.data
