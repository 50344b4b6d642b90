"""What is known of scans beside their matrices, in scikit-learn's forms, as `linear.context` takes
it.

In: a DataFrame, a mapping of names to values, or an array whose columns go by their number. A
column of numbers is a number, any other one a category; None and NaN are not known.
Shapes: n scans, J columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from lcm_scale.errors import nearest
from lcm_scale.linear.context import Context, KnownColumn


def read_context(context: Any, n_scans: int, asked: str) -> Context:
    """Of training scans.  Args: asked: the name that no column may have.  Raises: ValueError."""
    columns, values = [], []
    for name, own in _columns(context, n_scans).items():
        if name == asked:
            raise ValueError(f"context: a column '{name}' would tell what is asked; leave it out")
        known = [value for value in own if value is not None]
        if not known:
            raise ValueError(f"context: column '{name}' is known of no scan; leave it out")
        numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in known)
        categories = () if numbers else tuple(sorted({str(value) for value in known}))
        columns.append(KnownColumn(name, categories))
        values.append(_coded(columns[-1], own))
    return Context(tuple(columns), np.array(values).reshape(len(values), n_scans).T)


def tell(columns: Sequence[KnownColumn], context: Any, n_scans: int) -> np.ndarray:
    """What fitted columns know of other scans: float (n, J), NaN where it is not known, as a
    category is that no training scan had.

    Raises: ValueError for a column that was not there when the estimator was fitted.
    """
    told = np.full((n_scans, len(columns)), np.nan)
    names = [column.name for column in columns]
    for name, own in _columns(context, n_scans).items():
        if name not in names:
            raise ValueError(
                f"context: no column '{name}'{nearest(name, names)} when the estimator was fitted "
                f"(there: {', '.join(names) or 'none'})"
            )
        told[:, names.index(name)] = _coded(columns[names.index(name)], own)
    return told


def _coded(column: KnownColumn, own: Sequence[Any]) -> np.ndarray:
    """(n,) codes of categories, or numbers."""
    if column.categories:
        code = {category: float(place) for place, category in enumerate(column.categories)}
        return np.array([code.get(str(value), np.nan) for value in own])
    try:
        return np.array([np.nan if value is None else float(value) for value in own])
    except (TypeError, ValueError):
        raise ValueError(f"context: column '{column.name}' holds numbers; found a word") from None


def _columns(context: Any, n_scans: int) -> dict[str, list[Any]]:
    """Name -> one value a scan, None where it is not known."""
    if context is None:
        return {}
    found: dict[str, list[Any]]
    if isinstance(context, Mapping) or hasattr(context, "columns"):
        names = context if isinstance(context, Mapping) else context.columns
        found = {str(name): list(context[name]) for name in names}
    else:
        table = np.asarray(context, dtype=object)
        table = table[:, None] if table.ndim == 1 else table
        found = {str(number): list(table[:, number]) for number in range(table.shape[1])}
    for name, own in found.items():
        if len(own) != n_scans:
            raise ValueError(f"context: column '{name}' has {len(own)} values for {n_scans} scans")
    return {name: [_known(value) for value in own] for name, own in found.items()}


def _known(value: Any) -> Any:
    """NumPy's numbers as Python's; None where the value says nothing: '' and what equals nothing,
    itself included, as NaN and pandas' missing values do."""
    if value is None or (isinstance(value, str) and not value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    same = value == value
    return value if isinstance(same, bool) and same else None
