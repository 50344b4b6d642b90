"""Phases: which rule, readout, targets and scans each epoch has, as pure data, and the callback
that applies them.

The schedule is a function of the recipe and the epoch alone. A resumed run makes it again; nothing
of it is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lcm_scale.config import OptimConfig, PhaseConfig
from lcm_scale.errors import InputError
from lcm_scale.vocabulary import Vocabulary


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        first_epoch, end_epoch: the epochs [first, end) of the run.
        active: numbers of the active targets in the run's vocabulary.
    """

    name: str
    first_epoch: int
    end_epoch: int
    stage: str
    readout: str
    active: tuple[int, ...]
    sets: tuple[str, ...]
    pseudo_labels: bool
    lr_scale: float


def schedule(
    phases: Sequence[PhaseConfig], vocabulary: Vocabulary, max_epochs: int | None = None
) -> tuple[Phase, ...]:
    """Lay the phases end to end; `max_epochs` cuts them short or stretches the last.

    Raises: InputError for no phases, or an unknown target in one.
    """
    if not phases:
        raise InputError("phases is empty: a run needs at least one")
    result: list[Phase] = []
    start = 0
    for number, config in enumerate(phases):
        for name in config.targets:
            vocabulary[name]
        active = tuple(
            i for i, n in enumerate(vocabulary.names) if n in config.targets or not config.targets
        )
        name = config.name or f"phase {number + 1}"
        result.append(
            Phase(
                name,
                start,
                start + config.epochs,
                config.stage,
                config.readout,
                active,
                tuple(config.sets),
                config.pseudo_labels,
                config.lr_scale,
            )
        )
        start += config.epochs
    if max_epochs is not None:
        kept = [p for p in result if p.first_epoch < max_epochs] or result[:1]
        result = [*kept[:-1], replace(kept[-1], end_epoch=max_epochs)]
    return tuple(result)


def phase_at(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase of an epoch; past the end, the last."""
    return next((p for p in phases if epoch < p.end_epoch), phases[-1])


def decay_epoch(config: OptimConfig, epochs: int) -> int:
    """The epoch at whose start a warm-up-stable-decay schedule begins to decay; up to there, runs
    of any length are one.

    Raises: InputError where the share is none.
    """
    if not 0 < config.decay_share <= 1:
        raise InputError(
            f"optim.decay_share={config.decay_share:g}: a share of the epochs, above 0 and at most "
            "1"
        )
    return math.floor((1 - config.decay_share) * epochs + 1e-9)


def lr_factor(config: OptimConfig, step: int, total_steps: int, decay_step: int) -> float:
    """Warm-up, then constant, cosine over the whole run, or constant up to `decay_step` and then 1
    - sqrt of the share of the decay that is done (Haegele et al. 2024, arXiv 2405.18392), as a
    factor of the stage's rate."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return warm
    if config.schedule == "wsd":
        done = max(0.0, (step - decay_step) / max(1, total_steps - decay_step))
        return warm * (config.final_lr + (1 - config.final_lr) * (1 - math.sqrt(done)))
    done = min(
        1.0, max(0.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
    )
    return warm * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done)))
