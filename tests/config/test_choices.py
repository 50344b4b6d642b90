"""Each member of a choice is one that the code handles, and the code handles no other."""

from __future__ import annotations

import pytest
import torch

from lcm_scale.config import ModelConfig, OptimConfig, Recipe, TrainerConfig, run, shard, sweep
from lcm_scale.config.check import fields_of, may_differ
from lcm_scale.cost.placement import STRATEGIES as PLANNED
from lcm_scale.data.readers import READERS
from lcm_scale.evaluation.baselines import BASELINES
from lcm_scale.evaluation.protocols import PROTOCOLS, SENTENCES
from lcm_scale.hardware.cards import CARDS, YOURS
from lcm_scale.hardware.precision import precision_of, working_dtype
from lcm_scale.laws.laws import LAWS
from lcm_scale.model.attention import ATTEND
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.model.presets import PRESETS, resolve
from lcm_scale.objectives import TargetLoss, evaluation_read, read
from lcm_scale.training.parallel.strategy import choose_hardware, trainer_arguments
from lcm_scale.training.schedule import lr_factor
from lcm_scale.vocabulary import sex

CHOICES = {
    key: made.choices for key, _, made in fields_of(Recipe) if made is not None and made.choices
}


def test_tables_hold_exactly_the_choices() -> None:
    assert set(shard.READERS) == set(READERS)
    assert set(run.PRESETS) == set(PRESETS)
    assert set(run.BASELINES) == set(BASELINES)
    assert set(run.PROTOCOLS) == set(PROTOCOLS) == set(SENTENCES)
    assert set(run.FORMULATIONS) == set(ATTEND)
    assert set(run.STRATEGIES) == {"auto", *PLANNED}
    assert set(sweep.LAWS) == set(LAWS)
    assert set(sweep.CARDS) == {*CARDS, YOURS}


@pytest.mark.parametrize("readout", run.READOUTS)
def test_each_readout_reads_its_own_way(readout: str) -> None:
    logits = torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])  # two layers, one scan, two tokens
    terms, labels = [TargetLoss(sex())], torch.tensor([[0.0]])
    expected = {"mean": [1.5, 0.5], "adaptive": [3.0, 0.0], "last": [0.0, 1.0]}
    assert read(logits, labels, terms, readout)[0].tolist() == [expected[readout]]
    evaluated = {"mean": [1.5, 0.5], "adaptive": [3.0, 1.0], "last": [0.0, 1.0]}
    assert evaluation_read(logits, terms, readout)[0].tolist() == [evaluated[readout]]


def test_a_readout_that_is_none_is_not_read_as_another() -> None:
    logits, terms = torch.zeros(2, 1, 2), [TargetLoss(sex())]
    with pytest.raises(ValueError, match="adaptiv"):
        evaluation_read(logits, terms, "adaptiv")
    with pytest.raises(ValueError, match="adaptiv"):
        read(logits, torch.zeros(1, 1), terms, "adaptiv")


def test_each_kind_of_edges_feeds_another_matrix() -> None:
    edges = torch.tensor([[0.5, -0.25, 0.75]])
    fed = [model_input(edges, kind, 3) for kind in run.EDGES]
    assert not torch.equal(fed[0], fed[1])
    assert torch.allclose(fed[1][0, 0, 1], torch.atanh(torch.tensor(0.5)))


@pytest.mark.parametrize("schedule", CHOICES["optim.schedule"])
def test_each_schedule_has_its_own_end(schedule: str) -> None:
    config = OptimConfig(schedule=schedule, final_lr=0.25)
    ends = {"constant": 1.0, "cosine": 0.25, "wsd": 0.25}
    assert lr_factor(config, 100, 100, 80) == pytest.approx(ends[schedule])
    middle = {"constant": 1.0, "cosine": 0.625, "wsd": 1.0}
    assert lr_factor(config, 50, 100, 80) == pytest.approx(middle[schedule])


@pytest.mark.parametrize("init", run.INITS)
def test_each_initialisation_is_its_own(init: str) -> None:
    config = resolve(ModelConfig(init=init, layers=2, width=8, heads=2, ffn=8), 5, (2,))
    first, second = (layer.linear1.weight for layer in LCM(config).layers)
    assert torch.equal(first, second) == (init == "reference")


@pytest.mark.parametrize("strategy", run.STRATEGIES)
def test_each_strategy_can_be_set_up(strategy: str) -> None:
    if strategy.startswith("zero"):
        pytest.importorskip("deepspeed")
    config = TrainerConfig(strategy=strategy, accelerator="cpu", threads=torch.get_num_threads())
    made = trainer_arguments(config, choose_hardware(config, 64))["strategy"]
    names = {"auto": "str", "ddp": "DDPStrategy"}
    assert type(made).__name__ == names.get(strategy, "ZeroStrategy")


@pytest.mark.parametrize("precision", run.PRECISIONS)
def test_each_precision_is_one_that_products_run_in(precision: str) -> None:
    ran = precision_of(precision, "cpu", 64)
    assert ran in run.PRECISIONS and ran != "auto"
    assert precision in ("auto", ran)
    wanted = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
    assert working_dtype(ran) == wanted[ran]


def test_every_choice_of_a_run_is_looked_at_by_a_test() -> None:
    """A new choice comes here with what handles it; those of `PLAIN` are one comparison each."""
    tested = {
        "data.edges",
        "model.preset",
        "model.init",
        "model.attention",
        "optim.schedule",
        "phases.readout",
        "trainer.strategy",
        "trainer.precision",
        "evaluate.protocol",
        "evaluate.baselines",
    }
    plain = {  # one member each is compared with, the other is the rest
        "phases.stage",
        "optim.state",
        "optim.trainable",
        "objective.scalar_scale",
        "trainer.accelerator",
    }
    assert {key for key in CHOICES if not key.startswith("pseudo")} == tested | plain
    assert all(len(CHOICES[key]) == 2 for key in plain - {"trainer.accelerator"})


def test_what_may_differ_is_about_the_machine_and_the_length_alone() -> None:
    keys = may_differ(Recipe)
    assert {"trainer.devices", "trainer.max_steps", "trainer.strategy"} <= keys
    assert all(key.startswith("trainer.") for key in keys)
    assert not keys & {"trainer.global_batch", "trainer.precision", "trainer.checkpoint_steps"}
