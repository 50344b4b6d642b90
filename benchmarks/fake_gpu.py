"""A GPU without numbers: what a training step would launch, and where the host would wait for it.

torch's place for other makers' devices (PrivateUse1) becomes the device `gpu`; its tensors are fake
ones, which have shapes, types and gradients, and no numbers. So code meets a device that is no CPU,
and every operation that would reach a GPU passes through `Recorder`. Mixed precision casts as it
does on CUDA. Fake tensors of CUDA itself would be nearer, but their backward needs a torch built
for it.

The whole process changes: a benchmark or a test calls `install` in a process of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from lcm_scale.training import optimizer

NAME = "gpu"
DEVICE_KEY = "AutocastPrivateUse1"

# What autocast does on CUDA (ATen/autocast_mode.h) to the operators that a step has. Any other that
# it would touch there ends the count, so that none is cast wrongly in silence.
NARROW = "linear matmul mm bmm addmm baddbmm mv scaled_dot_product_attention"
WIDE = "layer_norm native_layer_norm nll_loss rsqrt log exp pow.Tensor_Scalar mse_loss"
# Those of an output type of its own: they read bf16 and write fp32, without a cast before.
WIDE_OUTPUT = "softmax.int log_softmax.int sum sum.dim_IntList"
PROMOTED = "addcmul index_put scatter_add"

# Operators that launch nothing: they make or rename memory.
FREE = (
    *("empty", "new_empty", "_unsafe_view", "detach", "alias", "lift_fresh", "is_same_size"),
    *("prim", "squeeze_", "unsqueeze_", "transpose_", "t_"),
)
# Kernels of an operator where they are more than one (ATen/native/cuda): the way to the input and
# that to the weights; a sum over rows before, a conversion after.
SEVERAL = {
    "native_layer_norm_backward": 2,
    "_scaled_dot_product_flash_attention_backward": 3,
    "_scaled_dot_product_efficient_attention_backward": 2,
}
# Kernels over lists of tensors: how many tensors and pieces one launch takes, numbers a piece
# (ATen/native/cuda/MultiTensorApply.cuh).
TENSORS = {1: 110, 2: 64, 3: 48, 4: 36}
PIECES, PIECE = 320, 65536

CASTS: dict[int, tuple[Tensor, Tensor]] = {}  # autocast's copies of weights, of one forward pass


class HostWaits(RuntimeError):
    """An operation that reads the device, so that the host waits until the device is done."""


class _Backend(_DummyBackendModule):
    def is_available(self) -> bool:
        return False  # so that fake tensors never try to make a real one

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def install() -> None:
    """Make the device `gpu` of this process, with CUDA's mixed precision."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    optimizer.PIECE[NAME] = optimizer.PIECE["cuda"]
    _foreach_utils._foreach_supported_types.append(FakeTensor)
    install.libraries = [  # type: ignore[attr-defined]  # kept: they end with their object
        torch.library.Library("_", "IMPL"),
        torch.library.Library("aten", "IMPL"),
    ]
    fallback, aten = install.libraries  # type: ignore[attr-defined]
    fallback.fallback(torch.library.fallthrough_kernel, DEVICE_KEY)
    rules: dict[str, Callable[[Any], Any]] = dict.fromkeys(NARROW.split(), narrow)
    rules |= dict.fromkeys(WIDE.split(), wide)
    rules |= dict.fromkeys(WIDE_OUTPUT.split(), wide_output)
    rules |= dict.fromkeys(PROMOTED.split(), as_it_is)
    for name in torch._C._dispatch_get_all_op_names():
        if name.startswith("aten::") and torch._C._dispatch_has_kernel_for_dispatch_key(
            name, "AutocastCUDA"
        ):
            short = name.removeprefix("aten::")
            packet, _, overload = short.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            aten.impl(short, rules.get(short, unknown)(operator), DEVICE_KEY)
    aten.impl("scaled_dot_product_attention", attend, "AutogradPrivateUse1")


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    **_: Any,
) -> Tensor:
    """The kernels that torch takes on a recent GPU."""
    if query.dtype != torch.float32 and attn_mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p)[0]
    masked = attn_mask
    if masked is not None and masked.dtype == torch.bool:
        masked = torch.zeros_like(masked, dtype=query.dtype).masked_fill_(~masked, -math.inf)
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, masked, True, dropout_p
    )[0]


def _without_autocast() -> Any:
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, DEVICE_KEY))
    return torch._C._ExcludeDispatchKeyGuard(keys)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
        return value
    if value.dtype == torch.float64:
        return value
    if not (value.requires_grad and value.is_leaf and value.dtype == torch.float32):
        return value.to(dtype)
    if id(value) not in CASTS:  # weights are cast once a forward pass
        CASTS[id(value)] = (value, value.to(dtype))
    return CASTS[id(value)][1]


def narrow(operator: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            dtype = torch.get_autocast_dtype(NAME)
            args, kwargs = tree_map(lambda value: _cast(value, dtype), (args, kwargs))
            return operator(*args, **kwargs)

    return kernel


def wide(operator: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            args, kwargs = tree_map(lambda value: _cast(value, torch.float32), (args, kwargs))
            return operator(*args, **kwargs)

    return kernel


def wide_output(operator: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            bound = dict(zip((a.name for a in operator._schema.arguments), args)) | kwargs
            if args[0].is_floating_point() and bound.get("dtype") is None:
                bound["dtype"] = torch.float32
            return operator(bound.pop("self"), **bound)

    return kernel


def as_it_is(operator: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            return operator(*args, **kwargs)

    return kernel


def unknown(operator: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{operator}: autocast would cast here; add it to fake_gpu.py")

    return kernel


class Recorder(TorchDispatchMode):
    """Counts what would be launched; raises where the host would wait.

    Attributes:
        part: what counts go to.   launches: (part, operator) -> kernels.
        copies: transfers from the host, which do not wait from pinned memory.
        asked: (part, operator with its arguments), in order, as a recorded step would keep them:
            numbers by value, tensors by shape and place. What an earlier operator of the same step
            made has a number in the step; anything else has one for good, so that new memory at
            each step is told from memory that stays.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = "forward"
        self.launches: Counter[tuple[str, str]] = Counter()
        self.copies = 0
        self.asked: list[tuple[str, str]] = []
        # A storage's place; the storage is kept, else another one may get its number.
        self.made: dict[int, tuple[str, Any]] = {}
        self.stays: dict[int, tuple[str, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "profiler":
            self.asked.append((self.part, f"{func}{self._told((args, kwargs))}"))
        out = self._count(func, args, kwargs or {})
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and key_of(value) not in self.stays:
                self._place(self.made, value, f"made {len(self.made)}")
        return out

    def next_step(self) -> None:
        self.asked, self.made = [], {}
        self.launches.clear()

    def stay(self, name: str, value: Tensor) -> None:
        """Let a tensor count as one that stays where it is, as a recorded step's inputs do."""
        self.stays[key_of(value)] = (name, value.untyped_storage())

    def _told(self, values: Any) -> Any:
        def tell(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if key_of(value) not in self.made:
                self._place(self.stays, value, f"kept {len(self.stays)}")
            place, _ = self.made.get(key_of(value)) or self.stays[key_of(value)]
            return f"{value.device.type} {place} {value.dtype} {list(value.shape)}"

        return tree_map(tell, values)

    def _place(self, places: dict[int, tuple[str, Any]], value: Tensor, name: str) -> None:
        places.setdefault(key_of(value), (name, value.untyped_storage()))

    def _count(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.removeprefix("aten::")
        check_wait(name, args, kwargs)
        if name in ("_fused_sgd_", "_fused_adamw_"):  # they have no shapes to tell
            self.launches[self.part, name] += list_launches(args[:3] if "sgd" in name else args[:4])
            return None
        out = func(*args, **kwargs)
        if name.startswith("_foreach_"):
            lists = [a for a in args if isinstance(a, (list, tuple)) and a]
            extra = 1 if name == "_foreach_norm" else 0  # each tensor's pieces are summed
            self.launches[self.part, name] += list_launches(lists) + extra
        elif self._is_launch(func, name, args, out):
            self.launches[self.part, name] += SEVERAL.get(name, 1)
        return out

    def _is_launch(self, func: Any, name: str, args: Any, out: Any) -> bool:
        if func.is_view or name.startswith(FREE) or not on_gpu(out, args):
            return False
        source = args[0] if name == "_to_copy" else args[1] if name == "copy_" else None
        if isinstance(source, Tensor) and source.device.type == "cpu":
            self.copies += 1
            return False
        return True

    def of(self, part: str) -> int:
        return sum(count for (where, _), count in self.launches.items() if where == part)


def check_wait(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raises: HostWaits where an operation reads numbers of the GPU."""
    if not on_gpu(args):
        return
    masks = [x for x in tree_leaves(args[1:2]) if isinstance(x, Tensor) and x.dtype == torch.bool]
    reads = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique")
    to_host = name == "_to_copy" and torch.device(kwargs.get("device") or NAME).type == "cpu"
    into_host = name == "copy_" and args[0].device.type == "cpu"
    by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and masks
    grows = name.startswith("repeat_interleave") and "output_size" not in kwargs and len(args) < 3
    if name.startswith(reads) or to_host or into_host or by_mask or (grows and "self" not in name):
        raise HostWaits(f"{name} reads the device")


def key_of(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def on_gpu(*values: Any) -> bool:
    return any(isinstance(x, Tensor) and x.device.type == NAME for x in tree_leaves(values))


def list_launches(lists: Sequence[Sequence[Tensor]]) -> int:
    """Kernels of one operation over lists of tensors."""
    sizes = [tensor.numel() for tensor in lists[0]]
    pieces = sum(math.ceil(size / PIECE) for size in sizes)
    return max(math.ceil(len(sizes) / TENSORS[min(len(lists), 4)]), math.ceil(pieces / PIECES))


def move(module: nn.Module, mode: FakeTensorMode) -> None:
    """Parameters and buffers, wherever they are, become fake ones on the device `gpu`."""
    with mode:
        for child in module.modules():
            for name, value in child._parameters.items():
                if value is not None:
                    fake = torch.empty(value.shape, dtype=value.dtype, device=NAME)
                    child._parameters[name] = nn.Parameter(fake, value.requires_grad)
            for name, buffer in child._buffers.items():
                if buffer is not None:
                    child._buffers[name] = torch.empty(
                        buffer.shape, dtype=buffer.dtype, device=NAME
                    )
