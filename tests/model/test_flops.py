"""The counts against the figures of docs/model.md, against the real model's parameters and against
torch's FLOP counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcm_scale.config import LoRAConfig, ModelConfig, TrainerConfig, Trains
from lcm_scale.config.run import FORMULATIONS
from lcm_scale.model.flops import (
    crossover,
    formulation_of,
    forward_flops,
    layer_flops,
    once_flops,
    parameter_count,
    training_flops,
)
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import PRESETS, LCMConfig, resolve
from lcm_scale.model.products import ONEDNN
from lcm_scale.training.parallel.strategy import prepare_model

PUBLISHED_TOKENS = (4, 2, 1)  # four label categories, sex, age
PUBLISHED_PARAMETERS = {
    "147m": 147_190_785,
    "294m": 294_117_377,
    "441m": 441_043_969,
    "588m": 587_970_561,
    "735m": 734_897_153,
    "882m": 881_823_745,
    "1b": 1_028_750_337,
    "1.2b": 1_175_676_929,
}


def published(preset: str, **changes: object) -> LCMConfig:
    return resolve(ModelConfig(preset=preset, **changes), 116, PUBLISHED_TOKENS)


def test_every_published_size_is_in_the_table() -> None:
    assert set(PUBLISHED_PARAMETERS) == set(PRESETS) - {"tiny", "small"}


@pytest.mark.parametrize("preset", PUBLISHED_PARAMETERS)
def test_formula_and_real_model_have_exactly_the_published_parameters(preset: str) -> None:
    config = published(preset)
    with torch.device("meta"):
        real = sum(p.numel() for p in LCM(config).parameters())
    assert parameter_count(config) == real == PUBLISHED_PARAMETERS[preset]


@pytest.mark.parametrize("edge_branch", [False, True])
def test_formula_counts_any_shape(edge_branch: bool) -> None:
    config = LCMConfig(
        n_regions=13,
        target_tokens=(3, 2),
        width=24,
        layers=3,
        heads=4,
        ffn=10,
        edge_branch=edge_branch,
    )
    assert parameter_count(config) == sum(p.numel() for p in LCM(config).parameters())


@pytest.mark.parametrize(
    ("tokens", "absorbed", "projected"), [(5, 0.41, 2.23), (25, 2.03, 3.39), (50, 4.07, 4.85)]
)  # docs/model.md, Arithmetic: GFLOP a layer and scan
def test_layer_costs_what_planning_measured(tokens: int, absorbed: float, projected: float) -> None:
    config = published("147m")
    cost = {
        f: sum(layer_flops(config, tokens, f).values()) / 1e9 for f in ("absorbed", "projected")
    }
    assert round(cost["absorbed"], 2) == absorbed
    assert round(cost["projected"], 2) == projected


def test_formulations_cost_the_same_at_the_crossover() -> None:
    config, cross = published("147m"), crossover(116, 2048, 8)
    assert 83 < cross < 84

    def dearer(tokens: int) -> bool:
        cost = {
            f: layer_flops(config, tokens, f)["cross-attention"] for f in ("absorbed", "projected")
        }
        return cost["absorbed"] > cost["projected"]

    assert not dearer(83)
    assert dearer(84)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(5, "absorbed"), (25, "absorbed"), (116, "projected")]
)
def test_auto_is_counted_as_the_formulation_that_runs(tokens: int, expected: str) -> None:
    assert formulation_of(published("147m"), tokens) == expected
    assert formulation_of(published("147m", attention="flash"), tokens) == "flash"


def count_onednn(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], *_: object, **__: object
) -> int:
    return 2 * x_shape[0] * x_shape[1] * w_shape[0]


def counter() -> FlopCounterMode:
    mapping = {torch.ops.mkldnn._linear_pointwise: count_onednn} if ONEDNN else {}
    return FlopCounterMode(display=False, custom_mapping=mapping)


@pytest.mark.parametrize("formulation", ["projected", "absorbed"])
@pytest.mark.parametrize("edge_branch", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    "width", [24, 512]
)  # the larger one's products go to oneDNN where there is one
@pytest.mark.parametrize(
    "trainable",
    [
        "all",
        "tokens",
        LoRAConfig(3),
        LoRAConfig(2, targets=["attention"]),
        LoRAConfig(2, targets=["ffn"]),
    ],
)
def test_counts_equal_torchs_counter_on_the_real_model(
    formulation: str, edge_branch: bool, dropout: float, width: int, trainable: Trains
) -> None:
    config = LCMConfig(
        n_regions=13,
        target_tokens=(3, 2, 1),
        width=width,
        layers=3,
        heads=4,
        ffn=width // 2,
        dropout=dropout,
        attention=formulation,
        edge_branch=edge_branch,
    )
    model, scans, active = LCM(config), 2, [0, 2]
    prepare_model(model, TrainerConfig(), trainable)
    with counter() as found:
        model(torch.rand(scans, 13, 13), active).sum().backward()
    once = once_flops(config, 4, trainable)
    assert (
        found.get_total_flops()
        == scans * training_flops(config, formulation, 4, trainable=trainable) + once
    )
    with torch.no_grad(), counter() as found:
        LCM(config).eval().requires_grad_(False)(torch.rand(scans, 13, 13), active)
    forward = 2 * 4 * width  # the first layer's self-attention, once
    assert found.get_total_flops() == scans * forward_flops(config, formulation, tokens=4) + forward


def test_recomputed_products_are_no_work_towards_mfu() -> None:
    config = published("147m")
    recomputed = {
        f: training_flops(config, f, 27) - training_flops(config, f, 27, recomputed=False)
        for f in FORMULATIONS
    }
    assert recomputed["projected"] == recomputed["flash"] == 0
    queries_and_rows = 2 * 27 * 2048 * 2048 + 2 * 8 * 27 * 116 * 2048
    assert recomputed["absorbed"] == 4 * queries_and_rows


def test_an_unknown_formulation_is_refused() -> None:
    with pytest.raises(ValueError, match="fast"):
        layer_flops(published("147m"), 7, "fast")


def test_statistics_from_the_inputs_count_where_they_run() -> None:
    """A narrow model's: on GPUs, and not on CPUs."""
    config = published("tiny")
    R, D = config.n_regions, config.width
    step = [
        training_flops(config, "projected", 7, device=device) + once_flops(config, 7, device=device)
        for device in ("cpu", "cuda")
    ]
    assert D < 2 * R and step[1] - step[0] == 2 * R * R + 2 * R**3 + 2 * R * R * D
