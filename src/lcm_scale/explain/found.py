"""What an explanation comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lcm_scale.explain.decoder import Looked
from lcm_scale.explain.exchange import SITE
from lcm_scale.explain.levels import Levels
from lcm_scale.explain.models import Run
from lcm_scale.explain.noise import Tested
from lcm_scale.explain.stability import Agreement


@dataclass(frozen=True)
class Options:
    """What is asked.

    Attributes:
        permutations: label-permuted models; 0: nothing is tested.
        within: in which labels are exchanged, `exchange.SITE` or `exchange.SET`.
        adjust: covariates that a permuted model still knows, of `exchange.ADJUSTED`.
        scans: that each decoder is asked about, at most.
        gradients: also of decoders that no answer uses.
    """

    permutations: int = 200
    within: str = SITE
    adjust: tuple[str, ...] = ()
    scans: int = 64
    gradients: bool = False


@dataclass(frozen=True)
class Remembers:
    """What a token's people memory uses.

    Attributes:
        levels: level -> map.
        spread: of the score over the training scans, by which a pattern becomes a change a
            standard deviation.
        n_people: whom a model was fitted on, a mean over models.
        agreements: of the maps over the edges.
    """

    levels: Mapping[str, Tested]
    spread: float
    n_people: int
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True)
class LooksAt:
    """What a token's decoder uses.

    Attributes:
        gates: share of the decoder in each model's answers.
        mean: over models.   shares: of the edges' gradients on every level, empty without.
        attention_agreement, shares_agreement: over models, None of one.
    """

    gates: tuple[float, ...]
    mean: Looked
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)
    attention_agreement: Agreement | None = None
    shares_agreement: Agreement | None = None


@dataclass(frozen=True)
class TokenMap:
    """What one token uses.

    Attributes:
        target: its name.   token: category, or the target's name of a scalar.
        against: the other categories.   unit: of a scalar, '' of a class.
        within, beyond: in which labels were exchanged, and what the permuted models still knew.
        memory: None where no people memory answers it.
    """

    target: str
    token: str
    against: tuple[str, ...]
    unit: str
    within: str
    beyond: tuple[str, ...]
    memory: Remembers | None
    decoder: LooksAt

    @property
    def stem(self) -> str:
        """Of its files."""
        return f"{self.target}-{self.token}" if self.against else self.target

    @property
    def levels(self) -> Mapping[str, Tested]:
        """Of people memory; empty where there is none."""
        return self.memory.levels if self.memory else {}


@dataclass(frozen=True)
class Found:
    """A run, explained.  Attributes: tokens: target by target, the headline first."""

    run: Run
    options: Options
    levels: Levels
    tokens: tuple[TokenMap, ...]
