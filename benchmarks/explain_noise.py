"""How often `lcm-scale explain` finds something where there is nothing. JSON out.

    python benchmarks/explain_noise.py shards/abide [--target diagnosis] [--people 400] [--draws 200]

In each draw the labels of some people are exchanged within their sites, so that they mean nothing
but keep each site's frequencies; then these are taken for real: people memory is tuned and fitted on
them, its map is held against label-permuted models as `explain` does, and any edge, region or pair of
networks with p < .05 is a false finding. Each level should have one in 5 % of the draws.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from lcm_scale import progress
from lcm_scale.config import DataConfig
from lcm_scale.data.given import given
from lcm_scale.data.sets import in_drawn_order, open_sets
from lcm_scale.data.stream import open_edges
from lcm_scale.explain import memory
from lcm_scale.explain.exchange import SITE, exchange
from lcm_scale.explain.levels import Levels
from lcm_scale.explain.noise import against_noise
from lcm_scale.linear.meeting import Asked, all_meet, questions_of
from lcm_scale.linear.memory import fit_all

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--target", default="diagnosis")
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--permutations", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    sets = open_sets(DataConfig(sets=[str(asked.set)]))
    people = in_drawn_order(sets, np.unique(sets.subject), 0, 0)[: asked.people]
    scans = np.flatnonzero(np.isin(sets.subject, people))
    edges = open_edges(sets, 8.0).gather(scans).astype(np.float32)
    target = sets.vocabulary[asked.target]
    truth = np.full(sets.n_scans, np.nan)
    truth[scans] = sets.labels[scans, sets.vocabulary.names.index(asked.target)]
    noise = exchange(asked.target, truth, sets, asked.draws, 1, SITE, ())
    told = given(["site"], sets, scans).fitted(sets.subject[scans])
    met = all_meet(edges, sets.subject[scans], told, {}, None)
    levels = Levels.of(sets.atlas)
    found: dict[str, list[bool]] = {}
    alphas = []
    with progress.stage("noise", asked.draws) as advance:
        for number, sources in enumerate(noise.sources):
            labels = truth[sources]
            own = {"noise": Asked(labels[scans], target.n_tokens if target.is_class else 0)}
            questions = questions_of(own, sets.subject[scans])
            fitted = fit_all(met.bank, met.vectors, questions, number, told, {}, None)
            again = memory.Refitted(scans, sets.subject[scans], edges, met, questions, fitted, told)
            drawn = exchange("noise", labels, sets, asked.permutations, number, SITE, ())
            choice = fitted["noise"].choice
            wanted = drawn.wanted(memory.shown_classes(questions["noise"]), choice.log)
            maps = memory.maps(again, "noise", wanted)
            for level, part in levels.of_map(maps.covariance).items():
                differs = [each.differs.any() for each in against_noise(part, maps.variance)]
                found.setdefault(level, []).append(any(differs))
            alphas.append(choice.alpha)
            advance(1)
    facts = {
        "set": asked.set.name,
        "target": asked.target,
        "people": asked.people,
        "draws": asked.draws,
        "permutations": asked.permutations,
        "share of draws with a false finding": {k: float(np.mean(v)) for k, v in found.items()},
        "alpha chosen": {f"{a:.3g}": alphas.count(a) for a in sorted(set(alphas))},
    }
    print(json.dumps(facts, indent=1))
    (asked.out / "explain_noise.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
