"""People memory (`linear.memory`) as a classifier and a regressor of scikit-learn's.

Series or matrices meet each other in the tangent space of the training scans, columns as they are.
The memory's strength, its share of people's resemblance and what it is told are tuned by an inner
cross-validation over the people in `groups`. The answers are those of the row `people memory` of
`lcm-scale evaluate` on the same folds.
Shapes: n training scans, m others, T volumes, R regions, F columns, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score

from lcm_scale.estimators.base import PeopleEstimator
from lcm_scale.estimators.scans import read_answers, read_people
from lcm_scale.linear.memory import Asked

LEAST_PEOPLE = 2  # of a class: with one, the class cannot be told from that person


class LCMClassifier(ClassifierMixin, PeopleEstimator):
    """A class of each scan, by people memory.

    Parameters
    ----------
    kind : {"pearson", "ledoit-wolf"}, default="pearson"
        Connectivity that series become. Of matrices, what they are.
    pretrained : str or path, optional
        A model with people memory, of other people: a run folder, a checkpoint, a folder that
        ``lcm-scale export`` wrote, or a repository of the Hugging Face hub. What its answers leave
        over is fitted, so that few labels are enough.
    target : str, optional
        What y is called there; by default the one target with these classes, or the one number.
    atlas : str, optional
        The order of the regions here, a built-in name or a table, where it is not the model's.
    decoder : bool, default=False
        Also train a decoder, as ``lcm-scale pretrain`` does, and answer with both, by a gate that
        is fitted on people whom neither was trained on. Of series and matrices only; minutes.
    epochs : int, default=16
        Of the decoder, the first two under momentum.
    trainable : {"all", "tokens", "lora"}, default="all"
        What of a pretrained decoder is trained: all, its tokens, last norm and readout alone, or
        these and low-rank adapters of rank 8.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where the decoder is trained and asked.
    precision : {"fp32", "bf16"}, default="fp32"
        Of the decoder's products in training.
    random_state : int, RandomState instance or None, default=0
        Seed of the inner folds; with the seed of a recipe the answers are the recipe's.
    verbose : int, default=0
        Above 0, one line when fitted.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    memory_ : object
        The fitted memory: weights alone, no scan is kept.
    whole_ : object or None
        With ``decoder=True`` the model of both.
    alpha_, beta_, share_ : float
        What was tuned: the ridge's penalty, the weight of whom two scans resemble, and the share of
        the pretrained answer.
    n_features_in_ : int
        Regions of series and matrices, else columns.

    Examples
    --------
    >>> import numpy as np
    >>> from lcm_scale import LCMClassifier
    >>> rng = np.random.default_rng(0)
    >>> group = np.arange(40) % 2
    >>> series = [rng.normal(size=(60, 8)) + g * rng.normal(size=(60, 1)) for g in group]
    >>> LCMClassifier().fit(series[:30], group[:30]).score(series[30:], group[30:])
    1.0
    """

    def fit(self, X: Any, y: Any, groups: Any = None, context: Any = None) -> LCMClassifier:
        """Fit on labelled scans.

        Parameters
        ----------
        X : list of arrays (T_i, R), array (n, T, R), array (n, R, R) or array (n, F)
            Region series, correlation matrices, or columns of features. Scans of one call share
            the regions and their order.
        y : array-like of shape (n,)
            Classes, at least two people each.
        groups : array-like of shape (n,), optional
            The person of each scan, who never stands on both sides of an inner fold. Without it
            each scan is a person.
        context : DataFrame, mapping or array of shape (n, J), optional
            What is known of the scans when the model is asked: site, age, scanner.

        Returns
        -------
        self : LCMClassifier

        Raises
        ------
        ValueError
            Where the input cannot be meant.
        """
        scans = self.read_given(X, reset=True)
        y = read_answers(self, y, len(scans.values), numbers=False)
        people = read_people(groups, len(y))
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"LCMClassifier needs at least 2 classes; y holds 1 class: {self.classes_[0]}"
            )
        for code, name in enumerate(self.classes_):
            count = len(np.unique(people[codes == code]))
            if count < LEAST_PEOPLE:
                raise ValueError(
                    f"The class '{name}' in y has {count} person, and at least {LEAST_PEOPLE} of "
                    "each class are needed: with one, the class cannot be told from that person"
                )
        asked = Asked(codes.astype(np.float64), len(self.classes_))
        self.fit_given(scans, asked, people, context)
        return self

    def predict_proba(self, X: Any, context: Any = None) -> np.ndarray:
        """How likely each class is.

        Parameters
        ----------
        X : list or array of m scans
            As of `fit`, of the same regions.
        context : DataFrame, mapping or array of shape (m, J), optional
            The columns of `fit`; a missing column or value is not known.

        Returns
        -------
        ndarray of shape (m, n_classes)
            Calibrated on the inner folds, in the order of ``classes_``.
        """
        return np.asarray(softmax(self.answers_of(X, context), axis=1))

    def predict(self, X: Any, context: Any = None) -> np.ndarray:
        """The likeliest class of each scan.

        Parameters
        ----------
        X : list or array of m scans
            As of `fit`, of the same regions.
        context : DataFrame, mapping or array of shape (m, J), optional
            The columns of `fit`; a missing column or value is not known.

        Returns
        -------
        ndarray of shape (m,)
        """
        chosen = self.predict_proba(X, context).argmax(1)
        return np.asarray(self.classes_[chosen])

    def score(self, X: Any, y: Any, sample_weight: Any = None, context: Any = None) -> float:
        """The accuracy.

        Parameters
        ----------
        X : list or array of m scans
            As of `fit`, of the same regions.
        y : array-like of shape (m,)
            Their classes.
        sample_weight : array-like of shape (m,), optional
            What each scan counts.
        context : DataFrame, mapping or array of shape (m, J), optional
            The columns of `fit`.

        Returns
        -------
        float
        """
        return float(accuracy_score(y, self.predict(X, context), sample_weight=sample_weight))


class LCMRegressor(RegressorMixin, PeopleEstimator):
    """A number of each scan, such as age, by people memory.

    Positive numbers are learnt on their log scale where the inner folds prefer it.

    Parameters
    ----------
    kind : {"pearson", "ledoit-wolf"}, default="pearson"
        Connectivity that series become. Of matrices, what they are.
    pretrained : str or path, optional
        A model with people memory, of other people: a run folder, a checkpoint, a folder that
        ``lcm-scale export`` wrote, or a repository of the Hugging Face hub. What its answers leave
        over is fitted, so that few labels are enough.
    target : str, optional
        What y is called there; by default the one target with these classes, or the one number.
    atlas : str, optional
        The order of the regions here, a built-in name or a table, where it is not the model's.
    decoder : bool, default=False
        Also train a decoder, as ``lcm-scale pretrain`` does, and answer with both, by a gate that
        is fitted on people whom neither was trained on. Of series and matrices only; minutes.
    epochs : int, default=16
        Of the decoder, the first two under momentum.
    trainable : {"all", "tokens", "lora"}, default="all"
        What of a pretrained decoder is trained: all, its tokens, last norm and readout alone, or
        these and low-rank adapters of rank 8.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where the decoder is trained and asked.
    precision : {"fp32", "bf16"}, default="fp32"
        Of the decoder's products in training.
    random_state : int, RandomState instance or None, default=0
        Seed of the inner folds; with the seed of a recipe the answers are the recipe's.
    verbose : int, default=0
        Above 0, one line when fitted.

    Attributes
    ----------
    memory_, whole_, alpha_, beta_, share_, n_features_in_
        As of `LCMClassifier`.
    """

    def fit(self, X: Any, y: Any, groups: Any = None, context: Any = None) -> LCMRegressor:
        """Fit on scans with a number each.

        Parameters
        ----------
        X : list of arrays (T_i, R), array (n, T, R), array (n, R, R) or array (n, F)
            Region series, correlation matrices, or columns of features. Scans of one call share
            the regions and their order.
        y : array-like of shape (n,)
            The numbers, in any unit.
        groups : array-like of shape (n,), optional
            The person of each scan, who never stands on both sides of an inner fold. Without it
            each scan is a person.
        context : DataFrame, mapping or array of shape (n, J), optional
            What is known of the scans when the model is asked: site, scanner.

        Returns
        -------
        self : LCMRegressor

        Raises
        ------
        ValueError
            Where the input cannot be meant.
        """
        scans = self.read_given(X, reset=True)
        y = read_answers(self, y, len(scans.values), numbers=True)
        people = read_people(groups, len(y))
        if len(np.unique(y)) < 2:
            raise ValueError(
                f"LCMRegressor: y holds one value in {len(y)} sample(s); there is nothing to learn"
            )
        self.fit_given(scans, Asked(y, 0), people, context)
        return self

    def predict(self, X: Any, context: Any = None) -> np.ndarray:
        """The number of each scan.

        Parameters
        ----------
        X : list or array of m scans
            As of `fit`, of the same regions.
        context : DataFrame, mapping or array of shape (m, J), optional
            The columns of `fit`; a missing column or value is not known.

        Returns
        -------
        ndarray of shape (m,)
            In the unit of y.
        """
        return np.asarray(self.answers_of(X, context)[:, 0])

    def score(self, X: Any, y: Any, sample_weight: Any = None, context: Any = None) -> float:
        """The coefficient of determination R2.

        Parameters
        ----------
        X : list or array of m scans
            As of `fit`, of the same regions.
        y : array-like of shape (m,)
            Their numbers.
        sample_weight : array-like of shape (m,), optional
            What each scan counts.
        context : DataFrame, mapping or array of shape (m, J), optional
            The columns of `fit`.

        Returns
        -------
        float
        """
        return float(r2_score(y, self.predict(X, context), sample_weight=sample_weight))
