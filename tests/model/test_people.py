"""People memory in torch is the plain formulation of `linear.memory`, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.memory import ABSENT, Asked, PeopleMemory, combined, fit_memory
from lcm_scale.linear.prior import Prior, PriorTarget, prior_answers
from lcm_scale.linear.tangent import positive_definite
from lcm_scale.model.people import PeopleMemory as MemoryPart

REGIONS, SCANS, NEW = 9, 60, 7
EDGES = REGIONS * (REGIONS - 1) // 2
# Logits or values of each: a class without a training scan is the last of the first target's.
NAMES, TOKENS = ("group", "sex", "age", "unknown", "dose"), (4, 2, 1, 3, 1)


def correlations(scans: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(scans, 40, REGIONS)) + 0.7 * rng.normal(size=(scans, 40, 1))
    rows, columns = np.triu_indices(REGIONS, 1)
    return np.stack([np.corrcoef(s.T)[rows, columns] for s in series]).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> PeopleMemory:
    rng, edges = np.random.default_rng(0), correlations(SCANS, 0)
    group = rng.integers(1, 3, SCANS).astype(float)
    group[rng.random(SCANS) < 0.2] = np.nan
    age = 40 + 30 * edges[:, 0] + rng.normal(size=SCANS)
    asked = {
        "group": Asked(group, 4),
        "sex": Asked((edges[:, 1] > np.median(edges[:, 1])).astype(float), 2),
        "age": Asked(age, 0),
        "unknown": Asked(np.full(SCANS, np.nan), 3),
        "dose": Asked(np.exp(3 + 2 * edges[:, 2].astype(float)), 0, log=True),
    }
    memory = fit_memory(edges, np.arange(SCANS) // 2, asked, 0)
    assert (
        set(memory.targets) == {"group", "sex", "age", "dose"} and memory.targets["dose"].choice.log
    )
    return memory.gated({"group": 0.0, "sex": 0.5, "age": 0.35, "dose": 0.2})


COLUMNS = (
    KnownColumn("site", ("a", "b", "c")),
    KnownColumn("sex", ("F", "M")),
    KnownColumn("hours", ()),
)


def known(scans: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, 3, scans), rng.integers(0, 2, scans)], axis=1)
    values = np.concatenate([values, rng.normal(7, 2, (scans, 1))], axis=1)
    values[rng.random(values.shape) < 0.15] = np.nan
    return values


@pytest.fixture(scope="module")
def told() -> PeopleMemory:
    return made_of_context()


@pytest.fixture(scope="module")
def kept() -> PeopleMemory:
    """In the radial form."""
    return made_of_context(radial=True)


def made_of_context(radial: bool = False) -> PeopleMemory:
    """Everything is a shift and a weight of its own at each site; sex is a target as well."""
    rng, edges, values = np.random.default_rng(0), correlations(240, 0), known(240, 2)
    site, sex = np.nan_to_num(values[:, 0]), values[:, 1]
    strength = np.where(site == 1, 60.0, -60.0) * (edges[:, 0] - edges[:, 0].mean())
    age = 40 + strength + (60 if radial else 4) * site + rng.normal(0, 1, 240)
    asked = {
        "group": Asked((strength + rng.normal(0, 1, 240) > 0).astype(float), 4),
        "sex": Asked(sex, 2),
        "age": Asked(age + 3 * np.nan_to_num(sex), 0),
    }
    before = np.random.default_rng(5)
    weights = 30 * before.normal(size=(2, REGIONS * (REGIONS + 1) // 2, 1))
    prior = Prior(
        np.stack([np.eye(REGIONS), 1.1 * np.eye(REGIONS)]),
        0.1 * before.normal(size=(2, REGIONS * (REGIONS + 1) // 2)),
        {"age": PriorTarget((), weights, np.array([50.0]), False)},
    )
    asked["hours"] = Asked(
        prior_answers(prior.targets["age"], prior.vectors_of(positive_definite(edges)))[:, 0] + 9, 0
    )
    asked["age"] = Asked(age + asked["hours"].truth, 0)
    del asked["hours"]
    context = Context(COLUMNS, values)
    memory = fit_memory(edges, np.arange(240), asked, 0, context, prior, radial=radial)
    assert memory.targets["age"].choice.share > 0 and memory.prior is prior
    used = {name: target.choice.form for name, target in memory.targets.items()}
    assert used["age"].added and used["group"].shared and (used["age"].shared or radial)
    return memory


@pytest.fixture(scope="module")
def part(fitted: PeopleMemory) -> MemoryPart:
    made = MemoryPart(REGIONS, TOKENS)
    made.fill(fitted, NAMES)
    return made


@pytest.fixture(scope="module")
def edges() -> np.ndarray:
    """New scans: the second is no correlation matrix at all, the third has a constant region."""
    found = correlations(NEW, 1)
    found[1] = np.random.default_rng(2).uniform(-1, 1, EDGES)
    rows, columns = np.triu_indices(REGIONS, 1)
    found[2, (rows == 3) | (columns == 3)] = 0
    return found


def test_it_answers_as_the_plain_formulation(
    fitted: PeopleMemory, part: MemoryPart, edges: np.ndarray
) -> None:
    plain = fitted.scores(edges)
    found = dict(zip(NAMES, part(torch.from_numpy(edges)).split(TOKENS, dim=1), strict=True))
    for name, expected in plain.items():
        tolerance = {"rtol": 1e-4, "atol": 1e-3}
        np.testing.assert_allclose(found[name].numpy(), expected, **tolerance, err_msg=name)
    assert (found["group"][:, [0, 3]] == ABSENT).all(), "classes without a training scan"
    assert (found["dose"] > 0).all()


def test_the_radial_form_answers_as_the_plain_formulation(
    kept: PeopleMemory, edges: np.ndarray
) -> None:
    columns = [len(column.categories) for column in COLUMNS]
    part = MemoryPart(REGIONS, TOKENS, columns, priors=2, kept=240)
    part.fill(kept, NAMES)
    assert all(torch.isfinite(table).all() for table in part.state_dict().values())
    values = known(NEW, 9)
    for told in (values, np.full_like(values, np.nan)):
        answers = part(torch.from_numpy(edges), torch.from_numpy(told).float())
        found = dict(zip(NAMES, answers.split(TOKENS, dim=1), strict=True))
        for name, expected in kept.scores(edges, told).items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=2e-3, err_msg=name)
    untold = part(torch.from_numpy(edges))
    torch.testing.assert_close(untold, answers)


def test_told_of_a_context_too(told: PeopleMemory, edges: np.ndarray) -> None:
    part = MemoryPart(REGIONS, TOKENS, [len(column.categories) for column in COLUMNS], priors=2)
    part.fill(told, NAMES)
    values = known(NEW, 9)
    context = torch.from_numpy(values).float()
    found = dict(zip(NAMES, part(torch.from_numpy(edges), context).split(TOKENS, 1), strict=True))
    untold = dict(zip(NAMES, part(torch.from_numpy(edges)).split(TOKENS, dim=1), strict=True))
    for name, expected in told.scores(edges, values).items():
        close = {"rtol": 1e-4, "atol": 1e-3, "err_msg": name}
        np.testing.assert_allclose(found[name].numpy(), expected, **close)
        np.testing.assert_allclose(untold[name].numpy(), told.scores(edges)[name], **close)
    assert not torch.allclose(found["age"], untold["age"], atol=0.1)
    # Whoever is asked for the sex is not told it.
    values[:, 1] = 1 - values[:, 1]
    other = part(torch.from_numpy(edges), torch.from_numpy(values).float()).split(TOKENS, dim=1)
    assert torch.equal(other[1], found["sex"]) and not torch.equal(other[2], found["age"])


def decoder(seed: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(NEW, tokens, generator=generator) for tokens in TOKENS]


def test_both_parts_together_are_the_plain_sum(
    fitted: PeopleMemory, part: MemoryPart, edges: np.ndarray
) -> None:
    memory, own = part(torch.from_numpy(edges)), decoder()
    scalar = [name in ("age", "dose") for name in NAMES]
    both = part.combine(memory, own, range(len(NAMES)), scalar)
    plain = fitted.scores(edges)
    for name, found, theirs in zip(NAMES, both, own, strict=True):
        target = fitted.targets.get(name)
        if target is None:
            assert torch.equal(found, theirs), "a target that it does not know is the decoder's"
            continue
        expected = combined(plain[name], theirs.numpy(), target.gate, target.n_classes > 0)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3, err_msg=name)


def test_some_targets_alone_are_theirs_of_all(part: MemoryPart, edges: np.ndarray) -> None:
    memory, own = part(torch.from_numpy(edges)), decoder()
    everything = part.combine(memory, own, range(5), [False, False, True, False, True])
    some = part.combine(memory, [own[1], own[2]], (1, 2), [False, True])
    assert torch.equal(some[0], everything[1]) and torch.equal(some[1], everything[2])


def test_a_gate_of_0_is_the_memory_alone(part: MemoryPart, edges: np.ndarray) -> None:
    memory, own = part(torch.from_numpy(edges)), decoder()
    (both,) = part.combine(memory, [own[0]], (0,), [False])
    assert torch.equal(both, part.alone(memory, [own[0]], (0,))[0])
    (sex,) = part.combine(memory, [own[1]], (1,), [False])
    assert not torch.equal(sex, part.alone(memory, [own[1]], (1,))[0])


@pytest.mark.parametrize("form", ["told", "kept"])
def test_regions_in_another_order_get_the_same_answers(
    form: str, edges: np.ndarray, request: pytest.FixtureRequest
) -> None:
    memory: PeopleMemory = request.getfixturevalue(form)
    columns_of = [len(column.categories) for column in COLUMNS]
    moved = MemoryPart(REGIONS, TOKENS, columns_of, priors=2, kept=240 * (form == "kept"))
    moved.fill(memory, NAMES)
    context = torch.from_numpy(known(NEW, 9)).float()
    expected = moved(torch.from_numpy(edges), context)
    order = np.random.default_rng(3).permutation(REGIONS)
    rows, columns = np.triu_indices(REGIONS, 1)
    matrices = np.zeros((NEW, REGIONS, REGIONS), np.float32)
    matrices[:, rows, columns] = matrices[:, columns, rows] = edges
    turned = matrices[:, order][:, :, order][:, rows, columns]
    assert not torch.allclose(moved(torch.from_numpy(turned), context), expected, atol=1e-2)
    moved.reorder(torch.from_numpy(np.argsort(order)))
    found = moved(torch.from_numpy(turned), context)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
