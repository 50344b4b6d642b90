"""Series or matrices as columns for any other estimator of scikit-learn's: edges, tangent vectors,
or the tokens of a pretrained model.

Shapes: n scans, T volumes, R regions, E = R(R-1)/2 edges, F columns, M tokens, D width.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from lcm_scale.atlas import load_atlas
from lcm_scale.errors import nearest
from lcm_scale.estimators.scans import Scans, as_value_errors, check_correlations, read_scans
from lcm_scale.linear.tangent import TangentSpace

FEATURES = ("edges", "tangent", "embedding")


class ConnectomeFeatures(TransformerMixin, BaseEstimator):
    """Columns of series or matrices.

    Parameters
    ----------
    features : {"edges", "tangent", "embedding"}, default="edges"
        The upper triangle, E columns; the vectors in the tangent space about the geometric mean of
        the scans that it was fitted on, E + R columns; or the tokens of a pretrained model as its
        decoder leaves them, M x D columns.
    kind : {"pearson", "ledoit-wolf", "partial", "covariance", "lagged"}, default="pearson"
        Connectivity that series become. Of matrices, what they are. Tangent vectors need one of the
        first two, a pretrained model the kinds that it was trained on.
    atlas : str, optional
        A built-in atlas or a table: the order of the regions, whose names the columns are given. A
        pretrained model is brought into it.
    pretrained : str or path, optional
        The model, as of `LCMClassifier`.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where the model computes.
    precision : {"fp32", "bf16"}, default="fp32"
        Of its products.

    Attributes
    ----------
    n_features_in_ : int
        Regions of series and matrices, else columns.

    Notes
    -----
    Columns (n, F) pass as they are where edges are asked for.
    """

    n_regions_: int

    def __init__(
        self,
        *,
        features: str = "edges",
        kind: str = "pearson",
        atlas: str | None = None,
        pretrained: str | PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        self.features = features
        self.kind = kind
        self.atlas = atlas
        self.pretrained = pretrained
        self.device = device
        self.precision = precision

    def fit(self, X: Any, y: Any = None) -> ConnectomeFeatures:
        """Fit the tangent space's reference; edges have nothing to fit.

        Parameters
        ----------
        X : list of arrays (T_i, R), array (n, T, R), array (n, R, R) or array (n, F)
            As of `LCMClassifier.fit`.
        y : ignored
            There for pipelines.

        Returns
        -------
        self : ConnectomeFeatures

        Raises
        ------
        ValueError
            Where the input cannot be meant.
        """
        self._fitted(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit`, then `transform`, with the connectivity made once.

        Parameters
        ----------
        X : list or array of n scans
            As of `fit`.
        y : ignored
            There for pipelines.

        Returns
        -------
        ndarray of shape (n, F)
            As of `transform`.
        """
        return self._columns(self._fitted(X))

    def transform(self, X: Any) -> np.ndarray:
        """Columns of scans.

        Parameters
        ----------
        X : list or array of m scans
            As of `fit`, of the same regions.

        Returns
        -------
        ndarray of shape (m, F)
            float32, tangent vectors float64.
        """
        check_is_fitted(self)
        return self._columns(read_scans(self, X, self.kind, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns: of edges both regions, of a tangent vector's diagonal the region
        twice.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns of X, where it holds columns.

        Returns
        -------
        ndarray of shape (F,)
        """
        check_is_fitted(self)
        if not self.n_regions_:
            named = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
            return np.asarray(named)
        if self.features == "embedding":
            from lcm_scale.estimators.pretrained import embedding_names

            return embedding_names(self.model_)
        names = self.region_names_
        rows, columns = np.triu_indices(self.n_regions_, 1 if self.features == "edges" else 0)
        return np.array([f"{names[i]} - {names[j]}" for i, j in zip(rows, columns)], dtype=object)

    def _fitted(self, X: Any) -> Scans:
        if self.features not in FEATURES:
            raise ValueError(
                f"features={self.features!r}{nearest(str(self.features), FEATURES)} (one of "
                f"{', '.join(FEATURES)})"
            )
        if self.features == "tangent":
            check_correlations(self.kind, "a tangent space")
        if self.pretrained is not None and self.features != "embedding":
            raise ValueError(f"pretrained: features={self.features!r} are of no model")
        scans = read_scans(self, X, self.kind, reset=True)
        if self.features != "edges" and not scans.n_regions:
            raise ValueError(
                f"features={self.features!r} needs series or matrices, and X holds columns"
            )
        if self.features == "tangent":
            self.space_ = TangentSpace.of(scans.values)
        if self.features == "embedding":
            self.model_ = self._opened(scans)
        self.n_regions_ = scans.n_regions
        self.region_names_ = _names(self.atlas, scans.n_regions)
        return scans

    def _opened(self, scans: Scans) -> Any:
        if self.pretrained is None:
            raise ValueError("features='embedding' is of a model: set pretrained")
        from lcm_scale.estimators.pretrained import check_computing, open_model

        check_computing(self.device, self.precision)
        return open_model(self.pretrained, self.atlas, scans, self.kind)

    def _columns(self, scans: Scans) -> np.ndarray:
        if self.features == "tangent":
            return self.space_.vectors(scans.values)
        if self.features == "embedding":
            from lcm_scale.estimators.pretrained import embeddings

            return embeddings(self.model_, scans.values, self.device, self.precision)
        return scans.values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _names(atlas: str | None, n_regions: int) -> tuple[str, ...]:
    """Of the regions, each once: with its index where an atlas names two alike."""
    if atlas is None or not n_regions:
        return tuple(f"r{number}" for number in range(n_regions))
    with as_value_errors():
        regions = load_atlas(atlas)
    if regions.n_regions != n_regions:
        raise ValueError(f"atlas={atlas!r} has {regions.n_regions} regions, and X has {n_regions}")
    return tuple(
        name if regions.names.count(name) == 1 else f"{name} {index}"
        for name, index in zip(regions.names, regions.indices)
    )
