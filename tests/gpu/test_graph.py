"""A training step is one graph to torch's compiler: no Python in the middle of it, and no number
that the host would have to read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.training import fit
from lcm_scale.training.prepare import prepare

PSEUDO = "phases=[{epochs: 1, readout: adaptive, pseudo_labels: true}]"
MOMENTUM = "phases=[{epochs: 1, stage: momentum, readout: adaptive}]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("narrow", "overrides"),
    [
        (True, ("model.attention=projected", MOMENTUM)),
        (
            True,
            (
                "model.attention=absorbed",
                PSEUDO,
                "model.edge_branch=true",
                "trainer.checkpoint_layers=true",
                "model.mask_constant=true",
            ),
        ),
    ],
    ids=["projected", "absorbed, all options"],
)
def test_a_training_step_is_one_graph(
    recipe: Callable[..., Recipe], narrow: bool, overrides: tuple[str, ...]
) -> None:
    prepared = prepare(recipe("model.layers=2", "model.dropout=0.1", *overrides))
    data = fit.batches_of(prepared)
    module = fit.start_module(prepared, data)
    batch = next(data.batches(prepared.train, list(module.phase.active)))
    torch.compiler.reset()
    # fullgraph: a break in the graph is an error
    compiled = torch.compile(module.training_step, fullgraph=True, backend="aot_eager")
    results = []
    for step in (module.training_step, compiled):
        torch.manual_seed(1)
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = step(batch, 0)
        loss.backward()
        gradients = [p.grad.clone() for p in module.parameters() if p.grad is not None]
        results.append((loss.detach(), torch.cat([g.flatten() for g in gradients])))
    (loss, gradients), (other_loss, other_gradients) = results
    near = 2e-2 if narrow else 1e-5
    torch.testing.assert_close(other_loss, loss, rtol=near, atol=near)
    assert (other_gradients - gradients).norm() <= near * gradients.norm()
