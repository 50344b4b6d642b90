"""Several runs trained in one process as one batched model: folds, seeds, draws of few labels.

In: prepared runs of one shape and schedule, each with its own people, order, phase, optimiser state
and best epoch. A step is one forward and backward of the stack (`model.stack`) and one step of all
optimisers; what each run writes, and when, is its seat's (`training.seat`). A run whose epoch is
shorter than the others' sits out the rest of it, and one that stands behind comes first.

Legend: G models, B scans a model, E edges, C active targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor

from lcm_scale import progress
from lcm_scale.data.order import mix_plain
from lcm_scale.data.stream import Batch, ResidentEdges
from lcm_scale.errors import InputError, Stopped
from lcm_scale.lock import holding
from lcm_scale.model import dispatch
from lcm_scale.model.lcm import model_input
from lcm_scale.model.stack import LCMStack
from lcm_scale.objectives import TargetLoss, evaluation_read, losses_of_models, read
from lcm_scale.ranks import rank
from lcm_scale.training.fit import quiet_lightning
from lcm_scale.training.optimizer import step_together
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.run_log import LOCK
from lcm_scale.training.schedule import Phase
from lcm_scale.training.seat import Seat
from lcm_scale.training.signals import StopFlag, Watchdog


def check_stack(run: PreparedRun, key: str) -> None:
    """See that runs like this one can train as a stack.

    Args: key: what asks for it, for the message.
    Raises: InputError.
    """
    trainer, limit = run.trainer, run.recipe.data.resident_gb
    streamed = not isinstance(run.opened.source, ResidentEdges)
    wrong = {
        f"trainer.devices={trainer.devices}": trainer.devices > 1,
        f"trainer.nodes={trainer.nodes}": trainer.nodes > 1,
        f"trainer.strategy={trainer.strategy}": trainer.strategy != "auto",
        f"trainer.accumulate={trainer.accumulate}": trainer.accumulate > 1,
        "optim.trainable=lora": run.recipe.optim.trainable == "lora",
        "trainer.checkpoint_layers=true": trainer.checkpoint_layers,
        "trainer.compile=true": trainer.compile,
        "trainer.cuda_graph=true": trainer.cuda_graph,
        "trainer.loggers=wandb": "wandb" in trainer.loggers,
        f"a set above data.resident_gb={limit:g}": streamed,
    }
    for what, holds in wrong.items():
        if holds:
            raise InputError(
                f"{key}: several models are one in one process and gather scans in memory, which "
                f"{what} excludes; leave one of them out"
            )


def train_stack(runs: Sequence[PreparedRun], label: str) -> None:
    """Train runs to their last step, from where each of them stands.

    Args: runs: that have steps left; of one model and one schedule of phases.
        label: for the progress display.
    Raises: as `fit`. What each run has saved by then is good, and the same call goes on.
    """
    first = runs[0]
    for run in runs:
        if (run.opened.model, run.opened.phases) != (first.opened.model, first.opened.phases):
            raise ValueError("a stack's runs are of one model and schedule")
    trainer, flag = first.recipe.trainer, StopFlag()
    watchdog = Watchdog(first.folder, rank(), trainer.hang_seconds, trainer.hang_factor)
    shown = progress.stage(label, sum(run.steps for run in runs), sum(run.done for run in runs))
    with ExitStack() as held:
        locks = [held.enter_context(holding(run.folder / LOCK)) for run in runs]
        advance = held.enter_context(shown)
        for context in (quiet_lightning(), flag, watchdog):
            held.enter_context(context)
        seats = [
            Seat(run, lock, flag, watchdog, advance) for run, lock in zip(runs, locks, strict=True)
        ]
        # Answers do not depend on what was measured here.
        held.callback(dispatch.use, None)
        dispatch.use(seats[0].computing.factors)
        _train(seats, flag)
        for seat in seats:
            seat.call("on_train_end")


def _train(seats: Sequence[Seat], flag: StopFlag) -> None:
    group: _Group | None = None
    while waiting := [seat for seat in seats if not seat.finished]:
        epoch = min(seat.epoch for seat in waiting)
        those = [seat for seat in waiting if seat.epoch == epoch]
        if group is None or group.seats != those:
            group = _Group(those)
        stopped = group.epoch(flag)
        if stopped and any(seat.trainer.global_step < seat.prepared.steps for seat in seats):
            raise Stopped(
                f"{seats[0].prepared.folder} and {len(seats) - 1} beside it: stopped by a signal, "
                "each with a good checkpoint"
            )


class _Group:
    """The models that are trained at one time: those that stand at one epoch."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = list(seats)
        self.stack = LCMStack([seat.module.model for seat in seats])
        self.device = seats[0].trainer.strategy.root_device
        self.recipe = seats[0].prepared.recipe
        self._spread: dict[tuple[Phase, int], list[TargetLoss]] = {}

    @property
    def phase(self) -> Phase:
        return self.seats[0].module.phase

    def epoch(self, flag: StopFlag) -> bool:
        """Train an epoch, or what is left of it.

        Returns: whether a signal asked to stop; then each model is saved where it stands.
        """
        streams = [seat.begin_epoch() for seat in self.seats]
        stopped = False
        for batches in zip_longest(*streams):
            for seat, batch in zip(self.seats, batches, strict=True):
                seat.taking = batch is not None and not seat.trainer.should_stop
            taking = [seat for seat in self.seats if seat.taking]
            if not taking:
                break
            losses = self.step(batches)
            stopped = flag.raised  # once, so that all stop after the same step
            for seat, own in zip(self.seats, losses.tolist(), strict=True):
                if seat.taking:
                    seat.end_step(own, stopped)
            if stopped:
                break
        whole = [seat for seat in self.seats if seat.step.epoch_is_whole()]
        for seat, total in zip(whole, self.validation(whole), strict=True):
            seat.end_epoch(total if len(seat.data.validation) else None)
        return stopped

    def step(self, batches: Sequence[Batch | None]) -> Tensor:
        """Forward, backward and the optimisers' step.  Returns: losses (G, C)."""
        taking = [seat for seat in self.seats if seat.taking]
        seeds = [
            seat.begin_step(batch)
            for seat, batch in zip(self.seats, batches, strict=True)
            if seat.taking and batch is not None
        ]
        for seat, seed in zip(taking, seeds, strict=True):
            seat.generator.manual_seed(seed)
        generators = [seat.generator for seat in self.seats]
        if self.device.type != "cpu":
            torch.manual_seed(mix_plain(*seeds) >> 1)
        batch = self._together(
            [own if seat.taking else None for seat, own in zip(self.seats, batches, strict=True)]
        )
        self.stack.training = True
        with self.seats[0].trainer.precision_plugin.forward_context():
            logits = self.stack.logits(
                self._inputs(batch),
                self.phase.active,
                batch["valid"],
                generators if self.device.type == "cpu" else None,
            )
            losses = self._losses(logits, batch)
        losses.sum().backward()
        self.stack.hand_out_gradients()
        clip = self.recipe.optim.clip_norm
        if clip is not None:
            for seat in taking:
                torch.nn.utils.clip_grad_norm_(seat.module.model.parameters(), clip)
        step_together([seat.optimizer for seat in taking])
        for seat in self.seats:
            seat.optimizer.zero_grad()
        return losses.detach()

    @torch.no_grad()
    def validation(self, seats: Sequence[Seat]) -> list[Tensor]:
        """Of each of some of the models (C,) losses of its validation scans."""
        self.stack.training = False
        columns = list(self.phase.active)
        total = torch.zeros(len(self.seats), len(columns), device=self.device)
        streams: list[Iterator[Batch]] = [
            seat.data.batches(seat.data.validation, columns) if seat in seats else iter(())
            for seat in self.seats
        ]
        for batches in zip_longest(*streams):
            batch = self._together(batches)
            with self.seats[0].trainer.precision_plugin.forward_context():
                logits = self.stack.logits(self._inputs(batch), self.phase.active, batch["valid"])
                total += self._losses(logits, batch)
        return [total[number].cpu() for number, seat in enumerate(self.seats) if seat in seats]

    def _inputs(self, batch: Batch) -> Tensor:
        """(G, B, R, R) as the models see them."""
        edges, R = batch["edges"], self.seats[0].module.atlas.n_regions
        G = len(edges)
        return model_input(edges.flatten(0, 1), self.recipe.data.edges, R).unflatten(0, (G, -1))

    def _losses(self, logits_LGBM: Tensor, batch: Batch) -> Tensor:
        """(G, C): in training as `LCMModule.training_step`, else as `validation_losses`."""
        _, G, B, _ = logits_LGBM.shape
        labels, weights = batch["labels"].flatten(0, 1), batch["weights"].flatten(0, 1)
        terms, readout = self._terms(B), self.phase.readout
        if self.stack.training:
            smoothing = self.recipe.objective.label_smoothing
            values = read(logits_LGBM.flatten(1, 2), labels, terms, readout)
            return losses_of_models(G, values, labels, weights, terms, smoothing)
        scores = evaluation_read(logits_LGBM.flatten(1, 2), terms, readout)
        values = [
            score if term.target.is_class else term.learnt(score)
            for term, score in zip(terms, scores, strict=True)
        ]
        return losses_of_models(G, values, labels, weights, terms)

    def _terms(self, B: int) -> list[TargetLoss]:
        """Each scalar with the centre and scale of every scan's model, (G B, 1)."""
        if (self.phase, B) not in self._spread:
            of_models = zip(*(seat.module.active_terms() for seat in self.seats), strict=True)
            terms = [self._spread_term(of_target, B) for of_target in of_models]
            self._spread = {(self.phase, B): terms}
        return self._spread[self.phase, B]

    def _spread_term(self, of_models: Sequence[TargetLoss], B: int) -> TargetLoss:
        first = of_models[0]
        if first.target.is_class:
            return first
        numbers = torch.tensor([(term.centre, term.scale) for term in of_models])
        spread = numbers.repeat_interleave(B, 0).to(self.device)
        return replace(first, centre=spread[:, :1], scale=spread[:, 1:])

    def _together(self, batches: Sequence[Batch | None]) -> Batch:
        """The models' batches as one (G, B, ...) on the device, shorter ones and those of models
        without any filled up with padding."""
        there = [batch for batch in batches if batch is not None]
        size = max(len(batch["valid"]) for batch in there)
        found = {}
        for name, some in there[0].items():
            blank = torch.nan if name == "labels" else 0
            shape = (len(batches), size, *some.shape[1:])
            found[name] = torch.full(shape, blank, dtype=some.dtype)
            for place, batch in zip(found[name], batches, strict=True):
                if batch is not None:
                    place[: len(batch[name])] = batch[name]
        return {name: value.to(self.device) for name, value in found.items()}
