"""The tuned linear baselines on real shard sets: the figures that a model has to beat. JSON out.

    python benchmarks/real_sets.py shards/abide shards/ppmi [--targets diagnosis,age] [--out FOLDER]

Every class target with at least two labels that have five people each, and every scalar, is asked
for; `site` only where --targets names it. Folds are five, by person, in the order of the sorted raw
ids, shuffled with seed 142857: the published ones for scalars, and for a class target the same with
its classes spread evenly, since of forty people plain folds hold anything from two to six of
a class. Sets of fewer than 200 people are asked ten times with other folds, because one draw says
little: the figures are means over the draws, beside the lowest and the highest. A linear model on the
Fisher-z edges and one on the tangent space are tuned inside each training fold, as in every report
(docs/evaluation.md, Baselines). Intervals (95 %, over people) are of the first draw.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import progress
from lcm_scale.config import DataConfig
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.evaluation.baselines import BASELINES, fit_predict
from lcm_scale.evaluation.folds import Fold, subject_folds
from lcm_scale.evaluation.metrics import Predictions, resampled
from lcm_scale.vocabulary import NOT_APPLICABLE, Target

RESULTS = Path(__file__).parent / "results"
SEED = 142857
FOLDS = 5
BOOTSTRAP = 2000
FEW = 200  # people
DRAWS = 10
SHOWN = {"class": ("accuracy", "auroc"), "scalar": ("mae", "r2")}


def questions(sets: ShardSets, wanted: list[str]) -> Iterator[tuple[Target, np.ndarray]]:
    """Targets, and what is known of each scan: (N,) position among its labels or value, NaN."""
    for column, target in enumerate(sets.vocabulary.targets):
        values = sets.labels[:, column].astype(np.float64)
        if target.is_class:
            codes = [target.categories.index(label) for label in target.labels]
            truth = np.full(len(values), np.nan)
            for position, code in enumerate(codes):
                truth[values == code] = position
            people = [len(np.unique(sets.subject[truth == k])) for k in range(len(codes))]
            if sum(count >= FOLDS for count in people) < 2:
                continue
        else:
            truth = values
        if target.name in wanted or (not wanted and target.name != "site"):
            yield target, truth


def measured(
    sets: ShardSets, edges: np.ndarray, target: Target, truth: np.ndarray, folds: list[Fold]
) -> dict[str, Any]:
    """One row of the table, of one draw of folds: every baseline's metrics with intervals."""
    kind = "class" if target.is_class else "scalar"
    labels = tuple(label for label in target.labels if label != NOT_APPLICABLE)
    known = np.isfinite(truth)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in BASELINES}
    tested, numbers = [], []
    for number, fold in enumerate(folds, 1):
        train, test = fold.train[known[fold.train]], fold.test[known[fold.test]]
        tested.append(test)
        numbers += [number] * len(test)
        for name in BASELINES:
            scores[name].append(
                fit_predict(
                    name,
                    edges[train],
                    truth[train],
                    sets.subject[train],
                    edges[test],
                    kind,
                    len(labels),
                    SEED,
                )
            )
    scans = np.concatenate(tested)
    row: dict[str, Any] = {
        "target": target.name,
        "scans": len(scans),
        "people": len(np.unique(sets.subject[scans])),
        "unit": target.measured_in,
        "results": {},
    }
    if target.is_class:
        row["labels"] = {label: int((truth == k).sum()) for k, label in enumerate(labels)}
    for name in BASELINES:
        predictions = Predictions(
            model=name,
            target=target.name,
            kind=kind,
            categories=labels,
            truth=truth[scans].astype(np.int64) if target.is_class else truth[scans],
            scores=np.concatenate(scores[name]),
            subject=sets.subject[scans],
            fold=np.array(numbers),
            scan=scans,
        )
        row["results"][name] = {
            m.name: [m.value, m.low, m.high]
            for m in resampled(predictions, BOOTSTRAP, SEED).metrics()
        }
    return row


def over_draws(draws: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Model -> metric -> [mean, lowest, highest] over the draws of folds."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, metrics in draws[0]["results"].items():
        found[name] = {}
        for metric in metrics:
            values = [draw["results"][name][metric][0] for draw in draws]
            found[name][metric] = [float(np.mean(values)), min(values), max(values)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--targets", default="")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    wanted = [name for name in arguments.targets.split(",") if name]
    args_out: Path = arguments.out
    args_out.mkdir(parents=True, exist_ok=True)
    file = args_out / "real_sets.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for folder in arguments.sets:
        sets = open_sets(DataConfig(sets=[str(folder)]))
        (manifest,) = sets.manifests
        edges = ResidentEdges(sets).edges.astype(np.float32)
        asked = list(questions(sets, wanted))
        entry = found.setdefault(manifest.name, {"targets": {}})
        entry["set"] = {
            "fingerprint": manifest.fingerprint,
            "connectivity": manifest.connectivity["kind"],
            "scans": manifest.scans,
            "people": len(manifest.subjects),
            "notes": list(manifest.notes),
        }
        with progress.stage(manifest.name, len(asked)) as advance:
            for target, truth in asked:
                strata = np.where(np.isfinite(truth), truth, -1) if target.is_class else None
                draws = []
                few = len(manifest.subjects) < FEW
                for seed in [SEED, *range(1, DRAWS if few else 1)]:
                    folds = subject_folds(
                        sets.subject, sets.subject_ranks, FOLDS, seed, strata, 0.0
                    )
                    draws.append(measured(sets, edges, target, truth, folds))
                row = draws[0] | {"draws": over_draws(draws)}
                entry["targets"][target.name] = row
                file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                shown = ", ".join(
                    f"{name} {metric} {row['draws'][name][metric][0]:.3f}"
                    for name in BASELINES
                    for metric in SHOWN["class" if target.is_class else "scalar"]
                )
                print(f"{manifest.name}, {target.name}, {row['scans']} scans: {shown}", flush=True)
                advance()


if __name__ == "__main__":
    main()
