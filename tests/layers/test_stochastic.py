"""Stochastic depth: decided for the image, not for its place in a batch."""

from __future__ import annotations

import torch

from segcli.layers.stochastic import drop_path, per_image


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_same_image_is_dropped_in_any_company() -> None:
    x = torch.ones(4, 3, 2)
    with per_image(_generators(1, 2, 3, 4)):
        together = [drop_path(x, 0.5) for _ in range(8)]
    with per_image(_generators(3, 1)):
        apart = [drop_path(x[:2], 0.5) for _ in range(8)]
    for whole, part in zip(together, apart, strict=True):
        assert torch.equal(part, whole[[2, 0]])


def test_what_is_kept_is_scaled_so_that_the_mean_stays() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(20_000, 1), 0.25)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(float(dropped.mean()) - 1) < 0.02
