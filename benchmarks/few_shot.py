"""Few labels in one data set, many in another: people memory that starts from the pretrained one,
beside the same without it, the pretrained one as it is, and the tuned tangent model.

    python benchmarks/few_shot.py SHARDS_DIR --train ppmi --test taowu --targets diagnosis,sex,age
    python benchmarks/few_shot.py SHARDS_DIR --train abide --sites 5 --seeds 1 2 --out FILE.json

With `--sites` the set is parted: so many sites, drawn by each seed, are the other data set. Of its
people K are labelled, as often as `--draws` says, the others are tested. A number is the mean over
draws; its interval comes from resampling the people, the same for all models.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from lcm_scale.config import DataConfig
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.evaluation.baselines import fit_predict
from lcm_scale.linear.memory import Asked, PeopleMemory, fit_memory
from lcm_scale.linear.prior import Prior, PriorTarget
from lcm_scale.vocabulary import NOT_APPLICABLE

RESAMPLES = 500
MODELS = ("tangent", "memory", "pretrained", "with prior")


class Data:
    """Scans with a known answer.  Attributes: edges: (n, E).   truth, subject: (n,)."""

    def __init__(self, edges: np.ndarray, truth: np.ndarray, subject: np.ndarray) -> None:
        known = np.isfinite(truth)
        self.edges, self.truth, self.subject = edges[known], truth[known], subject[known]

    def of(self, chosen: np.ndarray) -> Data:
        return Data(self.edges[chosen], self.truth[chosen], self.subject[chosen])


def answers_of(sets: ShardSets, target: str, categories: list[str]) -> np.ndarray:
    """(N,) positions in `categories`, or values; NaN elsewhere."""
    found = sets.labels[:, sets.vocabulary.names.index(target)].astype(float)
    if not categories:
        return found
    own = sets.vocabulary[target].categories
    place = [categories.index(c) if c in categories else np.nan for c in own]
    return np.array([np.nan if np.isnan(code) else place[int(code)] for code in found])


def opened(name: str, folder: str) -> tuple[ShardSets, np.ndarray]:
    sets = open_sets(DataConfig(sets=[name], shards_dir=folder))
    return sets, ResidentEdges(sets).gather(np.arange(sets.n_scans)).astype(np.float32)


def as_prior(memory: PeopleMemory) -> Prior:
    target = memory.targets["it"]
    weights = target.weights
    own = PriorTarget(target.classes, weights.common[None], weights.intercept, weights.log)
    return Prior(memory.whitening[None], memory.centre[None], {"it": own})


def drawn(data: Data, count: int, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) whose are labelled: `count` people, of each class in its proportion and at least one."""
    people, first = np.unique(data.subject, return_index=True)
    if not n_classes:
        chosen = rng.choice(people, count, replace=False)
        return np.isin(data.subject, chosen)
    classes = data.truth[first].astype(int)
    wanted = np.maximum(
        1, np.round(count * np.bincount(classes, minlength=n_classes) / len(people))
    )
    wanted[np.argmax(wanted)] += count - wanted.sum()
    parts = [
        rng.choice(people[classes == code], int(wanted[code]), replace=False)
        for code in range(n_classes)
    ]
    return np.isin(data.subject, np.concatenate(parts))


def metric(truth: np.ndarray, score: np.ndarray, n_classes: int) -> float:
    if not n_classes:
        return -float(np.abs(truth - score).mean())  # larger is better, as an AUROC
    positive = int(truth.sum())
    if not 0 < positive < len(truth):
        return np.nan
    ranks = float(rankdata(score)[truth > 0].sum()) - positive * (positive + 1) / 2
    return ranks / (positive * (len(truth) - positive))


def measure(
    train: Data, test: Data, n_classes: int, counts: list[int], draws: int
) -> list[dict[str, object]]:
    """A row a count and model."""
    pretrained = fit_memory(train.edges, train.subject, {"it": Asked(train.truth, n_classes)}, 0)
    prior, rng = as_prior(pretrained), np.random.default_rng(0)
    zero = pretrained.scores(test.edges)["it"]
    rows = []
    for count in counts:
        tried = []
        for _ in range(draws if count else 1):
            own = drawn(test, count, n_classes, rng) if count else np.zeros(len(test.truth), bool)
            labelled, others = test.of(own), test.of(~own)
            scores = {"pretrained": zero[~own]}
            if count:
                asked = {"it": Asked(labelled.truth, n_classes)}
                for name, start in (("memory", None), ("with prior", prior)):
                    memory = fit_memory(labelled.edges, labelled.subject, asked, 0, prior=start)
                    scores[name] = memory.scores(others.edges)["it"]
                kind = "class" if n_classes else "scalar"
                scores["tangent"] = fit_predict(
                    *("tangent", labelled.edges, labelled.truth, labelled.subject),
                    *(others.edges, kind, n_classes, 0),
                )
            flat = {m: s[:, -1] if s.ndim == 2 else s for m, s in scores.items()}
            if n_classes == 2:
                flat = {m: s[:, 1] - s[:, 0] for m, s in scores.items()}
            tried.append((others, flat))
        rows += summarised(tried, n_classes, count)
    return rows


def summarised(
    tried: list[tuple[Data, dict[str, np.ndarray]]], n_classes: int, count: int
) -> list[dict[str, object]]:
    """Means over draws, and intervals from resampling people."""
    everybody = np.unique(np.concatenate([data.subject for data, _ in tried]))
    rng = np.random.default_rng(1)
    models = [m for m in MODELS if m in tried[0][1]]
    samples = []
    for number in range(RESAMPLES + 1):
        weight = np.bincount(
            rng.integers(0, len(everybody), len(everybody)), minlength=len(everybody)
        )
        values = []
        for data, flat in tried:
            times = weight[np.searchsorted(everybody, data.subject)] if number else 1
            rows = np.repeat(np.arange(len(data.truth)), times)
            values.append([metric(data.truth[rows], flat[m][rows], n_classes) for m in models])
        samples.append(np.nanmean(values, axis=0))
    point, resampled = samples[0], np.array(samples[1:])
    best = models.index("tangent" if "tangent" in models else models[0])
    found = []
    for place, model in enumerate(models):
        low, high = np.nanpercentile(resampled[:, place], [2.5, 97.5])
        less = resampled[:, place] - resampled[:, best]
        row = {"K": count, "model": model, "value": point[place], "low": low, "high": high}
        if place != best:
            bounds = np.nanpercentile(less, [2.5, 97.5])
            row |= {"minus": models[best], "difference": point[place] - point[best]}
            row |= {"difference_low": bounds[0], "difference_high": bounds[1]}
        found.append(row)
    return found


def parted(args: argparse.Namespace, target: str) -> list[tuple[str, Data, Data, int]]:
    """(name, many labels, few labels, classes) of each seed, or of the two sets."""
    sets, edges = opened(args.train, args.shards)
    own = sets.vocabulary[target]
    categories = [c for c in own.categories if own.is_class and c != NOT_APPLICABLE]
    if args.sites:
        truth, found = answers_of(sets, target, categories), []
        for seed in args.seeds:
            held = np.random.default_rng(seed).choice(len(sets.sites), args.sites, replace=False)
            other = np.isin(sets.site, held)
            parts = [Data(edges[p], truth[p], sets.subject[p]) for p in (~other, other)]
            name = f"{args.train}, seed {seed}"
            found.append((name, parts[0], parts[1], len(categories)))
        return found
    others, other_edges = opened(args.test, args.shards)
    if others.manifests[0].kind != sets.manifests[0].kind:
        raise SystemExit(f"{args.test} holds other kinds of matrices than {args.train}")
    categories = [c for c in categories if c in others.vocabulary[target].categories]
    return [
        (
            f"{args.train} -> {args.test}",
            Data(edges, answers_of(sets, target, categories), sets.subject),
            Data(other_edges, answers_of(others, target, categories), others.subject),
            len(categories),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards")
    parser.add_argument("--train", required=True)
    parser.add_argument("--test")
    parser.add_argument("--sites", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--targets", default="diagnosis,sex,age")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 5, 10, 20])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = []
    for target in args.targets.split(","):
        for name, train, test, n_classes in parted(args, target):
            people = len(np.unique(test.subject))
            measure_of = "AUROC" if n_classes else "minus MAE"
            print(f"{name}: {target}, {measure_of}; {len(train.truth)} scans, then {people} people")
            for row in measure(train, test, n_classes, args.counts, args.draws):
                line = f"  K {row['K']:4d}  {row['model']:11s} {row['value']:.3f}"
                line += f" [{row['low']:.3f}, {row['high']:.3f}]"
                if "minus" in row:
                    line += f"   {row['difference']:+.3f} [{row['difference_low']:+.3f}, "
                    line += f"{row['difference_high']:+.3f}] from {row['minus']}"
                print(line, flush=True)
                results.append({"data": name, "target": target, "people": people, **row})
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
