"""Figures of a map with findings and of one without, on a real atlas: nothing is written."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.explain import noise
from lcm_scale.explain.decoder import Looked
from lcm_scale.explain.figures import MOST_DRAWN, NOISE, OfToken, faces, figures, furthest
from lcm_scale.explain.found import LooksAt, Options, Remembers, TokenMap
from lcm_scale.explain.levels import EDGES, Levels
from lcm_scale.explain.wording import title, verdict
from lcm_scale.report import pictures

ATLAS = load_atlas("aal116")
LEVELS = Levels.of(ATLAS)


def token(clear: float) -> TokenMap:
    """A map of noise, of which values further than `clear` from 0 differ."""
    values = np.random.default_rng(0).normal(size=ATLAS.n_edges)
    maps = {
        name: noise.Tested(own, own, own, np.where(np.abs(own) > clear, 0.01, 0.5))
        for name, own in LEVELS.of_map(values).items()
    }
    shares = np.full(ATLAS.n_edges, 1 / ATLAS.n_edges)
    looked = Looked(0.5, np.full(116, 1 / 116), shares, 0.01)
    decoder = LooksAt((0.5,), looked, LEVELS.of_shares(shares))
    return TokenMap(
        "dx", "ill", ("well",), "", "site", ("motion",), Remembers(maps, 1.0, 9, ()), decoder
    )


def drawn(one: TokenMap, centres: np.ndarray | None) -> list[OfToken]:
    found = SimpleNamespace(levels=LEVELS, tokens=(one,), options=Options())
    return list(figures(found, centres))  # type: ignore[arg-type]  # as much of it as is read


def test_a_brain_is_drawn_of_what_differs_and_saved_without_complaint() -> None:
    pytest.importorskip("nilearn")
    one = token(2.0)
    all_of_it = drawn(one, np.array(ATLAS.coordinates))
    stems = [each.drawn.stem for each in all_of_it]
    assert stems == [
        f"dx-ill-{w}" for w in ("edges", "networks", "brain", "attention", "gradients")
    ]
    (brain,) = (each for each in all_of_it if each.drawn.stem == "dx-ill-brain")
    rows = [row for row in brain.drawn.rows if row["differs"] == "yes"]
    assert len(rows) == len(brain.drawn.rows) == MOST_DRAWN < one.levels[EDGES].differs.sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in all_of_it:
            assert pictures.png(each.drawn.figure) and each.drawn.svg


def test_of_noise_there_is_no_brain_and_every_region_is_grey() -> None:
    one = token(99.0)
    stems = {each.drawn.stem for each in drawn(one, np.array(ATLAS.coordinates))}
    assert "dx-ill-brain" not in stems and "dx-ill-edges" in stems
    assert set(faces(one)) == {NOISE} and not furthest(one).any()
    assert verdict(one, 200) == (
        "no edge, region or network pair differs from 200 label-permuted models that know motion: "
        "nothing on this map is a finding."
    )
    assert title(one) == "dx, ill against well"


def test_without_places_nothing_is_drawn_on_a_brain() -> None:
    assert not any(each.drawn.stem.endswith("-brain") for each in drawn(token(2.0), None))
