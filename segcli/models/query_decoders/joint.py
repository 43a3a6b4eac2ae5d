"""EoMT's query decoder (arXiv 2503.19108, §3): the last blocks of the ViT, over queries and patches together.

While a run is young, query q may only look at the patches inside its own mask of the moment; the share of queries that
this holds for falls to nothing, block by block, so that a finished model needs neither masks nor their predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segcli.config.backbones.vit import ViTConfig
from segcli.layers import trace
from segcli.layers.linear import product
from segcli.layers.masks import ProductMasks
from segcli.layers.resize import resize
from segcli.layers.stochastic import uniform
from segcli.models.backbones.vit import ViTBlock
from segcli.models.heads import MaskClassificationHead
from segcli.models.parts import Layers, QueryDecoder
from segcli.models.pixel_decoders.upscaling import TokenFeatures
from segcli.types import Pilots, PixelFeatures, QueryPredictions

POWER = 0.9  # of the fall from 1 to 0


class JointQueryDecoder(QueryDecoder[MaskClassificationHead]):
    """Learnable queries that join the tokens of a ViT for its last blocks.

    annealing: for each block when its masks begin to be left out and when they are gone, as shares of a run.
    `mask_probabilities` [blocks] is how much of that has happened, and part of a checkpoint: 1 masks every query, 0
    none. In training it is a probability. In prediction, where chance has no place, a block above 0 masks every query:
    a model that has not unlearnt its masks needs them.
    """

    mask_probabilities: Tensor

    def __init__(
        self, config: ViTConfig, first: int, num_queries: int, annealing: Sequence[tuple[float, float]]
    ) -> None:
        super().__init__()
        self.first, self.annealing = first, tuple(annealing)
        self.query_features = nn.Parameter(torch.empty(num_queries, config.dim))
        nn.init.normal_(self.query_features)
        self.blocks: Layers[ViTBlock] = Layers(ViTBlock(config) for _ in range(config.depth - first))
        self.norm = nn.LayerNorm(config.dim, config.norm_eps)
        self.register_buffer("mask_probabilities", torch.ones(len(self.blocks)))
        self._masking: list[float] | None = None  # the same as numbers, read once

    def fresh_queries(self, count: int) -> None:
        """Another number of learnable queries, drawn anew."""
        self.query_features = nn.Parameter(torch.empty(count, self.query_features.shape[1]))
        nn.init.normal_(self.query_features)

    def forward(
        self,
        pixels: PixelFeatures,
        head: MaskClassificationHead,
        every_layer: bool = False,
        pilots: Pilots | None = None,
    ) -> list[QueryPredictions]:
        """-> the predictions before each block and after the last, or the last alone; there are no pilots."""
        tokens = TokenFeatures.of(pixels)
        patches = tokens.memory[0]
        batch, _, height, width = patches.shape
        queries = len(self.query_features)
        x = torch.cat(
            (self.query_features.to(patches.dtype).expand(batch, -1, -1), tokens.prefix, patches.flatten(2).mT), dim=1
        )  # [B, Q + P + N, D]
        predictions = []
        for block, probability in zip(self.blocks, self.masking(), strict=True):
            allowed = None
            if every_layer or probability > 0:
                prediction = self._predict(x, tokens, head)
                if every_layer:
                    predictions.append(prediction)
                allowed = self._allowed(prediction, probability, (height, width))
                trace.save("attention_mask", partial(_regions, allowed, (batch, queries, height, width), x.device))
            x = block(x, tokens.rotary, allowed, queries, height * width)
        predictions.append(self._predict(x, tokens, head))
        return predictions

    def _predict(self, x: Tensor, tokens: TokenFeatures, head: MaskClassificationHead) -> QueryPredictions:
        """What the queries among the tokens x [B, T, D] answer, on mask features of the patches among them."""
        size = tokens.memory[0].shape[2:]
        x = self.norm(x)
        classes, embeddings = head(x[:, : len(self.query_features)])
        patches = x[:, -size[0] * size[1] :].unflatten(1, size)  # [B, h, w, D]
        return QueryPredictions(classes, ProductMasks(embeddings, tokens.upscale(patches)))

    def _allowed(self, prediction: QueryPredictions, probability: float, size: tuple[int, int]) -> Tensor | None:
        """Where each query may look -> [B, Q, N] bool; None: everywhere."""
        if not probability or not isinstance(prediction.masks, ProductMasks):
            return None
        with torch.no_grad():
            masks = prediction.masks
            allowed = product(masks.embeddings, resize(masks.features, size).flatten(2)) > 0
            if self.training and probability < 1:
                draws = uniform((allowed.shape[0], allowed.shape[1])).to(allowed.device)
                allowed |= (draws > probability)[..., None]
            return allowed

    # ------------------------------------------------------------------------------------------------------ annealing

    def masking(self) -> list[float]:
        """`mask_probabilities` as numbers, so that no graph depends on what a tensor holds."""
        if self._masking is None:
            self._masking = self.mask_probabilities.tolist()
        return self._masking

    def reach(self, progress: float) -> None:
        """A run has come this far, from 0 to 1."""
        left = [1 - min(max((progress - start) / (stop - start), 0.0), 1.0) for start, stop in self.annealing]
        self.mask_probabilities.copy_(torch.tensor([share**POWER for share in left]))
        self._masking = None

    def unfinished(self) -> str | None:
        """That there are masks left."""
        if not any(self.masking()):
            return None
        left = ", ".join(f"{share:.2f}" for share in self.masking())
        return (
            f"training stopped before its attention masks were unlearnt ({left} left), so it is run with them, slower"
        )

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._masking = None

    # ---------------------------------------------------------------------------------------------------- as backbone

    def backbone_names(self) -> dict[str, str]:
        """The whole ViT's names of the parts of it that lie here."""
        names = {
            f"blocks.{self.first + index}.{name}": f"blocks.{index}.{name}"
            for index, block in enumerate(self.blocks)
            for name in block.state_dict()
        }
        return names | {f"norm.{name}": f"norm.{name}" for name in self.norm.state_dict()}

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """Of the blocks, first to last; the norm learns as fast as what is new."""
        return [list(block.parameters()) for block in self.blocks]


def _regions(allowed: Tensor | None, shape: tuple[int, int, int, int], device: torch.device) -> Tensor:
    """Where each query may look, as maps [B, Q, h, w] bool."""
    return torch.ones(shape, dtype=torch.bool, device=device) if allowed is None else allowed.view(shape)
