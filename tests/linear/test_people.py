"""People memory: its kernels, its tuning and its collapsed form are what they say, and it meets
nobody twice."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.linear import kernels as parts
from lcm_scale.linear import people
from lcm_scale.linear.collapse import collapse
from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.kernels import FORMS, PLAIN, Bank, Form, kernels, with_context
from lcm_scale.linear.people import Choice, choose
from lcm_scale.linear.ridge import ridge_path

F = 30


def scans(b: int = 40, per_person: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Centred vectors (b, F), and whose they are."""
    vectors = np.random.default_rng(seed).normal(size=(b, F))
    return vectors - vectors.mean(0), np.arange(b) // per_person


COLUMNS = (
    KnownColumn("site", ("a", "b", "c")),
    KnownColumn("age", (), 40.0, 9.0),
    KnownColumn("eyes", ("open", "closed")),
)


def known(n: int, rng: np.random.Generator) -> Context:
    """Some of each column unknown."""
    values = np.stack(
        [rng.integers(0, 3, n), rng.normal(40, 9, n), rng.integers(0, 2, n)], axis=1
    ).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    return Context(COLUMNS, values)


def bank_of(vectors: np.ndarray, subject: np.ndarray, context: Context | None = None) -> Bank:
    return Bank(vectors @ vectors.T, subject, context or Context.nothing(len(vectors)))


def fixed(beta: float, alpha: float = 0.3, log: bool = False, form: Form = PLAIN) -> Choice:
    return Choice(beta, alpha, log, 0.0, 0.0, np.zeros((0, 1)), form)


# -- the kernels -----------------------------------------------------------------------------------


def test_the_kernels_are_what_they_are_by_loops() -> None:
    """Three scans a person of some, unlabelled scans in the bank."""
    vectors, subject = scans(12, per_person=2)
    labelled = np.array([0, 1, 2, 5, 8])
    own = kernels(vectors @ vectors.T, subject, labelled)
    k1 = np.array([[vectors[i] @ vectors[j] for j in labelled] for i in labelled])
    k1 /= np.mean(np.diag(k1))
    scale = np.mean([vectors[i] @ vectors[i] for i in labelled])
    k2 = np.zeros((5, 5))
    for x, i in enumerate(labelled):
        for y, j in enumerate(labelled):
            for other in range(12):
                if subject[other] not in (subject[i], subject[j]):
                    k2[x, y] += vectors[i] @ vectors[other] * (vectors[j] @ vectors[other])
                # whoever is one of the two counts for the other alone, which is a product with 0
    k2 /= scale**2
    assert np.allclose(own.k1, k1)
    assert np.allclose(own.k2, k2 / np.mean(np.diag(k2)))


def test_nobody_meets_herself_in_the_bank() -> None:
    """Not in another of her scans either."""
    vectors, subject = scans(12, per_person=3)
    own = kernels(vectors @ vectors.T, subject, np.arange(12))
    same = subject[:, None] == subject
    assert (own.masked[same] == 0).all() and (own.masked[~same] != 0).all()


def test_masked_features_of_training_and_others_have_one_scale() -> None:
    """Without the mask those of training scans are larger, and a model that is fitted on them does
    not fit others."""
    vectors, subject = scans(200, seed=3)
    train, others = vectors[:100], vectors[100:]
    own = kernels(train @ train.T, subject[:100], np.arange(100))
    k1, k2 = own.others(others @ train.T, np.arange(100))
    test_rms = np.sqrt(((others @ train.T / own.scale1) ** 2).mean())
    train_rms = np.sqrt((own.masked**2).sum() / (100 * 99))
    assert train_rms == pytest.approx(test_rms, rel=0.1)
    assert np.abs(k2).mean() == pytest.approx(
        np.abs(own.k2[~np.eye(100, dtype=bool)]).mean(), rel=0.2
    )
    assert k1.shape == (100, 100)


# -- the collapsed form ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("form", [PLAIN, *FORMS])
def test_weight_vectors_answer_as_the_kernels_do(beta: float, form: Form) -> None:
    """With unlabelled scans in the bank, two scans a person, and context that is partly unknown."""
    rng = np.random.default_rng(1)
    vectors, subject = scans(60, per_person=2)
    others, theirs = rng.normal(size=(20, F)), known(20, rng)
    bank = bank_of(vectors, subject, known(60, rng))
    labelled = np.sort(rng.choice(60, 45, replace=False))
    truth = rng.normal(5, 2, size=(45, 2))
    weights = collapse(bank, vectors, labelled, truth, fixed(beta, form=form))

    own = kernels(bank.gram, subject, labelled)
    k1, k2 = own.others(others @ vectors.T, labelled)
    of_labelled = bank.context.of(labelled)
    expected = ridge_path(
        with_context(own.k1 + beta * own.k2, of_labelled, of_labelled, form),
        with_context(k1 + beta * k2, theirs, of_labelled, form),
        truth,
        np.array([0.3]),
    )[0]
    assert np.allclose(weights.answers(others, theirs), expected, atol=1e-9)
    untold = Context(COLUMNS, np.full((20, 3), np.nan))
    differs = not np.allclose(weights.answers(others, untold), expected, atol=1e-3)
    assert differs == (form != PLAIN)


def test_a_logarithm_is_fitted_and_undone() -> None:
    vectors, subject = scans(40)
    truth = np.exp(vectors[:, :1])
    everybody = np.arange(40)
    bank = bank_of(vectors, subject)
    plain = collapse(bank, vectors, everybody, np.log(truth), fixed(0.3))
    logged = collapse(bank, vectors, everybody, truth, fixed(0.3, log=True))
    nothing = Context.nothing(40)
    assert np.allclose(logged.answers(vectors, nothing), np.exp(plain.answers(vectors, nothing)))


# -- the tuning ------------------------------------------------------------------------------------


def test_an_inner_bank_has_nobody_of_the_people_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the unlabelled second scans of theirs."""
    vectors, subject = scans(60, per_person=2)
    labelled = np.arange(0, 60, 2)
    banks: list[set[int]] = []
    original = parts.kernels

    def spy(gram: np.ndarray, subject: np.ndarray, labelled: np.ndarray) -> parts.Kernels:
        banks.append(set(subject.tolist()))
        return original(gram, subject, labelled)

    monkeypatch.setattr(parts, "kernels", spy)
    choose(bank_of(vectors, subject), labelled, vectors[labelled, :1], None, 0)
    assert len(banks) == 5 and all(len(bank) == 24 for bank in banks)
    assert set.intersection(*banks) == set(), "everybody was held out once, wholly"


def test_the_held_out_answers_know_nothing_of_the_scans_own_truth() -> None:
    vectors, subject = scans(40)
    truth = vectors[:, :1] + 3
    bank = bank_of(vectors, subject, known(40, np.random.default_rng(0)))
    everybody = np.arange(40)
    folds = people._folds(bank, everybody, None, 0)
    kernels = [(beta, form) for beta in (0.0, 1.0) for form in (PLAIN, *FORMS)]
    first = people._held_out(bank, everybody, truth, folds, [(False, 0.0)], kernels)
    changed = truth.copy()
    changed[7] += 100
    second = people._held_out(bank, everybody, changed, folds, [(False, 0.0)], kernels)
    for key, path in first.items():
        assert np.array_equal(path[:, 7], second[key][:, 7])


def test_noise_gets_no_beta() -> None:
    """Nothing is lost where there is nothing to win: at most one of twelve draws strays."""
    chosen = []
    for seed in range(12):
        vectors, subject = scans(60, seed=seed)
        truth = np.random.default_rng(100 + seed).normal(size=(60, 1))
        chosen.append(choose(bank_of(vectors, subject), np.arange(60), truth, None, 0).beta)
    assert sum(beta > 0 for beta in chosen) <= 1


def test_strong_directions_get_a_beta() -> None:
    """A truth along the bank's strongest directions, which K2 stresses, in much noise."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 200))
    vectors[:, :3] *= 6
    truth = vectors[:, :1] + 0.5 * rng.normal(size=(300, 1))
    vectors = vectors - vectors.mean(0)
    found = choose(bank_of(vectors, np.arange(300)), np.arange(300), truth, None, 0)
    assert found.beta > 0 and found.gain > 2 * found.error > 0
    assert np.corrcoef(found.held_out[:, 0], truth[:, 0])[0, 1] > 0.8


def test_a_scalar_is_fitted_on_its_logarithm_where_that_is_better() -> None:
    vectors, subject = scans(150, seed=2)
    exponential = np.exp(vectors[:, :1] + vectors[:, 1:2])
    straight = 20 + vectors[:, :1] + vectors[:, 1:2]
    bank, everybody = bank_of(vectors, subject), np.arange(150)
    assert choose(bank, everybody, exponential, None, 0).log
    assert not choose(bank, everybody, straight - straight.min() - 1, None, 0).log, "not positive"


def test_a_scalar_with_a_log_scale_is_fitted_on_it_and_not_twice() -> None:
    """Also where the values themselves would be told better."""
    vectors, subject = scans(150, seed=2)
    straight = 20 + vectors[:, :1] + vectors[:, 1:2]
    bank, everybody = bank_of(vectors, subject), np.arange(150)
    asked = choose(bank, everybody, straight, None, 0, log=True)
    assert asked.log and not choose(bank, everybody, straight, None, 0).log
    assert abs(asked.held_out.mean() - straight.mean()) < 1, "in its own unit"


def test_context_is_used_where_it_tells_and_not_where_it_is_noise() -> None:
    """A category that shifts the answer is added, one whose weights differ is shared, noise is
    left out."""
    rng = np.random.default_rng(4)
    vectors, subject = scans(300, seed=4)
    site = rng.integers(0, 2, 300)
    context = Context((KnownColumn("site", ("a", "b")),), site[:, None].astype(float))
    bank, everybody = bank_of(vectors, subject, context), np.arange(300)
    noise = 0.3 * rng.normal(size=300)

    def form(truth: np.ndarray) -> Form:
        return choose(bank, everybody, truth[:, None], None, 0, context=True).form

    assert form(vectors[:, 0] + noise) == PLAIN
    assert form(vectors[:, 0] + 5 * site + noise).added
    own = np.where(site == 1, vectors[:, 0], -vectors[:, 0])
    found = choose(bank, everybody, (own + noise)[:, None], None, 0, context=True)
    assert found.form.shared and found.form_gain > 2 * found.form_error > 0
    untold = choose(bank, everybody, (own + noise)[:, None], None, 0)
    assert untold.form == PLAIN and untold.beta == found.beta
