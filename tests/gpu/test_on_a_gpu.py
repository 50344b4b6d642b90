"""Everything that a GPU computes, against the CPU's fp64: `pytest tests/gpu` on a GPU machine.

Each test runs on the CPU as well, so that it is right before a GPU is lent.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lcm_scale.config import ModelConfig, Recipe
from lcm_scale.config.run import FORMULATIONS
from lcm_scale.model.attention import Attention
from lcm_scale.model.dropout import apply_mask, keep_mask
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig, resolve
from lcm_scale.training import fit as run
from lcm_scale.training.optimizer import ADAPTIVE, MOMENTUM, TwoStage

GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    ],
)
on_both = pytest.mark.parametrize("device", ["cpu", GPU])

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


@on_both
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_every_formulation_equals_the_cpus_fp64(
    formulation: str, dtype: torch.dtype, masked: bool, device: str
) -> None:
    exact = output_and_gradients("projected", "cpu", torch.float64, masked)
    found = output_and_gradients(formulation, device, dtype, masked)
    for a, b in zip(exact, found, strict=True):
        assert (a - b).abs().max() <= TOLERANCE[dtype] * a.abs().max().clamp(min=1.0)


@on_both
def test_absorbed_recomputes_under_the_very_dropout_mask_of_its_forward(device: str) -> None:
    """With the same mask output is linear in the values, so a gradient step of known size moves it
    as predicted."""
    torch.manual_seed(0)
    module = Attention(64, 4, 0.5, "absorbed").to(device, torch.float64)
    query, memory = (
        torch.randn(2, 5, 64).to(module.in_proj_weight),
        torch.randn(2, 9, 64).to(module.in_proj_weight),
    )

    def value(bump: float) -> torch.Tensor:
        """After the weight has moved by so much."""
        with torch.no_grad():
            module.in_proj_weight[130, 3] += bump
        torch.manual_seed(7)
        return module(query, memory).square().sum()

    value(0.0).backward()
    assert module.in_proj_weight.grad is not None
    slope = (value(1e-5) - value(-2e-5)).item() / 2e-5
    assert module.in_proj_weight.grad[130, 3].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


@on_both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_absorbed_drops_the_weights_that_projected_drops(dtype: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    absorbed = Attention(64, 4, 0.5, "absorbed").to(device)
    projected = Attention(64, 4, 0.5, "projected").to(device)
    projected.load_state_dict(absorbed.state_dict())
    query, memory = (torch.randn(2, n, 64, device=device) for n in (5, 9))
    outputs = []
    for module in (absorbed, projected):
        torch.manual_seed(7)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs.append(module(query, memory).float())
    torch.testing.assert_close(*outputs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_is_applied_alike_on_gpus_and_cpus(dtype: torch.dtype) -> None:
    """By the operator that a GPU takes, which a CPU has too."""
    x = torch.randn(40, 50).to(dtype)
    kept, scale = keep_mask(x, 0.3)
    by_gpu = torch.ops.aten.native_dropout_backward(x, kept, scale)
    torch.testing.assert_close(by_gpu, apply_mask(x, kept, scale))


@on_both
@pytest.mark.parametrize("stage", [MOMENTUM, ADAPTIVE])
def test_the_fused_optimiser_equals_torchs_own_in_fp64(stage: str, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = (
        torch.randn(300, 200, generator=generator),
        torch.randn(5, 300, 200, generator=generator),
    )
    exact, ours = (
        torch.nn.Parameter(start.double()),
        torch.nn.Parameter(start.clone().to(device)),
    )
    reference = (
        torch.optim.SGD([exact], lr=0.01, momentum=0.9, weight_decay=0.01)
        if stage == MOMENTUM
        else torch.optim.AdamW([exact], lr=0.01, weight_decay=0.01)
    )
    optimizer = TwoStage([ours], stage=stage, lr=0.01, weight_decay=0.01)
    for gradient in gradients:
        exact.grad, ours.grad = gradient.double(), gradient.clone().to(device)
        reference.step()
        optimizer.step()
    torch.testing.assert_close(ours.detach().double().cpu(), exact.detach(), rtol=1e-5, atol=1e-6)


@on_both
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_whole_model_equals_the_cpus_fp64(
    checkpointing: bool, compiled: bool, device: str
) -> None:
    torch.manual_seed(0)
    model = LCM(
        LCMConfig(40, (4, 2, 1), width=128, layers=3, heads=4, ffn=64, dropout=0.0)
    ).double()
    fc = torch.randn(3, 40, 40).double()
    model(fc).square().sum().backward()
    exact = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.to(device, torch.float32).checkpointing = checkpointing
    if compiled:
        for layer in model.layers:  # inductor's kernels on a GPU alone: on CPUs they take minutes
            layer.compile(backend="inductor" if device == "cuda" else "aot_eager")
    model(fc.to(device, torch.float32)).square().sum().backward()
    for a, p in zip(exact, (p for p in model.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(
            p.grad.double().cpu(), a, rtol=1e-2, atol=1e-3 * max(1.0, float(a.abs().max()))
        )


@pytest.mark.parametrize(
    ("device", "preset"), [("cpu", "tiny"), pytest.param("cuda", "1b", marks=GPU.marks)]
)
def test_a_step_in_bf16_fits_and_gives_a_finite_loss(device: str, preset: str) -> None:
    with torch.device(device):
        model = LCM(resolve(ModelConfig(preset=preset), 116, (24, 2, 1)))
        fc = torch.rand(16, 116, 116)
    optimizer = TwoStage(model.parameters())
    with torch.autocast(device, torch.bfloat16):
        loss = model(fc).float().square().mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()


@on_both
@pytest.mark.parametrize("strategy", ["auto", "zero3"])
def test_a_run_on_one_device_trains_and_saves(
    recipe: Callable[..., Recipe], strategy: str, device: str
) -> None:
    if strategy == "zero3":
        pytest.importorskip("deepspeed")
        if device == "cpu":
            pytest.skip("tests/distributed runs it in a process of its own")
    accelerator = "gpu" if device == "cuda" else "cpu"
    folder = run.pretrain(
        recipe(f"trainer.accelerator={accelerator}", f"trainer.strategy={strategy}")
    )
    assert list((folder / "checkpoints").glob("step-*.ckpt"))
