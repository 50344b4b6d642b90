"""What a model's numbers mean: one frozen type that every checkpoint and every exported file holds
and that every reader goes through.

Two layouts on disk, told apart by their `format`: a checkpoint's (with the hashed ids of everybody
it saw, and what the published model's files need to be written back) and an exported file's (how
many people it saw, never who). Exported files come from strangers: structure, values and sizes are
checked before anything is made from them, and whatever is wrong is an InputError of one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from lcm_scale import checked
from lcm_scale.atlas import Atlas
from lcm_scale.config import kind_of
from lcm_scale.config.run import EDGES, FORMULATIONS, HARMONISE, INITS, READOUTS
from lcm_scale.errors import InputError
from lcm_scale.limits import MOST_REGIONS
from lcm_scale.linear.context import KnownColumn
from lcm_scale.model.presets import LCMConfig
from lcm_scale.provenance import versions
from lcm_scale.vocabulary import MOST_TOKENS, Vocabulary
from lcm_scale.weights.calibration import Calibration
from lcm_scale.weights.cohort import Cohort

CHECKPOINT, EXPORTED = "lcm-scale-checkpoint/1", "lcm-scale-weights/1"

# Far above every model anybody trains, and far below what a machine cannot allocate: a stranger's
# file must not ask for terabytes.
LARGEST = {
    "n_regions": MOST_REGIONS,
    "width": 65_536,
    "layers": 1_024,
    "heads": 1_024,
    "ffn": 1_048_576,
}
MOST_WEIGHTS = 2**34  # 14 times the largest published model
MOST_PRIORS = 8  # models that started from each other
MOST_PEOPLE = 2**53  # the whole numbers that every JSON reader keeps


@dataclass(frozen=True)
class Official:
    """A pair of files of the published model, and what ours has no place for.

    Attributes:
        finetuned: tokens in `finetune_query`; 0: the file has none.
        unused: the weights that the published model never uses.
        backbone_keys, head_keys: the files' keys in their order.
    """

    finetuned: int
    unused: Mapping[str, Tensor]
    backbone_keys: tuple[str, ...]
    head_keys: tuple[str, ...]


@dataclass(frozen=True)
class Meaning:
    """What a model's weights need in order to mean something, and where they come from.

    Attributes:
        run: the name of the run that made it.
        model: the shape of the network; its regions are the atlas's, its tokens the vocabulary's.
        edges: what the model sees of a correlation, one of EDGES.   readout: of the last phase, one
            of READOUTS.   active: names of the targets it answers, at least one.
        scalars: scalar target -> (centre, scale) in the target's own unit, of its logarithm where
            it has a log scale; scale is above 0.
        subjects: hashed ids of everybody who took part in training or in choosing the epoch.
        n_unnamed: how many more are known by their number alone, as an exported file gives it.
        unknown_subjects: whether it, or what it started from, was imported, so that it saw others
            that nobody can name.
        salt_id: of the salt that hashed the ids; '' where they are of none.
        fingerprints: shard set -> its fingerprint.
        data: of each set it was trained on name, scans, people, simulated, connectivity and notes.
        recipe: the run's resolved recipe as YAML.   phase: the name of its last phase.
        versions: of the program that wrote it and its libraries.
        official: what the published model's files need to be written back; None for ours.
        harmonised: what a fold did to the matrices that it saw, one of HARMONISE; only checkpoints
            say it, since nothing else is made of such a model.
        context: what it takes of a scan beside its matrix.
        cohort: the people whom it was trained on, for comparison; None where an earlier version
            wrote the model.
        history: of an exported file: whether it is from before or after finetuning, and which
            phases trained it; a checkpoint's recipe says that.
        calibration: target with categories -> the map that the probabilities of its labels go
            through.
    Raises: InputError where a value does not fit the others.
    """

    run: str
    model: LCMConfig
    vocabulary: Vocabulary
    atlas: Atlas
    edges: str
    readout: str
    active: tuple[str, ...]
    scalars: Mapping[str, tuple[float, float]]
    subjects: frozenset[str] = frozenset()
    n_unnamed: int = 0
    unknown_subjects: bool = False
    salt_id: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    data: tuple[Mapping[str, Any], ...] = ()
    recipe: str = ""
    phase: str = ""
    versions: Mapping[str, str] = field(default_factory=versions)
    official: Official | None = None
    harmonised: str = "none"
    context: tuple[KnownColumn, ...] = ()
    cohort: Cohort | None = None
    history: str = ""
    calibration: Mapping[str, Calibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked.choice(self.edges, "edges", EDGES)
        checked.choice(self.readout, "readout", READOUTS)
        tokens = tuple(target.n_tokens for target in self.vocabulary.targets)
        if self.model.target_tokens != tokens:
            raise InputError(
                f"model.target_tokens: expected the vocabulary's {list(tokens)}, found "
                f"{list(self.model.target_tokens)}"
            )
        if self.model.context != tuple(len(column.categories) for column in self.context):
            raise InputError(
                f"model.context: expected the categories of {[c.name for c in self.context]}, "
                f"found {list(self.model.context)}"
            )
        if self.model.n_regions != self.atlas.n_regions:
            raise InputError(
                f"model.n_regions: expected the {self.atlas.n_regions} of atlas {self.atlas.name}, "
                f"found {self.model.n_regions}"
            )
        if not self.active or len(set(self.active)) != len(self.active):
            raise InputError(f"active: expected different targets, found {list(self.active)}")
        for name in self.active:
            checked.choice(name, "active", self.vocabulary.names)
        numbers = [target.name for target in self.vocabulary.targets if not target.is_class]
        for name, (centre, scale) in self.scalars.items():
            checked.choice(name, "scalars", numbers)
            checked.number(centre, f"scalars.{name}: the centre")
            if not checked.number(scale, f"scalars.{name}: the scale") > 0:
                raise InputError(f"scalars.{name}: the scale: expected above 0, found {scale:g}")
        for name, change in self.calibration.items():
            checked.choice(name, "calibration", [t for t in self.active if t not in numbers])
            if change.steps and len(self.vocabulary[name].labels) != 2:
                raise InputError(f"calibration.{name}: steps are of two categories")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of connectivity that it was trained on, each once; empty where unknown."""
        return tuple(dict.fromkeys(kind_of(facts["connectivity"]) for facts in self.data))

    def to_json(self, layout: str = CHECKPOINT) -> dict[str, Any]:
        """As plain values in one of the two layouts, CHECKPOINT or EXPORTED; a checkpoint's may
        hold the tensors of `official`."""
        shared: dict[str, Any] = {
            "model": _of_model(self.model),
            "vocabulary": self.vocabulary.to_json(),
            "atlas": self.atlas.to_json(),
            "edges": self.edges,
            "readout": self.readout,
            "active": list(self.active),
            "scalars": {name: list(pair) for name, pair in self.scalars.items()},
            "unknown_subjects": self.unknown_subjects,
            "data": [dict(facts) for facts in self.data],
            "fingerprints": dict(self.fingerprints),
            "versions": dict(self.versions),
        }
        own: dict[str, Any]
        if layout == EXPORTED:
            people = len(self.subjects) + self.n_unnamed
            own = {"format": EXPORTED, "run": self.run, "subjects": people}
            history = {"history": self.history} if self.history else {}
            return _in_order({**own, **shared}, _EXPORTED_KEYS) | self._added() | history
        own = {
            "format": CHECKPOINT,
            "run": self.run,
            "recipe": self.recipe,
            "phase": self.phase,
            "subjects": sorted(self.subjects),
            "salt_id": self.salt_id,
        }
        result = _in_order({**own, **shared}, _CHECKPOINT_KEYS) | self._added()
        if self.harmonised != "none":
            result["harmonised"] = self.harmonised
        if self.official is not None:
            kept = {each.name: getattr(self.official, each.name) for each in fields(Official)}
            result["official"] = kept
        return result

    def _added(self) -> dict[str, Any]:
        """Written where it is there, as what `_ADDED_TO_MODEL` names."""
        columns = [
            {**asdict(c), "categories": list(c.categories), "shares": list(c.shares)}
            for c in self.context
        ]
        found: dict[str, Any] = {"context": columns} if columns else {}
        if self.calibration:
            found["calibration"] = {name: c.to_json() for name, c in self.calibration.items()}
        return found if self.cohort is None else found | {"cohort": self.cohort.to_json()}

    @classmethod
    def from_json(cls, data: object, layout: str, where: str) -> Meaning:
        """The meaning in a file's plain values.

        Args:
            layout: what the file must hold, CHECKPOINT or EXPORTED.   where: the file, for errors.
        Raises: InputError of one line, whatever the values are.
        """
        if not isinstance(data, Mapping) or data.get("format") != layout:
            raise InputError(f"{where}: not of this format ({layout})")
        try:
            checked.bounded(data, "the file")
            return cls(**_members(data, layout))
        except InputError as error:
            line = " ".join(str(error).split())
            raise InputError(f"{where}: damaged, or of another version: {line[:300]}") from error


# The order in which files have always held them; checkpoints from before 0.1.0 lack the last two.
_CHECKPOINT_KEYS = (
    *("format", "run", "recipe", "model", "vocabulary", "atlas", "edges", "scalars", "phase"),
    *("readout", "active", "subjects", "unknown_subjects", "data"),
    *("salt_id", "fingerprints", "versions"),
)
_EXPORTED_KEYS = (
    *("format", "run", "model", "vocabulary", "active", "atlas", "edges", "readout", "scalars"),
    *("subjects", "unknown_subjects", "data", "fingerprints", "versions"),
)
# Release 0.1.0 did not know these of a model. They are written where they are on, so that it reads
# the others and refuses these.
_ADDED_TO_MODEL = ("people_memory", "context", "priors", "kept_scans", "kept_people")
_ADDED_BEFORE_RELEASE = ("unknown_subjects", "data")


def _in_order(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys}


def _members(data: Mapping[Any, Any], layout: str) -> dict[str, Any]:
    """The arguments of a `Meaning`, each of its type."""
    exported = layout == EXPORTED
    keys = _EXPORTED_KEYS if exported else _CHECKPOINT_KEYS
    own = checked.members(data, "the file", set(keys) - {*_ADDED_BEFORE_RELEASE})
    result: dict[str, Any] = {
        "run": checked.text(own["run"], "run"),
        "model": _model(own["model"]),
        "vocabulary": Vocabulary.from_json(own["vocabulary"]),
        "atlas": Atlas.from_json(own["atlas"]),
        "edges": checked.choice(own["edges"], "edges", EDGES),
        "readout": checked.choice(own["readout"], "readout", READOUTS),
        "active": checked.entries(own["active"], "active", checked.text),
        "scalars": checked.members(own["scalars"], "scalars", each=_pair),
        "unknown_subjects": checked.flag(
            own.get("unknown_subjects", "official" in own), "unknown_subjects"
        ),
        "fingerprints": checked.members(own["fingerprints"], "fingerprints", each=checked.text),
        "data": checked.entries(own.get("data", ()), "data", _facts),
        "versions": checked.members(own["versions"], "versions", each=checked.text),
        "context": checked.entries(own.get("context", ()), "context", _known),
        "calibration": checked.members(
            own.get("calibration", {}), "calibration", each=Calibration.from_json
        ),
    }
    if "cohort" in own:
        n_edges = result["atlas"].n_edges
        result["cohort"] = Cohort.from_json(own["cohort"], "cohort", n_edges)
    if exported:
        result["n_unnamed"] = checked.whole(own["subjects"], "subjects", 0, MOST_PEOPLE)
        result["history"] = checked.text(own.get("history", ""), "history")
        return result
    result["subjects"] = frozenset(checked.all_of(own["subjects"], "subjects", str))
    for key in ("recipe", "phase", "salt_id"):
        result[key] = checked.text(own[key], key)
    result["harmonised"] = checked.choice(own.get("harmonised", "none"), "harmonised", HARMONISE)
    if "official" in own:
        result["official"] = _official(own["official"])
    return result


def _of_model(config: LCMConfig) -> dict[str, Any]:
    return {k: v for k, v in asdict(config).items() if v or k not in _ADDED_TO_MODEL}


def _model(value: object) -> LCMConfig:
    required = [each.name for each in fields(LCMConfig) if each.name not in _ADDED_TO_MODEL]
    own = checked.members(value, "model", required)
    unknown = set(own) - {each.name for each in fields(LCMConfig)}
    if unknown:
        raise InputError(f"model has an unknown {min(unknown)}")
    own["target_tokens"] = checked.entries(
        own["target_tokens"],
        "model.target_tokens",
        lambda entry, name: checked.whole(entry, name, 1, MOST_TOKENS),
    )
    for key, high in LARGEST.items():
        checked.whole(own[key], f"model.{key}", 2 if key == "n_regions" else 1, high)
    for key in ("dropout", "input_dropout", "edge_dropout"):
        checked.number(own[key], f"model.{key}", 0, 1)
    own["context"] = checked.entries(
        own.get("context", ()),
        "model.context",
        lambda entry, name: checked.whole(entry, name, 0, MOST_TOKENS),
    )
    checked.whole(own.get("priors", 0), "model.priors", 0, MOST_PRIORS)
    kept = checked.whole(own.get("kept_scans", 0), "model.kept_scans", 0, MOST_WEIGHTS)
    checked.whole(own.get("kept_people", 0), "model.kept_people", min(kept, 1), kept)
    for key in ("mask_constant", "edge_branch", "people_memory"):
        checked.flag(own.get(key, False), f"model.{key}")
    checked.choice(own["init"], "model.init", INITS)
    checked.choice(own["attention"], "model.attention", ("auto", *FORMULATIONS))
    D, R, M = own["width"], own["n_regions"], sum(own["target_tokens"])
    weights = own["layers"] * D * (8 * D + 2 * own["ffn"]) + (R + M) * D
    weights += M * R * (R - 1) // 2 if own["edge_branch"] else 0
    if own.get("people_memory"):
        features = sum(max(1, categories) for categories in own["context"])
        F, tables = R * (R + 1) // 2, 1 + own.get("priors", 0)
        weights += ((tables + features) * M + tables) * F + tables * R * R
        weights += kept * (F + kept + len(own["context"]) + M)
    if weights > MOST_WEIGHTS:
        raise InputError(f"model: expected at most {MOST_WEIGHTS:,} weights, found {weights:,}")
    return LCMConfig(**own)


def _pair(value: object, name: str) -> tuple[float, float]:
    centre, scale = checked.entries(value, name, checked.number, 2)
    return centre, scale


def _known(value: object, name: str) -> KnownColumn:
    own = checked.members(value, name, [each.name for each in fields(KnownColumn)])
    scale = checked.number(own["scale"], f"{name}.scale")
    if not scale > 0:
        raise InputError(f"{name}.scale: expected above 0, found {scale:g}")
    return KnownColumn(
        checked.text(own["name"], f"{name}.name"),
        checked.entries(own["categories"], f"{name}.categories", checked.text),
        checked.number(own["centre"], f"{name}.centre"),
        scale,
        checked.entries(own["shares"], f"{name}.shares", checked.number, len(own["categories"])),
    )


def _facts(value: object, name: str) -> dict[str, Any]:
    own = checked.members(
        value, name, ("name", "scans", "people", "simulated", "connectivity", "notes")
    )
    checked.text(own["name"], f"{name}.name")
    for key in ("scans", "people"):
        checked.whole(own[key], f"{name}.{key}", 0, MOST_PEOPLE)
    checked.flag(own["simulated"], f"{name}.simulated")
    checked.members(own["connectivity"], f"{name}.connectivity")
    checked.entries(own["notes"], f"{name}.notes", checked.text)
    return {key: checked.plain(member, f"{name}.{key}") for key, member in own.items()}


def _official(value: object) -> Official:
    def tensor(entry: object, name: str) -> Tensor:
        if not isinstance(entry, Tensor):
            raise InputError(f"{name}: expected a tensor")
        return entry

    own = checked.members(value, "official", ("finetuned", "unused", "backbone_keys", "head_keys"))
    return Official(
        checked.whole(own["finetuned"], "official.finetuned", 0, MOST_TOKENS),
        checked.members(own["unused"], "official.unused", each=tensor),
        checked.entries(own["backbone_keys"], "official.backbone_keys", checked.text),
        checked.entries(own["head_keys"], "official.head_keys", checked.text),
    )
