"""Augmentation: every transform is a `Window` drawn at random, so that image, masks and boxes cannot part.

The published recipes: large-scale jitter with a crop of fixed size (COCO), a random short side with a crop that no
class may fill (ADE20K, Cityscapes), mirroring, and the colour jitter of SSD. Only the part of the image and of the
masks that a window shows is ever resized.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from segcli.codecs.opencv import opencv
from segcli.data.dataset import Sample
from segcli.data.truth import Truth, Window
from segcli.types import InputSize

LEAST = 0.1  # share of a drawn object's pixels below which it is no target any more, where pictures are put together


@dataclass(frozen=True, eq=False)
class Example:
    """What the network sees of an image, before padding."""

    image: np.ndarray  # uint8 [h, w, 3]
    masks: np.ndarray  # bool [N, h, w], none of them empty
    labels: np.ndarray  # int64 [N]
    boxes: np.ndarray  # float32 [N, 4] cxcywh of the masks, relative to (w, h)
    crowd: np.ndarray  # bool [N]
    file: Path
    image_id: str


class Geometry(Protocol):
    """Draws where to look."""

    def draw(self, truth: Truth, rng: np.random.Generator) -> Window: ...


class Transform(Protocol):
    """Sample -> Example. Picklable; all randomness comes from the generator."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example: ...


@dataclass(frozen=True)
class JitterCrop:
    """Large-scale jitter: resize by a random factor, then cut out a window of fixed size.

    The factor is relative to the size at which the image just fits the crop (the published recipe), unless `native` or
    `prediction` say otherwise.
    """

    size: tuple[int, int]  # (h, w) of the crop; an image that became smaller is padded by the batch, not here
    scale: tuple[float, float] = (0.1, 2.0)  # range of the factor
    native: bool = False  # relative to the image's own size: objects of a known size in pixels, such as cells
    prediction: InputSize | None = None  # relative to the size in prediction, of whole images or of tiles

    def draw(self, truth: Truth, rng: np.random.Generator) -> Window:
        """A window of at most `size`."""
        height, width = truth.size
        factor = rng.uniform(*self.scale)
        if self.prediction is not None:
            tile = self.prediction.tile_of(truth.size) or max(height, width)
            seen = min(height, tile), min(width, tile)
            factor *= min(self.prediction.short / min(seen), self.prediction.long / max(seen))
        elif not self.native:
            factor *= min(self.size[0] / height, self.size[1] / width)
        resized = (max(1, round(height * factor)), max(1, round(width * factor)))
        return _random_window(resized, self.size, rng)


@dataclass(frozen=True)
class ShortSideCrop:
    """Resize the short side to one of `shorts`, the long one to `long` at most; then cut out a window of fixed size."""

    size: tuple[int, int]  # (h, w) of the crop
    shorts: tuple[int, ...]
    long: int = 2048
    # Draw again, ten times at most, while one class fills more than this share of the crop's known pixels, or is alone
    # in it. 1: take the first crop (as published for Mask2Former).
    class_limit: float = 0.75

    def draw(self, truth: Truth, rng: np.random.Generator) -> Window:
        """A window of at most `size`."""
        height, width = truth.size
        factor = int(rng.choice(self.shorts)) / min(height, width)
        factor = min(factor, self.long / max(height, width))
        resized = (max(1, round(height * factor)), max(1, round(width * factor)))
        for _ in range(10):
            window = _random_window(resized, self.size, rng)
            if self.class_limit >= 1 or self._is_mixed(truth, window):
                break
        return window

    def _is_mixed(self, truth: Truth, window: Window) -> bool:
        areas = np.bincount(truth.labels, weights=truth.areas(window)) if len(truth.labels) else np.zeros(1)
        return bool(np.count_nonzero(areas) > 1 and areas.max() < self.class_limit * areas.sum())


def _random_window(resized: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> Window:
    height, width = min(size[0], resized[0]), min(size[1], resized[1])
    top, left = int(rng.integers(resized[0] - height + 1)), int(rng.integers(resized[1] - width + 1))
    return Window(resized, top, left, (height, width))


@dataclass(frozen=True)
class ColorJitter:
    """SSD's photometric distortion: brightness, contrast, saturation and hue, each with probability 0.5.

    By tables of 256 entries: torchvision's functions compute every pixel, and take 14 to 38 times as long. They also
    mean something else: brightness is a factor there and not a shift, contrast pulls towards the mean and not to 0.
    """

    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 18.0  # degrees

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 RGB [h, w, 3] -> the same, in other colours. Nine draws, whatever they decide."""
        cv2 = opencv()
        chance, amount = rng.random(4) < 0.5, rng.uniform(-1, 1, 4)
        contrast_last = rng.random() < 0.5
        shift = amount[0] * self.brightness * chance[0]
        factor = 1 + amount[1] * self.contrast * chance[1]
        levels = np.arange(256)
        before = levels + shift if contrast_last else (levels + shift) * factor
        image = cv2.LUT(image, before.clip(0, 255).round().astype(np.uint8))
        if chance[2] or chance[3]:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hue = (levels[:180] + round(amount[3] * self.hue / 2 * chance[3])) % 180  # OpenCV's hue has 180 steps
            table = np.stack(
                [
                    np.concatenate([hue, np.zeros(76, dtype=np.int64)]),
                    (levels * (1 + amount[2] * self.saturation * chance[2])).clip(0, 255).round(),
                    levels,
                ],
                axis=1,
            )
            image = cv2.cvtColor(cv2.LUT(hsv, table.astype(np.uint8)[None]), cv2.COLOR_HSV2RGB)
        if contrast_last:
            image = cv2.LUT(image, (levels * factor).clip(0, 255).round().astype(np.uint8))
        return image


@dataclass(frozen=True)
class TrainTransform:
    """Geometry, mirroring with probability `flip`, colours.

    Crowd regions are no targets and are left out, as published; so are objects that lost every pixel.
    """

    geometry: Geometry
    flip: float = 0.5
    color: ColorJitter | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        """Draw a window and cut it out."""
        window = self.geometry.draw(sample.truth, rng)
        if rng.random() < self.flip:
            window = Window(window.resized, window.top, window.left, window.size, flip=True)
        example = cut(sample, window, crowd=False)
        if self.color is None:
            return example
        image = self.color(example.image, rng)
        return Example(
            image, example.masks, example.labels, example.boxes, example.crowd, example.file, example.image_id
        )


@dataclass(frozen=True)
class ValTransform:
    """The whole image at the test size. resized: (H, W) -> (h, w), the rule that prediction uses."""

    resized: Callable[[tuple[int, int]], tuple[int, int]]

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Example:
        """Nothing is random here; crowd regions stay and are marked."""
        return cut(sample, Window.whole(self.resized(sample.size)))


def cut(sample: Sample, window: Window, *, crowd: bool = True) -> Example:
    """The part of a sample that a window shows. crowd: keep crowd regions."""
    index, masks = sample.truth.crop(window)
    if not crowd and sample.crowd[index].any():
        kept = ~sample.crowd[index]
        index, masks = index[kept], masks[kept]
    return Example(
        cut_image(sample.image, window),
        masks,
        sample.labels[index],
        boxes_of(masks),
        sample.crowd[index],
        sample.file,
        sample.image_id,
    )


def cut_image(image: np.ndarray, window: Window) -> np.ndarray:
    """The window of the image resized as a whole (Pillow's antialiased bilinear), at the cost of the window.

    torchvision either resizes the whole image first, which costs the whole image, or cuts to whole pixels first, and
    then its window is off by up to a pixel.
    """
    from PIL import Image

    original = image.shape[:2]
    scale_y, scale_x = original[0] / window.resized[0], original[1] / window.resized[1]
    top, bottom = window.top * scale_y, (window.top + window.size[0]) * scale_y
    left, right = window.left * scale_x, (window.left + window.size[1]) * scale_x
    # The filter reads one (scaled) pixel beyond the window.
    reach_y, reach_x = math.ceil(max(1, scale_y)) + 1, math.ceil(max(1, scale_x)) + 1
    y0, x0 = max(0, math.floor(top) - reach_y), max(0, math.floor(left) - reach_x)
    part = image[y0 : math.ceil(bottom) + reach_y, x0 : math.ceil(right) + reach_x]
    box = (left - x0, top - y0, min(right - x0, part.shape[1]), min(bottom - y0, part.shape[0]))
    picture = Image.fromarray(np.ascontiguousarray(part))
    pixels = np.asarray(picture.resize(window.size[::-1], Image.Resampling.BILINEAR, box=box))
    return (pixels[:, ::-1] if window.flip else pixels).copy()


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """bool [N, h, w], none of them empty -> float32 [N, 4] tight boxes cxcywh, relative to (w, h)."""
    count, height, width = masks.shape
    if not count:
        return np.zeros((0, 4), dtype=np.float32)
    columns, rows = np.asarray(masks.any(axis=1)), np.asarray(masks.any(axis=2))
    x0, y0 = columns.argmax(axis=1), rows.argmax(axis=1)
    x1, y1 = width - columns[:, ::-1].argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)
    boxes = np.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height], axis=1)
    return boxes.astype(np.float32)
