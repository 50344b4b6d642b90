"""What the package needs of torch's private parts: they are there, take these arguments, and
compute what the public way computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

Holds = Callable[[str, bool, str], None]
RATE, DECAY = 1e-2, 1e-3


def schemas(operators: object, name: str) -> list[str]:
    operator = getattr(operators, name, None)
    if operator is None:
        return []
    return [str(getattr(operator, overload)._schema) for overload in operator.overloads()]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "_fused_adamw_",
            "Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, "
            "float eps, bool amsgrad, bool maximize",
        ),
        (
            "_fused_sgd_",
            "*, float weight_decay, float momentum, float lr, float dampening, bool nesterov, "
            "bool maximize, bool is_first_step",
        ),
        ("_foreach_add_", "Tensor(a!)[] self, Scalar scalar) -> ()"),
        (
            "_softmax_backward_data",
            "Tensor grad_output, Tensor output, int dim, ScalarType input_dtype) -> Tensor",
        ),
        (
            "native_batch_norm_backward",
            "Tensor grad_out, Tensor input, Tensor? weight, Tensor? running_mean, Tensor? "
            "running_var, Tensor? save_mean, Tensor? save_invstd, bool train, float eps, bool[3] "
            "output_mask) -> (Tensor, Tensor, Tensor)",
        ),
        (
            "native_dropout_backward",
            "Tensor grad_output, Tensor mask, float scale) -> Tensor",
        ),
        (
            "leaky_relu_backward",
            "Tensor grad_output, Tensor self, Scalar negative_slope, bool self_is_result) -> "
            "Tensor",
        ),
    ],
)
def test_an_operator_takes_the_arguments_it_is_called_with(
    name: str, arguments: str, holds: Holds
) -> None:
    found = schemas(torch.ops.aten, name)
    holds(name, any(arguments in s for s in found), f"no longer takes ({arguments}): {found}")


def parameters() -> tuple[list[Tensor], list[list[Tensor]]]:
    """Two weights, and their gradients in three steps."""
    torch.manual_seed(0)
    shapes = ((5, 3), (4,))
    return [torch.randn(s) for s in shapes], [[torch.randn(s) for s in shapes] for _ in range(3)]


def by_torchs_own(kind: type[torch.optim.Optimizer], **how: object) -> list[Tensor]:
    values, steps = parameters()
    weights = [torch.nn.Parameter(value) for value in values]
    optimizer = kind(weights, lr=RATE, weight_decay=DECAY, foreach=False, **how)  # type: ignore[call-arg]
    for gradients in steps:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
    return [weight.detach() for weight in weights]


def close(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(ours, theirs, strict=True)
    )


def test_the_fused_adamw_is_adamw(holds: Holds) -> None:
    weights, gradients = parameters()
    averages, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    counts = [torch.zeros(()) for _ in weights]
    for step in gradients:
        torch._foreach_add_(counts, 1)
        torch._fused_adamw_(
            weights,
            step,
            averages,
            squares,
            [],
            counts,
            lr=RATE,
            beta1=0.9,
            beta2=0.999,
            weight_decay=DECAY,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
    holds("_foreach_add_", [float(c) for c in counts] == [3, 3], "no longer adds in place")
    same = close(weights, by_torchs_own(torch.optim.AdamW))
    holds("_fused_adamw_", same, "no longer does what torch.optim.AdamW does")


def test_the_fused_sgd_from_a_zero_buffer_is_sgd_with_momentum(holds: Holds) -> None:
    weights, gradients = parameters()
    averages = [torch.zeros_like(w) for w in weights]
    for step in gradients:
        torch._fused_sgd_(
            weights,
            step,
            averages,
            weight_decay=DECAY,
            momentum=0.9,
            lr=RATE,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
    same = close(weights, by_torchs_own(torch.optim.SGD, momentum=0.9))
    holds("_fused_sgd_", same, "no longer does what torch.optim.SGD does")


def test_the_backwards_of_softmax_and_leaky_relu_are_autograds(holds: Holds) -> None:
    torch.manual_seed(0)
    x, d_y = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    y = x.softmax(-1)
    (expected,) = torch.autograd.grad(y, x, d_y)
    found = torch._softmax_backward_data(d_y, y.detach(), -1, y.dtype)
    holds("_softmax_backward_data", torch.allclose(found, expected), "is no longer its gradient")
    y = F.leaky_relu(x, 0.01)
    (expected,) = torch.autograd.grad(y, x, d_y)
    found = torch.ops.aten.leaky_relu_backward(d_y, y.detach(), 0.01, True)
    holds("leaky_relu_backward", torch.allclose(found, expected), "is no longer its gradient")


def test_the_backwards_of_batch_norm_and_dropout_are_autograds(holds: Holds) -> None:
    torch.manual_seed(0)
    x, d_y = torch.randn(7, 5, requires_grad=True), torch.randn(7, 5)
    weight, bias = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    y, mean, rstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, 1e-5)
    expected = torch.autograd.grad(y, (x, weight, bias), d_y)
    found = torch.ops.aten.native_batch_norm_backward(
        d_y, x, weight, None, None, mean, rstd, True, 1e-5, [True] * 3
    )
    same = all(map(torch.allclose, found, expected))
    holds("native_batch_norm_backward", same, "is no longer its gradient")
    y, kept = torch.native_dropout(x, 0.2, True)
    (wanted,) = torch.autograd.grad(y, x, d_y)
    given = torch.ops.aten.native_dropout_backward(d_y, kept, 1 / 0.8)
    holds("native_dropout_backward", torch.allclose(given, wanted), "is no longer its gradient")


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN"
)
def test_onednns_linear_is_linear(holds: Holds) -> None:
    arguments = "Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm"
    found = schemas(torch.ops.mkldnn, "_linear_pointwise")
    taken = any(arguments in s for s in found)
    holds("_linear_pointwise", taken, f"no longer takes ({arguments}): {found}")
    torch.manual_seed(0)
    x, weight, bias = torch.randn(6, 4), torch.randn(3, 4), torch.randn(3)
    for offset in (bias, None):
        y = torch.ops.mkldnn._linear_pointwise(x, weight, offset, "none", [], "")
        same = torch.allclose(y, F.linear(x, weight, offset), atol=1e-5)
        holds("_linear_pointwise", same, "is no longer a linear map")


@pytest.mark.parametrize("name", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_what_the_cpu_can_is_a_yes_or_no(name: str, holds: Holds) -> None:
    asked = getattr(torch.cpu, name, None)
    holds(name, callable(asked) and isinstance(asked(), bool), "no longer answers yes or no")
