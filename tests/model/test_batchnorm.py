from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lcm_scale.model.batchnorm import MaskedBatchNorm


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


def test_equals_torchs_batch_norm_in_output_gradients_buffers_and_eval() -> None:
    x = (torch.randn(4, 6, 5) * 3 + 2).double()
    ours, theirs = ours_and_theirs(x)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    target = torch.randn(4, 6, 5).double()
    out_a, out_b = ours(a), theirs(b.reshape(24, 5)).view(4, 6, 5)
    (out_a * target).sum().backward()
    (out_b * target).sum().backward()
    torch.testing.assert_close(out_a, out_b)
    torch.testing.assert_close(a.grad, b.grad)
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
