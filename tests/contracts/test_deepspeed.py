"""What the package needs of DeepSpeed's private parts. What they hold while a model trains is
tested where it trains over several ranks (tests/distributed); here, that they are there."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

pytest.importorskip("deepspeed")

import deepspeed
from deepspeed.ops.op_builder import cpu as builders
from deepspeed.runtime.zero import partition_parameters, stage3, stage_1_and_2
from deepspeed.utils import mixed_precision_linkage
from deepspeed.utils.tensor_fragment import fragment_address, tensor_fragment

Holds = Callable[[str, bool, str], None]
FIRST = stage_1_and_2.DeepSpeedZeroOptimizer
THIRD = stage3.DeepSpeedZeroOptimizer_Stage3


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("bit16_groups", FIRST),
        ("single_partition_of_fp32_groups", FIRST),
        ("fp32_partitioned_groups_flat", THIRD),
        ("grad_position", THIRD),
        ("optimizer", FIRST),
        ("optimizer", THIRD),
    ],
)
def test_an_optimizer_sets_the_attribute_that_is_read(
    name: str, optimizer: Any, holds: Holds
) -> None:
    source = inspect.getsource(optimizer)
    holds(name, f"self.{name} = " in source, f"is no longer set by {optimizer.__name__}")


def test_the_third_stage_says_where_a_parameters_piece_lies(holds: Holds) -> None:
    method = getattr(THIRD, "get_param_id", None)
    taken = method and list(inspect.signature(method).parameters)
    holds("get_param_id", taken == ["self", "param"], f"no longer takes a parameter: {taken}")
    place = "self.grad_position[param_id] = [int(i), int(current_offset), int(num_elements)]"
    written = place in inspect.getsource(THIRD)
    holds("grad_position", written, "no longer is [group, offset in it, numbers] by parameter")


def test_the_first_stages_link_a_weight_to_its_piece_of_the_master_copy(holds: Holds) -> None:
    source = inspect.getsource(mixed_precision_linkage)
    holds("_hp_mapping", "._hp_mapping = " in source, "is no longer set on a parameter")
    link = {f.name for f in fields(tensor_fragment)}
    place = {f.name for f in fields(fragment_address)}
    for name in ("lp_fragment_address", "hp_fragment_address"):
        holds(name, name in link, "is no longer part of a tensor_fragment")
        holds(name, {"start", "numel"} <= place, "no longer has a start and a number of elements")


@pytest.mark.parametrize("name", ["ds_numel", "ds_shape"])
def test_the_third_stage_leaves_a_parameters_size_on_it(name: str, holds: Holds) -> None:
    source = inspect.getsource(partition_parameters)
    holds(name, f"param.{name} = " in source, "is no longer set on a parameter")


def test_the_operator_for_gloo_can_be_ruled_out(holds: Holds) -> None:
    builder = getattr(builders, "ShareMemCommBuilder", None)
    holds("ShareMemCommBuilder", hasattr(builder, "NAME"), "is gone, or has no NAME")
    known = getattr(deepspeed.ops, "__compatible_ops__", {})
    holds("__compatible_ops__", builder.NAME in known, "no longer lists the operator by its NAME")
    # Its attribute `torch` of the same package is torch itself.
    backend = importlib.import_module("deepspeed.comm.torch")
    asked = "__compatible_ops__.get(builder.NAME" in inspect.getsource(backend)
    holds("__compatible_ops__", asked, "is no longer asked before the operator is compiled")


def test_muon_is_imported_without_compiling_anything(holds: Holds) -> None:
    """It would cost five seconds a rank, for an optimiser that is not ours."""
    source = inspect.getsource(importlib.import_module("deepspeed.runtime.zero.muon.original_muon"))
    holds("compiler", "@compiler.compile()" in source, "no longer compiles through `compiler`")
    asked = inspect.getsource(importlib.import_module("deepspeed.runtime.zero.utils"))
    holds("compiler", "muon_optimizer import" in asked, "is no longer asked for by ZeRO")
