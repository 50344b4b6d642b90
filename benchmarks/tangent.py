"""The tangent space of a fold: our code beside pyriemann's, in time and in numbers. JSON out.

    pip install "pyriemann>=0.12"
    python benchmarks/tangent.py [--matrices FILE.npz] [--repeats 5] [--out FOLDER]

FILE.npz holds `fc` (scans, E), upper triangles of correlation matrices by rows, for example those
of 884 real scans: four fifths train, and beside them a study of 30. Without it only correlations of
30 simulated series are measured. All sides get the same shrunk matrices in fp64, fit on the
training scans and transform both parts, with one thread and with two. Sides take turns, and a
figure is the median turn. Run it on an idle machine: two threads on two busy cores measure the wait
for each other. The sides are:

- `ours`: `linear.tangent.geometric_mean`, which stops at a gradient of 1e-3 a region, then the tangent
  vectors;
- `pyriemann`: `TangentSpace` as it is, whose mean goes on to a gradient of 1e-8;
- `pyriemann, our tolerance`: `mean_riemann` told to stop where ours does, then `tangent_space`;
- `ours, converged`: our mean with pyriemann's tolerance, which shows that both find one point.

`vectors` is the largest absolute difference from `ours` in any tangent vector of the test scans,
`products` the same of the scaled inner products, which are all that a baseline sees. `from
converged` is the largest difference of a tangent vector from `pyriemann`, which goes on longest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyriemann
from pyriemann.geometry.mean import mean_riemann
from pyriemann.geometry.tangentspace import tangent_space
from pyriemann.tangentspace import TangentSpace
from threadpoolctl import threadpool_limits

from lcm_scale.linear import tangent
from model import RESULTS, device_name  # benchmarks/model.py

Vectors = tuple[np.ndarray, np.ndarray]
CONVERGED = 1e-8  # pyriemann's default, of the gradient's norm


def ours(train: np.ndarray, test: np.ndarray) -> Vectors:
    space = tangent.TangentSpace.about(train)
    return space.vectors_of(train), space.vectors_of(test)


@contextmanager
def converging(n_regions: int) -> Iterator[None]:
    """Our mean goes on as long as pyriemann's does."""
    kept = tangent.MEAN_STEPS, tangent.MEAN_TOLERANCE
    tangent.MEAN_STEPS, tangent.MEAN_TOLERANCE = 50, CONVERGED / n_regions
    try:
        yield
    finally:
        tangent.MEAN_STEPS, tangent.MEAN_TOLERANCE = kept


def ours_converged(train: np.ndarray, test: np.ndarray) -> Vectors:
    with converging(train.shape[1]):
        return ours(train, test)


def theirs(train: np.ndarray, test: np.ndarray) -> Vectors:
    space = TangentSpace(metric="riemann").fit(train)
    return space.transform(train), space.transform(test)


def theirs_at_our_tolerance(train: np.ndarray, test: np.ndarray) -> Vectors:
    mean = mean_riemann(
        train, tol=tangent.MEAN_TOLERANCE * train.shape[1], maxiter=tangent.MEAN_STEPS
    )
    return tangent_space(train, mean), tangent_space(test, mean)


SIDES: dict[str, Callable[[np.ndarray, np.ndarray], Vectors]] = {
    "ours": ours,
    "pyriemann": theirs,
    "pyriemann, our tolerance": theirs_at_our_tolerance,
    "ours, converged": ours_converged,
}


def simulated(scans: int, regions: int = 116, length: int = 180) -> np.ndarray:
    """(scans, E) correlations of series with a few shared components."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(12, regions))
    rows, columns = np.triu_indices(regions, 1)
    out = []
    for _ in range(scans):
        mixed = loadings + 0.5 * rng.normal(size=loadings.shape)
        series = rng.normal(size=(length, 12)) @ mixed + 3 * rng.normal(size=(length, regions))
        out.append(np.corrcoef(series.T)[rows, columns])
    return np.array(out)


def scaled_products(vectors: Vectors) -> np.ndarray:
    """Inner products of test and training scans over the mean training norm."""
    train, test = vectors
    return np.asarray(test @ train.T / np.mean((train**2).sum(1)))


def compare(edges: np.ndarray, n_train: int, n_test: int, repeats: int) -> dict[str, object]:
    """All sides on one fold: seconds, and how far their numbers lie from ours."""
    chosen = np.random.default_rng(0).permutation(len(edges))[: n_train + n_test]
    matrices = tangent.positive_definite(edges[chosen].astype(np.float64))
    train, test = matrices[:n_train], matrices[n_train:]
    found: dict[str, Vectors] = {}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side, transform in SIDES.items():
            start = time.perf_counter()
            found[side] = transform(train, test)
            seconds[side].append(time.perf_counter() - start)
    median = {side: statistics.median(times) for side, times in seconds.items()}
    products = {side: scaled_products(vectors) for side, vectors in found.items()}
    return {
        side: {
            "seconds": round(median[side], 4),
            "times ours": round(median[side] / median["ours"], 2),
            "vectors": float(np.abs(found[side][1] - found["ours"][1]).max()),
            "products": float(np.abs(products[side] - products["ours"]).max()),
            "from converged": float(np.abs(found[side][1] - found["pyriemann"][1]).max()),
        }
        for side in SIDES
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--matrices", type=Path)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    arguments = options.parse_args()
    small = simulated(40)
    folds = {"30 simulated training scans": (small, 30, 10)}
    if arguments.matrices:
        real = np.load(arguments.matrices)["fc"].astype(np.float64)
        folds["30 real training scans"] = (real, 30, 10)
        n_test = len(real) // 5
        folds[f"{len(real) - n_test} real training scans"] = (real, len(real) - n_test, n_test)
    result: dict[str, object] = {
        "device": device_name("cpu"),
        "pyriemann": pyriemann.__version__,
        "numpy": np.__version__,
        "repeats": arguments.repeats,
    }
    for threads in (1, 2):
        with threadpool_limits(threads):
            for fold, (edges, n_train, n_test) in folds.items():
                name = f"{fold}, {n_test} test scans, threads: {threads}"
                result[name] = compare(edges, n_train, n_test, arguments.repeats)
                print(json.dumps({name: result[name]}, indent=1), flush=True)
    text = json.dumps(result, indent=1)
    (arguments.out / "tangent.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
