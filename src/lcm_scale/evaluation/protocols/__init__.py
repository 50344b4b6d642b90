"""How scans are held out: one file a protocol, by the names that `evaluate.protocol` takes."""

from collections.abc import Callable, Sequence

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.protocols import nested
from lcm_scale.evaluation.questions import Question

Split = Callable[[Recipe, ShardSets, np.ndarray, Sequence[Question]], list[Fold]]

PROTOCOLS: dict[str, Split] = {"nested": nested.folds_of}
SENTENCES: dict[str, Callable[[Recipe], str]] = {"nested": nested.sentence}
