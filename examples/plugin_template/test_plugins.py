"""Each plug-in by itself, on a few numbers: `pip install -e .`, then `pytest test_plugins.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lcm_scale_example import baseline, connectivity, metric, reader

from lcm_scale import plugins
from lcm_scale.atlas import load_atlas
from lcm_scale.config import ShardRecipe, SourceConfig
from lcm_scale.data.recordings import Unread
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.offered import Training

OFFERED = {
    "readers": "folders",
    "connectivities": "spearman",
    "protocols": "halves",
    "metrics": "kappa",
    "baselines": "neighbours",
}


def test_every_plugin_is_found_and_can_be_imported() -> None:
    for kind, name in OFFERED.items():
        plugin, _ = plugins.load(kind, name)
        assert plugin.package == "lcm-scale-example"


def test_the_reader_lists_a_scan_a_file(tmp_path: Path) -> None:
    (tmp_path / "CN").mkdir()
    np.savetxt(tmp_path / "CN" / "sub01.csv", np.eye(5, 4), delimiter=",")
    recipe = ShardRecipe(name="mine", source=SourceConfig(dir=str(tmp_path)))
    (scan,) = reader.read(recipe, load_atlas("toy:4"))
    assert isinstance(scan, Unread) and scan.subject == "sub01"
    assert scan.labels == {"diagnosis": "CN"}
    assert np.array_equal(scan.load().series, np.eye(5, 4))


def test_the_connectivity_is_a_correlation_of_ranks() -> None:
    x = np.arange(1.0, 10.0)
    found = connectivity.spearman(np.stack([x, np.exp(x), -x], axis=1))
    assert np.allclose(found, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])


def test_the_metric_is_one_for_all_right_and_zero_for_a_constant_guess() -> None:
    truth = np.array([0, 0, 1, 1])
    who = np.arange(4)
    for scores, expected in ((np.eye(2)[truth], 1.0), (np.eye(2)[[0] * 4], 0.0)):
        p = Predictions("m", "t", "class", ("no", "yes"), truth, scores, who, 0 * who, who)
        assert np.allclose(metric.kappa(p, np.ones((3, 4))), expected)


def test_the_baseline_knows_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 20)
    edges = np.eye(6)[3 * truth] + 0.1 * rng.standard_normal((40, 6))
    answer = baseline.fit(Training(edges, truth, np.arange(40), "class", 2, 0))(edges)
    assert answer.shape == (40, 2) and (answer.argmax(1) == truth).all()
