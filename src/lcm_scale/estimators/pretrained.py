"""A pretrained model behind an estimator: what its people memory answers, and its tokens.

Legend: n scans, B of them at once, R regions, E edges, M tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lcm_scale.atlas import load_atlas
from lcm_scale.errors import nearest
from lcm_scale.estimators.scans import Scans, as_value_errors
from lcm_scale.inference.predictor import Reading, fill, pick_device
from lcm_scale.inference.pretrained import PretrainedLCM, load_model
from lcm_scale.linear.prior import Prior
from lcm_scale.model.lcm import model_input
from lcm_scale.weights import checkpoints
from lcm_scale.weights.hub import CONFIG
from lcm_scale.weights.meaning import EXPORTED
from lcm_scale.weights.people import known_targets, prior_in

BATCH = 128  # scans at once
DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}  # as `pick_device` calls them
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def open_model(
    where: str | PathLike[str], atlas: str | None, scans: Scans, kind: str
) -> PretrainedLCM:
    """A model in the scans' order of regions, on the CPU.

    Args:
        where: a run folder, a checkpoint, an exported folder or a repository.
        atlas: the scans' order; None: the model's.   kind: what the scans' series became.
    Raises: ValueError where there is none, or it was trained on other matrices.
    """
    with as_value_errors():
        model = _read(Path(where), str(where))
        if atlas is not None:
            wanted = load_atlas(atlas)
            if wanted.checksum != model.meaning.atlas.checksum:
                model.reorder(wanted)
    meaning = model.meaning
    if scans.n_regions != meaning.atlas.n_regions:
        held = f"{scans.n_regions} regions" if scans.n_regions else "columns"
        raise ValueError(
            f"pretrained={str(where)!r}: a model of the {meaning.atlas.n_regions} regions of "
            f"{meaning.atlas.name}; X holds {held}"
        )
    if scans.from_series and meaning.kinds and kind not in meaning.kinds:
        raise ValueError(
            f"kind={kind!r}: pretrained={str(where)!r} was trained on {', '.join(meaning.kinds)}"
        )
    return model


def _read(path: Path, name: str) -> PretrainedLCM:
    exported = not path.exists() or (path / CONFIG).is_file()
    return load_model(name) if exported else read_model(path)


def read_model(path: Path) -> PretrainedLCM:
    """Of a run's folder or checkpoint, on the CPU.  Raises: InputError."""
    found = checkpoints.load(path)
    state = checkpoints.fitted(found.model, found.state, str(found.path))
    with torch.device("meta"):
        model = PretrainedLCM(found.to_json(EXPORTED))
    fill(model, state, torch.device("cpu"))
    return model


def prior_of(
    model: PretrainedLCM, target: str | None, classes: Sequence[str], asked: str, where: str
) -> Prior:
    """What its memory answers to a question.

    Args: asked: the question's name here.   target, classes: as of `target_of`.
    Raises: ValueError where the model has no memory, or not one such target.
    """
    name, meaning = target_of(model, target, classes, where), model.meaning
    others = [each for each in meaning.vocabulary[name].classes if each not in classes]
    return prior_in(meaning, model.state_dict(), {name: asked}, {asked: [*classes, *others]})


def target_of(model: PretrainedLCM, target: str | None, classes: Sequence[str], where: str) -> str:
    """What the model calls what is asked.

    Args:
        target: its name there; None: the one that it can be.
        classes: that are asked, by code; empty for a number.   where: the model, for errors.
    Raises: ValueError where the model has no memory, or not one such target.
    """
    meaning, state = model.meaning, model.state_dict()
    if not meaning.model.people_memory:
        raise ValueError(
            f"pretrained={where!r}: a model without people memory (model.people_memory)"
        )
    if meaning.model.kept_scans:
        raise ValueError(
            f"pretrained={where!r}: its people memory keeps people (model.people_memory=rbf) and "
            "has no weights to start from"
        )
    known = [meaning.vocabulary[name] for name in known_targets(meaning, state)]
    fitting = [
        each.name
        for each in known
        if each.is_class == bool(classes) and set(classes) <= {*each.classes}
    ]
    if target not in fitting and (target is not None or len(fitting) != 1):
        what = f"the classes {', '.join(classes)}" if classes else "a number"
        listed = ", ".join(
            f"{each.name} ({', '.join(each.classes) or 'a number'})" for each in known
        )
        said = "several targets are" if len(fitting) > 1 and target is None else "no target is"
        named = "" if target is None else f" called {target!r}{nearest(target, fitting)}"
        raise ValueError(f"target: {said} {what}{named} in pretrained={where!r}; it knows {listed}")
    return target or fitting[0]


def check_computing(device: str, precision: str) -> None:
    """Raises: ValueError for a device or a precision that is none, or is not here."""
    for key, value, choices in (
        ("device", device, DEVICES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in choices:
            raise ValueError(f"{key}={value!r} (one of {', '.join(choices)})")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda': no usable GPU here")


@torch.no_grad()
def embeddings(model: PretrainedLCM, edges: np.ndarray, device: str, precision: str) -> np.ndarray:
    """Float32 (n, M x D): the active tokens as the last layer leaves them and the readout sees
    them, of edges (n, E)."""
    where, dtype = pick_device(DEVICES[device]), PRECISIONS[precision]
    reading = Reading.of(model.meaning)
    seen: list[Tensor] = []
    hook = model.norm.register_forward_hook(lambda part, given, made: seen.append(made))
    model.to(where)
    found = []
    try:
        for first in range(0, len(edges), BATCH):
            edges_BE = torch.from_numpy(edges[first : first + BATCH]).to(where)
            with torch.autocast(where.type, dtype) if dtype else nullcontext():
                model(model_input(edges_BE, reading.edges, reading.n_regions), reading.active)
            found.append(seen[-1].float().flatten(1).cpu().numpy())
            seen.clear()
    finally:
        hook.remove()
        model.to("cpu")
    return np.concatenate(found)


def embedding_names(model: PretrainedLCM) -> np.ndarray:
    """(M x D,) such as ``diagnosis: CN 17``, of a number ``age 17``."""
    vocabulary, active = model.meaning.vocabulary, Reading.of(model.meaning).active
    tokens = [
        f"{target.name}: {category}" if target.is_class else target.name
        for target in (vocabulary.targets[number] for number in active)
        for category in target.categories
    ]
    width = model.config.width
    return np.array([f"{token} {d}" for token in tokens for d in range(width)], dtype=object)
