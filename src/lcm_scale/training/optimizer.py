"""Two stages, one optimiser: SGD with momentum first, Adam afterwards (paper: momentum and adaptive
training; ours here).

Lightning and DeepSpeed allow one optimiser, so the rule is a field of each parameter group
(`stage`) rather than another object. State has Adam's names in both stages (`step`, `exp_avg`,
`exp_avg_sq`): DeepSpeed's converters read them by name. In the momentum stage `exp_avg` is SGD's
momentum buffer; a switch starts the new rule from zero state, since a sum of gradients is no
estimate of their mean. Groups with `active` false (targets that a phase leaves out) are not touched
at
all: no decay, no momentum.

Averages may be kept in bf16, half the memory. A step changes `exp_avg_sq` by a thousandth, less
than bf16 can tell apart, so it is rounded up or down at random, right in the mean; nearest rounding
would freeze it.

A step has two parts. `send` is the host's: rates and seeds, which change from step to step.
`update` launches the same kernels on the same memory at each step of a phase, so that a GPU may
record it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, ADAPTIVE = "momentum", "adaptive"
AVERAGES = ("exp_avg", "exp_avg_sq")
# What `parameter_groups` says of a group: facts of the run, never taken from a checkpoint.
GROUP_FACTS = ("name", "target", "decay", "lr_scale")
# What decides how a group steps.
RULE = ("stage", "lr", "momentum", "betas", "eps", "weight_decay")
# Where the rate goes to the kernels as a number, in fp64. On other devices they read it from
# memory, in fp32.
BY_NUMBER = {"cpu"}
# Numbers that are widened at a time where averages are bf16: on CPUs what their caches hold.
PIECE = {"cpu": 1 << 18, "cuda": 1 << 24}


class TwoStage(torch.optim.Optimizer):
    """SGD with momentum or AdamW, by group.

    Group keys: ``stage``, ``lr``, ``momentum`` (first stage), ``betas``, ``eps`` (second),
    ``weight_decay`` (L2 in the gradient in the first stage, decoupled in the second), ``active``.
    Args: state_dtype: of the averages, float32 or bfloat16.
    """

    def __init__(
        self,
        params: Iterable[Any],
        stage: str = ADAPTIVE,
        lr: float = 1e-4,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        state_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.state_dtype = state_dtype
        self._counts: dict[int, int] = {}  # id of a group -> its steps, as the host knows them
        self.rates: Tensor | None = None  # (groups,) on the device
        self._sent: list[float] = []  # what it holds
        self.rounding: dict[int, torch.Generator] = {}  # of a group, by its number
        defaults = {
            "stage": stage,
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "active": True,
        }
        super().__init__(params, defaults)

    def set_stage(self, stage: str) -> None:
        """Switch every group to a rule; where it changes, the state starts at zero."""
        if all(group["stage"] == stage for group in self.param_groups):
            return
        self._counts = {id(group): 0 for group in self.param_groups}
        for group in self.param_groups:
            group["stage"] = stage
        # Not by the groups' parameters: between steps, ZeRO-3 leaves the groups empty.
        for state in self.state.values():
            for value in state.values():
                value.zero_()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        facts = [
            {key: group[key] for key in GROUP_FACTS if key in group} for group in self.param_groups
        ]
        super().load_state_dict(state_dict)
        self._counts.clear()
        for group, own in zip(self.param_groups, facts, strict=True):
            group.update(own)
        for state in self.state.values():  # torch loads it in the parameters' type
            state.update(
                {name: state[name].to(self.state_dtype) for name in AVERAGES if name in state}
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch's, without its profiling: a tenth of the time."""
        if not set_to_none:
            return super().zero_grad(set_to_none=False)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.send()
        self.update()
        return loss

    def send(self) -> None:
        """Rates to the device, where they changed, and seeds to what rounds there."""
        if self.state_dtype != torch.float32:
            for number, group, parameters in self._stepping():
                self._source_of(number, parameters[0]).manual_seed(self._count(group, parameters))
        device = next((p.device for group in self.param_groups for p in group["params"]), None)
        rates = [group["lr"] for group in self.param_groups]
        if device is None or device.type in BY_NUMBER or rates == self._sent:
            return
        if self.rates is None:
            self.rates = torch.zeros(len(rates), dtype=torch.float32, device=device)
        # Of memory that is not pinned, the copy has what it needs before the call returns.
        self.rates.copy_(torch.tensor(rates, dtype=torch.float32), non_blocking=True)
        self._sent = rates

    @torch.no_grad()
    def update(self) -> None:
        """A step with what `send` sent; nothing here depends on how many there were."""
        for number, group, parameters in self._stepping():
            rule = group
            if parameters[0].device.type not in BY_NUMBER:
                assert self.rates is not None
                rule = {**group, "lr": self.rates[number]}
            self.follow(rule, self.with_state(parameters), self.rounding.get(number))

    def _stepping(self) -> Iterator[tuple[int, dict[str, Any], list[Tensor]]]:
        """Groups that take part, by number, and their parameters that do."""
        for number, group in enumerate(self.param_groups):
            parameters = [p for p in group["params"] if p.requires_grad]
            if parameters and group["active"]:
                yield number, group, parameters

    def with_state(self, parameters: list[Tensor]) -> list[list[Tensor]]:
        """Parameters, their gradients, averages, squares and steps."""
        states = [self._state_of(p) for p in parameters]
        # None is a zero, as ZeRO's flat gradients have it: else decay would depend on how a run is
        # spread.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        kept = ([s[name] for s in states] for name in (*AVERAGES, "step"))
        return [parameters, gradients, *kept]

    def follow(
        self,
        group: dict[str, Any],
        tensors: list[list[Tensor]],
        rounding: torch.Generator | None = None,
    ) -> None:
        """A step by the group's rule.

        Args: tensors: as `with_state` gives them.   rounding: where averages are bf16, the source
            of its noise.
        """
        parameters, gradients, averages, squares, steps = tensors
        torch._foreach_add_(steps, 1)
        if self.state_dtype == torch.float32:
            _fused(group, parameters, gradients, averages, squares, steps)
            return
        size = PIECE[parameters[0].device.type]
        longest = max(p.numel() for p in parameters)
        noise = _noise(min(size, longest), parameters[0].device, rounding)
        for of in zip(parameters, gradients, averages, squares, steps, strict=True):
            pieces = (x.reshape(-1).split(size) for x in of[:4])
            for p, g, average, square in zip(*pieces, strict=True):
                wide, wide_square = average.float(), square.float()
                _fused(group, [p], [g], [wide], [wide_square], [of[4]])
                average.copy_(wide)
                if group["stage"] == ADAPTIVE:
                    square.copy_(round_at_random(wide_square, noise))

    def _count(self, group: dict[str, Any], parameters: list[Tensor]) -> int:
        """A group's steps, its new one included: counted here, since the host would wait for all
        that it launched to read them from the device. It does once, where a run goes on."""
        known = self._counts.get(id(group))
        if all(p not in self.state for p in parameters):
            known = 0
        elif known is None:
            known = int(self._state_of(parameters[0])["step"])
        self._counts[id(group)] = known + 1
        return known + 1

    def _source_of(self, number: int, parameter: Tensor) -> torch.Generator:
        """Of a group's noise: seeded by its step, so that a resumed run rounds alike; one for all
        steps, since a recorded step draws from the one that it was recorded with."""
        if number not in self.rounding:
            self.rounding[number] = torch.Generator(parameter.device)
        return self.rounding[number]

    def fresh_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter that has not been stepped yet, whatever was there."""
        self.state.pop(parameter, None)
        self._counts.clear()
        return self._state_of(parameter)

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state.update(
                {name: torch.zeros_like(parameter, dtype=self.state_dtype) for name in AVERAGES}
            )
        return state


@torch.no_grad()
def step_together(optimizers: Sequence[TwoStage]) -> None:
    """A step of each of several models' optimisers, whose groups are alike.

    Groups with one rule are one call of torch's fused kernels, whose launches on a GPU are then
    fewer than the models'. bf16 averages are rounded with noise that belongs to one model's step,
    so those go one by one.
    """
    if any(optimizer.state_dtype != torch.float32 for optimizer in optimizers):
        for optimizer in optimizers:
            optimizer.step()
        return
    for groups in zip(*(optimizer.param_groups for optimizer in optimizers), strict=True):
        alike: dict[tuple[Any, ...], list[list[Tensor]]] = {}
        for optimizer, group in zip(optimizers, groups, strict=True):
            parameters = [p for p in group["params"] if p.requires_grad]
            if not parameters or not group["active"]:
                continue
            gathered = alike.setdefault(tuple(group[key] for key in RULE), [[] for _ in range(5)])
            for column, own in zip(gathered, optimizer.with_state(parameters), strict=True):
                column += own
        for rule, tensors in alike.items():
            optimizers[0].follow(dict(zip(RULE, rule, strict=True)), tensors)


def _fused(
    group: dict[str, Any],
    parameters: list[Tensor],
    gradients: list[Tensor],
    averages: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
) -> None:
    """A group's rule, by torch's fused kernels."""
    if group["stage"] == MOMENTUM:
        torch._fused_sgd_(
            parameters,
            gradients,
            averages,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
    else:
        torch._fused_adamw_(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def round_at_random(x: Tensor, noise: Tensor) -> Tensor:
    """float32 to the bfloat16 below or above (by magnitude), the nearer the likelier.

    Args: noise: at least as many int32, uniform in [0, 65536): they carry from the bits that
        bfloat16 drops.
    """
    bits = x.view(torch.int32) + noise[: x.numel()]
    return bits.bitwise_and_(-65536).view(torch.float32).to(torch.bfloat16)


def _noise(size: int, device: torch.device, source: torch.Generator | None) -> Tensor:
    """For `round_at_random`. All pieces share it."""
    return torch.randint(0, 65536, (size,), dtype=torch.int32, device=device, generator=source)


def parameter_groups(
    model: nn.Module,
    target_names: Iterable[str],
    edge_branch_decay: float,
    edge_branch_lr: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups by what happens to them: matrices decay, norms and biases do not, each target's tokens
    stand alone.

    Returns: groups with ``params``, ``name``, ``target`` (its number, or -1), ``decay``:
        None for the stage's own weight decay, else its value, and ``lr_scale``, a factor on the
        stage's rate.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    by_target: dict[tuple[str, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        table, _, last = name.rpartition(".")
        if last.startswith("target_"):
            by_target.setdefault((table, int(last.removeprefix("target_"))), []).append(parameter)
        else:
            (matrices if parameter.ndim > 1 else rest).append(parameter)
    names = list(target_names)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "name": "matrices", "target": -1, "decay": None, "lr_scale": 1.0},
        {
            "params": rest,
            "name": "norms and biases",
            "target": -1,
            "decay": 0.0,
            "lr_scale": 1.0,
        },
    ]
    for (table, number), parameters in sorted(by_target.items()):
        branch = table.startswith("edge_branch")
        groups.append(
            {
                "params": parameters,
                "name": f"{table}: {names[number]}",
                "target": number,
                "decay": edge_branch_decay if branch else 0.0,
                "lr_scale": edge_branch_lr if branch else 1.0,
            }
        )
    return groups
