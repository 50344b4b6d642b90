"""The one forward: its numbers, the mode it leaves a network in, its device, and whom it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.atlas import Atlas
from lcm_scale.config import Recipe
from lcm_scale.data.sets import open_sets
from lcm_scale.data.stream import open_edges
from lcm_scale.errors import InputError
from lcm_scale.inference.predictor import Predictor, Reading, answers, pick_device, scores
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint

# What release 0.1.0's forward gave for the checkpoint it left and the matrices of `edges`.
OLD = Path(__file__).parents[1] / "formats" / "0.1.0" / "runs" / "run"
LOGITS = {
    "diagnosis": [
        [-0.63764411, -0.61388671, -0.65543991],
        [-0.61882061, -0.62307411, -0.63728470],
        [-0.60985422, -0.60165071, -0.66182321],
    ],
    "eye_status": [
        [-0.58911186, -0.66095406, -0.65728343],
        [-0.59133905, -0.68617105, -0.60279804],
        [-0.59434760, -0.64205629, -0.63859797],
    ],
    "sex": [[-0.68178362, -0.58596653], [-0.62933195, -0.62216479], [-0.67703056, -0.56736213]],
    "age": [[13.47023201], [16.11777878], [14.48172569]],
}


@pytest.fixture
def loaded() -> Checkpoint:
    return checkpoints.load(OLD)


@pytest.fixture
def network(loaded: Checkpoint) -> LCM:
    network = LCM(loaded.model)
    network.load_state_dict(dict(loaded.state))
    return network


@pytest.fixture
def edges() -> torch.Tensor:
    generator = np.random.default_rng(0)
    series = [generator.standard_normal((12, 80)) for _ in range(3)]
    fc = torch.from_numpy(np.stack([np.corrcoef(one) for one in series])).float()
    rows, columns = torch.triu_indices(12, 12, 1)
    return fc[:, rows, columns]


def test_scores_are_those_of_release_0_1_0(
    loaded: Checkpoint, network: LCM, edges: torch.Tensor
) -> None:
    found = scores(network, Reading.of(loaded), edges)
    assert list(found) == list(LOGITS)
    for name, expected in LOGITS.items():
        torch.testing.assert_close(found[name], torch.tensor(expected), rtol=1e-5, atol=1e-6)
    for name, answer in answers(network, Reading.of(loaded), edges).items():
        same = found[name][:, 0] if name == "age" else found[name].softmax(1)
        assert torch.equal(answer, same)


def test_targets_that_are_not_active_are_not_asked(
    loaded: Checkpoint, network: LCM, edges: torch.Tensor
) -> None:
    """Tokens see each other, so the others' numbers move."""
    some = replace(loaded, active=("age", "diagnosis"), readout="last", scalars={"age": (2.0, 3.0)})
    network.eval()
    logits = network(model_input(edges, "raw", 12), (0, 3))[-1]
    found = scores(network, Reading.of(some), edges)
    assert list(found) == ["diagnosis", "age"]
    assert torch.equal(found["diagnosis"], logits[:, :3])
    assert torch.equal(found["age"], logits[:, 3:] * 3 + 2)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_answers_in_evaluation_mode_and_goes_on_as_it_was(
    training: bool, loaded: Checkpoint, network: LCM, edges: torch.Tensor
) -> None:
    reading = Reading.of(loaded)
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (scores(network, reading, edges) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)  # no dropout
    assert not any(score.requires_grad for score in first.values())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {module.training for module in network.modules()} == {training}
    with pytest.raises(RuntimeError):
        scores(network, reading, edges[:, :-1])
    assert network.training == training


def test_precision_is_the_callers_and_answers_are_fp32(
    loaded: Checkpoint, network: LCM, edges: torch.Tensor
) -> None:
    reading = Reading.of(loaded)
    exact = scores(network, reading, edges)
    with torch.autocast("cpu", torch.bfloat16):
        rough = scores(network, reading, edges)
    for name, score in rough.items():
        assert score.dtype == torch.float32
        torch.testing.assert_close(score, exact[name], rtol=0.05, atol=0.05)
    assert not torch.equal(rough["diagnosis"], exact["diagnosis"])


def test_a_gpu_is_used_where_there_is_one_unless_the_recipe_says_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for usable in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda usable=usable: usable)
        monkeypatch.setattr(torch.cuda, "device_count", lambda usable=usable: int(usable))
        assert pick_device().type == ("cuda" if usable else "cpu")
        assert pick_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="no usable GPU here"):
        pick_device("gpu")


Make = Callable[..., Recipe]


def test_a_predictor_asks_batch_by_batch_and_as_the_one_forward(recipe: Make) -> None:
    made = recipe("trainer.max_steps=2", "model.init=reference", "data.edges=fisher_z")
    model = checkpoints.load(run.pretrain(made))
    sets = open_sets(made.data)
    source, scans = open_edges(sets, 8.0), np.arange(0, sets.n_scans, 2)
    network = LCM(model.model)
    network.load_state_dict(dict(model.state))
    asked = [("age", ()), ("diagnosis", ("CN", "Autism"))]
    age, diagnosis = Predictor(sets, source, made).answers(model, scans, asked)
    parts = [scans[start : start + 8] for start in range(0, len(scans), 8)]
    edges = [torch.from_numpy(source.gather(part)) for part in parts]
    found = [scores(network, Reading.of(model), each) for each in edges]
    assert np.array_equal(age, torch.cat([part["age"] for part in found])[:, 0].numpy())
    logits = torch.cat([part["diagnosis"] for part in found])[:, 1:]
    assert np.array_equal(diagnosis, logits.softmax(1).numpy())
    turned = [("diagnosis", ("Autism", "CN"))]
    (other_way,) = Predictor(sets, source, made).answers(model, scans, turned)
    np.testing.assert_allclose(other_way[:, ::-1], diagnosis, rtol=1e-5)
    rough, _ = Predictor(sets, source, made, torch.bfloat16).answers(model, scans, asked)
    assert not np.array_equal(rough, age)
    np.testing.assert_allclose(rough, age, rtol=0.05)


def test_regions_in_another_order_and_weights_that_do_not_fit_are_refused(recipe: Make) -> None:
    made = recipe("trainer.max_steps=1")
    model = checkpoints.load(run.pretrain(made))
    sets = open_sets(made.data)
    predictor, scans = Predictor(sets, open_edges(sets, 8.0), made), np.arange(3)
    own = model.atlas
    other = replace(model, atlas=Atlas("mine", own.indices[::-1], own.names[::-1]))
    with pytest.raises(InputError, match=r"\.ckpt: knows the regions in the order"):
        predictor.answers(other, scans, [("age", ())])
    lacking = {name: value for name, value in model.state.items() if name != "norm.weight"}
    with pytest.raises(InputError, match=r"for norm\.weight, expected \(16,\), found nothing"):
        predictor.answers(replace(model, state=lacking), scans, [("age", ())])
