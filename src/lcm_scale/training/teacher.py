"""A teacher: an average of the weights over steps, which predicts more steadily than the weights of
one moment (Tarvainen and Valpola 2017, arXiv 1703.01780)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Teacher:
    """Attributes: weights: the average, under the network's own names; empty before `begin`."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}

    def begin(self, network: nn.Module) -> None:
        """The average is the network as it is."""
        self.weights = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Take one step of the network into the average; counts are the network's own."""
        for name, value in network.state_dict().items():
            mine = self.weights[name] = self.weights[name].to(value.device)
            if value.is_floating_point():
                mine.lerp_(value, 1 - self.decay)
            else:
                mine.copy_(value)

    @contextmanager
    def speaks_for(self, network: nn.Module) -> Iterator[None]:
        """The network answers with the averaged weights within the block."""
        own = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)
