"""EoMT's pixel decoder (arXiv 2503.19108, §3.1): patches brought to the stride of the masks, two by two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.linear import linear
from segcli.models.parts import Layers, PixelDecoder
from segcli.types import PixelFeatures


@dataclass(kw_only=True)
class TokenFeatures(PixelFeatures):
    """The tokens of a ViT half way. Its patches change with every block that follows, and so do the mask features:
    `upscale` makes them of patches [B, h, w, D] -> [B, D, H/4, W/4]. `memory` holds the patches as they are now.
    """

    prefix: Tensor  # [B, P, D], class token and registers
    rotary: Tensor | None  # [2, 1 or B, h·w, d], cosines and sines of rotary positions
    upscale: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, pixels: PixelFeatures) -> TokenFeatures:
        """Raises TypeError for those of another pixel decoder."""
        if not isinstance(pixels, cls):
            raise TypeError("these queries join the tokens of a ViT, and the pixel decoder gives none")
        return pixels


class ScaleBlock(nn.Module):
    """Twice as fine: transposed convolution, GELU, depthwise convolution, norm over channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, h, w, D] -> [B, 2 h, 2 w, D]. The squares of a transposed convolution of stride 2 do not overlap, so it
        is one product, [h·w, D] · [D, 4 D].
        """
        batch, height, width, dim = x.shape
        weight = self.up.weight.permute(2, 3, 1, 0).flatten(0, 2)  # [2 · 2 · D, D]
        bias = None if self.up.bias is None else self.up.bias.repeat(4)
        fine = linear(x, weight, bias).view(batch, height, width, 2, 2, dim).transpose(2, 3)
        maps = F.gelu(fine.reshape(batch, 2 * height, 2 * width, dim)).permute(0, 3, 1, 2)
        return self.norm(self.conv(maps).permute(0, 2, 3, 1))


class UpscalingPixelDecoder(PixelDecoder):
    """Hands the tokens on, with what makes mask features of them."""

    def __init__(self, dim: int, blocks: int) -> None:
        super().__init__()
        self.blocks: Layers[ScaleBlock] = Layers(ScaleBlock(dim) for _ in range(blocks))

    def forward(self, pyramid: list[Tensor], padding: Tensor | None = None) -> TokenFeatures:
        """pyramid: the patches [B, D, h, w], prefix and rotary positions, as `ViT.forward` gives them."""
        patches, prefix, *rotary = pyramid
        return TokenFeatures(
            None, [patches], padding, prefix=prefix, rotary=rotary[0] if rotary else None, upscale=self.upscale
        )

    def upscale(self, patches: Tensor) -> Tensor:
        """patches [B, h, w, D] -> mask features [B, D, h · 2^n, w · 2^n], channels last in memory."""
        for block in self.blocks:
            patches = block(patches)
        return patches.permute(0, 3, 1, 2)
