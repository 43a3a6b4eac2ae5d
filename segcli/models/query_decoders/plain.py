"""DETR's query decoder (arXiv 2005.12872, §3.2), which MaskFormer took over: queries look at one whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segcli.layers.attention import Attention, project_memory
from segcli.models.parts import Head, Layers, QueryDecoder
from segcli.models.transformer import Places, TransformerLayer
from segcli.types import Pilots, PixelFeatures, QueryPredictions


class PlainLayer(TransformerLayer):
    """Self-attention, cross-attention, feed-forward."""

    def __init__(self, dim: int, num_heads: int, feedforward: int, drop: float) -> None:
        super().__init__(dim, feedforward, drop)
        self.self_attention = Attention(dim, num_heads, "self_attention")
        self.self_norm = nn.LayerNorm(dim)
        self.cross = Attention(dim, num_heads, "cross_attention")
        self.cross_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, positions: Tensor, key: Tensor, value: Tensor, inside: Tensor | None) -> Tensor:
        """x [B, Q, D], positions [Q, D], key and value [B, N, D] projected, inside [B, 1, N] bool, True = may be looked
        at -> [B, Q, D]."""
        q, k = self.self_attention.project(x + positions, "qk").chunk(2, dim=-1)
        attended = self.self_attention.attend(q, k, self.self_attention.project(x, "v"))
        x = self.self_norm(x + self.dropped(attended))
        q = self.cross.project(x + positions, "q")
        x = self.cross_norm(x + self.dropped(self.cross.attend(q, key, value, inside)))
        return self.feed(x)


class PlainQueryDecoder(QueryDecoder[Head]):
    """Queries whose content begins at zero; what tells them apart are their learnable positions.

    in_dim: channels of the memory, projected if they are not `dim`.
    mask_padding: padding is not looked at, and positions are shares of the image (DETR); else it is ignored.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        feedforward: int,
        drop: float = 0.1,
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.input_proj = nn.Conv2d(in_dim, dim, 1) if in_dim != dim else None
        self.query_positions = nn.Parameter(torch.empty(num_queries, dim))
        nn.init.normal_(self.query_positions)
        self.layers: Layers[PlainLayer] = Layers(
            PlainLayer(dim, num_heads, feedforward, drop) for _ in range(num_layers)
        )

    def fresh_queries(self, count: int) -> None:
        """Another number of learnable queries, drawn anew."""
        self.query_positions = nn.Parameter(torch.empty(count, self.query_positions.shape[1]))
        nn.init.normal_(self.query_positions)

    def forward(
        self, pixels: PixelFeatures, head: Head, every_layer: bool = False, pilots: Pilots | None = None
    ) -> list[QueryPredictions]:
        """-> the predictions of every layer, or of the last alone. The memory is the coarsest map of `pixels`.

        There is no attention mask that pilots could be shown their objects by.
        """
        memory = pixels.memory[0]
        if self.input_proj is not None:
            memory = self.input_proj(memory)
        places = Places.of(memory, pixels.padding if self.mask_padding else None)
        value = memory.flatten(2).transpose(1, 2)  # [B, N, D]
        keys, values = project_memory([layer.cross for layer in self.layers], value + places.positions, value)
        positions: Tensor = self.query_positions
        x = torch.zeros_like(positions).expand(memory.shape[0], -1, -1)
        predictions = []
        for index, layer in enumerate(self.layers):
            x = layer(x, positions, keys[index], values[index], places.inside)
            if every_layer or index == len(self.layers) - 1:
                predictions.append(head.answer(x, pixels))
        return predictions
