"""Everything that a GPU computes, against the CPU's fp64. Skipped without one: `pytest tests/gpu`
on a GPU machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.config.run import FORMULATIONS  # XX
from lcm_scale.model.attention import Attention
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.training import fit as run
from lcm_scale.training.optimizer import ADAPTIVE, MOMENTUM, TwoStage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 4e-2}


def output_and_gradients(
    formulation: str, device: str, dtype: torch.dtype, masked: bool
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    module = Attention(512, 8, 0.0, formulation)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 512**-0.5)
    query, memory = (
        torch.randn(4, 27, 512, generator=generator),
        torch.randn(4, 116, 512, generator=generator),
    )
    mask = (torch.rand(4, 116, generator=generator) < 0.2).to(device) if masked else None
    weights = torch.float32 if dtype == torch.bfloat16 else dtype
    module, query, memory = (
        module.to(device, weights),
        query.to(device, weights),
        memory.to(device, weights),
    )
    query.requires_grad_(), memory.requires_grad_()
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = module(query, memory, mask)
    (out.double() * torch.arange(out.numel(), device=device).cos().view_as(out)).sum().backward()
    return [
        t.double().cpu()
        for t in (out.detach(), query.grad, memory.grad, *(p.grad for p in module.parameters()))
    ]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_every_formulation_equals_the_cpus_fp64(
    formulation: str, dtype: torch.dtype, masked: bool
) -> None:
    exact = output_and_gradients("projected", "cpu", torch.float64, masked)
    found = output_and_gradients(formulation, "cuda", dtype, masked)
    for a, b in zip(exact, found, strict=True):
        assert (a - b).abs().max() <= TOLERANCE[dtype] * a.abs().max().clamp(min=1.0)


def test_absorbed_recomputes_under_the_very_dropout_mask_of_its_forward() -> None:
    """With the same mask output is linear in the values, so a gradient step of known size moves it
    as predicted."""
    torch.manual_seed(0)
    module = Attention(64, 4, 0.5, "absorbed").to("cuda", torch.float64)
    query, memory = (
        torch.randn(2, 5, 64).to(module.in_proj_weight),
        torch.randn(2, 9, 64).to(module.in_proj_weight),
    )

    def value(bump: float) -> torch.Tensor:
        torch.manual_seed(7)
        with torch.no_grad():
            module.in_proj_weight[130, 3] += bump
        out = module(query, memory).square().sum()
        with torch.no_grad():
            module.in_proj_weight[130, 3] -= bump
        return out

    value(0.0).backward()
    assert module.in_proj_weight.grad is not None
    slope = (value(1e-5) - value(-1e-5)).item() / 2e-5
    assert module.in_proj_weight.grad[130, 3].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("stage", [MOMENTUM, ADAPTIVE])
def test_the_fused_optimiser_equals_the_cpus(stage: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = (
        torch.randn(300, 200, generator=generator),
        torch.randn(5, 300, 200, generator=generator),
    )
    results = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        parameter = torch.nn.Parameter(start.to(device, dtype))
        optimizer = TwoStage([parameter], stage=stage, lr=0.01, weight_decay=0.01)
        for gradient in gradients:
            parameter.grad = gradient.to(device, dtype)
            optimizer.step()
        results.append(parameter.detach().double().cpu())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_whole_model_equals_the_cpus_fp64(checkpointing: bool, compiled: bool) -> None:
    torch.manual_seed(0)
    model = LCM(
        LCMConfig(40, (4, 2, 1), width=128, layers=3, heads=4, ffn=64, dropout=0.0)
    ).double()
    fc = torch.randn(3, 40, 40).double()
    model(fc).square().sum().backward()
    exact = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.to("cuda", torch.float32).checkpointing = checkpointing
    if compiled:
        for layer in model.layers:
            layer.compile()
    model(fc.to("cuda", torch.float32)).square().sum().backward()
    for a, p in zip(exact, (p for p in model.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(
            p.grad.double().cpu(), a, rtol=1e-2, atol=1e-3 * max(1.0, float(a.abs().max()))
        )


def test_a_1b_step_fits_and_gives_a_finite_loss() -> None:
    with torch.device("cuda"):
        model = LCM(LCMConfig(116, (24, 2, 1), layers=28))
        fc = torch.rand(16, 116, 116)
    optimizer = TwoStage(model.parameters())
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(fc).float().square().mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()


@pytest.mark.parametrize("strategy", ["auto", "zero3"])
def test_a_run_on_one_gpu_trains_and_saves(
    recipe: Callable[..., Recipe], strategy: str, tmp_path: Path
) -> None:
    if strategy == "zero3":
        pytest.importorskip("deepspeed")
    folder = run.pretrain(recipe("trainer.accelerator=gpu", f"trainer.strategy={strategy}"))
    assert list((folder / "checkpoints").glob("step-*.ckpt"))
