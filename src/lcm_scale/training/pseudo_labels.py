"""Pseudo-labels: where a scan lacks a pretrained target, the pretrained model's own prediction
stands in (paper, finetuning).

Made once, at the start of a phase that asks for them, from the weights of that moment; the
confidence is the predicted class's probability, times the recipe's weight. The audit table says who
got what, and how often the same weights are right about validation people, of whom no label was
ever trained on: on training people whose label they have learnt they agree with themselves, 100 %
of the time. A fitted threshold asks the same people whether a target is worth filling in at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from lcm_scale import progress
from lcm_scale.config import PseudoConfig
from lcm_scale.csv_text import csv_text
from lcm_scale.data.module import ConnectomeData
from lcm_scale.files import write_atomic
from lcm_scale.training.module import LCMModule
from lcm_scale.training.pseudo_threshold import class_threshold, scalar_passes
from lcm_scale.training.result import AuditRow
from lcm_scale.vocabulary import NOT_APPLICABLE, Target


@dataclass(frozen=True)
class _Checked:
    """What a model says of (n,) scans that nothing was fitted on, beside what is recorded.

    Attributes:
        known: whether a label is recorded.   agreement: as `AuditRow` has it.
    """

    guess: np.ndarray
    certainty: np.ndarray
    recorded: np.ndarray
    known: np.ndarray
    agreement: float

    @classmethod
    def of(cls, target: Target, recorded: np.ndarray, scores: np.ndarray) -> _Checked:
        known = np.isfinite(recorded)
        if NOT_APPLICABLE in target.categories:
            # What scans of other sets carry, and nobody asked them.
            known &= recorded != target.categories.index(NOT_APPLICABLE)
        agreement = float("nan")
        guess, certainty = _decide(target, scores)
        if known.any() and target.is_class:
            agreement = float((guess == recorded)[known].mean())
        elif known.any():
            agreement = float(np.abs(guess - recorded)[known].mean())
        return cls(guess, certainty, recorded, known, agreement)


def make_pseudo_labels(
    module: LCMModule,
    data: ConnectomeData,
    scans: np.ndarray,
    unseen: np.ndarray,
    pretrained: Sequence[str],
    config: PseudoConfig,
) -> list[AuditRow]:
    """Predict every pretrained target of `scans` and fill in what is missing.

    Args:
        scans: training scans.   unseen: scans that nothing was fitted on; the audit and a fitted
            threshold ask them.
        pretrained: targets that the weights have learnt; others cannot be predicted.
    Returns: the audit table.
    """
    names = [n for n in (config.targets or pretrained) if n in pretrained]
    columns = list(module.phase.active)
    values = np.full((len(scans), len(module.vocabulary.targets)), np.nan, dtype=np.float32)
    confidence = np.zeros_like(values)
    predictions = predict(module, data, scans)
    checks = predict(module, data, unseen) if len(unseen) else [p[:0] for p in predictions]
    audit = []
    for column, scores, check in zip(columns, predictions, checks, strict=True):
        target = module.vocabulary.targets[column]
        if target.name not in names:
            continue
        recorded = data.sets.labels[scans, column]
        guess, certainty = _decide(target, scores)
        checked = _Checked.of(target, data.sets.labels[unseen, column], check)
        threshold = _threshold(target, checked, data.sets.subject[unseen], config)
        missing = np.isnan(recorded)
        take = missing & (certainty >= threshold)
        values[take, column] = guess[take]
        confidence[take, column] = config.weight * certainty[take]
        audit.append(
            AuditRow(
                module.phase.name,
                target.name,
                int(missing.sum()),
                *_given(target, guess[take], certainty[take]),
                int(checked.known.sum()),
                checked.agreement,
                threshold if target.is_class and threshold <= 1 else float("nan"),
            )
        )
    data.set_pseudo_labels(scans, values, confidence)
    return audit


def predict(module: LCMModule, data: ConnectomeData, scans: np.ndarray) -> list[np.ndarray]:
    """Per active target, float32 (n, classes) logits or (n, 1) values."""
    columns = list(module.phase.active)
    parts = []
    trainer = module.trainer
    sizes = [
        min(data.global_batch, len(scans) - start)
        for start in range(0, len(scans), data.global_batch)
    ]
    batches = data.batches(scans, columns, trainer.global_rank, trainer.world_size)
    with progress.stage("pseudo-labels", len(scans), aside=True) as advance:
        for batch, size in zip(batches, sizes, strict=True):
            moved = {k: v.to(module.device) for k, v in batch.items()}
            # Shares of a batch stand one after the other, only the last ones padded.
            whole = [
                trainer.strategy.all_gather(s.float()).reshape(-1, s.shape[-1])
                for s in module.scores(moved)
            ]
            parts.append([s.cpu() for s in whole])
            advance(size)
    return [
        torch.cat([piece[:n] for piece, n in zip(pieces, sizes, strict=True)]).numpy()
        for pieces in zip(*parts, strict=True)
    ]


def probabilities(target: Target, logits: np.ndarray) -> np.ndarray:
    """(n, labels): softmax over the real categories; N/A is no answer to a question that was
    asked."""
    keep = [i for i, c in enumerate(target.categories) if c != NOT_APPLICABLE]
    return torch.softmax(torch.from_numpy(logits[:, keep]), 1).numpy()


def _decide(target: Target, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label codes or values, and how certain: a probability, 1 for scalars."""
    if not target.is_class:
        return scores[:, 0], np.ones(len(scores), dtype=np.float32)
    probability = probabilities(target, scores)
    shift = target.n_tokens - probability.shape[1]
    return (probability.argmax(1) + shift).astype(np.float32), probability.max(1)


def _threshold(
    target: Target, checked: _Checked, person: np.ndarray, config: PseudoConfig
) -> float:
    """The confidence that is asked for; infinite where nothing shall be filled in."""
    if config.threshold == "given":
        return config.min_confidence
    known = checked.known
    guess, recorded = checked.guess[known], checked.recorded[known]
    if not target.is_class:
        return 0.0 if scalar_passes(guess, recorded, person[known]) else float("inf")
    fitted = class_threshold(
        guess, checked.certainty[known], recorded, person[known], config.min_confidence
    )
    return float("inf") if fitted is None else fitted


def _given(target: Target, guess: np.ndarray, certainty: np.ndarray) -> tuple[int, float, str]:
    """How many labels were filled in, their mean confidence, and which."""
    if not target.is_class:
        return (
            len(guess),
            float("nan"),
            f"{guess.min():.1f} to {guess.max():.1f}" if len(guess) else "",
        )
    counts = Counter(target.categories[int(code)] for code in guess)
    text = ", ".join(f"{c}: {counts[c]}" for c in target.categories if counts[c])
    return len(guess), float(certainty.mean()) if len(guess) else float("nan"), text


def sentence(row: AuditRow, config: PseudoConfig) -> str:
    """What is to be said where validation people let nothing be filled in, else ''."""
    if config.threshold != "fitted" or row.given or not row.missing or np.isfinite(row.threshold):
        return ""
    return (
        f"no pseudo-labels for {row.target}: at no confidence is the model clearly better than a "
        f"constant guess about the {row.known} validation scans with a label"
    )


def write_audit(rows: Sequence[AuditRow], path: Path) -> None:
    """`pseudo_labels.csv` of the run folder."""
    columns = list(AuditRow.__dataclass_fields__)
    write_atomic(path, csv_text(map(asdict, rows), columns).encode())
