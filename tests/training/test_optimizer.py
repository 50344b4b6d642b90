import copy

import pytest
import torch

from lcm_scale.config import ModelConfig
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import resolve
from lcm_scale.training import optimizer
from lcm_scale.training.optimizer import ADAPTIVE, MOMENTUM, PIECE, TwoStage, parameter_groups


def weights() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(7))]


def descend(
    parameters: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    steps: int,
    first: int = 0,
) -> None:
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("by_number", [{"cpu"}, set()], ids=["a number", "in memory"])
@pytest.mark.parametrize("stage", [MOMENTUM, ADAPTIVE])
def test_each_stage_equals_torchs_own_optimiser_wherever_its_rate_lies(
    stage: str, by_number: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "BY_NUMBER", by_number)
    ours, theirs = weights(), weights()
    mine = TwoStage(ours, stage=stage, lr=0.1, weight_decay=0.05)
    reference = (
        torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.05)
        if stage == MOMENTUM
        else torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.05)
    )
    for first, rate in ((0, 0.1), (3, 0.02)):
        mine.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = rate
        descend(ours, mine, 3, first)
        descend(theirs, reference, 3, first)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_the_update_rule_itself_changes_at_the_switch() -> None:
    """Before, the step is proportional to the gradient; after, Adam's first step is +-lr whatever
    the gradient's size."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = TwoStage([parameter], stage=MOMENTUM, lr=0.1)
    gradient = torch.tensor([1e-3, 5.0])
    parameter.grad = gradient.clone()
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), -0.1 * gradient)
    optimizer.set_stage(ADAPTIVE)
    before = parameter.detach().clone()
    parameter.grad = gradient.clone()
    optimizer.step()
    torch.testing.assert_close(
        parameter.detach() - before, torch.tensor([-0.1, -0.1]), rtol=1e-4, atol=1e-5
    )


def test_after_the_switch_the_run_is_the_one_a_fresh_adam_would_make() -> None:
    ours, theirs = weights(), weights()
    mine = TwoStage(ours, stage=MOMENTUM, lr=0.1)
    descend(ours, mine, 3)
    mine.set_stage(ADAPTIVE)
    descend(theirs, torch.optim.SGD(theirs, lr=0.1, momentum=0.9), 3)
    descend(ours, mine, 4, first=3)
    descend(theirs, torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.0), 4, first=3)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_state_names_are_adams_in_both_stages() -> None:
    """DeepSpeed's universal converter reads these by name."""
    for stage in (MOMENTUM, ADAPTIVE):
        parameters = weights()
        optimizer = TwoStage(parameters, stage=stage)
        descend(parameters, optimizer, 1)
        assert set(optimizer.state[parameters[0]]) == {"step", "exp_avg", "exp_avg_sq"}


def test_an_inactive_group_feels_neither_decay_nor_momentum() -> None:
    parameters = weights()
    optimizer = TwoStage([{"params": [p]} for p in parameters], lr=0.1, weight_decay=0.1)
    descend(parameters, optimizer, 3)
    frozen = parameters[1].detach().clone()
    state = optimizer.state[parameters[1]]["exp_avg"].clone()
    optimizer.param_groups[1]["active"] = False
    descend(parameters, optimizer, 3)
    assert torch.equal(parameters[1].detach(), frozen)
    assert torch.equal(optimizer.state[parameters[1]]["exp_avg"], state)
    assert not torch.equal(parameters[0].detach(), weights()[0].detach())


def test_groups_hold_every_parameter_once_and_decay_only_matrices() -> None:
    model = LCM(resolve(ModelConfig(preset="tiny", edge_branch=True), 12, (4, 2, 1)))
    groups = parameter_groups(model, ["diagnosis", "sex", "age"], 0.1)
    seen = [p for group in groups for p in group["params"]]
    assert len(seen) == len(set(seen)) == len(list(model.parameters()))
    decayed = {group["name"]: group["decay"] for group in groups}
    assert decayed["matrices"] is None and decayed["norms and biases"] == 0
    assert decayed["tokens: sex"] == 0 and decayed["edge_branch.table: sex"] == 0.1
    assert {group["target"] for group in groups} == {-1, 0, 1, 2}


def test_bf16_averages_are_right_in_the_mean_where_nearest_rounding_freezes() -> None:
    """A hundred steps of a gradient whose square is 4 % above the average's: below what bf16 tells
    apart a step."""
    parameter = torch.nn.Parameter(torch.zeros(1 << 16))
    optimizer = TwoStage([parameter], lr=0.0, state_dtype=torch.bfloat16)
    square = optimizer.fresh_state(parameter)["exp_avg_sq"]
    square.fill_(1.0)
    expected, nearest = 1.0, torch.ones((), dtype=torch.bfloat16)
    for _ in range(100):
        parameter.grad = torch.full_like(parameter, 1.04**0.5)
        optimizer.step()
        expected = 0.999 * expected + 0.001 * 1.04
        nearest = (0.999 * nearest.float() + 0.001 * 1.04).to(torch.bfloat16)
    assert float(nearest) == 1.0
    assert float(optimizer.state[parameter]["exp_avg_sq"].float().mean()) == pytest.approx(
        expected, abs=3e-4
    )


@pytest.mark.parametrize("stage", [MOMENTUM, ADAPTIVE])
def test_bf16_averages_give_nearly_the_fp32_run_and_go_on_bit_for_bit(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PIECE, "cpu", 4)  # many pieces, the last one shorter
    ours, theirs = weights(), weights()
    mine = TwoStage(ours, stage=stage, lr=0.01, state_dtype=torch.bfloat16)
    reference = TwoStage(theirs, stage=stage, lr=0.01)
    descend(ours, mine, 6)
    descend(theirs, reference, 6)
    for a, b, start in zip(ours, theirs, weights(), strict=True):
        torch.testing.assert_close(a - start, b - start, rtol=0.02, atol=1e-3)
        assert not torch.equal(a, b)
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    other = TwoStage(resumed, stage=stage, lr=0.01, state_dtype=torch.bfloat16)
    other.load_state_dict(copy.deepcopy(mine.state_dict()))
    assert {s["exp_avg"].dtype for s in other.state.values()} == {torch.bfloat16}
    descend(ours, mine, 3, first=6)
    descend(resumed, other, 3, first=6)
    assert all(torch.equal(a, b) for a, b in zip(ours, resumed, strict=True))
