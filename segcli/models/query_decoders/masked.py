"""Mask2Former's query decoder (arXiv 2112.01527, §3.2.1): masked attention over one level of memory after the other.

Query l attends only to where its own mask of layer l - 1 is foreground:
X_l = softmax(M_{l-1} + Q Kᵀ) V + X_{l-1}.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from segcli.layers import trace
from segcli.layers.attention import Attention, project_memory
from segcli.layers.linear import Linear, product
from segcli.layers.masks import ProductMasks
from segcli.layers.positions import sine_positions
from segcli.layers.resize import resize
from segcli.models.heads import MaskClassificationHead, projected_features
from segcli.models.parts import Layers, QueryDecoder
from segcli.types import Pilots, PixelFeatures, QueryPredictions

# Layers in which pilots are shown noised true masks; after one round of the levels they stand on their own.
PILOTED_LAYERS = 3


class MaskedLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward, each followed by a norm."""

    def __init__(self, dim: int, num_heads: int, feedforward: int) -> None:
        super().__init__()
        self.cross = Attention(dim, num_heads, "cross_attention")
        self.cross_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, num_heads, "self_attention")
        self.self_norm = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, feedforward)
        self.fc2 = Linear(feedforward, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, positions: Tensor, key: Tensor, value: Tensor, mask: Tensor, among: Tensor | None = None
    ) -> Tensor:
        """x [B, Q, D], positions [Q, D], key and value [B, N, D] projected, mask [B, Q, N] and, for attention among the
        queries, `among` [B, Q, Q], both True = look -> [B, Q, D]."""
        q = self.cross.project(x + positions, "q")
        x = self.cross_norm(x + self.cross.attend(q, key, value, mask))
        q, k = self.self_attention.project(x + positions, "qk").chunk(2, dim=-1)
        x = self.self_norm(x + self.self_attention.attend(q, k, self.self_attention.project(x, "v"), among))
        return self.norm(x + self.fc2(self.fc1(x).relu_()))


class MaskedQueryDecoder(QueryDecoder[MaskClassificationHead]):
    """Learnable queries refined by `num_layers` masked layers; layer l reads memory level l mod 3."""

    def __init__(
        self, dim: int, num_queries: int, num_layers: int, num_heads: int, feedforward: int, num_levels: int = 3
    ) -> None:
        super().__init__()
        self.query_features = nn.Parameter(torch.empty(num_queries, dim))
        self.query_positions = nn.Parameter(torch.empty(num_queries, dim))
        self.level_embed = nn.Parameter(torch.empty(num_levels, dim))
        for parameter in (self.query_features, self.query_positions, self.level_embed):
            nn.init.normal_(parameter)
        self.layers: Layers[MaskedLayer] = Layers(MaskedLayer(dim, num_heads, feedforward) for _ in range(num_layers))

    def fresh_queries(self, count: int) -> None:
        """Another number of learnable queries, drawn anew."""
        for name in ("query_features", "query_positions"):
            fresh = nn.Parameter(torch.empty(count, self.query_features.shape[1]))
            setattr(self, name, fresh)
            nn.init.normal_(fresh)

    def forward(
        self,
        pixels: PixelFeatures,
        head: MaskClassificationHead,
        every_layer: bool = False,
        pilots: Pilots | None = None,
    ) -> list[QueryPredictions]:
        """-> the predictions of the learnable queries and of every layer, or of the last layer alone."""
        features = projected_features(pixels)
        sizes = [(m.shape[2], m.shape[3]) for m in pixels.memory]
        # An attention mask is a threshold of a product: the features are resized once, not every mask every time.
        with torch.no_grad():
            pyramid = [resize(features, size).flatten(2) for size in sizes]
        keys, values = self._project_memory(pixels.memory)
        x = self.query_features.expand(features.shape[0], -1, -1)
        positions: Tensor = self.query_positions
        among = None
        if pilots is not None:
            x = torch.cat((x, pilots.content), dim=1)
            positions = torch.cat((positions, torch.zeros_like(pilots.content[0])))  # a pilot is told its place
            among = self._among(pilots)
        predictions = []
        for index, layer in enumerate(self.layers):
            level = index % len(sizes)
            if every_layer:
                classes, embeddings = head(x)
                predictions.append(self._predictions(classes, embeddings, features))
            else:
                embeddings = head.embeddings(x)
            mask = attention_mask(embeddings, pyramid[level])
            if pilots is not None and index < PILOTED_LAYERS:
                mask[:, -pilots.content.shape[1] :] = pilots.allowed[level]
            trace.save("attention_mask", partial(mask.unflatten, 2, sizes[level]))
            x = layer(x, positions, keys[index], values[index], mask, among)
        classes, embeddings = head(x)
        predictions.append(self._predictions(classes, embeddings, features))
        return predictions

    def _predictions(self, classes: Tensor, embeddings: Tensor, features: Tensor) -> QueryPredictions:
        """Of the learnable queries, and beside them of the pilots that may follow these."""
        count = len(self.query_features)
        if classes.shape[1] == count:
            return QueryPredictions(classes, ProductMasks(embeddings, features))
        sizes = [count, classes.shape[1] - count]
        (classes, pilot_classes), (embeddings, pilot_embeddings) = classes.split(sizes, 1), embeddings.split(sizes, 1)
        piloted = QueryPredictions(pilot_classes, ProductMasks(pilot_embeddings, features))
        return QueryPredictions(classes, ProductMasks(embeddings, features), piloted=piloted)

    def _among(self, pilots: Pilots) -> Tensor:
        """Which query may look at which, [B, Q + G, Q + G]: nobody looks at a spare pilot, and the learnable queries at
        no pilot at all, for pilots know the truth.
        """
        queries = self.query_features.shape[0]
        real = torch.cat((pilots.real.new_ones(len(pilots.real), queries), pilots.real), dim=1)
        among = real[:, None].repeat(1, real.shape[1], 1)
        among[:, :queries, queries:] = False
        return among

    def _project_memory(self, memory: list[Tensor]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Keys and values by layer, [B, N, D] each; those of one level are made in a single wide product."""
        layers = list(self.layers)
        keys: dict[int, Tensor] = {}
        values: dict[int, Tensor] = {}
        for level, m in enumerate(memory):
            users = range(level, len(self.layers), len(memory))
            if not users:  # fewer layers than levels
                continue
            dim, (h, w) = m.shape[1], m.shape[2:]
            value = m.flatten(2).transpose(1, 2) + self.level_embed[level]
            key = value + sine_positions(h, w, dim, m.device, m.dtype)
            for i, k, v in zip(users, *project_memory([layers[i].cross for i in users], key, value), strict=True):
                keys[i], values[i] = k, v
        return keys, values


def attention_mask(embeddings: Tensor, features: Tensor) -> Tensor:
    """Where each query may look: embeddings [B, Q, C] · features [B, C, N] -> [B, Q, N] bool.

    A query whose mask is empty looks everywhere (the original's rule: softmax over nothing is undefined).
    """
    with torch.no_grad():
        allowed = product(embeddings, features) >= 0
        return allowed.logical_or_(~allowed.any(-1, keepdim=True))
