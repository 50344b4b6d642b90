"""Lightning's checkpoint files, written and read as weights/checkpoints.py does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from lcm_scale.errors import Diverged
from lcm_scale.training.optimizer import AVERAGES
from lcm_scale.training.together import Together
from lcm_scale.weights import checkpoints


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written whole or not at all and read with `weights_only`.

    The first rank writes, for all strategies. Lightning lets all ranks meet after that, so a
    failure is held in `together`: whoever saves asks it afterwards.
    """

    def __init__(self, together: Together) -> None:
        super().__init__()
        self.together = together

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        # A run that could not write its log must not go on from behind what that log says.
        if self.together.held is None:
            with self.together.alone():
                _see_finite(checkpoint, Path(path))
                checkpoints.write_file(_apart(checkpoint), Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return checkpoints.read_file(Path(path))


def _see_finite(checkpoint: dict[str, Any], path: Path) -> None:
    """A finite loss says nothing of the step after it: a gradient that overflowed is in the weights
    by now, or in the optimiser's averages, from which it never goes away.

    Raises: Diverged.
    """
    what = checkpoints.not_finite(checkpoint["state_dict"])
    for optimizer in checkpoint.get("optimizer_states", ()):
        for number, state in optimizer["state"].items():
            averages = {key: state[key] for key in AVERAGES}
            what = what or checkpoints.not_finite(averages, f"of parameter {number}")
    if what:
        raise Diverged(
            f"{path}: not written: {what}, though the loss is a number; earlier ones are kept; "
            "lower optim.momentum.lr or optim.adaptive.lr, set optim.clip_norm or "
            "trainer.precision=32-true",
            checkpoint["global_step"],
        )


def _apart(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """With copies of weights that are slices of a stack (`model.stack`): torch writes what a slice
    lies in, which is all models'."""
    weights = checkpoint["state_dict"]
    for name, value in weights.items():
        if value.nbytes < value.untyped_storage().nbytes():
            weights[name] = value.clone()
    return checkpoint
