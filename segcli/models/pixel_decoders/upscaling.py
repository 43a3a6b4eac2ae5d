"""EoMT's pixel decoder (arXiv 2503.19108, §3.1): patches brought to the stride of the masks, two by two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.linear import linear_gelu
from segcli.layers.trace import is_exporting
from segcli.models.parts import Layers, PixelDecoder
from segcli.types import PixelFeatures

STRIP = 4 * 2**20  # bytes of the finer map handled at once


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
        """x [B, h, w, D] -> [B, 2 h, 2 w, D]. In prediction on a CPU strip by strip, so that what lies between the
        first product and the norm stays in the cache.
        """
        # The squares of a transposed convolution of stride 2 do not overlap, so it is a product; of the finer map, the
        # weights of the even rows make one half of it and those of the odd rows the other.
        weights = self.up.weight.permute(2, 3, 1, 0).flatten(1, 2)  # [2, 2 · D, D]
        if torch.is_grad_enabled() or is_exporting() or x.device.type != "cpu":
            return self._smooth(torch.stack(self._finer(x, weights), dim=2).flatten(1, 2), padding=1)
        batch, height, width, dim = x.shape
        rows = max(1, STRIP // (batch * 4 * width * dim * x.element_size()))  # of x, a strip
        maps = x.new_zeros(batch, 2 * rows + 3, 2 * width, dim)
        out = x.new_empty(batch, 2 * height, 2 * width, dim)
        done, filled = 0, 1  # rows; above the first there are zeros
        for strip in x.split(rows, dim=1):
            for parity, part in enumerate(self._finer(strip, weights)):
                maps[:, filled + parity : filled + 2 * strip.shape[1] : 2] = part
            filled += 2 * strip.shape[1]
            if done + filled > 2 * height:  # so there are below the last
                maps[:, filled] = 0
                filled += 1
            smooth = self._smooth(maps[:, :filled], padding=(0, 1))  # without the first row and the last
            out[:, done : done + filled - 2] = smooth
            maps[:, :2] = maps[:, filled - 2 : filled].clone()
            done, filled = done + filled - 2, 2
        return out

    def _finer(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """x [B, n, w, D] -> the even and the odd rows, [B, n, 2 w, D] each."""
        bias = None if self.up.bias is None else self.up.bias.repeat(2)
        return [linear_gelu(x, weight, bias).unflatten(-1, (2, -1)).flatten(2, 3) for weight in weights]

    def _smooth(self, maps: Tensor, padding: int | tuple[int, int]) -> Tensor:
        """maps [B, n, w, D] -> the same, without the rows that are not padded."""
        smooth = F.conv2d(maps.permute(0, 3, 1, 2), self.conv.weight, padding=padding, groups=maps.shape[-1])
        return self.norm(smooth.permute(0, 2, 3, 1))


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
