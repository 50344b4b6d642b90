import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm_scale.data.order import BatchPlan, epoch_order, mix, mix_plain


@settings(max_examples=400, deadline=None)
@given(
    n=st.integers(1, 300),
    batch=st.integers(1, 70),
    world=st.integers(1, 9),
    accumulate=st.integers(1, 4),
    window=st.one_of(st.none(), st.integers(1, 5)),
    block=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
)
def test_each_scan_is_seen_exactly_once_whatever_divides_what(
    n: int, batch: int, world: int, accumulate: int, window: int | None, block: int, seed: int
) -> None:
    order, _ = epoch_order(np.arange(n) // block, seed, 3, window)
    plan = BatchPlan(n, batch, world, accumulate)
    seen = [
        order[plan.piece(step, micro, rank)]
        for step in range(plan.steps)
        for micro in range(accumulate)
        for rank in range(world)
    ]
    assert all(len(piece) <= plan.local_batch for piece in seen)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(n))


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 200),
    batch=st.integers(1, 40),
    world=st.integers(1, 5),
    accumulate=st.integers(1, 3),
)
def test_a_steps_scans_do_not_depend_on_the_world_size(
    n: int, batch: int, world: int, accumulate: int
) -> None:
    alone, many = BatchPlan(n, batch), BatchPlan(n, batch, world, accumulate)
    assert alone.steps == many.steps
    for step in range(alone.steps):
        pieces = [
            many.piece(step, micro, rank) for micro in range(accumulate) for rank in range(world)
        ]
        together = [p for piece in pieces for p in range(piece.start, piece.stop)]
        assert together == list(range(alone.step(step).start, alone.step(step).stop))


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_window_shuffles_only_its_own_blocks(window: int) -> None:
    blocks = np.arange(200) // 16
    order, group = epoch_order(blocks, 0, 0, window)
    assert (np.diff(group) >= 0).all()
    for number in np.unique(group):
        assert len(np.unique(blocks[order[group == number]])) <= window


def test_orders_differ_between_epochs_and_seeds_and_repeat_for_the_same() -> None:
    blocks = np.zeros(100, dtype=np.int64)
    first, _ = epoch_order(blocks, 0, 0)
    assert np.array_equal(first, epoch_order(blocks, 0, 0)[0])
    assert not np.array_equal(first, epoch_order(blocks, 0, 1)[0])
    assert not np.array_equal(first, epoch_order(blocks, 1, 0)[0])


def test_the_order_is_the_same_for_ever() -> None:
    """Hashed, not drawn: no numpy version may change it, or a run could not be resumed after an
    upgrade."""
    assert epoch_order(np.zeros(8, dtype=np.int64), 7, 2)[0].tolist() == [6, 0, 5, 3, 7, 1, 2, 4]


def test_positions_are_spread_evenly() -> None:
    """Over many epochs every scan comes first about equally often."""
    first = np.array(
        [epoch_order(np.zeros(10, dtype=np.int64), 0, epoch)[0][0] for epoch in range(2000)]
    )
    counts = np.bincount(first, minlength=10)
    assert counts.min() > 140 and counts.max() < 260  # 200 +- 4.5 standard deviations


def test_mix_is_elementwise_and_depends_on_every_number_and_their_order() -> None:
    values = mix(1, 2, np.arange(5))
    assert len(set(values.tolist())) == 5
    assert values[3] == mix(1, 2, 3) != mix(2, 1, 3)


@pytest.mark.parametrize("numbers", [(0,), (1, 2, 3), (2**64 - 1, 7), (-1, 5), (3, 4, 10**6, 0, 2)])
def test_plain_numbers_mix_as_arrays_do(numbers: tuple[int, ...]) -> None:
    assert mix_plain(*numbers) == int(mix(*numbers))
