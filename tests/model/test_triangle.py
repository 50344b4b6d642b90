"""Triangles to matrices and back: the quick forms have the plain ones' numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lcm_scale.model import triangle
from lcm_scale.model.triangle import expand, scattered, upper

R = 7
EDGES = R * (R - 1) // 2


def batch(dtype: torch.dtype) -> Tensor:
    """(R + 3, EDGES): scans in which one region each is constant, one in which all are, one whose
    only edge is as small as its type tells from 0, one with an infinite and a missing edge."""
    torch.manual_seed(0)
    edges = torch.randn(R + 3, EDGES)
    rows, columns = torch.triu_indices(R, R, 1)
    for region in range(R):
        edges[region, (rows == region) | (columns == region)] = 0
    edges[R : R + 2] = 0
    edges = edges.to(dtype)
    edges[R + 1, 4] = torch.finfo(dtype).smallest_normal
    edges[R + 2, 0], edges[R + 2, 1] = torch.inf, torch.nan
    return edges


def test_a_matrix_is_symmetric_with_unit_diagonal_but_for_constant_regions() -> None:
    # region 2 of 4 is constant
    edges = torch.tensor([[0.5, 0.0, 0.2, 0.0, 0.1, 0.0]], dtype=torch.float16)
    fc = expand(edges, 4)
    assert torch.equal(fc, fc.transpose(1, 2))
    assert fc[0].diagonal().tolist() == [1, 1, 0, 1]
    assert fc[0, 0, 1] == 0.5
    assert fc[0, 0, 3] == pytest.approx(0.2, abs=1e-3)
    assert fc[0, 1, 3] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gathered_matrix_is_the_scattered_one_to_the_bit(dtype: torch.dtype) -> None:
    edges = batch(dtype)
    fc, plain = expand(edges, R), scattered(edges, R)
    assert fc.dtype == plain.dtype == torch.float32
    torch.testing.assert_close(fc, plain, rtol=0, atol=0, equal_nan=True)
    assert fc.diagonal(dim1=1, dim2=2).sum(1).tolist() == [*[R - 1] * R, 0, 2, R]


def test_the_edges_of_a_matrix_are_those_it_was_made_of() -> None:
    edges = batch(torch.float32)
    torch.testing.assert_close(upper(expand(edges, R)), edges, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(upper(expand(edges[:R].double(), R).double()), edges[:R].double())


def test_gradients_reach_the_edges_as_in_the_plain_form() -> None:
    weight = torch.randn(2, R, R)
    found = []
    for form in (expand, scattered):
        edges = torch.randn(2, EDGES, generator=torch.Generator().manual_seed(1)).requires_grad_()
        fc = form(edges, R)
        ((fc**3 * weight).sum() + upper(fc).sin().sum()).backward()
        found.append(edges.grad)
    torch.testing.assert_close(found[0], found[1])


def test_places_that_were_made_without_gradients_serve_those_who_want_them() -> None:
    for kept in (triangle._whole, triangle._above):
        kept.cache_clear()
    with torch.inference_mode():
        upper(expand(torch.randn(2, EDGES), R))
    edges = torch.randn(2, EDGES, requires_grad=True)
    upper(expand(edges, R)).sum().backward()
    assert torch.equal(edges.grad, torch.ones(2, EDGES))


def test_a_compiled_step_keeps_no_places() -> None:
    edges = batch(torch.float16)
    compiled = torch.compile(lambda e: upper(expand(e, R)), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(edges), edges.float(), rtol=0, atol=0, equal_nan=True)
