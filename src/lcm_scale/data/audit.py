"""What a mix of sets asks of a model, in words: its tokens, and for every target how many scans
carry a label of their own, how many the group's default, and how many nothing.

A scan of a set that does not have a group counts under the group's default (N/A, or the resting
state), at full weight, as published: where most scans do, that is what is mostly learnt.
"""

from __future__ import annotations

import numpy as np

from lcm_scale.data.sets import ShardSets


def audit(sets: ShardSets) -> dict[str, str]:
    """Question -> answer, for the terminal: the sets first, then a line a target.

    `CN 20, PD 20; N/A by default 1035 (abide); no label 7`.
    """
    said = {
        f"set {manifest.name}": f"{manifest.scans} scans of {len(manifest.subjects)} people, "
        f"{manifest.kind}"
        for manifest in sets.manifests
    }
    n = sets.vocabulary.n_tokens
    said["together"] = f"{sets.n_scans} scans of {len(sets.subjects)} people, {n} tokens"
    for column, target in enumerate(sets.vocabulary.targets):
        tokens = f"{target.n_tokens} token{'' if target.n_tokens == 1 else 's'}"
        said[f"target {target.name}"] = f"{tokens}: {_counts(sets, column)}"
    return said


def _counts(sets: ShardSets, column: int) -> str:
    target = sets.vocabulary.targets[column]
    has = np.array([target.name in names.values() for names in sets.renames])
    own = has[sets.set_number]
    values = sets.labels[:, column]
    known = own & np.isfinite(values)
    if target.is_class:
        counted = np.bincount(values[known].astype(np.int64), minlength=target.n_tokens)
        words = [f"{c} {k}" for c, k in zip(target.categories, counted, strict=True) if k]
    else:
        words = [f"{known.sum()} known"]
    parts = [", ".join(words) or "nobody"]
    if not has.all() and target.default:
        without = ", ".join(name for name, there in zip(sets.names, has, strict=True) if not there)
        parts.append(f"{target.default} by default {(~own).sum()} ({without})")
    missing = (own | (not target.default)) & ~np.isfinite(values)
    if missing.any():
        parts.append(f"no label {missing.sum()}")
    return "; ".join(parts)
