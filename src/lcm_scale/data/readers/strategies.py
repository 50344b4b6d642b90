"""fMRIPrep's confounds as one of nilearn's strategies chooses them."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lcm_scale.checked import LARGEST_OBJECT
from lcm_scale.config import StrategyConfig
from lcm_scale.errors import InputError
from lcm_scale.limits import LARGEST_TEXT
from lcm_scale.terminal import one_line

OLDER = "_bold_confounds.tsv"  # names before fMRIPrep 1.2, whose columns nilearn does not know


def load_strategy(
    image: Path, confounds: Path, strategy: StrategyConfig
) -> tuple[np.ndarray, np.ndarray]:
    """What a strategy regresses out of an image, and which volumes it leaves out.

    Args: confounds: the table beside the image, which nilearn finds by the image's name.
    Returns: (T, C) regressors; (T,) whether a volume is an outlier, or before the steady state.
    Raises: InputError where the confounds lack what the strategy needs.
    """
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    where = f"{confounds}: connectivity.clean.strategy.name={strategy.name}"
    if confounds.name.endswith(OLDER):
        raise InputError(
            f"{where}: nilearn knows the confounds of fMRIPrep 1.2 and later; name columns of this "
            "older table with connectivity.clean.nuisance instead"
        )
    for path, largest in ((confounds, LARGEST_TEXT), (_json(confounds), LARGEST_OBJECT)):
        if path.is_file() and path.stat().st_size > largest:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; at most {largest:,} are read")
    given = {key: value for key, value in asdict(strategy).items() if value is not None}
    name = given.pop("name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that the strategy can do without
            table, kept = load_confounds_strategy(str(image), denoise_strategy=name, **given)
    except Exception as error:  # pandas and nilearn raise whatever a table makes them
        said = one_line(str(error) or str(vars(error)))[:200]
        raise InputError(f"{where}: {said or type(error).__name__}") from error
    regressors = np.asarray(table, dtype=np.float64)
    if not np.isfinite(regressors).all():
        row = int(np.flatnonzero(~np.isfinite(regressors).all(1))[0]) + 1
        raise InputError(f"{where}: a confound has no value at volume {row}")
    outliers = np.zeros(len(regressors), dtype=bool)
    if kept is not None:
        outliers[:] = True
        outliers[np.asarray(kept, dtype=np.int64)] = False
    return regressors, outliers


def _json(confounds: Path) -> Path:
    return confounds.with_suffix(".json")
