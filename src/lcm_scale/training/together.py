"""What one rank does alone, such as writing, and how a failure of it ends all ranks alike.

An `InputError` that is raised by one rank only would leave the others waiting in their next
collective call, until the network says that it is gone: a traceback, and another exit code. So it
is held where it happens, and raised by all ranks at the next place where they meet anyway: a step's
all-reduce, or the end of a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lcm_scale.errors import Elsewhere, InputError

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy


class Together:
    """Attributes: held: this rank's first failure, which the others do not know of yet."""

    def __init__(self) -> None:
        self.held: InputError | None = None

    def alone(self) -> _Alone:
        """For a block that not every rank runs, or not with the same outcome."""
        return _Alone(self)

    def end(self, failed: bool) -> None:
        """Called by all ranks at one place.

        Args: failed: whether any rank holds a failure, as a collective call has told all of them.
        Raises: that failure where it happened, Elsewhere on the other ranks.
        """
        if failed:
            raise self.held or Elsewhere()

    def agree(self, strategy: Strategy) -> None:
        """A meeting of its own, for places without one.  Raises: as `end`."""
        mine = torch.tensor(float(self.held is not None), device=strategy.root_device)
        self.end(bool(strategy.reduce(mine, reduce_op="sum") > 0))


class _Alone:
    """Holds a block's `InputError`. (A generator as context takes thrice the time, of which each
    step has one.)"""

    __slots__ = ("together",)

    def __init__(self, together: Together) -> None:
        self.together = together

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, InputError):
            return False
        self.together.held = self.together.held or error
        return True
