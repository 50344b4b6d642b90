"""A trained model, from wherever it lies, and its answers to scans that nobody has labelled.

`opened` takes a run folder, a checkpoint, an exported folder or the name of a repository; `ask`
brings the scans into the model's order of regions and gives probabilities and values, as the
evaluation does: of a group's categories N/A is no answer.
Shapes: n scans, E edges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lcm_scale.atlas import edge_order
from lcm_scale.config import kind_of
from lcm_scale.errors import InputError
from lcm_scale.inference.incoming import Kept
from lcm_scale.inference.predictor import Reading, fill, pick_device, probabilities, scores_of_many
from lcm_scale.model.lcm import LCM
from lcm_scale.vocabulary import Target
from lcm_scale.weights import checkpoints
from lcm_scale.weights.adapters import read_model
from lcm_scale.weights.card import evaluated_by
from lcm_scale.weights.checkpoints import ADAPTERS
from lcm_scale.weights.hub import CONFIG, SUMS, is_run
from lcm_scale.weights.meaning import Meaning


@dataclass(frozen=True)
class Model:
    """A model, ready to be asked.

    Attributes:
        name: as its maker calls it.   fingerprint: of its weights, 16 hex digits.
        run: the folder of the run that it is of, None where it is exported.
        evaluated: what is said of the evaluation of its recipe, None where nothing is.
    """

    name: str
    fingerprint: str
    meaning: Meaning
    state: Mapping[str, Tensor]
    run: Path | None = None
    evaluated: Mapping[str, str] | None = None


def opened(path_or_repo: str, base: str | None = None) -> Model:
    """A model, ready to be asked.

    Args: base: of adapters, what they stand on.
    Raises: InputError where there is no model, or it is damaged.
    """
    path = Path(path_or_repo)
    if base is None and is_run(path):
        file = checkpoints.find(path)
        found = checkpoints.load(file)
        state = checkpoints.fitted(found.model, found.state, str(file))
        run = file.parents[1] if file.parent.name == "checkpoints" else None
        evaluated = run and evaluated_by(run)
        return Model(found.run, checkpoints.mark_of(file), found, state, run, evaluated or None)
    if path.is_file():
        raise InputError(f"{path}: no model; name a run folder, a .ckpt file or an exported folder")
    folder = read_model(path_or_repo, base)
    about, sums = folder.path / (CONFIG if base is None else ADAPTERS), folder.path / SUMS
    told = about.read_bytes() + (sums.read_bytes() if sums.is_file() else b"")
    mark = hashlib.sha256(told).hexdigest()[:16]
    return Model(folder.meaning.run, mark, folder.meaning, folder.state, evaluated=folder.evaluated)


def check_fits(
    model: Meaning, scans: Kept, reorder: bool = False, accept_kind: bool = False
) -> np.ndarray | None:
    """What brings the scans' edges into the model's order, None where they are in it.

    Raises: InputError where the scans are of another atlas, of the same regions in another order,
        or of another kind of connectivity, and that is not accepted.
    """
    own, kinds = kind_of(scans.connectivity), model.kinds
    if kinds and own not in kinds and not accept_kind:
        raise InputError(
            f"{scans.name}: {own} matrices; the model was trained on {', '.join(kinds)} ones. "
            "--accept-kind asks it all the same, and the table says so"
        )
    if scans.atlas.checksum == model.atlas.checksum:
        return None
    there, known = (
        {*zip(atlas.indices, atlas.names, strict=True)} for atlas in (scans.atlas, model.atlas)
    )
    if known < there and not scans.made:
        more = sorted(index for index, _ in there - known)
        raise InputError(
            f"{scans.name}: {len(more)} regions that the model does not know; "
            f"connectivity.drop_regions={more} leaves them out"
        )
    order = model.atlas.order_from(scans.atlas)
    if not reorder:
        raise InputError(
            f"{scans.name}: the regions of {scans.atlas.name} stand in another order than the "
            "model's; --reorder brings them into it by atlas index"
        )
    return edge_order(order)


def ask(
    model: Model, edges: np.ndarray, told: np.ndarray, accelerator: str = "auto"
) -> dict[str, np.ndarray]:
    """Each active target's answers: of a group float (n, C) probabilities of `answers_of`, by the
    map that is stored beside the weights where there is one; of a scalar (n,) values in its unit.

    Args: edges: (n, E) in the model's order.   told: (n, J) of `Meaning.context`, NaN not known.
    """
    device, reading = pick_device(accelerator), Reading.of(model.meaning)
    with torch.device("meta"):
        network = LCM(model.meaning.model)
    fill(network, model.state, device)
    answers: dict[str, np.ndarray] = {}
    for name, whole in scores_of_many(network, reading, edges, told).items():
        target = model.meaning.vocabulary[name]
        change = model.meaning.calibration.get(name)
        answers[name] = (
            probabilities(target, whole, answers_of(target), change)
            if target.is_class
            else whole[:, 0]
        )
    return answers


def answers_of(target: Target) -> tuple[str, ...]:
    """The categories that answer, of a scalar none."""
    return target.labels if target.is_class else ()
