"""The whole LCM behind an estimator: decoder, people memory and the gate between them, trained by
the one training path on a shard set that lives as long as the training.

Sizes and rates are those of `recipes/abide_small.yaml`.
Shapes: n scans, R regions, E edges, J columns of context, K classes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import as_table, square
from lcm_scale.config import Recipe, ShardRecipe, load
from lcm_scale.config.compose import override
from lcm_scale.csv_text import csv_text
from lcm_scale.data.shards import write_shards
from lcm_scale.estimators.pretrained import (
    DEVICES,
    check_computing,
    open_model,
    read_model,
    target_of,
)
from lcm_scale.estimators.scans import Scans, as_value_errors, seed_of
from lcm_scale.identity import SALT_VARIABLE
from lcm_scale.inference.predictor import Reading, pick_device, scores_of_many
from lcm_scale.inference.pretrained import PretrainedLCM
from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.terminal import quiet
from lcm_scale.training.fit import pretrain
from lcm_scale.weights import checkpoints

ASKED = "asked"  # what y is called where no pretrained model calls it otherwise
SIZE = {"width": 128, "layers": 2, "heads": 4, "ffn": 128}
FIRST = 2  # epochs under momentum
LARGEST_BATCH = 64


@dataclass(frozen=True)
class Whole:
    """A trained model of one target, ready to be asked.

    Attributes:
        target: its name in `model`.   labels: K categories in the order of the classes, none of a
            number.   device: as `DEVICES` calls it.
    """

    model: PretrainedLCM
    target: str
    labels: tuple[str, ...]
    device: str

    def scores(self, edges: np.ndarray, told: np.ndarray) -> np.ndarray:
        """(n, K) logits, or (n, 1) values.

        Args: edges: (n, E).   told: (n, J) codes as `_word` spells them, and numbers.
        """
        own, reading = self.model.meaning.context, Reading.of(self.model.meaning)
        codes = np.stack([_recoded(c, told[:, j]) for j, c in enumerate(own)], 1) if own else told
        self.model.to(pick_device(DEVICES[self.device]))
        found = scores_of_many(self.model, reading, edges, codes)[self.target]
        self.model.to("cpu")
        categories = self.model.meaning.vocabulary[self.target].categories
        places = [categories.index(label) for label in self.labels] or [0]
        return found[:, places].astype(np.float64)


def train_whole(
    estimator: Any,
    scans: Scans,
    truth: np.ndarray,
    classes: Sequence[str],
    people: np.ndarray,
    known: Context,
) -> Whole:
    """Train it on labelled scans.

    Args:
        estimator: whose parameters count.   truth: (n,) codes or numbers.
        classes: by code; empty for a number.   people: (n,).   known: context of the n.
    Raises: ValueError for columns, which no decoder reads, and what a run refuses.
    """
    check_computing(estimator.device, estimator.precision)
    if not scans.n_regions:
        raise ValueError("decoder=True: X holds columns; a decoder reads series or matrices")
    if not isinstance(estimator.epochs, int) or estimator.epochs <= FIRST:
        raise ValueError(f"epochs={estimator.epochs!r}: expected a whole number above {FIRST}")
    silent = not estimator.verbose
    with tempfile.TemporaryDirectory() as place, as_value_errors(), _apart(Path(place), silent):
        folder = Path(place)
        start, name, labels = _start(estimator, scans, classes, folder)
        atlas = estimator.atlas or f"toy:{scans.n_regions}"
        if start:
            atlas = str(folder / "atlas.tsv")
            (folder / "atlas.tsv").write_text(as_table(start.meaning.atlas), encoding="utf-8")
        _write_scans(scans, truth, labels, people, known, folder)
        shard = [
            *("name=scans", "reader=stack", "source.stack=first", "source.ids=rows"),
            *("source.kind=connectivity", "age=false", "sex=false", "dtype=float32"),
            override("source.file", str(folder / "scans.npy")),
            override("source.table", str(folder / "scans.csv")),
            override("shards_dir", str(folder / "shards")),
            override("atlas", atlas),
            override("connectivity.kind", estimator.kind),
            override("context", [_column(j, c) for j, c in enumerate(known.columns)]),
            _asked(name, labels),
        ]
        write_shards(load(ShardRecipe, None, shard))
        recipe = load(Recipe, None, _recipe(estimator, known, people, start, folder))
        made = checkpoints.find(pretrain(recipe))
        model = read_model(made)
    return Whole(model, name, tuple(labels), estimator.device)


def _asked(name: str, labels: Sequence[str]) -> str:
    """Of the shard recipe, what is to be answered."""
    question: dict[str, Any] = {"name": name, "column": ASKED}
    if labels:
        return override("groups", [{**question, "labels": list(labels)}])
    return override("scalars", [question])


def _start(
    estimator: Any, scans: Scans, classes: Sequence[str], folder: Path
) -> tuple[PretrainedLCM | None, str, list[str]]:
    """The model to go on from, written as a run's; what it calls the target; its labels."""
    if estimator.pretrained is None:
        return None, ASKED, [f"class {code}" for code in range(len(classes))]
    model = open_model(estimator.pretrained, estimator.atlas, scans, estimator.kind)
    name = target_of(model, estimator.target, classes, str(estimator.pretrained))
    # As of an imported model: arrays have no ids that could be looked up among its people.
    checkpoints.write_imported(folder / "start", "an estimator", model.meaning, model.state_dict())
    return model, name, list(classes)


def _write_scans(
    scans: Scans,
    truth: np.ndarray,
    labels: Sequence[str],
    people: np.ndarray,
    known: Context,
    folder: Path,
) -> None:
    """The matrices as one array, and a table with a row each."""
    R = scans.n_regions
    shape = (len(scans.values), R, R)
    stack = np.lib.format.open_memmap(folder / "scans.npy", "w+", np.float32, shape)
    for number, edges in enumerate(scans.values):
        stack[number] = square(edges, R) + np.eye(R, dtype=np.float32)
    stack.flush()
    table = [
        {
            "subject": f"P{person}",
            "session": number,
            ASKED: labels[int(value)] if labels else float(value),
            **{_name(j): _word(c, known.values[number, j]) for j, c in enumerate(known.columns)},
        }
        for number, (person, value) in enumerate(zip(people, truth, strict=True))
    ]
    (folder / "scans.csv").write_text(csv_text(table), encoding="utf-8")


def _recipe(
    estimator: Any,
    known: Context,
    people: np.ndarray,
    start: PretrainedLCM | None,
    folder: Path,
) -> list[str]:
    size: dict[str, Any] = dict(SIZE)
    edges = "fisher_z"
    if start is not None:
        own, edges = start.meaning.model, start.meaning.edges
        size = {key: getattr(own, key) for key in (*SIZE, "edge_branch")}
    context = [_name(j) for j in range(len(known.columns))]
    later = estimator.epochs - FIRST
    batch = int(np.clip(len(np.unique(people)) // 4, 2, LARGEST_BATCH))
    phases = [
        {"name": "momentum", "epochs": FIRST, "stage": "momentum", "readout": "mean"},
        {"name": "adaptive", "epochs": later, "stage": "adaptive", "readout": "mean"},
    ]
    return [
        override("name", "whole"),
        override("runs_dir", str(folder / "runs")),
        override("seed", seed_of(estimator.random_state)),
        override("init_from", str(folder / "start") if start else None),
        override("data.shards_dir", str(folder / "shards")),
        override("data.sets", ["scans"]),
        override("data.edges", edges),
        override("data.not_applicable", False),
        override("model.preset", "tiny"),
        *(override(f"model.{key}", value) for key, value in size.items()),
        override("model.people_memory", "linear"),
        override("model.context", context),
        override("optim.momentum.lr", 1e-2),
        override("optim.adaptive.lr", 1e-3),
        override("optim.adaptive.weight_decay", 1e-2),
        override("optim.schedule", "cosine"),
        override("optim.clip_norm", 1.0),
        override("optim.trainable", estimator.trainable),
        override("objective.scalar_weight", 1.0),
        override("objective.scalar_scale", "standardised"),
        override("phases", phases),
        override("trainer.global_batch", batch),
        override("trainer.accelerator", DEVICES[estimator.device]),
        override("trainer.precision", "bf16-mixed" if estimator.precision == "bf16" else "32-true"),
    ]


def _name(number: int) -> str:
    """Of a column of context: the user's own may be no name."""
    return f"context {number}"


def _column(number: int, column: KnownColumn) -> dict[str, Any]:
    return {"name": _name(number), "kind": "category" if column.categories else "number"}


def _word(column: KnownColumn, value: float) -> str:
    """A category by its code: the user's own word may mean that it is missing."""
    if not np.isfinite(value):
        return ""
    return f"code {int(value)}" if column.categories else repr(float(value))


def _recoded(own: KnownColumn, values: np.ndarray) -> np.ndarray:
    """(n,) in the model's codes, NaN where it does not know a category."""
    if not own.categories:
        return values
    place = {category: float(code) for code, category in enumerate(own.categories)}
    return np.array([place.get(_word(own, value), np.nan) for value in values])


@contextlib.contextmanager
def _apart(folder: Path, silent: bool) -> Iterator[None]:
    """A salt of its own, which makes no file of the user's, and silence where it is wanted.

    It is no secret, as the ids are numbers: it is always the same, so that the order of scans is.
    """
    (folder / "salt").write_text("00" * 32, encoding="ascii")
    before = os.environ.get(SALT_VARIABLE)
    os.environ[SALT_VARIABLE] = str(folder / "salt")
    try:
        with quiet() if silent else contextlib.nullcontext(), warnings.catch_warnings():
            if silent:
                warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ[SALT_VARIABLE]
        else:
            os.environ[SALT_VARIABLE] = before
