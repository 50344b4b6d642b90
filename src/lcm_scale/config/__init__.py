"""Recipes: what a run, a shard set, a sweep or an ablation is, as typed dataclasses composed from
YAML.

`run`, `shard`, `sweep` and `ablation` hold the dataclasses, `fields` the helpers with which each
field says what its values may be, `check` sees that they are, `yaml_text` reads YAML, `compose`
lays files and `key=value` over each other. The room's names are offered here, so that callers need
not know which file holds which.
"""

from lcm_scale.config.ablation import AblationRecipe
from lcm_scale.config.compose import dump, expand, from_stored, load, override, read_yaml
from lcm_scale.config.run import (
    DataConfig,
    EvaluateConfig,
    LoRAConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PhaseConfig,
    PseudoConfig,
    Recipe,
    StageConfig,
    TrainerConfig,
    Trains,
    may_differ,
)
from lcm_scale.config.shard import (
    CleanConfig,
    ConnectivityConfig,
    ContextConfig,
    GroupConfig,
    QualityConfig,
    ScalarConfig,
    ShardRecipe,
    SimulationConfig,
    SourceConfig,
    StrategyConfig,
    kind_of,
    parameters,
)
from lcm_scale.config.sweep import AssumeConfig, BudgetConfig, FitConfig, SweepRecipe

__all__ = [
    "AblationRecipe",
    "AssumeConfig",
    "BudgetConfig",
    "CleanConfig",
    "ConnectivityConfig",
    "ContextConfig",
    "DataConfig",
    "EvaluateConfig",
    "FitConfig",
    "GroupConfig",
    "LoRAConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PhaseConfig",
    "PseudoConfig",
    "QualityConfig",
    "Recipe",
    "ScalarConfig",
    "ShardRecipe",
    "SimulationConfig",
    "SourceConfig",
    "StageConfig",
    "StrategyConfig",
    "SweepRecipe",
    "TrainerConfig",
    "Trains",
    "dump",
    "expand",
    "from_stored",
    "kind_of",
    "load",
    "may_differ",
    "override",
    "parameters",
    "read_yaml",
]
