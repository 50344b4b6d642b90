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

`--harmonise site-centre` or `combat` takes the sites' effects out inside each fold, as
`evaluate.harmonise` does for one target at a time, and writes `real_sets_harmonised.json`: the same
rows, and each baseline's paired difference from `none` on the same folds and resamples.
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
from lcm_scale.config.run import HARMONISE
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.evaluation.baselines import BASELINES, fit_predict
from lcm_scale.evaluation.folds import Fold, subject_folds
from lcm_scale.evaluation.harmonise import site_effects
from lcm_scale.evaluation.intervals import Draws, resampled
from lcm_scale.evaluation.metrics import Predictions
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


def answers(
    sets: ShardSets,
    edges: np.ndarray,
    target: Target,
    truth: np.ndarray,
    folds: list[Fold],
    harmonise: str,
) -> dict[str, Predictions]:
    """Every baseline's held-out answers, of one draw of folds."""
    kind = "class" if target.is_class else "scalar"
    labels = tuple(label for label in target.labels if label != NOT_APPLICABLE)
    known = np.isfinite(truth)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in BASELINES}
    effects = site_effects(harmonise, sets, np.arange(sets.n_scans), [target.name])
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
                    sites=effects and effects.of(np.concatenate([train, test])),
                    log=target.log,
                )
            )
    scans = np.concatenate(tested)
    return {
        name: Predictions(
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
        for name in BASELINES
    }


def drawn(found: dict[str, Predictions]) -> dict[str, Draws]:
    """Every metric of every baseline on every resample."""
    return {name: resampled(predictions, BOOTSTRAP, SEED) for name, predictions in found.items()}


def measured(
    sets: ShardSets,
    edges: np.ndarray,
    target: Target,
    truth: np.ndarray,
    folds: list[Fold],
    harmonise: str = "none",
) -> dict[str, Any]:
    """One row of the table, of one draw of folds: every baseline's metrics with intervals."""
    found = drawn(answers(sets, edges, target, truth, folds, harmonise))
    any_of_them = next(iter(found.values())).predictions
    row: dict[str, Any] = {
        "target": target.name,
        "scans": len(any_of_them.truth),
        "people": len(np.unique(any_of_them.subject)),
        "unit": target.measured_in,
    }
    if target.is_class:
        labels = any_of_them.categories
        row["labels"] = {label: int((truth == k).sum()) for k, label in enumerate(labels)}
    row["results"] = {
        name: {m.name: [m.value, m.low, m.high] for m in draws.metrics()}
        for name, draws in found.items()
    }
    if harmonise != "none":
        plain = drawn(answers(sets, edges, target, truth, folds, "none"))
        row["minus_none"] = {
            name: {
                m.name: [m.value, m.low, m.high]
                for m in found[name].minus(plain[name])
                if m.name in SHOWN[any_of_them.kind]
            }
            for name in BASELINES
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
    parser.add_argument("--harmonise", choices=HARMONISE, default="none")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.targets.split(",") if name]
    args_out: Path = arguments.out
    args_out.mkdir(parents=True, exist_ok=True)
    harmonise: str = arguments.harmonise
    file = args_out / ("real_sets.json" if harmonise == "none" else "real_sets_harmonised.json")
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for folder in arguments.sets:
        sets = open_sets(DataConfig(sets=[str(folder)]))
        (manifest,) = sets.manifests
        edges = ResidentEdges(sets).edges.astype(np.float32)
        asked = list(questions(sets, wanted))
        name = manifest.name if harmonise == "none" else f"{manifest.name}, {harmonise}"
        entry = found.setdefault(name, {"targets": {}})
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
                    draws.append(measured(sets, edges, target, truth, folds, harmonise))
                row = draws[0] | {"draws": over_draws(draws)}
                entry["targets"][target.name] = row
                file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                shown = ", ".join(
                    f"{model} {metric} {row['draws'][model][metric][0]:.3f}"
                    for model in BASELINES
                    for metric in SHOWN["class" if target.is_class else "scalar"]
                )
                print(f"{name}, {target.name}, {row['scans']} scans: {shown}", flush=True)
                advance()


if __name__ == "__main__":
    main()
