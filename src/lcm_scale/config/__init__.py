"""Recipes: what a run, a shard set or a sweep is, as typed dataclasses over OmegaConf YAML.

`run`, `shard` and `sweep` hold the dataclasses, each constraint beside its field (`fields`,
`check`); `compose` lays files and `key=value` over them. The
room's names are offered here, so that callers need not know which file holds which.
"""

from lcm_scale.config.compose import dump, expand, load, read_yaml
from lcm_scale.config.run import (
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PhaseConfig,
    PseudoConfig,
    Recipe,
    StageConfig,
    TrainerConfig,
)
from lcm_scale.config.shard import (
    ConnectivityConfig,
    GroupConfig,
    ShardRecipe,
    SimulationConfig,
    SourceConfig,
)
from lcm_scale.config.sweep import AssumeConfig, BudgetConfig, FitConfig, SweepRecipe

__all__ = [
    "AssumeConfig",
    "BudgetConfig",
    "ConnectivityConfig",
    "DataConfig",
    "EvaluateConfig",
    "FitConfig",
    "GroupConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PhaseConfig",
    "PseudoConfig",
    "Recipe",
    "ShardRecipe",
    "SimulationConfig",
    "SourceConfig",
    "StageConfig",
    "SweepRecipe",
    "TrainerConfig",
    "dump",
    "expand",
    "load",
    "read_yaml",
]
