"""A memory as a whole: which targets it answers, and how much of the decoder it lets in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lcm_scale.linear.memory import Asked, fit_gate, fit_memory

N = 200


def two_classes(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and logits of two answers whose noise is their own."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(N) % 2)
    sides = np.eye(2)[truth] - 0.5
    return truth, *(2 * sides + rng.normal(size=(N, 2)) for _ in range(2))


def test_a_decoder_that_is_noise_is_left_out() -> None:
    chosen = []
    for seed in range(12):
        truth, memory, _ = two_classes(seed)
        noise = np.random.default_rng(100 + seed).normal(size=(N, 2))
        chosen.append(fit_gate(memory, noise, truth, np.arange(N), True))
    assert chosen == [0.0] * 12


def test_a_decoder_that_knows_more_is_let_in() -> None:
    for seed in range(4):
        truth, memory, decoder = two_classes(seed)
        assert fit_gate(memory, decoder, truth, np.arange(N), True) > 0


def test_of_values_too() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(40, 9, N)
    memory, decoder = (truth[:, None] + rng.normal(0, 4, (N, 1)) for _ in range(2))
    assert 0.3 < fit_gate(memory, decoder, truth, np.arange(N), False) < 0.7
    stranger = rng.normal(40, 9, (N, 1))
    assert fit_gate(memory, stranger, truth, np.arange(N), False) == 0.0


def test_scans_of_one_person_count_as_one() -> None:
    """Two hundred scans of two people are no evidence for a gate, however good on one of them."""
    truth, memory, decoder = two_classes(0)
    people = np.r_[np.zeros(N // 2), np.ones(N // 2)].astype(int)
    decoder[people == 1] = -decoder[people == 1]
    assert fit_gate(memory, decoder, truth, people, True) == 0.0


def test_targets_that_nothing_is_known_of_are_left_out(
    correlations: Callable[..., np.ndarray],
) -> None:
    edges = correlations(40)
    nothing, one = np.full(40, np.nan), np.full(40, 1.0)
    of_one_person = nothing.copy()
    of_one_person[:2] = [0, 1]
    two = np.arange(40) % 2.0
    memory = fit_memory(
        edges,
        np.arange(40) // 2,
        {
            "nothing": Asked(nothing, 2),
            "one class": Asked(one, 2),
            "one person": Asked(of_one_person, 2),
            "constant": Asked(one, 0),
            "known": Asked(two, 2),
        },
        0,
    )
    assert set(memory.targets) == {"known"}
    assert memory.scores(edges)["known"].shape == (40, 2)


def test_of_few_people_a_gate_needs_more_than_one_standard_error() -> None:
    """A memory that knows half of the variance, a decoder that knows the mean alone. A plain
    standard error opened 27 % of the gates for three people and 12 % for fifteen."""
    for people in (3, 15):
        opened = []
        for seed in range(100):
            rng = np.random.default_rng(seed)
            truth = rng.normal(40, 9, people)
            memory = 40 + 0.5 * (truth[:, None] - 40) + rng.normal(0, 4.5, (people, 1))
            mean = rng.normal(40, 3, (people, 1))
            opened.append(fit_gate(memory, mean, truth, np.arange(people), False) > 0)
        assert np.mean(opened) <= 0.03, people
    alone = fit_gate(np.zeros((1, 1)), np.ones((1, 1)), np.ones(1), np.zeros(1), False)
    assert alone == 0.0, "one person is no evidence"
