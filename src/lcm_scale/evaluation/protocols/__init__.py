"""How scans are held out: one file a protocol, by the names that `evaluate.protocol` takes.

A model that is evaluated as it is (`evaluate.checkpoint`) has one way only:
`external.plan_of_fixed`.
"""

from collections.abc import Callable

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.protocols import (
    external,
    leave_set_out,
    leave_site_out,
    nested,
    paper,
    repeated,
)
from lcm_scale.evaluation.protocols.plan import Plan

PROTOCOLS: dict[str, Callable[[Recipe, ShardSets], Plan]] = {
    "nested": nested.plan,
    "repeated": repeated.plan,
    "leave-site-out": leave_site_out.plan,
    "leave-set-out": leave_set_out.plan,
    "external": external.plan,
    "paper": paper.plan,
}
