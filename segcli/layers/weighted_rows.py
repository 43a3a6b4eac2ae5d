"""Weighted sums of rows, `out[n] = Σ_k factors[n, k] · rows[indices[n, k]]`, and their two gradients; CPU.

This is `F.embedding_bag(mode="sum")`, whose own backward pass is dozens of times slower than its forward. With the
factors read as a sparse matrix F [N, R] of K entries a row, `out = F · rows`, and both gradients are one sparse
operation each: the rows' is `Fᵀ · grad` (SciPy takes it without building the transpose), the factors' is `grad · rowsᵀ`
at F's entries only (a sampled product).
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_rows(rows: Tensor, indices: Tensor, factors: Tensor) -> Tensor:
    """rows [R, D] · indices [N, K] int32 · factors [N, K] -> [N, D]. Differentiate with the two functions below."""
    count, size = indices.shape
    starts = torch.arange(0, count * size, size, dtype=torch.int32)
    return F.embedding_bag(indices.view(-1), rows, starts, mode="sum", per_sample_weights=factors.view(-1))


def rows_gradient(grad: Tensor, num_rows: int, indices: Tensor, factors: Tensor) -> Tensor:
    """grad [N, D] of the output -> gradient of the rows [R, D]."""
    from scipy.sparse import csr_matrix  # training only: the import takes time that predicting does not have

    entries = (factors.reshape(-1).numpy(), indices.reshape(-1).numpy(), _starts(indices).numpy())
    matrix = csr_matrix(entries, shape=(indices.shape[0], num_rows), copy=False)
    return torch.from_numpy(matrix.T @ grad.contiguous().numpy())


def factors_gradient(grad: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """grad [N, D] of the output -> gradient of the factors [N, K]."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        empty = torch.zeros(indices.numel(), dtype=grad.dtype)
        places = torch.sparse_csr_tensor(
            _starts(indices), indices.view(-1), empty, size=(indices.shape[0], rows.shape[0]), check_invariants=False
        )
        return torch.sparse.sampled_addmm(places, grad.contiguous(), rows.t(), beta=0).values().view(indices.shape)


def _starts(indices: Tensor) -> Tensor:
    """Where each row of F begins among its entries, and the end -> [N + 1]."""
    return torch.arange(0, indices.numel() + 1, indices.shape[1], dtype=torch.int32)
