"""scikit-learn's interface: `LCMClassifier`, `LCMRegressor` and `ConnectomeFeatures`.

`from lcm_scale import LCMClassifier` does the same and imports nothing before it is asked for.
"""

from __future__ import annotations

from lcm_scale.estimators.features import ConnectomeFeatures
from lcm_scale.estimators.people import LCMClassifier, LCMRegressor

__all__ = ["ConnectomeFeatures", "LCMClassifier", "LCMRegressor"]
