"""A stack of models computes what each of them computes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.model.stack import LCMStack

CONFIG = LCMConfig(
    12, (2, 1, 3), width=16, layers=2, heads=2, ffn=24, dropout=0.2, input_dropout=0.1
)
SHAPES = {
    "projected": replace(CONFIG, attention="projected"),
    "absorbed": replace(CONFIG, attention="absorbed"),
    "flash": replace(CONFIG, attention="flash", dropout=0.0),
    "without dropout": replace(CONFIG, dropout=0.0, input_dropout=0.0),
    "constant regions": replace(CONFIG, mask_constant=True),
    "constant regions, absorbed": replace(CONFIG, mask_constant=True, attention="absorbed"),
    "edge branch": replace(CONFIG, edge_branch=True),
    "one layer": replace(CONFIG, layers=1),
}


def models(config: LCMConfig, number: int = 3) -> list[LCM]:
    """Of different weights, two calls give the same ones."""
    torch.manual_seed(1)
    made = [LCM(config) for _ in range(number)]
    for model in made:
        for parameter in model.parameters():  # norms and biases that are not what they start as
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def scans(number: int, batch: int = 5, padded: bool = True) -> tuple[Tensor, Tensor]:
    """Matrices (G, B, R, R), with a constant region and padded scans, and who is real (G, B)."""
    torch.manual_seed(2)
    fc = torch.randn(number, batch, 12, 12)
    fc = fc + fc.transpose(-1, -2)
    fc[:, :, 3], fc[..., 3] = 0.0, 0.0
    valid = torch.ones(number, batch)
    for g in range(number if padded else 0):
        fc[g, batch - g :], valid[g, batch - g :] = 0.0, 0.0
    return fc, valid


def seeded(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("shape", "padded"), [*((shape, True) for shape in SHAPES), ("without dropout", False)]
)
def test_logits_gradients_and_statistics_are_those_of_each_model_alone(
    shape: str, padded: bool
) -> None:
    """Dropout is on, with the masks that each model draws alone; padded scans touch nothing."""
    active = (0, 2)
    alone, together = models(SHAPES[shape]), models(SHAPES[shape])
    fc, valid = scans(3, padded=padded)
    stack = LCMStack(together)
    logits = stack.logits(fc, active, valid, seeded(range(10, 13)))
    part = torch.randn(logits[:, 0].shape, generator=torch.Generator().manual_seed(3))
    (logits * part.unsqueeze(1)).sum().backward()
    for g, model in enumerate(alone):
        torch.manual_seed(10 + g)
        own = model(fc[g], active, valid[g])
        torch.testing.assert_close(logits[:, g], own, atol=2e-6, rtol=1e-5)
        (own * part).sum().backward()
        for name, parameter in model.named_parameters():
            found = stack.weights[name].grad
            expected = parameter.grad
            if expected is None or found is None:
                assert not (expected is not None and expected.any()), name
                assert found is None or not found[g].any(), name
                continue
            torch.testing.assert_close(found[g], expected, atol=5e-6, rtol=2e-4, msg=name)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(together[g].get_buffer(name), buffer, msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_is_that_of_each_model_alone(shape: str) -> None:
    alone, together = models(SHAPES[shape]), models(SHAPES[shape])
    fc, valid = scans(3)
    stack = LCMStack(together)
    stack.training = False
    logits = stack.logits(fc, None, valid)
    for g, model in enumerate(alone):
        model.eval()
        torch.testing.assert_close(logits[:, g], model(fc[g]), atol=2e-6, rtol=1e-5)
        together[g].eval()
        torch.testing.assert_close(together[g](fc[g]), model(fc[g]), msg="they are its slices")


def test_products_are_in_bf16_where_autocast_says_so() -> None:
    """Gradients are held against those in fp32: two ways in bf16 may differ by twice its error."""
    alone, together = models(CONFIG), models(CONFIG)
    fc, valid = scans(3)
    stack = LCMStack(together)
    with torch.autocast("cpu", torch.bfloat16):
        logits = stack.logits(fc, None, valid, seeded(range(3)))
        assert logits.dtype == torch.bfloat16
        logits.float().square().sum().backward()
    for g, model in enumerate(alone):
        torch.manual_seed(g)
        own = model(fc[g], None, valid[g])
        apart = (logits[:, g].float() - own).detach().norm()
        assert float(apart / own.detach().norm()) < 0.06
        own.square().sum().backward()
        for name in ("layers.0.linear1.weight", "embedding.linear.weight"):
            expected, found = model.get_parameter(name).grad, stack.weights[name].grad
            assert expected is not None and found is not None and found.dtype == torch.float32
            assert float((found[g] - expected).norm() / expected.norm()) < 0.15, (
                name
            )  # signs of ReLUs turn


def test_a_model_without_scans_keeps_its_statistics() -> None:
    """As where its epoch is shorter than the others'."""
    together = models(CONFIG)
    stack = LCMStack(together)
    fc, valid = scans(3)
    fc[1], valid[1] = 0.0, 0.0
    before = [buffer.clone() for buffer in together[1].buffers()]
    stack.logits(fc, None, valid, seeded(range(3)))
    assert all(torch.equal(a, b) for a, b in zip(before, together[1].buffers(), strict=True))
    assert int(together[0].embedding.norm.num_batches_tracked) == 1


def test_models_of_different_shapes_are_no_stack() -> None:
    with pytest.raises(ValueError, match="one shape"):
        LCMStack([LCM(CONFIG), LCM(replace(CONFIG, width=32))])
