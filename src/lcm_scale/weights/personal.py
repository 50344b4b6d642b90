"""Whether a model holds data about people, and that it is not given away unasked."""

from __future__ import annotations

from lcm_scale.errors import InputError
from lcm_scale.model.presets import LCMConfig


def personal(model: LCMConfig) -> str:
    """What a model keeps of its people, '' where nothing."""
    if not model.kept_scans:
        return ""
    return f"the vectors of {model.kept_people:,} people ({model.kept_scans:,} scans)"


def check_personal(model: LCMConfig, what: object, allowed: bool, how: str) -> None:
    """Raises: InputError where `what` keeps people's data and nobody has allowed it.

    Args: how: words that allow it.
    """
    if model.kept_scans and not allowed:
        raise InputError(
            f"{what}: holds {personal(model)}, from which their matrices can be made again; where "
            f"you may give those away, say so with {how}; model.people_memory=linear keeps nobody"
        )
