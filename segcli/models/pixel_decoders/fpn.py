"""Feature pyramid (FPN, arXiv 1612.03144) as MaskFormer's pixel decoder has it (arXiv 2107.06278, §4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.trace import is_exporting
from segcli.models.parts import PixelDecoder
from segcli.models.pixel_decoders.deformable import ProjectNorm
from segcli.models.transformer import TransformerEncoder
from segcli.types import PixelFeatures


class FPN(PixelDecoder):
    """Pyramid of strides 4, 8, 16, 32 -> mask features at 4, memory at 32.

    The memory is the backbone's coarsest map as it is, or what `encoder` makes of it, which then also begins the
    pyramid ("6Enc", the panoptic ResNets of the paper). Padding is ignored, as published.
    """

    def __init__(self, channels: list[int], dim: int, mask_dim: int, encoder: TransformerEncoder | None = None) -> None:
        super().__init__()
        self.input_proj = nn.Conv2d(channels[-1], dim, 1) if encoder else None
        self.encoder = encoder
        self.stem = ProjectNorm(dim if encoder else channels[-1], dim, 3, bias=False)
        finer = channels[-2::-1]  # coarse to fine
        self.laterals = nn.ModuleList(ProjectNorm(c, dim, 1, bias=False) for c in finer)
        self.outputs = nn.ModuleList(ProjectNorm(dim, dim, 3, bias=False) for _ in finer)
        self.mask_proj = nn.Conv2d(dim, mask_dim, 3, padding=1)

    def forward(self, pyramid: list[Tensor], padding: Tensor | None = None) -> PixelFeatures:
        """pyramid fine to coarse, each [B, C_i, h_i, w_i] -> PixelFeatures."""
        memory = pyramid[-1]
        if self.encoder is not None and self.input_proj is not None:
            memory = self.encoder(self.input_proj(memory))
        x = self.stem(memory).relu_()
        for lateral, output, finer in zip(self.laterals, self.outputs, pyramid[-2::-1], strict=True):
            left = lateral(finer)
            x = output(left.add_(F.interpolate(x, size=left.shape[2:], mode="nearest"))).relu_()
        if torch.is_grad_enabled() or is_exporting():  # a loss samples points of the features that all queries share
            return PixelFeatures(self.mask_proj(x), [memory], padding)
        assert self.mask_proj.bias is not None  # for mypy
        return PixelFeatures(x, [memory], padding, mask_proj=(self.mask_proj.weight, self.mask_proj.bias))
