"""Feature maps of a network for one photo as three colours, and where deformable attention reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segcli.errors import CheckpointError, UsageError
from segcli.inspection.views.photo import OpenedPhoto, batch_of, looking, share_of
from segcli.layers.masks import ProductMasks
from segcli.layers.trace import record
from segcli.models.heads import projected_features
from segcli.render.views.features import FeatureMap, Samples
from segcli.types import Frame, PixelFeatures
from segcli.weights.checkpoint import LoadedModel

_CLIPPED = 0.01  # of the values at each end of a component: outliers would leave the rest grey


def feature_maps(
    loaded: LoadedModel, photo: OpenedPhoto, at: tuple[float, float] | None = None
) -> tuple[list[FeatureMap], list[Samples]]:
    """The backbone's pyramid, the pixel decoder's levels and the mask features; and of the pixel `at`, what the
    last layer of deformable attention reads for it, one entry a level (none without `at`).

    Args:
        at: (x, y) in pixels of the photo.

    Raises:
        UsageError: `at` is outside the photo, or the pixel decoder has no deformable attention.
        CheckpointError: the features are not finite.
    """
    height, width = photo.image.shape[:2]
    if at is not None and not (0 <= at[0] < width and 0 <= at[1] < height):
        raise UsageError(f"--at {at[0]:g},{at[1]:g}: outside of {photo.path}, which is {width}×{height} pixels")
    prepared = photo.prepared(loaded)
    model = loaded.model
    names = () if at is None else ("sampling", "sampling_weights")
    with looking(photo.path), record(*names) as trace:
        batch = batch_of(loaded, prepared)
        pyramid: list[Tensor] = model.backbone(batch.images)
        pixels: PixelFeatures = model.pixel_decoder(pyramid, batch.padding)
        if not all(bool(torch.isfinite(level).all()) for level in (*pyramid, *pixels.memory)):
            raise CheckpointError(f"{loaded.name}: the network's features are NaN or infinite; its weights are damaged")
        if at is not None and not trace["sampling"]:
            raise UsageError(f"--at: the pixel decoder of {loaded.name} has no deformable attention, so no points")
        maps = _maps(pyramid[: len(model.backbone.channels)], pixels, prepared.frame)
        if pixels.mask_features is None:  # those of the last layer, where they change from layer to layer
            masks = model.query_decoder(pixels, model.head)[-1].masks
            if isinstance(masks, ProductMasks):
                maps += _map("mask features", [masks.features], share_of(prepared.frame), prepared.frame)
        if at is None:
            return maps, []
        place = ((at[0] + 0.5) / width, (at[1] + 0.5) / height)
        shapes = [(int(level.shape[2]), int(level.shape[3])) for level in pixels.memory]
        last = (trace["sampling"][-1][0], trace["sampling_weights"][-1][0])
        return maps, samples_at(*last, shapes, prepared.frame, place)


def _maps(pyramid: Sequence[Tensor], pixels: PixelFeatures, frame: Frame) -> list[FeatureMap]:
    share = share_of(frame)
    maps = []
    for level in pyramid:
        maps.append(_map("backbone", [level], share, frame)[0])
    # One basis for all levels, which live in one space: the same colour is the same direction.
    maps += _map("pixel decoder", pixels.memory, share, frame)
    if pixels.mask_features is not None:
        maps += _map("mask features", [projected_features(pixels)], share, frame)
    return maps


def _map(part: str, levels: Sequence[Tensor], share: tuple[float, float], frame: Frame) -> list[FeatureMap]:
    """Maps [1, C, h, w] of one space -> one FeatureMap each, of the photo's part."""
    arrays, shares = [], []
    for level in levels:
        sides = [axis * s for axis, s in zip(level.shape[2:], share, strict=True)]  # of the photo, in cells
        rows, columns = (math.ceil(side) for side in sides)
        arrays.append(level[0, :, :rows, :columns].float().cpu().numpy())
        shares.append((sides[0] / rows, sides[1] / columns))
    colours, explained = principal_colours(arrays)
    return [
        FeatureMap(part, round(frame.padded[0] / level.shape[2]), level.shape[1], rgb, explained, covered)
        for level, rgb, covered in zip(levels, colours, shares, strict=True)
    ]


def principal_colours(maps: Sequence[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Maps [C, h, w] of one space -> the first three principal components of each as RGB, uint8 [h, w, 3], and the
    share of the variance that they hold. Every map weighs the same, whatever its size.

    A component's sign is the one that makes its largest channel positive, so that the same map has the same colours.
    """
    flat = [m.reshape(len(m), -1).astype(np.float64) for m in maps]
    mean = np.mean([m.mean(1) for m in flat], axis=0)
    centred = [m - mean[:, None] for m in flat]
    covariance = np.mean([m @ m.T / m.shape[1] for m in centred], axis=0)
    values, vectors = np.linalg.eigh(covariance)
    basis = vectors[:, ::-1][:, :3]
    basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])])
    total = float(values.clip(0).sum())
    explained = float(values[::-1][:3].clip(0).sum()) / total if total else 0.0
    components = [basis.T @ m for m in centred]
    every = np.concatenate(components, axis=1)
    low, high = np.quantile(every, (_CLIPPED, 1 - _CLIPPED), axis=1)
    colours = []
    for component, m in zip(components, maps, strict=True):
        scaled = (component - low[:, None]) / np.maximum(high - low, 1e-12)[:, None]
        rgb = np.zeros((3, component.shape[1]))
        rgb[: len(scaled)] = scaled.clip(0, 1)
        colours.append((rgb.T.reshape(*m.shape[1:], 3) * 255).round().astype(np.uint8))
    return colours, explained


def samples_at(
    sampling: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]], frame: Frame, place: tuple[float, float]
) -> list[Samples]:
    """What one layer of deformable attention reads for the positions of each level that hold a place of the photo.

    Args:
        sampling: [S, heads, levels · points, 2] in [0, 1] of the padded frame; weights: [S, heads, levels · points].
        shapes: (h, w) of the levels, in the order of the S positions.
        place: (x, y) in [0, 1] of the photo.
    """
    share = share_of(frame)
    result, first = [], 0
    for rows, columns in shapes:
        row, column = int(place[1] * share[0] * rows), int(place[0] * share[1] * columns)
        position = first + row * columns + column
        points = sampling[position].float().cpu().numpy() / np.array([share[1], share[0]], dtype=np.float32)
        part = weights[position].float().cpu().numpy()
        level = np.repeat(np.arange(len(shapes)), points.shape[1] // len(shapes))
        result.append(
            Samples(
                stride=round(frame.padded[0] / rows),
                cell=((column + 0.5) / columns / share[1], (row + 0.5) / rows / share[0]),
                points=points.reshape(-1, 2),
                weights=(part / len(part)).ravel(),
                levels=np.tile(level, len(points)),
                strides=tuple(round(frame.padded[0] / h) for h, _ in shapes),
            )
        )
        first += rows * columns
    return result
