"""What a trained run came to, read from its folder: no Lightning is needed where nothing is left to
train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.run_log import EpochRow, epochs_of
from lcm_scale.weights import checkpoints

AUDIT = "PseudoLabels"  # of a checkpoint's callbacks, the one that keeps the audit


@dataclass(frozen=True)
class AuditRow:
    """One target's pseudo-labels.

    Attributes:
        phase: at whose start they were made.
        missing: training scans without this label.   given: those that got a pseudo-label.
        mean_confidence: of the given ones, before the recipe's weight; NaN for scalars, which have
            none.
        categories: given labels by category, 'M: 12, F: 3'; for scalars their range.
        known: validation scans with a recorded label (N/A is none), of people whom the pretrained
            model did not see.   agreement: share of them predicted right (scalars: MAE), NaN
            without any.
        threshold: the confidence that was asked for; NaN where none was good enough, and for
            scalars.
    """

    phase: str
    target: str
    missing: int
    given: int
    mean_confidence: float
    categories: str
    known: int
    agreement: float
    threshold: float = float("nan")  # checkpoints of release 0.1.0 have none


@dataclass(frozen=True)
class FitResult:
    """A trained run: its folder, the checkpoint that validation chose (else the last), and its
    epoch rows."""

    folder: Path
    checkpoint: Path
    rows: tuple[EpochRow, ...]
    audit: tuple[AuditRow, ...]
    steps: int


def read_result(prepared: PreparedRun) -> FitResult:
    """Of a run that is trained (`PreparedRun.is_trained`)."""
    assert prepared.resume is not None
    return result_of(prepared.folder, read_audit(prepared.resume), prepared.done)


def result_of(folder: Path, audit: Sequence[AuditRow], steps: int) -> FitResult:
    rows = tuple(epochs_of(folder / "log.jsonl"))
    return FitResult(folder, checkpoints.find(folder), rows, tuple(audit), steps)


def checkpoint_of(folder: Path, target: int) -> Path:
    """Where a run keeps a target's best epoch.  Args: target: its number in the vocabulary."""
    return folder / "checkpoints" / f"best-target-{target}.ckpt"


def read_audit(checkpoint: Path) -> list[AuditRow]:
    """What was given by the time of a checkpoint."""
    rows = checkpoints.read_file(checkpoint)["callbacks"][AUDIT]["audit"]
    return [AuditRow(**row) for row in rows]
