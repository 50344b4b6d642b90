"""Whether a run can go on from what a checkpoint says of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lcm_scale.errors import InputError


def check_state(
    state: Mapping[str, Any],
    seed: int,
    scans: int,
    window: int | None,
    fingerprints: Mapping[str, str],
) -> None:
    """See that a run can go on from the data state of a checkpoint.

    Args:
        scans: how many are trained on.
    Raises: InputError naming what differs; for a changed data set both fingerprints.
    """
    for key, value in (("seed", seed), ("scans", scans), ("window", window)):
        if state[key] != value:
            raise InputError(
                f"resume: the checkpoint's {key} is {state[key]}, this recipe's {value}; "
                "resume with the same"
            )
    for name, fingerprint in fingerprints.items():
        saved = state["fingerprints"].get(name)
        if saved != fingerprint:
            raise InputError(
                f"resume: shard set {name} has fingerprint {fingerprint}, the checkpoint saw "
                f"{saved}; the data changed"
            )
