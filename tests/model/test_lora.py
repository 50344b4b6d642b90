"""Low-rank adapters against plain weights: the first forward, the gradients, and what merging
leaves."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lcm_scale.config import LoRAConfig, TrainerConfig
from lcm_scale.errors import InputError
from lcm_scale.model.lcm import LCM
from lcm_scale.model.lora import WEIGHTS, merged
from lcm_scale.model.presets import LCMConfig
from lcm_scale.training.parallel.strategy import prepare_model

R = 13
FORMULATIONS = pytest.mark.parametrize("attention", ["projected", "absorbed", "flash"])


def shape(attention: str, dropout: float = 0.0, width: int = 24) -> LCMConfig:
    return LCMConfig(
        n_regions=R,
        target_tokens=(3, 2, 1),
        width=width,
        layers=3,
        heads=4,
        ffn=width // 2,
        dropout=dropout,
        attention=attention,
    )


def adapt(model: LCM, trained: bool) -> LCM:
    """Adapters of rank 3 on everything; trained: B and the attention's biases are no longer 0."""
    prepare_model(model, TrainerConfig(), LoRAConfig(rank=3))
    for name, parameter in model.named_parameters():
        if trained and name.endswith(("lora_b", "in_proj_bias")):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def merge(model: LCM) -> LCM:
    """A model that knows nothing of adapters, with the merged weights."""
    plain = LCM(model.config)
    plain.load_state_dict(merged({k: v.clone() for k, v in model.state_dict().items()}, "here"))
    return plain.train(model.training)


def outputs(model: LCM, bf16: bool = False) -> Tensor:
    torch.manual_seed(5)
    fc = torch.rand(4, R, R)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model(fc)


@FORMULATIONS
@pytest.mark.parametrize("bf16", [False, True])
def test_fresh_adapters_change_no_output(attention: str, bf16: bool) -> None:
    model = LCM(shape(attention, dropout=0.1))
    before = outputs(model, bf16)
    assert torch.equal(outputs(adapt(model, trained=False), bf16), before)


@FORMULATIONS
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_merged_weights_give_what_the_adapted_ones_gave(
    attention: str, bf16: bool, training: bool
) -> None:
    base = LCM(shape(attention, dropout=0.1))
    fresh = outputs(base.train(training), bf16)
    model = adapt(base, trained=True).train(training)
    plain, tolerance = merge(model), 1e-2 if bf16 else 1e-5
    torch.testing.assert_close(
        outputs(plain, bf16), outputs(model, bf16), atol=tolerance, rtol=tolerance
    )
    assert not torch.allclose(outputs(plain, bf16), fresh, atol=0.1)


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


@FORMULATIONS
@pytest.mark.parametrize(
    ("dropout", "width", "bf16"),
    [(0.0, 24, False), (0.1, 24, False), (0.0, 512, False), (0.0, 24, True), (0.1, 24, True)],
)
def test_an_adapters_gradients_follow_from_those_of_its_weight(
    attention: str, dropout: float, width: int, bf16: bool
) -> None:
    """d A = scale B' d W and d B = scale d W A', with d W of the merged model trained in full."""
    if attention == "flash":
        dropout = 0.0  # whose masks are its own
    model = adapt(LCM(shape(attention, dropout, width)), trained=True)
    plain = merge(model)
    for each in (model, plain):
        outputs(each, bf16).float().square().sum().backward()
    weights = dict(plain.named_parameters())
    held = 0
    for name, module in model.named_modules():
        low_rank = getattr(module, "low_rank", None)
        if low_rank is None:
            continue
        parts, _, inputs = low_rank.a.shape
        weight = next(weights[f"{name}.{w}"] for w in WEIGHTS if f"{name}.{w}" in weights)
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        gradient = gradient.view(parts, -1, inputs)
        for mine, expected in (
            (low_rank.a, low_rank.scale * low_rank.b.mT @ gradient),
            (low_rank.b, low_rank.scale * gradient @ low_rank.a.mT),
        ):
            found = torch.zeros_like(mine) if mine.grad is None else mine.grad
            slack = (5e-2 if bf16 else 1e-4) * float(expected.detach().norm()) + 1e-4
            assert float((found - expected).norm()) < slack, name
            held += float(expected.norm()) > 1e-2
    assert held >= 2 * (6 * 3 - 1), "all of them but the first self-attention's packed weight"


def test_nothing_of_the_decoder_has_a_gradient_but_its_adapters() -> None:
    model = adapt(LCM(shape("absorbed")), trained=False)
    outputs(model).square().sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    outside = ("tokens.", "norm.", "readout.")
    assert all(name.startswith(outside) or "lora_" in name for name in reached)
    assert {"tokens.target_0", "norm.weight", "readout.weight"} < reached


def test_layers_that_run_again_give_the_same_gradients() -> None:
    def gradients(again: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = adapt(LCM(shape("absorbed")), trained=True)
        model.checkpointing = again
        outputs(model).square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for one, other in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, other)


def test_alpha_over_rank_is_what_an_adapter_counts() -> None:
    differences = []
    for alpha in (3.0, 6.0):
        torch.manual_seed(0)
        model = LCM(shape("projected"))
        before = model.layers[0].linear1.weight.clone()
        prepare_model(model, TrainerConfig(), LoRAConfig(rank=3, alpha=alpha))
        linear = model.layers[0].linear1
        torch.nn.init.ones_(linear.lora_b)
        differences.append(merged(model.state_dict(), "")["layers.0.linear1.weight"] - before)
        assert torch.allclose(differences[-1], alpha / 3 * (linear.lora_b @ linear.lora_a)[0])
    for one, twice in pairwise(differences):
        assert torch.allclose(2 * one, twice, atol=1e-6)


def test_the_state_of_a_model_without_adapters_is_left_alone() -> None:
    state = LCM(shape("projected")).state_dict()
    assert merged(state, "here") is state


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("lora_b", None),
        ("lora_scale", None),
        ("weight", None),
        ("lora_a", torch.zeros(1, 3, 23)),
        ("lora_a", torch.zeros(3, 23)),
        ("lora_b", torch.zeros(2, 6, 3)),
        ("lora_b", torch.zeros(1, 12, 2)),
        ("lora_scale", torch.zeros(2)),
        ("lora_a", torch.zeros(1, 3, 24, dtype=torch.float16)),
    ],
)
def test_an_adapter_that_does_not_fit_its_weight_is_named(part: str, value: Tensor | None) -> None:
    state = dict(adapt(LCM(shape("projected")), trained=True).state_dict())
    name = f"layers.1.linear1.{part}"
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(InputError, match=r"^file: layers\.1\.linear1\.lora_a "):
        merged(state, "file")
