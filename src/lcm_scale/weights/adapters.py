"""Adapters without the model that they stand on: a folder of a few megabytes, written and read.

    export_adapters(run, folder)  # what `lcm-scale export adapters RUN FOLDER` writes
    read_adapters(folder, base)  # the whole model, as `hub.read_folder` reads one

`adapters.safetensors` holds the adapters and all else that is not the base's: tokens, last norm and
readout, statistics of the input's norm, people memory. `adapters.json` says what the whole model's
answers mean, and by a SHA-256 of the weights that stood still which base that is. These are the
same bits in the base and in whatever was finetuned from it, so the base need not be at hand to
export.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lcm_scale import checked
from lcm_scale.config import LoRAConfig
from lcm_scale.errors import InputError
from lcm_scale.files import check_new_folder, new_folder
from lcm_scale.model.lcm import LCM
from lcm_scale.model.lora import add_adapters, merged, standing
from lcm_scale.model.presets import LCMConfig
from lcm_scale.terminal import one_line
from lcm_scale.weights import checkpoints, hub
from lcm_scale.weights.card import EVALUATED, read_evaluated
from lcm_scale.weights.checkpoints import ADAPTERS
from lcm_scale.weights.history import lora_in, start_of, trains_of
from lcm_scale.weights.meaning import EXPORTED, Meaning
from lcm_scale.weights.personal import check_personal
from lcm_scale.weights.plain import save_readable

FORMAT = "lcm-scale-adapters/1"
WEIGHTS = "adapters.safetensors"
DTYPES = {"F32": torch.float32, "I64": torch.int64}  # safetensors' names of what it holds


@dataclass(frozen=True)
class _About:
    """What `ADAPTERS` says.

    Attributes:
        run, sha256: of the base: its name, and the sum of the weights that stood still.
        config: what is said of the whole model, as `hub.CONFIG` says it of one.
    """

    run: str
    sha256: str
    lora: LoRAConfig
    config: dict[str, Any]
    meaning: Meaning


def export_adapters(
    checkpoint: Path,
    folder: Path,
    results: Path | None = None,
    licence: str = "",
    with_people: bool = False,
) -> Path:
    """Write what a model that was finetuned by adapters has beside its base; complete or not there.

    Args: as of `hub.export_hub`.
    Raises: InputError, also where the checkpoint holds no adapters.
    """
    check_new_folder(folder)
    loaded = checkpoints.load(checkpoint, apart=True)
    lora = trains_of(loaded)
    if not isinstance(lora, LoRAConfig) or not any("lora_" in name for name in loaded.state):
        raise InputError(
            f"{loaded.path}: holds no adapters (it was trained under another optim.trainable than "
            f"lora); `lcm-scale export hub {checkpoint} FOLDER` gives the whole model away"
        )
    wanted, under = _shapes(loaded.model, lora)
    checkpoints.check_places({**wanted, **under}, loaded.state, f"{loaded.path}: damaged")
    check_personal(loaded.model, checkpoint, with_people, "--with-people")
    base = {"run": start_of(loaded), "sha256": _sum_of(loaded.state, under)}
    config, measured = hub.config_of(loaded, "fp32"), hub.results_for(loaded.path, results)
    about = {"format": FORMAT, "base": base, "lora": asdict(lora), "whole": config}
    texts = hub.texts_beside(config, loaded, measured, licence, base)
    own = {name: loaded.state[name].contiguous() for name in wanted}
    with new_folder(folder) as aside:
        hub.write_texts({ADAPTERS: hub.dumped(about), **texts}, aside)
        save_readable(own, aside / WEIGHTS, {"format": "pt"})
        hub.write_sums([WEIGHTS], aside)
    return folder


def import_adapters(
    path_or_repo: str | Path, base: str | Path, run: Path, revision: str | None = None
) -> Path:
    """Write adapters, merged into their base, as the checkpoint of a run folder.

    Args: as of `read_adapters`.   Returns: the checkpoint.  Raises: InputError.
    """
    found = read_adapters(path_or_repo, base, revision)
    return checkpoints.write_imported(run, str(path_or_repo), found.meaning, found.state)


def read_adapters(
    path_or_repo: str | Path, base: str | Path, revision: str | None = None
) -> hub.Folder:
    """A whole model: adapters of a folder that `export_adapters` wrote, or of a repository, merged
    into their base as `checkpoints.load` merges them.

    Args: base: a run folder, a checkpoint, an exported folder or a repository.
    Raises: InputError where either is missing or damaged, and where the adapters belong on another
        base.
    """
    path = hub.fetched(path_or_repo, revision)
    about = _about(path, path_or_repo)
    wanted, under = _shapes(about.meaning.model, about.lora)
    own = _read_own(path, wanted)
    state = {**_base(base, under, about, path_or_repo), **own}
    where = f"{path_or_repo} on {base}"
    state = checkpoints.fitted(about.meaning.model, merged(state, where), where)
    what = checkpoints.not_finite(state)
    if what:
        raise InputError(f"{where}: {what}: no model can be made of it")
    evaluated = read_evaluated(hub.file_in(path, EVALUATED))
    return hub.Folder(path, about.config, about.meaning, state, evaluated)


def read_model(
    path_or_repo: str | Path, base: str | Path | None = None, revision: str | None = None
) -> hub.Folder:
    """What was given away: a whole model, or with `base` adapters that stand on it.

    Raises: InputError as `hub.read_folder` and `read_adapters`.
    """
    if base is None:
        return hub.read_folder(path_or_repo, revision)
    return read_adapters(path_or_repo, base, revision)


def _shapes(config: LCMConfig, lora: LoRAConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors without numbers by name: of what is exported, and of what the base gives."""
    with torch.device("meta"):
        model = LCM(config)
        still = {*standing(model)}
        add_adapters(model, lora)
        shapes = model.state_dict()
    own = {name: value for name, value in shapes.items() if name not in still}
    return own, {name: value for name, value in shapes.items() if name in still}


def _sum_of(state: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """SHA-256 over names, shapes and fp32 numbers of some weights."""
    digest = hashlib.sha256()
    for name in sorted(names):
        value = state[name].float().contiguous()
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def _about(path: Path, asked: str | Path) -> _About:
    file = hub.file_in(path, ADAPTERS)
    if not file.is_file():
        raise InputError(
            f"{asked}: no {ADAPTERS} there, which `lcm-scale export adapters` writes; a whole "
            "model needs no base"
        )
    data = checked.read_object(file)
    if data.get("format") != FORMAT:
        raise InputError(f"{file}: not of this format ({FORMAT})")
    with checked.damage_named(file, "not what adapters are", "fetch it again"):
        own = checked.members(data, "it", ("base", "lora", "whole"))
        base = checked.members(own["base"], "base", ("run", "sha256"))
        sha256 = checked.text(base["sha256"], "base.sha256")
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InputError("base.sha256: expected 64 hex digits")
        run, lora = checked.text(base["run"], "base.run"), lora_in(own["lora"], "lora")
        config = checked.members(own["whole"], "whole")
    return _About(run, sha256, lora, config, Meaning.from_json(config, EXPORTED, str(file)))


def _read_own(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The exported weights; what the file claims is compared before memory is taken."""
    where = f"{path}: the weights do not fit {ADAPTERS}"
    with hub.intact(path, WEIGHTS) as file, safe_open(file, "pt") as held:
        claimed = {}
        for name in list(held.keys()):
            part = held.get_slice(name)
            dtype = DTYPES.get(part.get_dtype())
            if dtype is None:
                raise InputError(one_line(f"{where}: {name[:80]} is of type {part.get_dtype()}"))
            claimed[name] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
        checkpoints.check_places(wanted, claimed, where)
        return {name: held.get_tensor(name) for name in wanted}


def _base(
    base: str | Path, under: Mapping[str, Tensor], about: _About, asked: str | Path
) -> dict[str, Tensor]:
    """The weights of the base that stood still.  Raises: InputError where it is another."""
    if hub.is_run(base):
        found: Mapping[str, Tensor] = checkpoints.load(Path(base)).state
    else:
        found = hub.read_folder(base).state
    named = f"{about.run or 'a base without a name'}, SHA-256 {about.sha256[:16]}"
    refusal = one_line(f"{asked}: these adapters belong on another base than {base}: on {named}")
    for name, value in under.items():
        if name not in found or found[name].shape != value.shape:
            there = tuple(found[name].shape) if name in found else "nothing"
            raise InputError(
                f"{refusal}, whose {name} is of shape {tuple(value.shape)}, not {there}"
            )
    sha256 = _sum_of(found, under)
    if sha256 != about.sha256:
        narrow = {found[name].dtype for name in under} != {torch.float32}
        hint = "; it holds rounded weights, and they need those in fp32" if narrow else ""
        raise InputError(f"{refusal}, not {sha256[:16]}{hint}")
    return {name: found[name] for name in under}
