"""A model that somebody gave away, ready to answer.

model = load_model("folder-or-owner/name", atlas="my_order.tsv", reorder=True)
model.predict(correlations)  # {"diagnosis": (B, categories), "age": (B,)}
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor

from lcm_scale.atlas import Atlas, edge_order, load_atlas
from lcm_scale.errors import InputError, nearest
from lcm_scale.inference.odd_input import odd_input
from lcm_scale.inference.predictor import Reading, answers, fill
from lcm_scale.linear.context import KnownColumn
from lcm_scale.model.lcm import LCM
from lcm_scale.model.triangle import upper
from lcm_scale.weights.adapters import read_model
from lcm_scale.weights.hub import CONFIG, INDEX, SUMS
from lcm_scale.weights.meaning import EXPORTED, Meaning
from lcm_scale.weights.personal import check_personal


class PretrainedLCM(LCM, PyTorchModelHubMixin, library_name="lcm-scale"):
    """An LCM that knows what it was fed and what it answers; `load_model` makes one.

    A `torch.nn.Module` that is saved and pushed as models of the Hugging Face hub are.

    Parameters
    ----------
    config : dict
        The contents of ``config.json``.

    Attributes
    ----------
    meaning : Meaning
        Vocabulary, order of regions, and what else its answers take.
    with_people : bool
        Whether it may be saved and pushed where it holds people's vectors.

    Raises
    ------
    InputError
        Where `config` is not of this format or damaged.

    References
    ----------
    Wei, Dan and Wu, arXiv 2510.18910.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        meaning = Meaning.from_json(config, EXPORTED, CONFIG)
        super().__init__(meaning.model)
        self.meaning = meaning
        self.with_people = False

    def predict(
        self, fc_BRR: Tensor, context: Mapping[str, Sequence[str | float | None]] | None = None
    ) -> dict[str, Tensor]:
        """Answers about scans.

        Parameters
        ----------
        fc_BRR : Tensor of shape (B, R, R)
            Raw correlations, without Fisher z, of the kinds ``meaning.kinds`` and in the order of
            ``meaning.atlas``.
        context : mapping of str to sequences of length B, optional
            Of the columns in ``meaning.context``, what is known of each scan: a category or a
            number, None where it is not known. Columns that are left out are not known.

        Returns
        -------
        dict of str to Tensor
            On the model's device: of a target with categories their probabilities (B, categories),
            of a scalar its value (B,) in its own unit.

        Raises
        ------
        InputError
            For another shape, numbers that are no correlations, or context that the model does not
            take.

        Warns
        -----
        UserWarning
            Where matrices are unlike those it was trained on: their diagonal, their two halves, or
            how large their correlations are.
        """
        R = self.meaning.atlas.n_regions
        if fc_BRR.ndim != 3 or fc_BRR.shape[1:] != (R, R):
            raise InputError(
                f"predict: expected (scans, {R}, {R}) for {self.meaning.atlas.name}, found "
                f"{tuple(fc_BRR.shape)}"
            )
        covariances = "covariance" in self.meaning.kinds
        bound = torch.finfo(torch.float32).max if covariances else 1 + 1e-3
        if not bool((fc_BRR.abs() <= bound).all()):
            raise InputError("predict: correlations are between -1 and 1, and none is NaN")
        for sentence in odd_input(self.meaning, fc_BRR):
            warnings.warn(f"predict: {sentence}", stacklevel=2)
        device = self.readout.weight.device
        edges_BE = upper(fc_BRR).to(device)
        context_BJ = self._told(context or {}, len(edges_BE)).to(device)
        return answers(self, Reading.of(self.meaning), edges_BE, context_BJ)

    def _told(self, context: Mapping[str, Sequence[str | float | None]], n_scans: int) -> Tensor:
        """(B, J) codes and numbers, NaN where not known."""
        known = [column.name for column in self.meaning.context]
        for name, values in context.items():
            if name not in known:
                raise InputError(
                    f"predict: context '{name}'{nearest(name, known)}: the model takes "
                    f"{', '.join(known) or 'none'}"
                )
            if len(values) != n_scans:
                raise InputError(
                    f"predict: context '{name}': expected {n_scans} values, found {len(values)}"
                )
        told = torch.full((n_scans, len(known)), torch.nan)
        for place, column in enumerate(self.meaning.context):
            for scan, value in enumerate(context.get(column.name, ())):
                if value is not None:
                    told[scan, place] = _code(column, value)
        return told

    @torch.no_grad()
    def reorder(self, atlas: Atlas) -> None:
        """Expect rows in another order of the same regions from now on: the outputs are exactly the
        same.

        Rows carry no position in the model; columns are inputs of the embedding, so its weight's
        columns move. What belongs to pairs of regions moves with both.

        Parameters
        ----------
        atlas : Atlas
            The regions in the wanted order.

        Raises
        ------
        InputError
            Where the regions differ.
        """
        order = self.meaning.atlas.order_from(atlas)
        place = torch.from_numpy(order)
        weight = self.embedding.linear.weight
        weight.copy_(_moved(weight, 1, place))
        if self.edge_branch is not None:
            edges = torch.from_numpy(edge_order(order))
            branch = self.edge_branch
            for table in (branch.centre, branch.scale, *branch.table.parameters()):
                table.copy_(_moved(table, -1, edges))
        if self.people is not None:
            self.people.reorder(place)
        cohort = self.meaning.cohort and self.meaning.cohort.moved(edge_order(order))
        self.meaning = replace(self.meaning, atlas=atlas, cohort=cohort)
        # what `save_pretrained` writes
        self._hub_mixin_config = {
            **cast(dict[str, Any], self._hub_mixin_config),
            "atlas": atlas.to_json(),
            **({"cohort": cohort.to_json()} if cohort else {}),
        }

    def _save_pretrained(self, save_directory: Path) -> None:
        """As the mixin saves; what described other weights in that folder goes.

        Raises: InputError where it holds people's vectors and `with_people` is not set.
        """
        how = "model.with_people = True"
        check_personal(self.meaning.model, "this model", self.with_people, how)
        super()._save_pretrained(save_directory)
        for name in (INDEX, SUMS):
            (save_directory / name).unlink(missing_ok=True)


def load_model(
    path_or_repo: str | Path,
    atlas: Atlas | str | None = None,
    reorder: bool = False,
    revision: str | None = None,
    kind: str | None = None,
    base: str | Path | None = None,
) -> PretrainedLCM:
    """A model that somebody gave away, in evaluation mode, in fp32 on the CPU.

    Parameters
    ----------
    path_or_repo : str or path
        A folder that ``lcm-scale export hub`` wrote, or OWNER/NAME, a repository of the Hugging
        Face hub.
    atlas : Atlas or str, optional
        The order in which the caller's matrices hold the regions: an `Atlas`, a built-in name, or a
        table's path. Without it nothing is compared.
    reorder : bool, default=False
        Bring the model into that order where it differs; else another order is refused.
    revision : str, optional
        Of the repository.
    kind : str, optional
        Of the caller's matrices, in the words of ``meaning.kinds``; a model of others is refused.
        Without it nothing is compared.
    base : str or path, optional
        Of a folder that ``lcm-scale export adapters`` wrote, what the adapters stand on: a run
        folder, a checkpoint, an exported folder or a repository.

    Returns
    -------
    PretrainedLCM
        ``model.cuda()`` moves it to a card.

    Raises
    ------
    InputError
        Where there is no such model, its files are damaged, or its regions or kind of connectivity
        are not the caller's; where adapters belong on another base, or have none.
    """
    found = read_model(path_or_repo, base, revision)
    with torch.device("meta"):
        model = PretrainedLCM(found.config)
    fill(model, found.state, torch.device("cpu"))
    kinds = model.meaning.kinds
    if kind is not None and kinds and kind not in kinds:
        raise InputError(
            f"{path_or_repo}: was trained on {', '.join(kinds)} matrices, the data are {kind}"
        )
    if atlas is not None:
        wanted = atlas if isinstance(atlas, Atlas) else load_atlas(atlas)
        trained = model.meaning.atlas
        if wanted.checksum != trained.checksum:
            if not reorder:
                raise InputError(
                    f"{path_or_repo}: was trained on {trained.name} in the order "
                    f"{trained.checksum}, the data are "
                    f"{wanted.name} in {wanted.checksum}; reorder=True brings the model into it by "
                    "atlas index"
                )
            model.reorder(wanted)
    return model


def _code(column: KnownColumn, value: str | float) -> float:
    """A category that the model has not seen is not known."""
    if column.categories:
        return column.categories.index(value) if value in column.categories else torch.nan
    try:
        return float(value)
    except ValueError:
        raise InputError(
            f"predict: context '{column.name}': expected a number, found '{value}'"
        ) from None


def _moved(table: Tensor, dim: int, place: Tensor) -> Tensor:
    """`table` with what stands at i along `dim` at `place[i]`."""
    return torch.empty_like(table).index_copy_(dim, place.to(table.device), table)
