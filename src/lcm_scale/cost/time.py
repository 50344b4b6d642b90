"""How long a step takes: exact FLOPs over a card's pace, and what the optimiser moves through memory."""

from __future__ import annotations

import torch

from lcm_scale.config import BudgetConfig
from lcm_scale.hardware.cards import Card, card_of
from lcm_scale.hardware.precision import working_dtype
from lcm_scale.model.flops import formulation_of, once_flops, trained_parameters, training_flops
from lcm_scale.model.presets import LCMConfig

# A parameter and step: gradient read, weight and two moments read and written, fp32.
UPDATE_BYTES = 28


def hours_of(
    model: LCMConfig, scans_a_step: int, steps: int, budget: BudgetConfig, trainable: str = "all"
) -> float:
    """Hours on one card, without the start."""
    card = card_of(budget.gpu)
    flops = flops_on(card, model, scans_a_step, trainable)
    rate, floor = (
        (card.peak, 0.0) if card.measured else (card.peak * budget.mfu, budget.step_ms / 1000)
    )
    step = flops / rate + UPDATE_BYTES * trained_parameters(model, trainable) / card.bandwidth
    return steps * max(step, floor) / 3600


def flops_on(card: Card, model: LCMConfig, scans: int, trainable: str = "all") -> int:
    return step_flops(
        model, scans, card.device, working_dtype(card.precision_for(model.width)), trainable
    )


def step_flops(
    model: LCMConfig, scans: int, device: str, dtype: torch.dtype, trainable: str = "all"
) -> int:
    """FLOPs of one optimiser step, by the formulation that would run there."""
    formulation = formulation_of(model, model.n_tokens, scans, device, dtype)
    once = once_flops(model, trainable=trainable)
    return scans * training_flops(model, formulation, trainable=trainable) + once
