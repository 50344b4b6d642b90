"""Do the promised intervals cover the truth? Synthetic sweeps from a known law, refitted many
times.

python benchmarks/fit_coverage.py [--repetitions 200] [--sizes 6] [--people 4] [--seeds 2] [--noise
0.02] [--tails] [--bootstrap 100]

For each parameter: how often the profile interval (with F-quantiles, and with the chi-square ones
that ignore how few runs there are) and the bootstrap's percentile interval hold the truth; the
median width of the profile interval of E. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from scipy.stats import chi2

from lcm_scale.laws.fit import (
    bootstrap,
    drop,
    fit,
    objective_at,
    percentile_interval,
    profile_interval,
    threshold,
)
from lcm_scale.laws.laws import LAWS, Runs, Scale

TRUTH = {"E": 0.55, "A": 0.10, "B": 0.20, "a": 0.35, "b": 0.35}


def design(sizes: int, people: int, seeds: int) -> Runs:
    n, u, _ = (
        x.ravel()
        for x in np.meshgrid(
            np.geomspace(5e4, 2e7, sizes), np.geomspace(100, 1340, people), range(seeds)
        )
    )
    return Runs(np.ones_like(n), n, 10 * u, u, np.full_like(n, 10.0), np.arange(len(n)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--sizes", type=int, default=6)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.02)
    parser.add_argument(
        "--tails",
        action="store_true",
        help="Student's t with 4 degrees of freedom, not normal noise",
    )
    parser.add_argument("--bootstrap", type=int, default=100, help="draws a repetition; 0: none")
    parser.add_argument(
        "--widths", type=int, default=20, help="repetitions whose whole interval of E is sought"
    )
    options = parser.parse_args()
    law, blank = LAWS["chinchilla"], design(options.sizes, options.people, options.seeds)
    scale = Scale.of(blank)
    clean = law.predict(blank, scale, np.array([TRUTH[name] for name in law.names]))
    inside: dict[str, dict[str, int]] = {
        kind: dict.fromkeys(law.names, 0) for kind in ("profile", "chi_square", "bootstrap")
    }
    widths = []
    for repetition in range(options.repetitions):
        rng = np.random.default_rng((7, repetition))
        noise = (
            rng.standard_t(4, len(clean)) / np.sqrt(2)
            if options.tails
            else rng.standard_normal(len(clean))
        )
        result = fit(law, blank.with_loss(clean * np.exp(options.noise * noise)), scale)
        for name, truth in TRUTH.items():
            # Inside its profile interval is where holding the truth raises the loss by less than
            # the quantile.
            rise = drop(result, objective_at(result, name, truth)[0])
            inside["profile"][name] += rise <= threshold(result)
            inside["chi_square"][name] += rise <= chi2.ppf(0.95, 1)
        if options.bootstrap:
            draws = bootstrap(result, options.bootstrap, repetition)
            for name, truth in TRUTH.items():
                interval = percentile_interval(draws, law, name)
                inside["bootstrap"][name] += interval.low <= truth <= interval.high
        if repetition < options.widths:
            widths.append(profile_interval(result, "E").width)
        print(f"\r{repetition + 1}/{options.repetitions}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(
        json.dumps(
            {
                "design": {
                    k: getattr(options, k) for k in ("sizes", "people", "seeds", "noise", "tails")
                },
                "repetitions": options.repetitions,
                "runs": len(clean),
                "truth": TRUTH,
                "coverage": {
                    kind: {name: n / options.repetitions for name, n in counts.items()}
                    for kind, counts in inside.items()
                    if kind != "bootstrap" or options.bootstrap
                },
                "bootstrap_draws": options.bootstrap,
                "median_width_of_E": round(float(np.median(widths)), 3) if widths else None,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
