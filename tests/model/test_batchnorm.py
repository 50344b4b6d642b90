from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lcm_scale.model.batchnorm import MaskedBatchNorm
from lcm_scale.model.lcm import FCEmbedding
from lcm_scale.model.presets import LCMConfig


def ours_and_theirs(rows: torch.Tensor) -> tuple[MaskedBatchNorm, torch.nn.BatchNorm1d]:
    torch.manual_seed(0)
    ours, theirs = (
        MaskedBatchNorm(rows.shape[-1]).to(rows.dtype),
        torch.nn.BatchNorm1d(rows.shape[-1]).to(rows.dtype),
    )
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2)
        theirs.bias.uniform_(-1, 1)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("padded", [0, 2])
def test_equals_torchs_batch_norm_in_output_gradients_buffers_and_eval(padded: int) -> None:
    """Also beside padded scans, where torch's kernels for CPUs do not run."""
    x = (torch.randn(4, 6, 5) * 3 + 2).double()
    ours, theirs = ours_and_theirs(x)
    a = torch.cat([x, torch.full((padded, 6, 5), 1e6).double()]).requires_grad_()
    b = x.clone().requires_grad_()
    target = torch.randn(4, 6, 5).double()
    out_a, out_b = ours(a, torch.arange(4 + padded) < 4)[:4], theirs(b.view(24, 5)).view(4, 6, 5)
    (out_a * target).sum().backward()
    (out_b * target).sum().backward()
    torch.testing.assert_close(out_a, out_b)
    assert a.grad is not None
    torch.testing.assert_close(a.grad[:4], b.grad)
    for (name, mine), (_, reference) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        torch.testing.assert_close(mine.grad, reference.grad, msg=name)
    torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.reshape(24, 5)).view(4, 6, 5))


def test_padded_scans_touch_no_statistic() -> None:
    x = torch.randn(3, 6, 5).double()
    ours, _ = ours_and_theirs(x)
    other, _ = ours_and_theirs(x)
    padded = torch.cat([x, torch.full((2, 6, 5), 1e6).double()])
    torch.testing.assert_close(ours(padded, torch.tensor([1, 1, 1, 0, 0]))[:3], other(x))
    torch.testing.assert_close(ours.running_var, other.running_var)


def _rank(rank: int, x: torch.Tensor, file: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    norm = MaskedBatchNorm(5).double()
    # Rank 1 holds one real and two padded scans: unequal shares.
    mine = (
        torch.cat([x[:3], x[3:], x[3:] * 9, x[3:] * 9])[rank * 3 : rank * 3 + 3]
        .clone()
        .requires_grad_()
    )
    valid = torch.tensor([[1.0, 1, 1], [1, 0, 0]])[rank]
    y = norm(mine, valid)
    (y.square() * valid[:, None, None] * torch.arange(5)).sum().backward()
    torch.save({"y": y.detach(), "grad": mine.grad, "var": norm.running_var}, f"{out}{rank}")
    dist.destroy_process_group()


def test_two_ranks_with_unequal_shares_compute_what_one_computes(tmp_path: Path) -> None:
    x = torch.randn(4, 6, 5).double()
    norm = MaskedBatchNorm(5).double()
    whole = x.clone().requires_grad_()
    y = norm(whole)
    (y.square() * torch.arange(5)).sum().backward()
    mp.spawn(_rank, (x, str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2)
    parts = [torch.load(f"{tmp_path / 'out'}{rank}", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat([parts[0]["y"], parts[1]["y"][:1]]), y.detach())
    torch.testing.assert_close(torch.cat([parts[0]["grad"], parts[1]["grad"][:1]]), whole.grad)
    assert torch.equal(parts[0]["var"], parts[1]["var"])
    torch.testing.assert_close(parts[0]["var"], norm.running_var)


# The embedding, whose norm takes a wide map's statistics from its inputs, beside map and norm apart.


def embedding(dtype: torch.dtype, width: int = 48) -> FCEmbedding:
    torch.manual_seed(0)
    module = FCEmbedding(LCMConfig(n_regions=6, target_tokens=(1,), width=width))
    with torch.no_grad():
        module.norm.weight.uniform_(0.5, 2)
        module.norm.bias.uniform_(-1, 1)
        module.linear.bias.uniform_(-1, 1)
    return module.to(dtype)


def rows(scans: int, dtype: torch.dtype) -> torch.Tensor:
    """Matrices whose rows have means far from 0, and columns that go together."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(scans, 6, 6, generator=generator, dtype=torch.float64)
    return (x + 0.5 * x.mean(-1, keepdim=True) + 1).to(dtype)


def outcome(
    module: FCEmbedding, fc: torch.Tensor, valid: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Memory of the real scans, gradients and statistics."""
    y = module(fc, valid)
    real = torch.ones(len(fc)) if valid is None else valid
    weights = torch.arange(y[0].numel()).sin().view_as(y[0]).to(y.dtype)
    (y.square() * weights * real[:, None, None]).float().sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"y": y.detach()[real.bool()], **gradients, **dict(module.named_buffers())}


@pytest.mark.parametrize("width", [8, 48])
@pytest.mark.parametrize("valid", [None, torch.tensor([1, 1, 0, 1, 0])])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4), (torch.bfloat16, 0.02)]
)
def test_the_quickest_way_of_a_width_gives_what_map_and_norm_apart_do(
    width: int, valid: torch.Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    """In fp64 against map and norm apart: output, gradients, buffers; in bf16 under autocast. The
    wide one's statistics are from the inputs, the narrow one's by torch's kernels."""
    exact = rows(5, torch.float64).requires_grad_()  # an input with a gradient takes the plain way
    expected = outcome(embedding(torch.float64, width), exact, valid)
    assert exact.grad is not None
    held = torch.float32 if dtype == torch.bfloat16 else dtype
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = outcome(embedding(held, width), rows(5, held), valid)
    assert found["y"].dtype == dtype
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        largest = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(
            found[name].to(value.dtype), value, rtol=0, atol=tolerance * largest, msg=name
        )
    assert not found["linear.bias"].any()


def _embedding_rank(rank: int, file: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    fc = rows(5, torch.float64)
    # Rank 1 holds one real and two padded scans: unequal shares.
    mine = (fc[:3], torch.cat([fc[3:4], fc[3:] * 9]))[rank]
    valid = torch.tensor([[1.0, 1, 1], [1, 0, 0]])[rank]
    torch.save(outcome(embedding(torch.float64), mine, valid), f"{out}{rank}")
    dist.destroy_process_group()


def test_two_ranks_embed_as_one_does(tmp_path: Path) -> None:
    whole = outcome(embedding(torch.float64), rows(5, torch.float64)[:4], None)
    mp.spawn(_embedding_rank, (str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2)
    one, two = (torch.load(f"{tmp_path / 'out'}{rank}", weights_only=True) for rank in range(2))
    torch.testing.assert_close(torch.cat([one["y"], two["y"]]), whole["y"])
    for name in ("linear.weight", "norm.weight", "norm.bias"):
        torch.testing.assert_close(one[name] + two[name], whole[name], msg=name)
    for name in ("norm.running_mean", "norm.running_var"):
        assert torch.equal(one[name], two[name])
        torch.testing.assert_close(one[name], whole[name], msg=name)
