"""DeepSpeed ZeRO through Lightning, on GPUs and CPUs, with checkpoints that are the same file at
every world size.

DeepSpeed's own checkpoints are folders that belong to one world size, are not written atomically
and, once converted, load one group's rate into all. Ours hold each weight and each optimiser value
whole, under the names and numbers that a
single process uses: a state is gathered parameter by parameter to the first rank, and cut again for
whatever world and stage loads it. At 1.2B parameters that is 14 GB in the first rank's memory,
which every node that trains it has.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder
from deepspeed.runtime import compiler
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy, Strategy
from torch import Tensor, nn
from torch.optim import Optimizer

from lcm_scale.cost.placement import ZERO_BUCKET, ZERO_GATHERED
from lcm_scale.training.optimizer import AVERAGES, GROUP_FACTS, TwoStage


@dataclass(frozen=True)
class Piece:
    """The part of a parameter's fp32 master copy that this rank holds: flat[flat_start:][:size] =
    parameter[start:][:size]."""

    flat: Tensor
    flat_start: int
    start: int
    size: int


class Autocast(DeepSpeedPrecision):
    """Products in bf16 on fp32 weights, gradients and scalars, as one process computes them.

    DeepSpeed's own bf16 holds rounded weights, feeds rounded targets and leaves fp32 layers without
    a cast.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__("32-true")
        self.precision = "bf16-mixed"  # what the meter reads; inputs stay as they are
        self.device_type = device_type

    def forward_context(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device_type, torch.bfloat16)


class ZeroStrategy(DeepSpeedStrategy):
    """Lightning's DeepSpeedStrategy, also without a GPU (Lightning refuses that; DeepSpeed does
    not)."""

    def __init__(self, stage: int, offload: bool, on_cpu: bool, precision: str) -> None:
        self.on_cpu = on_cpu
        super().__init__(
            config=_config(stage, offload),
            process_group_backend="gloo" if on_cpu else None,
            precision_plugin=Autocast("cpu" if on_cpu else "cuda")
            if precision == "bf16-mixed"
            else None,
        )

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0) if self.on_cpu else super().root_device

    def setup_environment(self) -> None:
        if not self.on_cpu:
            return super().setup_environment()
        super(DeepSpeedStrategy, self).setup_environment()

    def setup_distributed(self) -> None:
        if not self.on_cpu:
            return super().setup_distributed()
        # gloo serves. DeepSpeed would compile an operator for it at its first start, a minute of
        # two cores, and a process killed meanwhile leaves a lock at which all later ones wait for
        # ever.
        deepspeed.ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    # -- the order of things: weights are loaded into the whole module, then DeepSpeed cuts it -----

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def _init_optimizers(self) -> tuple[Optimizer, Any]:
        optimizer, scheduler = super()._init_optimizers()
        # Of what does not train DeepSpeed keeps no trace.
        self.members = [list(group["params"]) for group in optimizer.param_groups]
        return optimizer, scheduler

    def _initialize_deepspeed_train(self, model: nn.Module) -> None:
        # DeepSpeed allocates its buckets whole, however small the model is.
        numbers = sum(parameter.numel() for parameter in model.parameters())
        numbers += -numbers % (2 * self.world_size)  # it wants them aligned
        assert isinstance(self.config, dict)
        zero = self.config["zero_optimization"]
        zero.update({key: min(zero[key], numbers) for key in zero if key.endswith("bucket_size")})
        _import_muon()
        super()._initialize_deepspeed_train(model)
        # DeepSpeed may take a step with zero gradients to make the state; the bias correction must
        # not count it.
        for flat in self._flats():
            self.two_stage.fresh_state(flat)

    @property
    def left_out_step(self) -> bool:
        """Whether DeepSpeed left the last step out, because a gradient was not finite on some rank;
        the same on all of them."""
        engine: Any = self.model
        return not engine.was_step_applied()

    # -- checkpoints -------------------------------------------------------------------------------

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole fp32 weights and buffers on the first rank; a collective call."""
        assert self.lightning_module is not None
        module = self.lightning_module
        whole = {name: self._gather(parameter) for name, parameter in module.named_parameters()}
        # state_dict() gives names and order; under stage 3 its parameters are empty.
        state = module.state_dict()
        return (
            {name: whole.get(name, value) for name, value in state.items()}
            if self.is_global_zero
            else {}
        )

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As `TwoStage.state_dict` of one process; a collective call."""
        state: dict[int, dict[str, Tensor]] = {}
        groups = []
        number = 0
        for group, parameters in zip(self.two_stage.param_groups, self.members, strict=True):
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": []})
            steps = self._steps(parameters)
            for parameter in parameters:
                if parameter.requires_grad:
                    parts = {key: self._gather(parameter, key) for key in AVERAGES}
                    if steps.item() > 0 and self.is_global_zero:
                        state[number] = {"step": steps.clone(), **parts}
                groups[-1]["params"].append(number)
                number += 1
        return {"state": state, "param_groups": groups} if self.is_global_zero else {}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        saved = checkpoint["optimizer_states"][0]
        for group, parameters, table in zip(
            self.two_stage.param_groups, self.members, saved["param_groups"], strict=True
        ):
            group.update({k: v for k, v in table.items() if k not in ("params", *GROUP_FACTS)})
            for parameter, number in zip(parameters, table["params"], strict=True):
                if not parameter.requires_grad:
                    continue
                for key in AVERAGES if number in saved["state"] else ():
                    self._scatter(parameter, key, saved["state"][number][key])
                piece = self._piece(parameter)
                if piece is not None and number in saved["state"]:
                    self.two_stage.state[piece.flat]["step"].copy_(saved["state"][number]["step"])

    # -- pieces ------------------------------------------------------------------------------------

    @property
    def zero(self) -> Any:
        """DeepSpeed's optimiser around ours."""
        return self.optimizers[0]

    @property
    def two_stage(self) -> TwoStage:
        return self.zero.optimizer

    def _flats(self) -> Iterator[Tensor]:
        yield from (
            self.zero.fp32_partitioned_groups_flat
            if self.zero_stage_3
            else self.zero.single_partition_of_fp32_groups
        )

    def _piece(self, parameter: nn.Parameter) -> Piece | None:
        if self.zero_stage_3:
            group, offset, size = self.zero.grad_position[self.zero.get_param_id(parameter)]
            start = self.global_rank * int(size)
            size = max(0, min(int(size), parameter.ds_numel - start))  # type: ignore[attr-defined] # the last one is padded
            return Piece(
                self.zero.fp32_partitioned_groups_flat[int(group)], int(offset), start, size
            )
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        group = next(
            i
            for i, members in enumerate(self.zero.bit16_groups)
            if any(p is parameter for p in members)
        )
        parameter_part, flat_part = mapping.lp_fragment_address, mapping.hp_fragment_address
        return Piece(
            self.zero.single_partition_of_fp32_groups[group],
            flat_part.start,
            parameter_part.start,
            parameter_part.numel,
        )

    def _gather(self, parameter: nn.Parameter, key: str | None = None) -> Tensor:
        """A parameter's fp32 master copy, or its state `key`, whole; kept on the first rank's
        CPU."""
        if not parameter.requires_grad:
            return self._whole(parameter)
        shape = parameter.ds_shape if self.zero_stage_3 else parameter.shape  # type: ignore[attr-defined]
        whole = torch.zeros(shape.numel(), dtype=torch.float32, device=self.root_device)
        piece = self._piece(parameter)
        if piece is not None:
            source = piece.flat if key is None else self.two_stage.state[piece.flat][key]
            whole[piece.start : piece.start + piece.size] = source[
                piece.flat_start : piece.flat_start + piece.size
            ]
        dist.all_reduce(whole)  # disjoint pieces and zeros: exact
        return whole.view(shape).cpu() if self.is_global_zero else whole.new_empty(0, device="cpu")

    def _whole(self, parameter: nn.Parameter) -> Tensor:
        """As `_gather`, of one that does not train: there is no master copy of it."""
        with deepspeed.zero.GatheredParameters([parameter], enabled=self.zero_stage_3):
            value = parameter.detach().to("cpu", torch.float32, copy=True)
        return value if self.is_global_zero else value.new_empty(0)

    def _scatter(self, parameter: nn.Parameter, key: str, whole: Tensor) -> None:
        piece = self._piece(parameter)
        if piece is not None and piece.size:
            target = self.two_stage.state[piece.flat][key]
            target[piece.flat_start : piece.flat_start + piece.size].copy_(
                whole.flatten()[piece.start : piece.start + piece.size]
            )

    def _steps(self, parameters: list[nn.Parameter]) -> Tensor:
        """How many steps a group has taken; equal on all ranks, though one may hold no piece of
        it."""
        steps = torch.zeros((), dtype=torch.float32, device=self.root_device)
        for parameter in filter(lambda p: p.requires_grad, parameters):
            piece = self._piece(parameter)
            if piece is not None:
                steps = torch.maximum(
                    steps, self.two_stage.state[piece.flat]["step"].to(self.root_device)
                )
        dist.all_reduce(steps, op=dist.ReduceOp.MAX)
        return steps.cpu()


def _import_muon() -> None:
    """DeepSpeed asks whether an optimiser is its Muon, and importing that hands three functions to
    torch.compile: five seconds of processor time a rank, for what is never called here."""
    with patch.object(compiler, "compile", lambda: lambda function: function):
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")


def _config(stage: int, offload: bool) -> dict[str, Any]:
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": False,
        "reduce_bucket_size": ZERO_BUCKET,
    }
    if stage == 3:
        # Norms and biases stay whole on every rank: gathering them one by one costs more than it
        # saves.
        zero |= {
            "stage3_param_persistence_threshold": 10_000,
            "stage3_prefetch_bucket_size": ZERO_BUCKET,
        }
        zero |= {
            "stage3_max_live_parameters": ZERO_GATHERED,
            "stage3_max_reuse_distance": ZERO_GATHERED,
        }
    else:
        zero["allgather_bucket_size"] = ZERO_BUCKET
        # Each piece of a gradient is reduced to the rank that holds it. The default reduces all of
        # it to all ranks and throws away what is not theirs: half as many bytes again
        # (docs/log.md).
        zero["use_multi_rank_bucket_allreduce"] = False
    if offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "zero_optimization": zero,
        # Ours is no optimiser that DeepSpeed knows, and must not be replaced by its CPU Adam under
        # offload.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": False},  # Autocast's business
        # For its log only; without it Lightning makes a data loader to look, before the epoch is
        # restored.
        "train_micro_batch_size_per_gpu": 1,
    }
