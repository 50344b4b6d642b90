"""Upper triangles to symmetric matrices and back, for a batch of scans.

The plain form (`scattered`) writes the triangle into zeros, adds the transpose and asks each row
whether anything is in it. On a CPU that was a tenth of a small model's step, so there a matrix is
gathered from its triangle by places that are made once; the same numbers to the bit (docs/log.md).

Legend: B scans, R regions, E edges R(R-1)/2, row by row.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def expand(edges_BE: Tensor, n_regions: int) -> Tensor:
    """Upper triangles to symmetric matrices, on the edges' device.

    The diagonal is 1, and 0 for a constant region, whose whole row is 0: its Pearson correlation is
    NaN, and NaN is set to 0 (docs/model.md, Data sets and protocols).
    Args: edges_BE: (B, R(R-1)/2), row by row, any float type. Returns: float32 (B, R, R).
    """
    if not _by_places(edges_BE):
        return scattered(edges_BE, n_regions)
    edges_BE = edges_BE.float()  # half of the numbers; and torch gathers fp16 ten times slower
    fc = edges_BE.index_select(1, _whole(n_regions)).view(-1, n_regions, n_regions)
    # A sum of magnitudes is 0 where all are, and takes a quarter of the time of `any`.
    fc.diagonal(dim1=1, dim2=2).copy_(fc.detach().abs().sum(-1) != 0)
    return fc


def scattered(edges_BE: Tensor, n_regions: int) -> Tensor:
    """`expand` in its plain form."""
    rows, columns = torch.triu_indices(n_regions, n_regions, 1, device=edges_BE.device)
    fc = torch.zeros(len(edges_BE), n_regions, n_regions, device=edges_BE.device)
    fc[:, rows, columns] = edges_BE.float()
    fc = fc + fc.transpose(1, 2)
    fc.diagonal(dim1=1, dim2=2).copy_((fc != 0).any(-1).float())
    return fc


def upper(fc_BRR: Tensor) -> Tensor:
    """(B, R, R) -> (B, E): the triangle above the diagonal, in the matrices' type."""
    R = fc_BRR.shape[-1]
    if fc_BRR.dtype == torch.float32 and _by_places(fc_BRR):
        return fc_BRR.flatten(1).index_select(1, _above(R))
    rows, columns = torch.triu_indices(R, R, 1, device=fc_BRR.device)
    return fc_BRR[:, rows, columns]


def _by_places(x: Tensor) -> bool:
    """Whether to gather by places that are kept: not while a graph is traced or counted, whose
    tensors must not outlive it, nor on a GPU, where they would have to be copied there first."""
    return x.device.type == "cpu" and type(x) is Tensor and not torch.compiler.is_compiling()


@functools.cache
@torch.inference_mode(False)  # kept for those who train, whoever asks first
def _above(n_regions: int) -> Tensor:
    """(E,): where in a matrix each edge stands."""
    rows, columns = torch.triu_indices(n_regions, n_regions, 1, device="cpu")
    return rows * n_regions + columns


@functools.cache
@torch.inference_mode(False)
def _whole(n_regions: int) -> Tensor:
    """(R R,): which edge each place of a matrix holds. The diagonal has some edge of its own row,
    so that it does not change which rows are 0."""
    rows, columns = torch.triu_indices(n_regions, n_regions, 1, device="cpu")
    places = torch.empty(n_regions, n_regions, dtype=torch.int64, device="cpu")
    places[rows, columns] = places[columns, rows] = torch.arange(len(rows), device="cpu")
    places.diagonal()[1:] = places[0, 1:]
    places[0, 0] = places[0, 1]
    return places.flatten()
