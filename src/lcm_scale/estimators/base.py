"""What both estimators have in common: how scans are read, people memory and the decoder fitted,
and both asked.

Shapes: n training scans, m others, K classes.
"""

from __future__ import annotations

import time
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from lcm_scale.estimators.scans import Scans, check_correlations, read_scans, seed_of
from lcm_scale.estimators.told import read_context, tell
from lcm_scale.linear.columns import ColumnMemory, fit_columns
from lcm_scale.linear.memory import Asked, PeopleMemory, Remembered, fit_memory
from lcm_scale.linear.prior import Prior
from lcm_scale.linear.size import landmarks_of
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.estimators.decoder import Whole

ANSWER = "y"
AT_ONCE = 1024  # scans whose matrices are held at a time


class PeopleEstimator(BaseEstimator):
    """Of `LCMClassifier` and `LCMRegressor`."""

    memory_: PeopleMemory | ColumnMemory
    whole_: Whole | None
    n_regions_: int

    def __init__(
        self,
        *,
        kind: str = "pearson",
        pretrained: str | PathLike[str] | None = None,
        target: str | None = None,
        atlas: str | None = None,
        decoder: bool = False,
        epochs: int = 16,
        trainable: str = "all",
        device: str = "auto",
        precision: str = "fp32",
        random_state: Any = 0,
        verbose: int = 0,
    ) -> None:
        self.kind = kind
        self.pretrained = pretrained
        self.target = target
        self.atlas = atlas
        self.decoder = decoder
        self.epochs = epochs
        self.trainable = trainable
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @property
    def alpha_(self) -> float:
        """Of the ridge."""
        return self._remembered.choice.alpha

    @property
    def beta_(self) -> float:
        """The weight of whom two scans resemble, beside how they resemble each other."""
        return self._remembered.choice.beta

    @property
    def share_(self) -> float:
        """Of the pretrained answer, whose rest was fitted; 0 without one."""
        return self._remembered.choice.share

    @property
    def _remembered(self) -> Remembered:
        check_is_fitted(self)
        return self.memory_.targets[ANSWER]

    def read_given(self, X: Any, reset: bool) -> Scans:
        check_correlations(self.kind, "people memory")
        return read_scans(self, X, self.kind, reset)

    def fit_given(self, scans: Scans, asked: Asked, people: np.ndarray, context: Any) -> None:
        started = time.perf_counter()
        if self.trainable != "all" and not (self.decoder and self.pretrained is not None):
            raise ValueError(
                f"trainable={self.trainable!r}: of what? set decoder=True and pretrained"
            )
        known = read_context(context, len(people), ANSWER)
        prior = self._prior(scans, asked)
        seed = seed_of(self.random_state)
        most = landmarks_of(len(people))
        if scans.n_regions:
            question = {ANSWER: asked}
            self.memory_ = fit_memory(scans.values, people, question, seed, known, prior, most)
        else:
            columns = scans.values.astype(np.float64)
            self.memory_ = fit_columns(columns, people, {ANSWER: asked}, seed, known, most)
        self.n_regions_ = scans.n_regions
        self.whole_ = self._trained(scans, asked, people, context) if self.decoder else None
        if self.verbose:
            print(
                f"{type(self).__name__}: {len(people):,} scans of {len(np.unique(people)):,} "
                f"people, alpha {self.alpha_:.3g}, beta {self.beta_:g}, "
                f"{time.perf_counter() - started:.1f} s"
            )

    def _trained(self, scans: Scans, asked: Asked, people: np.ndarray, context: Any) -> Whole:
        from lcm_scale.estimators.decoder import train_whole  # Lightning takes seconds

        known = read_context(context, len(people), ANSWER)
        classes = [str(name) for name in self.classes_] if asked.n_classes else []
        return train_whole(self, scans, asked.truth, classes, people, known)

    def _prior(self, scans: Scans, asked: Asked) -> Prior | None:
        if self.pretrained is None:
            for name in ("target", "atlas"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}={getattr(self, name)!r}: of what? set pretrained")
            return None
        from lcm_scale.estimators.pretrained import open_model, prior_of  # torch takes seconds

        model = open_model(self.pretrained, self.atlas, scans, self.kind)
        classes = [str(name) for name in self.classes_] if asked.n_classes else []
        return prior_of(model, self.target, classes, ANSWER, str(self.pretrained))

    def answers_of(self, X: Any, context: Any) -> np.ndarray:
        """(m, K) logits, or (m, 1) values."""
        check_is_fitted(self)
        values = self.read_given(X, reset=False).values
        told = tell(self.memory_.context, context, len(values))
        if self.whole_ is not None:
            return self.whole_.scores(values, told)
        parts = [
            self.memory_.scores(values[first : first + AT_ONCE], told[first : first + AT_ONCE])
            for first in range(0, len(values), AT_ONCE)
        ]
        return np.concatenate([part[ANSWER] for part in parts])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
