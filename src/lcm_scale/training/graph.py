"""A step of training as one CUDA graph, at choice (`trainer.cuda_graph`): the host launches it by
one call, where it else launches each of some hundred kernels.

As torch's notes on CUDA graphs have it for a whole network: some steps as usual, on a stream of
their own; then a step's kernels are recorded, and launched as a whole from then on, on the same
memory. What changes from step to step comes before: the batch is copied to where the recorded one
lies, `TwoStage.send` sends the rates, and a graph takes the seeds of torch's generators anew at
each launch. Another phase, or batches of another shape, begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor

from lcm_scale.training.hooks import PlainStep
from lcm_scale.training.module import LCMModule
from lcm_scale.training.optimizer import TwoStage

USUAL = 3  # steps before one is recorded: libraries choose kernels, the optimiser makes its state


class Recording(Protocol):
    """Who records."""

    def aside(self) -> AbstractContextManager[None]:
        """Where the steps before run."""

    def record(
        self, step: Callable[[], None], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        """What launches a step's kernels, none of which ran yet.

        Args: generators: that a step draws from, beside torch's own.
        """


class OnGPU:
    """torch's."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    @contextmanager
    def aside(self) -> Iterator[None]:
        usual = torch.cuda.current_stream()
        self.stream.wait_stream(usual)
        with torch.cuda.stream(self.stream):
            yield
        usual.wait_stream(self.stream)

    def record(
        self, step: Callable[[], None], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # What a logger's thread asks of the device meanwhile is its own affair.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            step()
        replay: Callable[[], None] = graph.replay
        return replay


class GraphStep(PlainStep):
    """A `PlainStep` of one micro-batch that is recorded.

    Attributes:
        batch, loss, losses: a recorded step's inputs and what it leaves, (active targets,) losses.
    """

    batch: dict[str, Tensor]
    loss: Tensor
    losses: Tensor

    def __init__(self, trainer: L.Trainer, recording: Recording) -> None:
        super().__init__(trainer)
        self.recording = recording
        self.of: Any = None  # phase and shapes
        self.taken = 0
        self.launch: Callable[[], None] | None = None

    def compute(self, optimizer: TwoStage, kwargs: Any, first: bool, last: bool) -> Tensor:
        module: LCMModule = self.trainer.lightning_module  # type: ignore[assignment]
        batch: dict[str, Tensor] = kwargs["batch"]
        of = (module.phase, {name: value.shape for name, value in batch.items()})
        if of != self.of:
            self.of, self.taken, self.launch = of, 0, None
        self.taken += 1
        optimizer.send()
        if self.taken <= USUAL:
            with self.recording.aside():
                return super().compute(optimizer, kwargs, first, last)
        if self.launch is None:
            self.launch = self._recorded(module, optimizer, batch)
        for name, value in batch.items():
            self.batch[name].copy_(value)
        self.launch()
        module.last_losses = self.losses
        return self.loss

    def update(self, optimizer: TwoStage) -> None:
        optimizer.update()

    def _recorded(
        self, module: LCMModule, optimizer: TwoStage, batch: dict[str, Tensor]
    ) -> Callable[[], None]:
        self.batch = {name: value.clone() for name, value in batch.items()}
        optimizer.zero_grad()  # so that gradients lie where the graph's memory is

        def step() -> None:
            kwargs = {"batch": self.batch, "batch_idx": 0}
            self.loss = super(GraphStep, self).compute(optimizer, kwargs, True, True).detach()
            self.losses = module.last_losses

        return self.recording.record(step, optimizer.rounding.values())


def step_by_graph(trainer: L.Trainer, recording: Recording) -> None:
    """Let a trainer that takes `PlainStep`s record them."""
    trainer.fit_loop.epoch_loop.automatic_optimization = GraphStep(trainer, recording)
