"""How long a step takes: exact FLOPs over a card's pace, and what the optimiser moves through
memory."""

from __future__ import annotations

import math

import torch

from lcm_scale.config import BudgetConfig, Trains
from lcm_scale.cost.count import Job
from lcm_scale.hardware.cards import Card
from lcm_scale.hardware.precision import working_dtype
from lcm_scale.model.flops import (
    formulation_of,
    layer_flops,
    once_flops,
    trained_parameters,
    training_flops,
)
from lcm_scale.model.presets import LCMConfig

# A parameter and step: gradient read, weight and two moments read and written, fp32.
UPDATE_BYTES = 28


def step_seconds(
    job: Job,
    card: Card,
    budget: BudgetConfig,
    cards: int = 1,
    checkpoint_layers: bool = False,
    accumulate: int = 1,
) -> float:
    """Seconds of one optimiser step on one of some cards, without what they send each other.

    A step is never faster than its kernels start: `budget.step_ms` for each micro-batch, and a
    third more where the forward pass runs twice.
    """
    flops = card_flops(job, card, cards, checkpoint_layers, accumulate)
    peak = card.peak_in(job.precision_on(card))
    rate, start = (peak, 0.0) if card.measured else (peak * budget.mfu, budget.step_ms / 1000)
    passes = accumulate * (4 / 3 if checkpoint_layers else 1)
    moved = UPDATE_BYTES * trained_parameters(job.model, job.trainable)
    return max(flops / rate + moved / card.bandwidth, passes * start)


def card_flops(
    job: Job, card: Card, cards: int = 1, checkpoint_layers: bool = False, accumulate: int = 1
) -> int:
    """FLOPs of one optimiser step on one of some cards, by the formulation that would run there."""
    scans = math.ceil(job.batch / (cards * accumulate))
    dtype = working_dtype(job.precision_on(card))
    flops = step_flops(job.model, scans, card.device, dtype, job.trainable)
    if checkpoint_layers:
        flops += scans * _layers_forward(job.model, scans, card.device, dtype)
    return accumulate * flops


def step_flops(
    model: LCMConfig, scans: int, device: str, dtype: torch.dtype, trainable: Trains = "all"
) -> int:
    """FLOPs of one forward and backward pass, by the formulation that would run there."""
    formulation = formulation_of(model, model.n_tokens, scans, device, dtype)
    once = once_flops(model, None, trainable, device, dtype)
    return scans * training_flops(model, formulation, None, True, trainable, device, dtype) + once


def _layers_forward(model: LCMConfig, scans: int, device: str, dtype: torch.dtype) -> int:
    """FLOPs that `trainer.checkpoint_layers` adds for one scan: the layers' forward pass."""
    formulation = formulation_of(model, model.n_tokens, scans, device, dtype)
    parts = layer_flops(model, model.n_tokens, formulation)
    return model.layers * sum(parts.values()) - parts["self-attention"]
