"""Whether an exported graph answers as PyTorch does in fp32: logits, mask bits, and the segments themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segcli.inference.predict import PredictSettings, choose_task, forward, segment, segment_tiles
from segcli.inference.preprocess import Prepared, prepare
from segcli.segments import Segments
from segcli.types import QueryPredictions, Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

PHOTOS = Path(__file__).with_name("photos")


@dataclass(frozen=True)
class Tolerances:
    """What an export may differ by."""

    logits: float  # greatest difference of a class logit or box, as a share of the greatest value
    bits: float  # least share of mask bits (logit above 0) that agree
    segments: float  # least mean IoU of the segments with their counterparts, counting 0 for those without

    def in_words(self) -> str:
        """For a person."""
        logits = f"logits within {self.logits:g}, " if np.isfinite(self.logits) else ""
        return f"{logits}mask bits ≥ {100 * self.bits:g} %, segments ≥ {self.segments:g}"


# Masked attention turns a rounding difference into a flipped bit, and one flipped bit moves the class logits of its
# query by up to 2e-3 (facade, a photo of a cat) while every segment stays: hence a limit of ten times that. An export
# that is wrong is off by 0.1 and more. A quantised network is judged by its metric; its limits catch a broken one.
LIMITS = {
    "fp32": Tolerances(2e-2, 0.999, 0.97),
    "fp16": Tolerances(float("inf"), 0.99, 0.85),
    "int8": Tolerances(float("inf"), 0.95, 0.5),
}


@dataclass(frozen=True)
class PhotoAgreement:
    """One photo, answered by both."""

    photo: str
    logits: float  # greatest difference of class logits and boxes, as a share of the greatest
    masks: float  # the same of mask logits; 0 for a model without
    bits: float  # share of mask bits that agree
    count: int  # segments PyTorch finds
    found: int  # segments the export finds
    iou: float  # mean IoU of matched segments of one class, 0 for those without a counterpart; 1 if there are none
    score: float  # greatest difference of scores of matched segments

    def within(self, limits: Tolerances) -> bool:
        """Whether it is as it should be."""
        return self.logits <= limits.logits and self.bits >= limits.bits and self.iou >= limits.segments


@dataclass(frozen=True)
class Agreement:
    """What verify.json says."""

    dtype: str
    task: Task
    limits: Tolerances
    photos: tuple[PhotoAgreement, ...]

    @property
    def passed(self) -> bool:
        return all(photo.within(self.limits) for photo in self.photos)

    def to_table(self) -> dict[str, Any]:
        """As plain JSON."""
        limits = {key: value for key, value in asdict(self.limits).items() if np.isfinite(value)}
        return {
            "compared with": "PyTorch, fp32",
            "dtype": self.dtype,
            "task": self.task,
            "passed": self.passed,
            "limits": limits,
            "photos": [asdict(photo) for photo in self.photos],
        }


def own_photos() -> list[Path]:
    """The photos that come with segcli."""
    return sorted(PHOTOS.glob("*.jpg"))


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a photo [H, W, 3], of the shape (height, width) that a graph of a fixed size takes."""
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    h, w = (min(side, round(wanted * scale)) for side, wanted in zip((height, width), size, strict=True))
    top, left = (height - h) // 2, (width - w) // 2
    return image[top : top + h, left : left + w]


def compare(
    reference: LoadedModel, exported: LoadedModel, photos: Sequence[tuple[str, np.ndarray]]
) -> Iterator[PhotoAgreement]:
    """Predict each photo, a name and uint8 [H, W, 3] RGB, with both models, by the export's protocol.

    reference: the model in PyTorch and fp32.
    """
    settings = PredictSettings(choose_task(exported.spec, None), exported.spec)
    for name, image in photos:
        yield _compare(reference, exported, image, name, settings)


def _compare(
    reference: LoadedModel, exported: LoadedModel, image: np.ndarray, name: str, settings: PredictSettings
) -> PhotoAgreement:
    kept: list[QueryPredictions] = []  # the export's answers, in the order of the tiles
    differences: list[tuple[float, float, float]] = []

    def both(images: Sequence[Prepared]) -> QueryPredictions:
        mine, theirs = forward(reference, images), forward(exported, images)
        kept.append(theirs)
        differences.append(_differences(mine, theirs))
        return mine

    if settings.spec.size.tile is not None:
        [mine] = segment_tiles(both, image, [settings])
        answers = iter(kept)
        [theirs] = segment_tiles(lambda images: next(answers), image, [settings])
    else:
        prepared = prepare(image, settings.spec)
        mine = segment(both([prepared]), 0, prepared, settings)
        theirs = segment(kept[0], 0, prepared, settings)
    logits, masks, bits = (np.array(values) for values in zip(*differences, strict=True))
    iou, score = match(mine, theirs)
    return PhotoAgreement(
        name, float(logits.max()), float(masks.max()), float(bits.mean()), len(mine), len(theirs), iou, score
    )


@torch.inference_mode()
def _differences(mine: QueryPredictions, theirs: QueryPredictions) -> tuple[float, float, float]:
    """Of logits and boxes, of mask logits, and the share of mask bits that agree."""
    logits = _relative(mine.classes, theirs.classes)
    if mine.boxes is not None and theirs.boxes is not None:
        logits = max(logits, _relative(mine.boxes, theirs.boxes))
    if mine.masks is None or theirs.masks is None:
        return logits, 0.0, 1.0
    left, right = mine.masks.dense(), theirs.masks.dense()
    return logits, _relative(left, right), float(((left > 0) == (right > 0)).float().mean())


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Greatest difference as a share of the greatest value; NaN passes nothing."""
    return float((one.float() - other.float()).abs().max() / one.float().abs().max().clamp_min(1e-12))


def match(mine: Segments, theirs: Segments) -> tuple[float, float]:
    """-> the mean IoU of segments with their best counterparts of the same class, and the greatest difference of their
    scores. What either side has alone counts as IoU 0.
    """
    count = max(len(mine), len(theirs))
    if not count:
        return 1.0, 0.0
    left, right = mine.to_rles(), theirs.to_rles()
    pairs = []
    for i, rle in enumerate(left):
        same = np.flatnonzero(theirs.labels == mine.labels[i])
        common = rle.common([right[j] for j in same.tolist()])
        for j, shared in zip(same.tolist(), common.tolist(), strict=True):
            if shared:
                pairs.append((shared / (rle.area + right[j].area - shared), i, j))
    used: tuple[set[int], set[int]] = (set(), set())
    total, score = 0.0, 0.0
    for iou, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if i in used[0] or j in used[1]:
            continue
        used[0].add(i)
        used[1].add(j)
        total += iou
        difference = abs(float(mine.scores[i]) - float(theirs.scores[j]))
        score = max(score, 0.0 if np.isnan(difference) else difference)  # semantic segments have no scores
    return total / count, score


def as_exported(reference: LoadedModel, exported: LoadedModel) -> LoadedModel:
    """The model in PyTorch under the protocol of its export, which may have a size of its own."""
    return dataclasses.replace(reference, spec=exported.spec)
