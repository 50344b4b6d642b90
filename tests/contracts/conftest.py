"""The private parts of libraries that the package reaches into: what, and why there is no public
way. Where each is used is read from the source, so it cannot go stale."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "lcm_scale"
# Underscored names that belong to Python, or that every library has.
PYTHONS_OWN = {
    "__cause__",
    "__class__",
    "__context__",
    "__dataclass_fields__",
    "__dict__",
    "__doc__",
    "__enter__",
    "__exit__",
    "__file__",
    "__getitem__",
    "__init__",
    "__module__",
    "__name__",
    "__next__",
    "__post_init__",
    "__qualname__",
    "__sklearn_tags__",  # of scikit-learn, documented: how an estimator says what it takes
    "__version__",
    "_exit",  # of os, documented
    "_replace",  # of named tuples
}


@dataclass(frozen=True)
class Part:
    """A private part.  Attributes: why: no public way does it."""

    library: str
    why: str


FUSED = "torch.optim's fused classes hold one rule each; ours switches the rule of one optimiser"
ACCESS = "DeepSpeed's safe_get_* and safe_set_* are slow, and stale after a load"
PARTS = {
    # -- torch -------------------------------------------------------------------------------------
    "_fused_adamw_": Part("torch", FUSED),
    "_fused_sgd_": Part("torch", FUSED),
    "_foreach_add_": Part("torch", "adding 1 to each step counter by a loop starts a kernel each"),
    "_softmax_backward_data": Part(
        "torch", "a hand-written backward needs softmax's, which autograd alone calls publicly"
    ),
    "native_batch_norm_backward": Part(
        "torch", "a hand-written backward needs the norm's, which autograd alone calls publicly"
    ),
    "native_dropout_backward": Part(
        "torch", "a hand-written backward needs dropout's, one kernel, of a mask that it keeps"
    ),
    "leaky_relu_backward": Part(
        "torch", "a hand-written backward needs it from the output, which autograd does not offer"
    ),
    "_linear_pointwise": Part(
        "torch", "nn.functional.linear takes MKL on CPUs, which is slower for fp32 than oneDNN"
    ),
    "_is_avx512_bf16_supported": Part(
        "torch", "torch.cpu.get_capabilities is younger than the oldest torch that is supported"
    ),
    "_is_amx_tile_supported": Part(
        "torch", "torch.cpu.get_capabilities is younger than the oldest torch that is supported"
    ),
    # -- Lightning ---------------------------------------------------------------------------------
    "_signal_connector": Part(
        "lightning", "no setting leaves a run's own signal handlers in force during fit"
    ),
    "_AutomaticOptimization": Part(
        "lightning", "no setting takes a step without a dozen calls for hooks that nobody has"
    ),
    "_TrainingEpochLoop": Part(
        "lightning", "no setting goes through an epoch without looking for what a run does not have"
    ),
    "_batches_that_stepped": Part(
        "lightning", "a stack's step is none of its loop's, whose counters a checkpoint holds"
    ),
    "_init_optimizers": Part(
        "lightning", "DeepSpeed keeps no trace of what does not train, so it is noted before"
    ),
    "_init_deepspeed_distributed": Part(
        "lightning", "setup_distributed refuses CPUs before it gets there"
    ),
    "_initialize_deepspeed_train": Part(
        "lightning", "the bucket sizes follow from the model, which is known no earlier"
    ),
    # -- DeepSpeed ---------------------------------------------------------------------------------
    "__compatible_ops__": Part(
        "deepspeed", "no setting keeps it from compiling an operator at the first start"
    ),
    "ShareMemCommBuilder": Part(
        "deepspeed", "no setting keeps it from compiling an operator at the first start"
    ),
    "compiler": Part("deepspeed", "no setting keeps it from compiling Muon at each start"),
    "bit16_groups": Part("deepspeed", ACCESS),
    "fp32_partitioned_groups_flat": Part("deepspeed", ACCESS),
    "single_partition_of_fp32_groups": Part("deepspeed", ACCESS),
    "grad_position": Part("deepspeed", ACCESS),
    "get_param_id": Part("deepspeed", ACCESS),
    "optimizer": Part("deepspeed", "the wrapped optimiser, whose groups a phase changes"),
    "_hp_mapping": Part("deepspeed", ACCESS),
    "lp_fragment_address": Part("deepspeed", ACCESS),
    "hp_fragment_address": Part("deepspeed", ACCESS),
    "ds_numel": Part("deepspeed", "a parameter that ZeRO-3 cut no longer knows its own size"),
    "ds_shape": Part("deepspeed", "a parameter that ZeRO-3 cut no longer knows its own shape"),
    # -- huggingface_hub ---------------------------------------------------------------------------
    "_hub_mixin_config": Part(
        "huggingface_hub", "what save_pretrained writes must follow a new order of regions"
    ),
    "_save_pretrained": Part(
        "huggingface_hub", "the mixin's documented hook, underscored, to be overridden"
    ),
    # -- webdataset --------------------------------------------------------------------------------
    "tarstream": Part(
        "webdataset", "the manifest holds each record's offset, which no method tells"
    ),
}


def used_in_package() -> dict[str, set[str]]:
    """Private part -> the files of the package that use it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in parts_of(ast.parse(path.read_text(encoding="utf-8"))):
            found[name].add(path.relative_to(PACKAGE).as_posix())
    return dict(found)


def parts_of(tree: ast.AST) -> Iterator[str]:
    """Underscored attributes that a file does not itself make; what stands under `torch.ops`, in
    webdataset's and DeepSpeed's modules or on DeepSpeed's optimiser; underscored modules."""
    nodes = list(ast.walk(tree))
    own = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    own |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    own |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            holder = ast.unparse(node.value)
            # `self._x` of a file that writes it itself is no library's; `super()._x` always is.
            if holder in ("self", "cls") and node.attr in own and node.attr not in PARTS:
                continue
            if (
                (node.attr.startswith("_") and node.attr not in PYTHONS_OWN)
                or (holder.startswith("torch.ops.") and "(" not in holder)
                or (holder == "wds" and node.attr.islower())
                or holder in ("self.zero", "mapping")
                or node.attr.startswith("ds_")
                or node.attr == "tarstream"
            ):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = node.module.split(".")
            private = any(p.startswith("_") and p != "__future__" for p in parts)
            if private or node.module.startswith("deepspeed."):
                yield from (alias.name for alias in node.names)
            elif parts[0] != "lcm_scale":
                yield from (a.name for a in node.names if a.name.startswith("_"))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and str(name.value).startswith("_"):
                yield str(name.value)


@pytest.fixture(scope="session")
def holds() -> Callable[[str, bool, str], None]:
    """`holds("_fused_adamw_", condition, "has no argument eps")` fails with a sentence that says
    which library changed, who uses it and why."""
    where = used_in_package()

    def check(name: str, condition: bool, what: str) -> None:
        part = PARTS[name]
        assert condition, (
            f"{part.library} {metadata.version(part.library)}: {name} {what}; "
            f"{', '.join(sorted(where.get(name, ())))} uses it, because {part.why}. Change the "
            "use, "
            f"or lower the upper bound of {part.library} in setup.cfg"
        )

    return check


@pytest.fixture(scope="session")
def parts() -> dict[str, Part]:
    """The table."""
    return PARTS


@pytest.fixture(scope="session")
def used() -> dict[str, set[str]]:
    """Private part -> the files of the package that use it."""
    return used_in_package()


@pytest.fixture(scope="session")
def found_in() -> Callable[[str], set[str]]:
    """The private parts that a piece of source uses."""
    return lambda source: set(parts_of(ast.parse(source)))
