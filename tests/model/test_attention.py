import itertools
from collections.abc import Iterator

import pytest
import torch

from lcm_scale.config.run import FORMULATIONS
from lcm_scale.model import products
from lcm_scale.model.absorbed import absorbed
from lcm_scale.model.attention import Attention, SelfAttention, projected
from lcm_scale.model.dispatch import choose

SHAPES = [
    (1, 1, 5),
    (3, 7, 12),
    (2, 12, 4),
]  # scans, tokens, regions: fewer and more tokens than regions
MASKED = [False, True]


def run(
    formulation: str,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    dropout: float,
    masked: bool = False,
    width: int = 16,
    autocast: bool = False,
) -> list[torch.Tensor]:
    """Output and gradients of inputs and parameters."""
    B, M, R = shape
    generator = torch.Generator().manual_seed(1)
    module = Attention(width, 4, dropout, formulation).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * width**-0.5)
    query = torch.randn(B, M, width, generator=generator).to(dtype).requires_grad_()
    memory = torch.randn(B, R, width, generator=generator).to(dtype).requires_grad_()
    mask = None
    if masked:
        mask = torch.rand(B, R, generator=generator) < 0.4
        mask[:, 0] = False
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = module(query, memory, mask)
    (out * torch.arange(out.numel()).cos().view_as(out).to(dtype)).sum().backward()
    gradients = [t.grad for t in (query, memory, *module.parameters())]
    return [out.detach(), *(g for g in gradients if g is not None)]


def assert_close(expected: list[torch.Tensor], found: list[torch.Tensor], tolerance: float) -> None:
    assert len(expected) == len(found) == 7
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(
            a, b, rtol=tolerance, atol=tolerance * max(1.0, float(a.abs().max()))
        )


@pytest.mark.parametrize(
    ("shape", "dropout", "masked"), itertools.product(SHAPES, (0.0, 0.3), MASKED)
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_absorbed_equals_projected_in_output_and_every_gradient(
    shape: tuple[int, int, int], dropout: float, masked: bool, dtype: torch.dtype, tolerance: float
) -> None:
    """Also for the same dropout mask, also where regions are masked."""
    assert_close(
        *(run(f, dtype, shape, dropout, masked) for f in ("projected", "absorbed")), tolerance
    )


@pytest.mark.parametrize(("shape", "masked"), itertools.product(SHAPES, MASKED))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_flash_equals_projected_without_dropout(
    shape: tuple[int, int, int], masked: bool, dtype: torch.dtype, tolerance: float
) -> None:
    assert_close(*(run(f, dtype, shape, 0.0, masked) for f in ("projected", "flash")), tolerance)


def test_flash_is_right_in_distribution_under_dropout() -> None:
    exact = run("projected", torch.float64, (1, 3, 8), 0.0)[0]
    module = Attention(16, 4, 0.3, "flash").double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    query = torch.randn(1, 3, 16, generator=generator).double().expand(4000, 3, 16)
    memory = torch.randn(1, 8, 16, generator=generator).double().expand(4000, 8, 16)
    torch.manual_seed(0)
    out = module(query, memory)
    assert out.std(0).min() > 0.01
    torch.testing.assert_close(out.mean(0, keepdim=True), exact, atol=0.05, rtol=0)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("dropout", "masked", "zen4"), [(0.0, False, True), (0.0, True, False), (0.3, True, True)]
)
def test_formulations_agree_at_sizes_that_take_the_quick_kernels(
    dropout: float, masked: bool, zen4: bool, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    """Large enough for oneDNN's products, or MKL's in place, and for masks from raw random bits."""
    monkeypatch.setattr(products, "ZEN4", zen4)
    shape = (20, 40, 90)
    expected = run("projected", torch.float64, shape, 0.0, masked, width=256)
    for formulation in ("projected", "absorbed"):
        assert_close(
            expected,
            [t.double() for t in run(formulation, torch.float32, shape, 0.0, masked, 256)],
            1e-5,
        )
    assert_close(
        *(run(f, torch.float32, shape, dropout, masked, 256) for f in ("projected", "absorbed")),
        1e-5,
    )


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_bf16_is_exact_to_its_tolerance_in_output_and_gradients(formulation: str) -> None:
    exact = run("projected", torch.float64, (3, 7, 12), 0.0, width=64)
    found = run(formulation, torch.float32, (3, 7, 12), 0.0, width=64, autocast=True)
    for a, b in zip(exact, found, strict=True):
        assert (b.double() - a).abs().max() < 0.03 * exact[0].abs().max().clamp(min=a.abs().max())


def test_a_masked_row_changes_nothing() -> None:
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    mask = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    for formulation in FORMULATIONS:
        module = Attention(16, 4, 0.0, formulation)
        before = module(query, memory, mask)
        shorter = module(query[:1], memory[:1, [0, 1, 3, 4]])
        torch.testing.assert_close(before[:1], shorter)
        torch.testing.assert_close(before[1:], module(query[1:], memory[1:]))


def test_the_recomputing_backward_keeps_far_less_than_keys_and_values() -> None:
    def kept(formulation: str) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        module = Attention(256, 8, 0.1, formulation)
        query, memory = torch.randn(8, 7, 256), torch.randn(8, 116, 256, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = module(query, memory)
        parameters = {p.untyped_storage().data_ptr() for p in module.parameters()} | {
            memory.untyped_storage().data_ptr()
        }
        assert out.requires_grad
        return sum(size for place, size in sizes.items() if place not in parameters)

    assert kept("absorbed") < 0.4 * kept("projected")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("training", [True, False])
def test_self_attention_of_a_zero_state_is_the_plain_one(dropout: float, training: bool) -> None:
    """In training for the same dropout mask, with every gradient; in evaluation a constant."""
    results = []
    for short in (True, False):
        torch.manual_seed(0)
        module = SelfAttention(16, 4, dropout).double().train(training)
        with torch.no_grad():
            module.in_proj_bias.normal_()
        position = torch.randn(5, 16).double().requires_grad_()
        torch.manual_seed(1)
        out = (
            module.of_zero_state(position, 3)
            if short
            else module(torch.zeros(3, 5, 16).double(), position)
        )
        out = out.expand(3, 5, 16)
        (out * torch.arange(240).view(3, 5, 16)).sum().backward()
        gradients = [t.grad for t in (*module.parameters(), position)]
        results.append([out.detach(), *(torch.zeros(()) if g is None else g for g in gradients)])
    for plain, found in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found.expand_as(plain).to(plain), plain, rtol=1e-10, atol=1e-10)


def test_attention_maps_are_the_weights_whatever_runs() -> None:
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    module = Attention(16, 4, 0.0, "absorbed")
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(module.state_dict())
    maps = theirs(query, memory, memory, average_attn_weights=False)[1]
    torch.testing.assert_close(module.maps(query, memory), maps)


def test_projected_equals_torchs_multihead_attention() -> None:
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    ours = Attention(16, 4, 0.0, "projected")
    ours.load_state_dict(theirs.state_dict())
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(query, memory), theirs(query, memory, memory)[0])


def test_choice_goes_with_the_number_of_tokens() -> None:
    for device, dtype in itertools.product(("cpu", "cuda"), (torch.float32, torch.bfloat16)):
        chosen = [choose(16, tokens, 116, 2048, 8, device, dtype) for tokens in (5, 27, 150)]
        assert chosen == ["absorbed", "absorbed", "flash" if device == "cuda" else "projected"]


def test_value_bias_enters_times_the_kept_weights() -> None:
    """Under dropout the weights do not sum to 1; a formulation that adds the bias once would be
    off."""
    weight, bias = torch.zeros(48, 16), torch.cat([torch.zeros(32), torch.ones(16)])
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    for attend in (projected, absorbed):
        torch.manual_seed(0)
        out = attend(query, memory, weight, bias, 4, 0.5)
        assert not torch.allclose(out, torch.ones_like(out))
