"""The perceptron that turns a query into a mask embedding (MaskFormer, arXiv 2107.06278, §3.3), and half of Swin's."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segcli.layers.linear import Linear, linear, linear_gelu, linear_gradients


class MLP(nn.Module):
    """Linear layers with ReLU (or GELU) between them: [..., in_dim] -> [..., out_dim]."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int = 3, gelu: bool = False) -> None:
        super().__init__()
        self.gelu = gelu
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x)) if self.gelu else layer(x).relu_()
        return self.layers[-1](x)


def norm_mlp(x: Tensor, norm: nn.LayerNorm, fc1: nn.Linear, fc2: nn.Linear) -> Tensor:
    """fc2(gelu(fc1(norm(x)))): a transformer's feed-forward part, with as little kept or written as the mode allows."""
    if torch.is_grad_enabled():
        return gelu_linear(norm_linear(x, norm, fc1)[1], fc2)
    out: Tensor = fc2(linear_gelu(norm(x), fc1.weight, fc1.bias))
    return out


def gelu_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """layer(gelu(x)) that keeps x alone for the backward pass: the widest activation of a transformer is stored once,
    not twice, for one more pass of gelu, under a hundredth of the products around it.
    """
    y: Tensor = _GeluLinear.apply(x, layer.weight, layer.bias)
    return y


class _GeluLinear(torch.autograd.Function):
    """x [..., I], weight [O, I], bias [O] -> [..., O]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        # Under autocast the product ran in half precision, the weights are fp32.
        half = gradient.dtype
        of_gelu, of_weight, of_bias = linear_gradients(gradient, F.gelu(x).to(half), weight.to(half))
        of_x = torch.ops.aten.gelu_backward(of_gelu.to(x.dtype), x)
        return of_x, of_weight.to(weight.dtype), of_bias.to(weight.dtype)


def norm_linear(x: Tensor, norm: nn.LayerNorm, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """y = norm(x) and layer(y), keeping x alone for the backward pass: y is made again there, which costs next to
    nothing beside the products.
    """
    if not torch.is_grad_enabled():
        y = norm(x)
        return y, layer(y)
    out: tuple[Tensor, Tensor] = _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, layer.weight, layer.bias)
    return out


class _NormLinear(torch.autograd.Function):
    """x [..., I] with its norm's gamma and beta [I], weight [O, I], bias [O] -> [..., I], [..., O]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, mean, scale = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, eps)
        ctx.save_for_backward(x, mean, scale, gamma, beta, weight)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return y, linear(y, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor | None, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        x, mean, scale, gamma, beta, weight = ctx.saved_tensors
        of_weight = of_bias = None
        if gradient is not None:
            y = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, ctx.eps)[0]
            # Under autocast the product ran in half precision, the weights are fp32.
            half = gradient.dtype
            through, of_weight, of_bias = linear_gradients(gradient, y.to(half), weight.to(half))
            through, of_weight, of_bias = through.to(x.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype)
            of_y = through if of_y is None else of_y + through
        if of_y is None:
            return None, None, None, None, None, None
        backward = torch.ops.aten.native_layer_norm_backward
        of_x, of_gamma, of_beta = backward(of_y, x, x.shape[-1:], mean, scale, gamma, beta, [True, True, True])
        return of_x, of_gamma, of_beta, None, of_weight, of_bias
