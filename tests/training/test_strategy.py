"""Which way DDP is asked to go."""

from __future__ import annotations

import pytest

from lcm_scale.config import TrainerConfig
from lcm_scale.training.parallel.strategy import Hardware, trainer_arguments
from lcm_scale.training.together import Together


@pytest.mark.parametrize(
    ("same_targets", "accumulate", "static"),
    [(True, 1, True), (False, 1, False), (True, 2, False)],
)
def test_ddp_looks_for_unused_weights_only_where_they_may_change(
    same_targets: bool, accumulate: int, static: bool
) -> None:
    config = TrainerConfig(strategy="ddp", devices=2, accumulate=accumulate, threads=1)
    made = trainer_arguments(config, Hardware("cpu", "32-true"), Together(), 1, same_targets)
    asked = made["strategy"]._ddp_kwargs
    assert (asked["static_graph"], asked["find_unused_parameters"]) == (static, not static)
