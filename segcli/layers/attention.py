"""Multi-head attention with position embeddings on queries and keys only, as DETR and its descendants use it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers import trace
from segcli.layers.half import learns_in_half
from segcli.layers.linear import Linear, linear


class Attention(nn.Module):
    """Projections of multi-head attention and the attention itself, apart, so that callers may batch projections.

    The weights lie as in `nn.MultiheadAttention`: `in_proj_weight` [3 D, D] holds query, key, value in this order.
    `name` is what `trace.record` knows its probabilities by.
    """

    def __init__(self, dim: int, num_heads: int, name: str = "attention") -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self.num_heads, self.name = num_heads, name
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor, part: str) -> Tensor:
        """x [B, N, D] -> [B, N, len(part) · D] for part "q", "k", "v" or "qk"."""
        dim = x.shape[-1]
        start, stop = "qkv".index(part[0]) * dim, ("qkv".index(part[-1]) + 1) * dim
        return linear(x, self.in_proj_weight[start:stop], self.in_proj_bias[start:stop])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """q [B, Q, D] · k, v [B, N, D] (projected) -> [B, Q, D]. `mask` [B, Q, N] bool: True = may be looked at."""
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # [B, heads, ·, D/heads]
        mask = None if mask is None else mask[:, None]
        trace.save(self.name, lambda: probabilities(q, k, mask))
        return self.out_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))


def project_memory(attentions: Sequence[Attention], key: Tensor, value: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values of several attentions over one memory, in two wide products: key (the memory with its positions)
    and value [B, N, D] -> two lists of [B, N, D], one entry an attention.
    """
    dim = value.shape[-1]
    projected = []
    for part, source in ((1, key), (2, value)):
        rows = slice(part * dim, (part + 1) * dim)
        weight = torch.cat([attention.in_proj_weight[rows] for attention in attentions])
        bias = torch.cat([attention.in_proj_bias[rows] for attention in attentions])
        projected.append(list(linear(source, weight, bias).split(dim, dim=-1)))
    return projected[0], projected[1]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The attention itself, [B, heads, ·, D/heads] each."""
    if not learns_in_half(q):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)


def probabilities(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """What the fused kernel does not return: softmax(q kᵀ / √d) -> [B, heads, Q, N] in fp32."""
    logits = q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(-1)
