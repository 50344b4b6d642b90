import itertools

import pytest
import torch

from lcm_scale.model.attention import Attention, absorbed, choose, projected

SHAPES = [(1, 1, 5), (3, 7, 12), (2, 12, 4)]  # scans, tokens, regions: fewer and more tokens than regions


def run(formulation: str, dtype: torch.dtype, shape: tuple[int, int, int], dropout: float) -> list[torch.Tensor]:
    """Output and gradients of inputs and parameters."""
    B, M, R = shape
    generator = torch.Generator().manual_seed(1)
    module = Attention(16, 4, dropout, formulation).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    query = torch.randn(B, M, 16, generator=generator).to(dtype).requires_grad_()
    memory = torch.randn(B, R, 16, generator=generator).to(dtype).requires_grad_()
    torch.manual_seed(2)
    out = module(query, memory)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out).to(dtype)).sum().backward()
    gradients = [t.grad for t in (query, memory, *module.parameters())]
    return [out.detach(), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize(("shape", "dropout"), itertools.product(SHAPES, (0.0, 0.3)))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_absorbed_equals_projected_in_output_and_every_gradient(
    shape: tuple[int, int, int], dropout: float, dtype: torch.dtype, tolerance: float
) -> None:
    expected, found = run("projected", dtype, shape, dropout), run("absorbed", dtype, shape, dropout)
    assert len(expected) == len(found) == 7
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(a.abs().max())))


def test_absorbed_equals_projected_in_bf16_to_its_tolerance() -> None:
    exact = run("projected", torch.float64, (3, 7, 12), 0.0)[0]
    for formulation in ("projected", "absorbed"):
        with torch.autocast("cpu", torch.bfloat16):
            found = run(formulation, torch.float32, (3, 7, 12), 0.0)[0]
        assert (found.double() - exact).abs().max() < 0.03 * exact.abs().max()


def test_projected_equals_torchs_multihead_attention() -> None:
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    ours = Attention(16, 4, 0.0, "projected")
    ours.load_state_dict(theirs.state_dict())
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(query, memory), theirs(query, memory, memory)[0])


def test_choice_crosses_where_the_arithmetic_does() -> None:
    # REFERENCE section 6: M* = D R / (D + H R) = 80 at the published sizes.
    assert choose(79, 116, 2048, 8) == "absorbed"
    assert choose(81, 116, 2048, 8) == "projected"


def test_value_bias_enters_times_the_kept_weights() -> None:
    """Under dropout the weights do not sum to 1; a formulation that adds the bias once would be off."""
    weight, bias = torch.zeros(48, 16), torch.cat([torch.zeros(32), torch.ones(16)])
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    for attend in (projected, absorbed):
        torch.manual_seed(0)
        out = attend(query, memory, weight, bias, 4, 0.5)
        assert not torch.allclose(out, torch.ones_like(out))
