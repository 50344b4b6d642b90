"""Batches: the same from memory and from tars, short ones padded and masked, weights of the whole
step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.config import DataConfig
from lcm_scale.data.order import BatchPlan
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.stream import (
    Batch,
    BatchStream,
    Labels,
    ResidentEdges,
    StreamedEdges,
    open_edges,
    read_block,
)
from lcm_scale.errors import InputError

ORDER = [3, 0, 5, 1, 4, 2]


@pytest.fixture
def mixed(tiny_set, atlas_file) -> ShardSets:
    """Two sets of other dtypes, labels and region orders: 13 and 9 scans in blocks of 3 and 2."""
    tiny_set("a", people=13, block=3, shard_scans=6, cohort="x")
    keys = {"order": ORDER, "atlas": atlas_file([i + 1 for i in ORDER]), "dtype": "float32"}
    tiny_set("b", people=9, first=10, block=2, cohort="x", labels=["CN", "PD", "Autism"], **keys)
    return open_sets(DataConfig(sets=["a", "b"]))


def stream(
    sets: ShardSets, source: ResidentEdges | StreamedEdges, plan: BatchPlan, **keys: object
) -> BatchStream:
    labels, every = Labels.recorded(sets.labels), np.arange(sets.n_scans)
    given = {
        "labels": labels,
        "selection": every,
        "columns": [0, 1, 2],
        "seed": 5,
        "epoch": 1,
        "window": None,
    } | keys
    return BatchStream(sets, source, plan=plan, **given)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    """Bit for bit, NaN included, and of the same dtype."""
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and one[k].numpy().tobytes() == other[k].numpy().tobytes()
        for k in one
    )


@pytest.mark.parametrize("window", [None, 1, 2, 3])
@pytest.mark.parametrize("first_step", [0, 2])
def test_streamed_and_resident_batches_are_the_same_bits(
    window: int | None, first_step: int, mixed: ShardSets
) -> None:
    plan = BatchPlan(22, 6)
    resident, streamed = (
        list(stream(mixed, source, plan, window=window, first_step=first_step))
        for source in (ResidentEdges(mixed), StreamedEdges(mixed))
    )
    assert len(resident) == plan.steps - first_step
    assert all(same(a, b) for a, b in zip(resident, streamed, strict=True))


def test_numpy_and_torch_gather_the_same_bits(
    mixed: ShardSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = BatchPlan(22, 6)
    few = list(stream(mixed, ResidentEdges(mixed), plan))
    monkeypatch.setattr("lcm_scale.data.stream.FEW", 0)
    many = list(stream(mixed, ResidentEdges(mixed), plan))
    assert all(same(a, b) for a, b in zip(few, many, strict=True))


@pytest.mark.parametrize("first", ["a", "b"])
def test_sets_of_two_precisions_lose_none(first: str, mixed: ShardSets) -> None:
    sets = open_sets(DataConfig(sets=[first, "ab".replace(first, "")]))
    for source in (ResidentEdges(sets), StreamedEdges(sets)):
        for number in range(len(sets.blocks)):
            scans = np.flatnonzero(sets.block == number)
            assert np.array_equal(source.gather(scans), read_block(sets, number))


@pytest.mark.parametrize("window", [None, 2])
def test_an_epoch_that_goes_on_in_its_middle_is_the_rest_of_it(
    window: int | None, mixed: ShardSets
) -> None:
    plan = BatchPlan(22, 4, accumulate=2)
    whole = list(stream(mixed, ResidentEdges(mixed), plan, window=window))
    rest = list(stream(mixed, StreamedEdges(mixed), plan, window=window, first_step=3))
    assert all(same(a, b) for a, b in zip(whole[6:], rest, strict=True))


def test_streaming_holds_one_window_of_blocks(mixed: ShardSets) -> None:
    source = StreamedEdges(mixed)
    most = 0
    for _ in stream(mixed, source, BatchPlan(22, 2), window=2):
        most = max(most, len(source.held))
    assert 0 < most <= 4  # two where a batch spans the border


def test_each_row_is_the_scan_it_says(mixed: ShardSets) -> None:
    source = ResidentEdges(mixed)
    for batch in stream(mixed, source, BatchPlan(22, 5)):
        real = batch["valid"] == 1
        scans = batch["scan"][real].numpy()
        assert np.array_equal(batch["edges"][real].numpy(), source.edges[scans])
        assert np.array_equal(
            batch["labels"][real].numpy(), mixed.labels[scans][:, :3], equal_nan=True
        )


def test_a_short_batch_is_padded_and_masked_never_dropped(mixed: ShardSets) -> None:
    batches = list(stream(mixed, ResidentEdges(mixed), BatchPlan(22, 8)))
    assert [int(b["valid"].sum()) for b in batches] == [8, 8, 6]
    last = batches[-1]
    assert {tuple(b["edges"].shape) for b in batches} == {(8, 15)}
    assert (
        not last["edges"][6:].any()
        and not last["weights"][6:].any()
        and not last["valid"][6:].any()
    )
    assert torch.isnan(last["labels"][6:]).all() and (last["scan"][6:] == -1).all()


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (3, 1), (1, 4), (2, 2), (5, 3)])
def test_weights_of_a_labelled_target_sum_to_one_over_the_global_batch(
    world: int, accumulate: int, mixed: ShardSets
) -> None:
    """The mean over ranks and micro-batches of the weighted sums is the mean over the labelled
    scans of the step."""
    labels = Labels.recorded(mixed.labels)
    labels.values[::3, 1] = np.nan
    labels.confidence[::3, 1] = 0
    labels.values[:, 2], labels.confidence[:, 2] = np.nan, 0  # nobody's age is known
    labels.confidence[1::3, 0] = 0.25  # a pseudo-label
    plan = BatchPlan(22, 8, world, accumulate)
    source = ResidentEdges(mixed)
    ranks = [stream(mixed, source, plan, labels=labels, rank=rank) for rank in range(world)]
    seen = []
    for step in range(plan.steps):
        pieces = [
            ranks[rank].batch(step, micro) for micro in range(accumulate) for rank in range(world)
        ]
        total = sum(piece["weights"].sum(0) for piece in pieces) / (world * accumulate)
        assert torch.allclose(total, torch.tensor([1.0, 1.0, 0.0]))
        seen += [int(s) for piece in pieces for s in piece["scan"] if s >= 0]
        assert all(torch.isfinite(piece["weights"]).all() for piece in pieces)
    assert sorted(seen) == list(range(22))


def test_a_missing_label_has_no_weight_and_a_pseudo_label_less(mixed: ShardSets) -> None:
    labels = Labels.recorded(np.array([[1.0], [np.nan], [0.0]], dtype=np.float32))
    labels.values[1], labels.confidence[1] = 1.0, 0.5
    scans = np.arange(3)
    assert np.allclose(labels.weights(scans, labels.total(scans))[:, 0], [0.4, 0.2, 0.4])
    recorded = Labels.recorded(np.array([[1.0], [np.nan], [0.0]], dtype=np.float32))
    assert recorded.weights(scans, recorded.total(scans))[:, 0].tolist() == [0.5, 0.0, 0.5]


def test_only_selected_scans_and_columns_are_seen(mixed: ShardSets) -> None:
    selection = np.array([1, 4, 9, 20])
    batches = list(
        stream(mixed, ResidentEdges(mixed), BatchPlan(4, 3), selection=selection, columns=[2])
    )
    assert sorted(int(s) for b in batches for s in b["scan"] if s >= 0) == selection.tolist()
    assert batches[0]["labels"].shape == (3, 1)
    assert np.nanmin(batches[0]["labels"].numpy()) > 20  # ages


def test_a_data_set_above_the_limit_is_streamed(mixed: ShardSets) -> None:
    size = (13 * 15 * 2 + 9 * 15 * 4) / 1e9
    assert isinstance(open_edges(mixed, size), ResidentEdges)
    assert isinstance(open_edges(mixed, size * 0.99), StreamedEdges)


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_tar_that_was_damaged_since_is_named(damage: str, mixed: ShardSets) -> None:
    path = Path("shards/a/a-000001.tar")
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:700] if damage == "cut" else data.replace(b"NUMPY", b"NUMPX"))
    with pytest.raises(InputError, match=r"a-000001\.tar"):
        ResidentEdges(mixed)


@pytest.mark.parametrize("kind", [ResidentEdges, StreamedEdges])
def test_a_flipped_bit_in_a_matrix_is_found_when_its_tar_is_first_read(
    kind: type, mixed: ShardSets
) -> None:
    ResidentEdges(mixed)  # it was whole, and checked, before
    block = mixed.blocks[1]
    data = bytearray(block.path.read_bytes())
    data[block.record.offset + 512 + 128] ^= 1  # behind the tar's header and numpy's
    block.path.write_bytes(data)
    with pytest.raises(InputError, match="damaged: its SHA-256"):
        kind(mixed).gather(np.arange(mixed.n_scans))
