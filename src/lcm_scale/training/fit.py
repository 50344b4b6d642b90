"""A run from recipe to checkpoints: open the data, build or load the model, train through the
phases, keep the record.

`pretrain` and `finetune` are what the verbs call; `fit` is the one training path under both, under
every fold of an evaluation and under every point of a sweep.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from omegaconf import OmegaConf

from lcm_scale import progress
from lcm_scale.config import Recipe, dump, expand, read_yaml
from lcm_scale.data.manifest import ShardManifest
from lcm_scale.data.module import ConnectomeData
from lcm_scale.data.order import BatchPlan
from lcm_scale.data.sets import ShardSets, open_sets, split_subjects
from lcm_scale.data.stream import Edges, open_edges
from lcm_scale.errors import InputError, Stopped
from lcm_scale.files import write_atomic
from lcm_scale.model.presets import resolve
from lcm_scale.objectives import TargetLoss
from lcm_scale.provenance import provenance
from lcm_scale.ranks import is_first, rank
from lcm_scale.training.callbacks import log as recorder
from lcm_scale.training.callbacks.phase import PhaseSwitch
from lcm_scale.training.callbacks.stop import StopFlag, Watchdog, keep_lightning_out
from lcm_scale.training.module import LCMModule
from lcm_scale.training.parallel.strategy import prepare_model, trainer_arguments
from lcm_scale.training.pseudo_labels import AuditRow, make_pseudo_labels, write_audit
from lcm_scale.training.schedule import Phase, decay_epoch, phase_at, schedule
from lcm_scale.training.transfer import check_fit, transfer
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint

MAY_DIFFER = (
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.keep_every_steps",
    "trainer.hang_seconds",
    "trainer.hang_factor",
    # A run goes on at another world size, spread otherwise.
    "trainer.accelerator",
    "trainer.devices",
    "trainer.nodes",
    "trainer.strategy",
    "trainer.offload",
    "trainer.accumulate",
    "trainer.threads",
    "trainer.keep_checkpoints",
    "trainer.checkpoint_layers",
    "trainer.compile",
)


@dataclass(frozen=True)
class FitResult:
    """A trained run: its folder, the checkpoint that validation chose (else the last), and its
    epoch rows."""

    folder: Path
    checkpoint: Path
    rows: tuple[recorder.Row, ...]
    audit: tuple[AuditRow, ...]
    steps: int


def pretrain(recipe: Recipe, dry_run: bool = False) -> Path:
    """Pretrain on all scans of the recipe's sets, but for the people that choose the epoch.
    Returns: the run folder.

    Raises: InputError.
    """
    sets, start = prepare(recipe)
    scans = sets.scans_of([])
    train, validation = split_subjects(sets, scans, recipe.data.validation, recipe.seed)
    if dry_run:
        return run_folder(recipe)
    source = open_edges(sets, recipe.data.resident_gb)
    return fit(recipe, sets, source, train, validation, run_folder(recipe), start, "train").folder


def finetune(recipe: Recipe, dry_run: bool = False) -> Path:
    """Finetune `init_from` on the recipe's sets.  Returns: the run folder.

    Raises: InputError, also where the recipe names no checkpoint to start from.
    """
    if not recipe.init_from:
        raise InputError(
            "init_from is empty: finetuning starts from a checkpoint or run folder, for example init_from=runs/demo-pretrain"
        )
    return pretrain(recipe, dry_run)


def prepare(recipe: Recipe) -> tuple[ShardSets, Checkpoint | None]:
    """Open a recipe's data and, where it names one, the checkpoint to start from, and see that all
    fit together."""
    start = checkpoints.load(expand(recipe.init_from)) if recipe.init_from else None
    pretrained = (start.run, start.vocabulary) if start else None
    sets = open_sets(recipe.data, start.atlas if start else None, pretrained)
    if start:
        check_fit(recipe, sets, start)
    # What a run would stumble over is found before it writes its folder.
    resolve(recipe.model, sets.atlas.n_regions, ())
    schedule(recipe.phases, sets.vocabulary, recipe.trainer.max_epochs)
    decay_epoch(recipe.optim, 1)
    for name in recipe.objective.weights:
        sets.vocabulary[name]
    return sets, start


def run_folder(recipe: Recipe) -> Path:
    if not recipe.name:
        raise InputError("name is empty: the run folder is runs_dir/name")
    return expand(recipe.runs_dir) / recipe.name


def fit(
    recipe: Recipe,
    sets: ShardSets,
    source: Edges,
    train: np.ndarray,
    validation: np.ndarray,
    folder: Path,
    start: Checkpoint | None,
    stage_name: str,
) -> FitResult:
    """Train one model, or go on where the folder's newest checkpoint stands.

    Args:
        train, validation: scan numbers; whoever is in neither is never seen.
        start: weights to begin with.   stage_name: for the progress display.
    """
    phases = schedule(recipe.phases, sets.vocabulary, recipe.trainer.max_epochs)
    data = ConnectomeData(
        sets,
        source,
        train,
        validation,
        lambda epoch: (phase_at(phases, epoch).sets, list(phase_at(phases, epoch).active)),
        recipe.trainer.global_batch,
        recipe.seed,
        recipe.data.window,
        recipe.trainer.accumulate,
    )
    epoch_steps = [
        BatchPlan(len(data.selection(e)), recipe.trainer.global_batch).steps
        for e in range(phases[-1].end_epoch)
    ]
    resume = open_folder(recipe, folder)  # not before the data are known to do
    total_steps = sum(epoch_steps)
    decay_step = sum(epoch_steps[: decay_epoch(recipe.optim, phases[-1].end_epoch)])
    torch.manual_seed(recipe.seed)
    model_config = resolve(
        recipe.model, sets.atlas.n_regions, tuple(t.n_tokens for t in sets.vocabulary.targets)
    )
    module = RunModule(
        recipe,
        model_config,
        sets.vocabulary,
        sets.atlas,
        loss_terms(recipe, sets, train, start),
        phases,
        total_steps,
        decay_step,
    )
    module.seen = sorted(
        set(sets.subject_hashes(np.concatenate([train, validation])))
        | (start.subjects if start else set())
    )
    module.sets, module.start = sets, start
    if module.model.edge_branch is not None:
        set_edge_scale(module, data, train)
    if start:
        transfer(start, module.model, sets.vocabulary, sets.pretrained_renames)
    prepare_model(module.model, recipe.trainer, recipe.optim.trainable)
    steps = min(total_steps, recipe.trainer.max_steps or total_steps)
    flag, watchdog = (
        StopFlag(),
        Watchdog(folder, rank(), recipe.trainer.hang_seconds, recipe.trainer.hang_factor),
    )
    with progress.stage(stage_name, steps) as advance, quiet_lightning(), flag, watchdog:
        done = int(resume.stem.removeprefix("step-")) if resume else 0
        advance(done)
        record = recorder.Recorder(folder, data, advance, recipe.trainer, flag, watchdog)
        pseudo = PseudoLabels(recipe, data, phases, start, folder)
        trainer = L.Trainer(
            **trainer_arguments(recipe.trainer, model_config.width),
            max_epochs=phases[-1].end_epoch,
            gradient_clip_val=recipe.optim.clip_norm,
            callbacks=[PhaseSwitch(), pseudo, record, record.meter],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
        )
        keep_lightning_out(trainer)
        if resume and done >= steps:
            pseudo.load_state_dict(checkpoints.read_file(resume)["callbacks"][pseudo.state_key])
        else:
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
            done = trainer.global_step
    if record.stopped and done < steps:
        raise Stopped(
            f"{folder}: stopped by a signal at step {done} of {steps} with a good checkpoint"
        )
    rows = tuple(recorder.epochs_of(recorder.read_log(folder / "log.jsonl")))
    return FitResult(folder, checkpoints.find(folder), rows, tuple(pseudo.audit), done)


class RunModule(LCMModule):
    """`LCMModule` that writes into checkpoints whom it saw and where it comes from."""

    seen: list[str]
    sets: ShardSets
    start: Checkpoint | None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        meaning = replace(
            self.describe(),
            subjects=frozenset(self.seen),
            unknown_subjects=self.start is not None and self.start.unknown_subjects,
            data=(
                *(self.start.data if self.start else ()),
                *(facts(m) for m in self.sets.manifests),
            ),
            salt_id=self.sets.manifests[0].salt_id,
            fingerprints=self.sets.fingerprints,
        )
        checkpoint["lcm"] = meaning.to_json()


def facts(manifest: ShardManifest) -> dict[str, Any]:
    """What a model card says about a set."""
    return {
        "name": manifest.name,
        "scans": manifest.scans,
        "people": len(manifest.subjects),
        "simulated": manifest.simulated,
        "connectivity": dict(manifest.connectivity),
        "notes": list(manifest.notes),
    }


class PseudoLabels(L.Callback):
    """Makes pseudo-labels at the start of each phase that asks for them. Added after
    `PhaseSwitch`."""

    def __init__(
        self,
        recipe: Recipe,
        data: ConnectomeData,
        phases: Sequence[Phase],
        start: Checkpoint | None,
        folder: Path,
    ) -> None:
        self.recipe, self.data, self.phases, self.start, self.folder = (
            recipe,
            data,
            phases,
            start,
            folder,
        )
        self.audit: list[AuditRow] = []

    def state_dict(self) -> dict[str, Any]:
        return {"audit": [asdict(row) for row in self.audit]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.audit = [AuditRow(**row) for row in state_dict["audit"]]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        starts = trainer.current_epoch == module.phase.first_epoch and self.data.consumed == 0
        if not module.phase.pseudo_labels or not starts:
            return  # resumed in the middle of an epoch: the labels came with the checkpoint
        known = set(self.start.active) if self.start else set()
        for phase in self.phases[: self.phases.index(module.phase)]:
            known |= {module.vocabulary.names[number] for number in phase.active}
        scans = self.data.selection(trainer.current_epoch)
        self.audit += make_pseudo_labels(
            module, self.data, scans, sorted(known), self.recipe.pseudo
        )
        if is_first():
            write_audit(self.audit, self.folder / "pseudo_labels.csv")


def loss_terms(
    recipe: Recipe, sets: ShardSets, train: np.ndarray, start: Checkpoint | None
) -> list[TargetLoss]:
    """Weights of the targets, and a scalar's centre and scale: the checkpoint's, else raw, else
    from training scans."""
    terms = []
    for column, target in enumerate(sets.vocabulary.targets):
        weight = recipe.objective.weight(target.name, target.is_class)
        centre, scale = 0.0, 1.0
        known = sets.labels[train, column]
        known = known[np.isfinite(known)]
        if start and target.name in start.scalars:
            centre, scale = start.scalars[target.name]
        elif not target.is_class and recipe.objective.scalar_scale == "standardised" and len(known):
            centre, scale = float(known.mean()), max(float(known.std()), 1e-6)
        terms.append(TargetLoss(target, weight, centre, scale))
    return terms


def set_edge_scale(module: LCMModule, data: ConnectomeData, train: np.ndarray) -> None:
    """Centre and scale of the linear branch's edges, from at most 4,096 training scans."""
    assert module.model.edge_branch is not None
    some = train[np.linspace(0, len(train) - 1, min(len(train), 4096)).astype(int)]
    R = module.atlas.n_regions
    rows, columns = torch.triu_indices(R, R, 1)
    edges = torch.cat(
        [module.matrices(batch)[:, rows, columns] for batch in data.batches(some, [])]
    )
    module.model.edge_branch.centre.copy_(edges.mean(0))
    # One scale for all edges: the spread between them is information, a constant edge has none.
    module.model.edge_branch.scale.fill_(float(edges.std(0).mean()))


def open_folder(recipe: Recipe, folder: Path) -> Path | None:
    """Make a run folder or open it again.

    Returns: the checkpoint to resume from, or None.  Raises: InputError where it holds a run of
        another recipe.
    """
    file = folder / "recipe.yaml"
    text = dump(recipe)
    if file.is_file():
        changed = [k for k, _, _ in differences(read_yaml(file), text) if k not in MAY_DIFFER]
        if changed:
            raise InputError(
                f"{folder} holds a run of another recipe ({', '.join(changed[:4])} differ); "
                "choose another name=... or remove that folder"
            )
    if is_first():
        for part in folder.glob(".*.partial"):  # a kill left it
            part.unlink(missing_ok=True)
        write_atomic(file, text.encode())
        write_atomic(
            folder / "provenance.json", json.dumps(provenance(recipe.seed), indent=1).encode()
        )
    return checkpoints.newest(folder / "checkpoints")


def differences(old: Any, new_text: str) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ between a stored recipe and a new one."""

    def flat(config: Any, prefix: str = "") -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in config.items():
            result |= (
                flat(value, f"{prefix}{key}.")
                if isinstance(value, dict)
                else {f"{prefix}{key}": value}
            )
        return result

    before, after = (
        flat(OmegaConf.to_container(old)),
        flat(OmegaConf.to_container(OmegaConf.create(new_text))),
    )
    return [
        (k, before.get(k), after.get(k))
        for k in sorted({*before, *after})
        if before.get(k) != after.get(k)
    ]


class quiet_lightning:
    """Our display is the display: Lightning's banners and its advice on data loaders are kept out
    of it."""

    def __enter__(self) -> None:
        self.loggers = [
            logging.getLogger(n)
            for n in (
                "lightning.pytorch",
                "lightning.fabric",
                "lightning.pytorch.utilities.rank_zero",
            )
        ]
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")

    def __exit__(self, *details: Any) -> None:
        self.warnings.__exit__(*details)
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
