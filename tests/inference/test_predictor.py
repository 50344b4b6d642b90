"""One forward for prediction: whoever asks, the answer is the same; and what must not be
imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.inference.predictor import Predictor, Reading, answers, scores
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.objectives import evaluation_read
from lcm_scale.training import fit as run
from lcm_scale.training.prepare import prepare
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]


@pytest.fixture
def checkpoint(recipe: Make) -> checkpoints.Checkpoint:
    folder = run.pretrain(recipe("trainer.max_steps=12", "data.edges=fisher_z"))
    return checkpoints.load(folder)


def test_scores_are_the_networks_read_without_labels(checkpoint: checkpoints.Checkpoint) -> None:
    """Against the plain steps, written out."""
    network = LCM(checkpoint.model)
    network.load_state_dict(dict(checkpoint.state))
    edges = torch.rand(4, 66) - 0.5
    reading = Reading.of(checkpoint)
    network.eval()
    with torch.no_grad():
        logits = network(model_input(edges, "fisher_z", 12), reading.active)
        plain = evaluation_read(logits, reading.terms, checkpoint.readout)
    network.train()
    found = scores(network, reading, edges)
    assert network.training, "the network is left in the mode it was in"
    for name, expected in zip(checkpoint.active, plain, strict=True):
        assert torch.equal(found[name], expected)
    for name, answer in answers(network, reading, edges).items():
        if name != "age":
            assert torch.allclose(answer.sum(1), torch.ones(4))


def test_batches_do_not_matter(checkpoint: checkpoints.Checkpoint, recipe: Make) -> None:
    prepared = prepare(recipe("name=other"))
    asked = [("sex", (0, 1)), ("age", ())]
    several, one = (
        Predictor(prepared.opened.sets, prepared.opened.source, recipe(f"trainer.global_batch={b}"))
        for b in (5, 64)
    )
    for a, b in zip(
        several.answers(checkpoint, prepared.train, asked),
        one.answers(checkpoint, prepared.train, asked),
        strict=True,
    ):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("lcm_scale", ("torch", "lightning", "numpy", "omegaconf")),
        ("lcm_scale.weights", ("lightning", "webdataset")),
        ("lcm_scale.weights.hub", ("lightning", "webdataset")),
        ("lcm_scale.weights.checkpoints", ("lightning", "webdataset")),
        ("lcm_scale.weights.official", ("lightning", "webdataset")),
        ("lcm_scale.inference.predictor", ("lightning", "webdataset")),
        ("lcm_scale.inference.pretrained", ("lightning", "webdataset")),
    ],
)
def test_loading_a_model_is_not_loading_a_trainer(module: str, banned: tuple[str, ...]) -> None:
    code = f"import {module}, sys; print([b for b in {banned!r} if b in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_load_model_is_offered_and_unknown_names_are_not() -> None:
    import lcm_scale

    assert "load_model" in dir(lcm_scale) and callable(lcm_scale.load_model)
    with pytest.raises(AttributeError, match="no attribute 'laod_model'"):
        _ = lcm_scale.laod_model  # type: ignore[attr-defined]
