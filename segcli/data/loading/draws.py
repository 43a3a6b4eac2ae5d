"""Randomness by counter: every draw is a function of (seed, step, image, purpose), never of what was drawn before.

So a resumed run, any number of workers or ranks, and accumulation instead of a larger batch see the same draws.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key(seed: int, step: int, image_id: str, purpose: str) -> int:
    """The 128-bit key of a draw."""
    text = f"{seed}\0{step}\0{image_id}\0{purpose}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, step: int, image_id: str, purpose: str) -> np.random.Generator:
    """A fresh numpy generator for one purpose ("augment", "order", …) on one image in one step."""
    return np.random.Generator(np.random.Philox(key=key(seed, step, image_id, purpose)))


def torch_generator(seed: int, step: int, image_id: str, purpose: str) -> torch.Generator:
    """The same for torch, on the CPU: draws made there and moved are equal on every device."""
    import torch

    return torch.Generator().manual_seed(key(seed, step, image_id, purpose) & (2**63 - 1))
