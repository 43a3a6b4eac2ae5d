"""Reference outputs of published checkpoints for one photo, to check that a model computes what its authors' did.

They were taken the way of each Hub processor, which for Mask2Former squashes the photo to 384 x 384. segcli predicts
otherwise, which does not matter here: the network is the same function.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from segcli.types import QueryPredictions
    from segcli.weights.checkpoint import LoadedModel


@dataclass(frozen=True)
class GoldenPhoto:
    """The photo the values belong to."""

    name: str
    url: str
    sha256: str

    def is_in(self, path: Path) -> bool:
        """Whether a file holds exactly this photo."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


@dataclass(frozen=True)
class Golden:
    """The values known of one model; those that are not known are None.

    size: height and width that the photo was brought to. framed: those of what the network was given, black but for
    the photo at its top left; None: the photo alone.
    classes, masks: logits of the first 3 queries for the first classes; of the first query's first 3 x 3 pixels.
    boxes: the first 3 queries' centre and width (the source leaves the height out), relative to the photo.
    scores: segments found, as (class name, score), the best of a class first.
    tolerance: absolute, and relative to each expected value, added.
    """

    source: str
    tolerance: float
    size: tuple[int, int] = (384, 384)
    framed: tuple[int, int] | None = None
    classes: Sequence[Sequence[float]] | None = None
    masks: Sequence[Sequence[float]] | None = None
    boxes: Sequence[Sequence[float]] | None = None
    scores: Sequence[tuple[str, float]] | None = None


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference, and whether each value was within the tolerance."""

    what: str
    difference: float
    passed: bool


def photo() -> GoldenPhoto:
    """The one photo all golden values were taken on."""
    return GoldenPhoto(**_file()["photo"])


def golden_values() -> dict[str, Golden]:
    """The reference values, by the name of the model in weights.toml."""
    return {name: Golden(**values) for name, values in _file()["models"].items()}


@cache
def _file() -> Any:
    return json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))


def check(loaded: LoadedModel, image: np.ndarray, golden: Golden) -> list[Check]:
    """Run the model on the golden photo, uint8 RGB [H, W, 3], and compare all its reference values."""
    prediction = _predict(loaded, image, golden)
    classes = prediction.classes[0].float()  # [Q, K + 1]
    checks = []
    if golden.classes is not None:
        known = classes[: len(golden.classes), : len(golden.classes[0])]
        checks.append(_compare("class logits", known.tolist(), golden.classes, golden.tolerance))
    if golden.masks is not None and prediction.masks is not None:
        logits = prediction.masks.dense()[0, 0, :3, :3].float()
        checks.append(_compare("mask logits", logits.tolist(), golden.masks, golden.tolerance))
    if golden.boxes is not None and prediction.boxes is not None:
        boxes = prediction.boxes[0, : len(golden.boxes), : len(golden.boxes[0])].float()
        checks.append(_compare("boxes", boxes.tolist(), golden.boxes, golden.tolerance))
    if golden.scores is not None:
        probabilities = classes.softmax(-1)
        for name in dict.fromkeys(name for name, _ in golden.scores):
            expected = [score for other, score in golden.scores if other == name]
            best = probabilities[:, loaded.labels.names.index(name)].sort(descending=True).values[: len(expected)]
            checks.append(_compare(f"scores of {name}", [best.tolist()], [expected], golden.tolerance))
    return checks


def _predict(loaded: LoadedModel, image: np.ndarray, golden: Golden) -> QueryPredictions:
    import torch

    from segcli.codecs.image import resize
    from segcli.types import Batch

    height, width = golden.size
    whole = golden.framed or golden.size
    pixels = torch.zeros(3, *whole)
    pixels[:, :height, :width] = torch.from_numpy(resize(image, (height, width)).copy()).permute(2, 0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (loaded.spec.mean, loaded.spec.std))
    batch = Batch(
        images=((pixels - mean) / std)[None].to(loaded.device, loaded.dtype),
        padding=torch.zeros(1, *whole, dtype=torch.bool, device=loaded.device),
        sizes=[whole],
    )
    with torch.inference_mode():
        prediction: QueryPredictions = loaded.model(batch)[-1]
    return prediction


def _compare(what: str, got: Sequence[Sequence[float]], expected: Sequence[Sequence[float]], tolerance: float) -> Check:
    pairs = [(a, b) for row, known in zip(got, expected, strict=True) for a, b in zip(row, known, strict=True)]
    return Check(
        what,
        difference=max(abs(a - b) for a, b in pairs),
        passed=all(abs(a - b) <= tolerance * (1 + abs(b)) for a, b in pairs),  # NaN passes nothing
    )
