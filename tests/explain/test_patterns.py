"""Haufe's pattern against its plain formulation, and tangent maps against the correlations
themselves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lcm_scale.atlas import Atlas, load_atlas, square
from lcm_scale.explain.levels import EDGES, PAIRS, REGIONS, Levels, network_order, networks
from lcm_scale.explain.noise import against_noise
from lcm_scale.explain.patterns import covariances, haufe, on_connectome
from lcm_scale.explain.stability import between_models
from lcm_scale.linear.tangent import TangentSpace

R = 8


@pytest.fixture(scope="module")
def edges() -> np.ndarray:
    """(80, E) correlations whose first three regions are coupled more and more."""
    rng = np.random.default_rng(0)
    series = rng.normal(size=(80, 90, R)) + 0.7 * rng.normal(size=(80, 90, 1))
    series[:, :, :3] += np.linspace(0, 1, 80)[:, None, None] * rng.normal(size=(80, 90, 1))
    rows, columns = np.triu_indices(R, 1)
    return np.stack([np.corrcoef(s.T)[rows, columns] for s in series])


def test_the_pattern_of_a_filter_is_covariance_times_weights_over_the_score_s_variance() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + 3
    w = rng.normal(size=(6, 2))
    plain = np.cov(x.T, bias=True) @ w / (x @ w).var(0)
    blocks = [x[:20], x[20:]]
    assert haufe(covariances(blocks, x @ w), x @ w) == pytest.approx(plain.T)


def test_a_feature_that_only_cancels_noise_has_a_weight_and_no_pattern() -> None:
    # Haufe et al., figure 1: the second channel sees the distractor alone.
    rng = np.random.default_rng(2)
    signal, noise = rng.normal(size=(2, 20_000))
    x = np.stack([signal + noise, noise], axis=1)
    w = np.linalg.lstsq(x, signal, rcond=None)[0]
    (pattern,) = haufe(covariances([x], x @ w[:, None]), x @ w[:, None])
    assert w == pytest.approx([1, -1], abs=0.01)
    assert pattern == pytest.approx([1, 0], abs=0.02)


def test_a_tangent_pattern_says_of_correlations_what_these_say_themselves(
    edges: np.ndarray,
) -> None:
    space = TangentSpace.of(edges)
    vectors = space.vectors(edges)
    score = np.linspace(-1, 1, len(edges))[:, None]
    found = on_connectome(haufe(covariances([vectors], score), score), space.whitening)[0]
    itself = haufe(covariances([edges], score), score)[0]
    assert np.corrcoef(found, itself)[0, 1] > 0.97
    assert np.abs(found - itself).max() < 0.15 * np.abs(itself).max()


def test_regions_and_pairs_are_means_of_their_edges() -> None:
    atlas = Atlas("toy", (1, 2, 3, 4), tuple("abcd"), ("back", "front", "back", ""))
    levels = Levels.of(atlas)
    found = levels.of_map(np.arange(1.0, 7.0))  # ab ac ad bc bd cd
    assert networks(atlas) == ["back", "front", "none"]
    assert found[REGIONS] == pytest.approx([2, 10 / 3, 4, 14 / 3])
    assert dict(zip(levels.pairs, found[PAIRS], strict=True)) == pytest.approx(
        {
            ("back", "back"): 2,
            ("back", "front"): 2.5,
            ("back", "none"): 4.5,
            ("front", "none"): 5,
        }
    )
    shares = levels.of_shares(np.full(6, 1 / 6))
    assert shares[REGIONS].sum() == pytest.approx(1)
    assert shares[PAIRS].sum() == pytest.approx(1)


def test_matrices_stand_network_by_network_in_the_order_of_the_atlas() -> None:
    atlas = load_atlas("aal116")
    order = network_order(atlas)
    assert sorted(order) == list(range(116))
    of_order = [atlas.networks[i] for i in order]
    changes = sum(a != b for a, b in pairwise(of_order))
    assert changes == len(set(atlas.networks)) - 1  # each network is one block
    assert list(dict.fromkeys(of_order)) == networks(atlas)
    one = np.zeros(116 * 115 // 2)
    one[0] = 1.0  # between the atlas's first two regions
    assert square(one, 116)[0, 1] == square(one, 116)[1, 0] == 1


def test_a_planted_value_differs_and_noise_does_so_in_one_map_of_twenty() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        maps = rng.normal(size=(100, 1, 40))
        found.append(against_noise(maps, np.ones(1))[0].differs.any())
    assert 0.01 < np.mean(found) < 0.10
    maps = rng.normal(size=(100, 1, 40))
    maps[0, 0, 7] += 8
    assert np.flatnonzero(against_noise(maps, np.ones(1))[0].differs).tolist() == [7]


def test_agreement_is_the_mean_correlation_of_maps_of_different_folds() -> None:
    rng = np.random.default_rng(4)
    maps = rng.normal(size=(4, 1, 30)) + 2 * rng.normal(size=30)
    found = between_models(maps, [1, 1, 2, 2], 0)
    assert found is not None and found.of == "folds" and found.pairs == 4
    pairs = [np.corrcoef(maps[a, 0], maps[b, 0])[0, 1] for a in (0, 1) for b in (2, 3)]
    assert found.mean == pytest.approx(np.mean(pairs))
    assert between_models(maps[:1], [1], 0) is None
    seeds = between_models(maps[:2], [1, 1], 0)
    assert seeds is not None and seeds.of == "seeds"
    assert EDGES in Levels.of(load_atlas("aal116")).of_map(np.zeros(6670))
