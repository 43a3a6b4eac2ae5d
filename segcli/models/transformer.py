"""What DETR and its descendants share: a Transformer encoder over one map, and where the places of a map are."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.attention import Attention
from segcli.layers.linear import Linear
from segcli.layers.positions import padded_sine_positions, sine_positions
from segcli.layers.stochastic import dropout
from segcli.layers.trace import is_exporting


@dataclass(frozen=True)
class Places:
    """Positions of a map's places, [N, D] or [B, N, D], and which may be looked at, [B, 1, N] bool (None: all)."""

    positions: Tensor
    inside: Tensor | None

    @classmethod
    def of(cls, memory: Tensor, padding: Tensor | None = None) -> Places:
        """Of a map [B, D, h, w]. With padding [B, H, W] bool, positions are shares of the image, not of the padded
        frame, and places of padding are not looked at, as DETR has it; without, padding is a place like any other.
        """
        dim, (h, w) = memory.shape[1], memory.shape[2:]
        small = padded_places(memory, padding)
        if small is None:
            return cls(sine_positions(h, w, dim, memory.device, memory.dtype), None)
        return cls(padded_sine_positions(small, dim, memory.dtype), ~small.flatten(1)[:, None])


def padded_places(memory: Tensor, padding: Tensor | None) -> Tensor | None:
    """Which places of a map [B, D, h, w] are padding, [B, h, w] bool; None if there is none in [B, H, W]."""
    if padding is None or not (is_exporting() or bool(padding.any())):
        return None
    return F.interpolate(padding[:, None].float(), size=memory.shape[2:])[:, 0] > 0


class TransformerLayer(nn.Module):
    """Base of DETR's layers: residual branches with dropout, each followed by a norm, the last a feed-forward one."""

    def __init__(self, dim: int, feedforward: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.fc1 = Linear(dim, feedforward)
        self.fc2 = Linear(feedforward, dim)
        self.norm = nn.LayerNorm(dim)

    def dropped(self, x: Tensor) -> Tensor:
        """x in prediction; in training some of its numbers are zero."""
        return dropout(x, self.drop) if self.training and self.drop else x

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward part: [B, N, D] -> [B, N, D]."""
        return self.norm(x + self.dropped(self.fc2(self.dropped(self.fc1(x).relu_()))))


class EncoderLayer(TransformerLayer):
    """Self-attention of the places of a map, feed-forward."""

    def __init__(self, dim: int, num_heads: int, feedforward: int, drop: float) -> None:
        super().__init__(dim, feedforward, drop)
        self.attention = Attention(dim, num_heads, "encoder_attention")
        self.attention_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """x [B, N, D] -> [B, N, D]."""
        q, k = self.attention.project(x + places.positions, "qk").chunk(2, dim=-1)
        attended = self.attention.attend(q, k, self.attention.project(x, "v"), places.inside)
        return self.feed(self.attention_norm(x + self.dropped(attended)))


class TransformerEncoder(nn.Module):
    """DETR's encoder (arXiv 2005.12872, §3.2): every place of a map looks at every other."""

    def __init__(self, dim: int, num_layers: int, num_heads: int, feedforward: int, drop: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, num_heads, feedforward, drop) for _ in range(num_layers))

    def forward(self, memory: Tensor, padding: Tensor | None = None) -> Tensor:
        """memory [B, D, h, w] -> the same shape; with padding [B, H, W], places of it are not looked at."""
        places = Places.of(memory, padding)
        x = memory.flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, places)
        return x.transpose(1, 2).unflatten(2, memory.shape[2:])
