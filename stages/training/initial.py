"""Starts a training run from weights: backbone, class centres, the head's statistics; and keeps parts as they are.

Shapes: C classes of the run, K classes of the model, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.config.initial import Initial
from stages.config.training import Config
from stages.core.errors import InputError
from stages.core.networks import checkpoint_keys
from stages.io import class_names
from stages.runtime import artifacts
from stages.runtime.initial_folders import ABOUT, CLASSES, WEIGHTS
from stages.training.class_names import of_dataset
from stages.training.networks import Networks

SHOWN = 3
"""Names of classes in a sentence."""


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from, found to be of its network."""

    initial: Initial
    sha256: str
    backbone: Mapping[str, Any]
    """Configuration of the model's network."""
    state: Mapping[str, Mapping[str, Tensor]]
    """State dicts by part: backbone, head, quality."""
    row_C: NDArray[np.int64]
    """For each class of the run the row of its centre in the model's, -1: drawn from the seed."""
    has_statistics: bool
    """Whether the head's running statistics go on: they are of the same head."""
    note: str
    """What starts from where, in a sentence."""

    def apply(self, networks: Networks, span: range) -> None:
        """Replace the initial weights, before the networks are placed.

        Args:
            networks: as built from the seed.
            span: classes of this process.

        Raises:
            ValueError: the backbone is another network: with the lists of keys.
        """
        networks.backbone.load_state_dict(self._fitting(networks))
        if self.initial.head == "new":
            return
        head, centre_SD = self.state["head"], networks.head.weight
        if centre_SD.shape != (len(span), head["weight"].shape[1]):
            raise InputError(
                f"initial.head: keep, and the run's head holds {tuple(centre_SD.shape)} for {len(span)} classes where "
                f"{self.initial.model} has one centre of {head['weight'].shape[1]} for each: use head: new"
            )
        row_S = torch.from_numpy(self.row_C[span.start : span.stop])
        with torch.no_grad():
            centre_SD[row_S >= 0] = head["weight"][row_S[row_S >= 0]].float()
        if self.has_statistics:
            _load_what_fits(networks.head, {name: value for name, value in head.items() if name != "weight"})
        layer = networks.objective.quality_layer()
        if layer is not None and "quality" in self.state:
            _load_what_fits(layer, self.state["quality"])

    def metrics(self) -> dict[str, Any]:
        """Return what is to be known of the finished training: which weights it started from, and how many centres."""
        return {"initial_classes_kept": int((self.row_C >= 0).sum()), "initial_weights_sha256": self.sha256}

    def _fitting(self, networks: Networks) -> dict[str, Tensor]:
        wanted = {key: value.shape for key, value in networks.backbone.state_dict().items()}
        try:
            return checkpoint_keys.fit(self.state["backbone"], wanted)
        except ValueError as error:
            raise InputError(
                f"initial.model {self.initial.model}: its weights are not those of the run's network: {error}. "
                f"{_same_network(self.backbone)}"
            ) from error


def read(run: str, config: Config, num_classes: int) -> Start | None:
    """Return the weights that a run starts from, as the stage `initial` left them; None for one that has none.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: they do not fit the run: network, colour order, value range or classes.
    """
    initial, folder = config.initial, artifacts.initial_folder(run)
    if initial is None:
        return None
    if not (folder / ABOUT).is_file():
        raise FileNotFoundError(f"{folder / ABOUT} is missing: the stage initial@{run} writes it; run `dvc repro`")
    about = artifacts.read_json(folder / ABOUT)
    if artifacts.sha256(folder / WEIGHTS) != about["weights_sha256"]:
        raise InputError(f"{folder / WEIGHTS} is not what the stage initial@{run} wrote: run `dvc repro` again")
    _refuse_other_input(initial, about, config)
    state = torch.load(folder / WEIGHTS, map_location="cpu", mmap=True, weights_only=True)
    row_C, note = np.full(num_classes, -1, np.int64), "class centres are new"
    if initial.head == "keep":
        row_C, note = _centres(initial, state["head"], folder, config.dataset, num_classes)
    wanted = plain_head(config.head)
    has_statistics = all(wanted.get(name) == value for name, value in plain_head(about["head"]).items())
    note = f"starts from {initial.model}; {note}"
    return Start(initial, about["weights_sha256"], about["backbone"], state, row_C, has_statistics, note)


def plain_head(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the statistics of a head depend on: its name, and the measure of quality that they are of.

    >>> plain_head({"name": "adaface", "margin": 0.4}), plain_head({})
    ({'name': 'adaface', 'proxy': 'feature_norm'}, {})
    """
    return {"name": head["name"], "proxy": head.get("proxy", "feature_norm")} if "name" in head else {}


def freeze(networks: Networks, names: Sequence[str]) -> list[nn.Module]:
    """Stop the training of parts, and return the modules that stay in evaluation mode.

    Their batch norms normalise by the statistics they came with, and dropout in them is off.

    Args:
        networks: to train the rest of.
        names: dotted, as ``backbone.body.0``.

    Raises:
        ValueError: a name is no part, or nothing would be left to train.
    """
    known = dict(networks.modules().named_modules())
    for name in names:
        if name not in known:
            above = max((one for one in known if one and f"{name}.".startswith(f"{one}.")), key=len, default="backbone")
            there = ", ".join(f"{above}.{child}" for child, _ in known[above].named_children()) or "nothing"
            raise InputError(f"initial.frozen: there is no part {name!r}: within {above} there is {there}")
        known[name].requires_grad_(False)
    if names and not any(parameter.requires_grad for parameter in networks.modules().parameters()):
        raise InputError(f"initial.frozen: {', '.join(names)} is all there is, nothing is left to train: freeze less")
    # a head has no batch norm, and its running statistics go on where it is frozen: they are of what comes in
    frozen = [known[name] for name in names if name.startswith("backbone")]
    for module in frozen:
        module.eval()
    return frozen


def _refuse_other_input(initial: Initial, about: Mapping[str, Any], config: Config) -> None:
    trained = (about["color_order"], tuple(about["value_range"]))
    shown = (config.color_order, tuple(config.value_range))
    if trained != shown:
        low, high = trained[1]
        raise InputError(
            f"initial.model {initial.model} takes {trained[0]} in {low:g} to {high:g}, and this run would show it "
            f"{shown[0]} in {shown[1][0]:g} to {shown[1][1]:g}: set color_order: {trained[0]} and value_range: "
            f"[{low:g}, {high:g}] in the run"
        )
    kinds = [(one.get("name"), one.get("style")) for one in (about["backbone"], config.backbone)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"initial.model {initial.model} is another network than the run's. {_same_network(about['backbone'])}"
        )


def _same_network(backbone: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{name}: {value}" for name, value in backbone.items())
    return f"The run needs backbone: {{{fields}}}"


def _centres(
    initial: Initial, head: Mapping[str, Tensor], folder: Path, dataset: str, num_classes: int
) -> tuple[NDArray[np.int64], str]:
    """Return for each class the row of its centre in the model's, and what was found, in words."""
    if "weight" not in head:
        raise InputError(
            f"initial.head: keep, and {initial.model} has no class centres: import it with its head (`facet import "
            "--keep-head`, or `--head FILE ...`), or use head: new"
        )
    known = len(head["weight"])
    names = of_dataset(dataset)
    if names is not None and (folder / CLASSES).is_file():
        row_C = class_names.rows(names, class_names.read(folder / CLASSES, known))
        kept = [name for name, row in zip(names, row_C.tolist(), strict=True) if row >= 0]
        if not kept:
            raise InputError(
                f"initial.head: keep, and none of the {num_classes} classes of {dataset} has the name of one of the "
                f"{known} of {initial.model}: use head: new"
            )
        shown = ", ".join(kept[:SHOWN]) + (", ..." if len(kept) > SHOWN else "")
        return row_C, f"{len(kept)} of {num_classes} classes keep their centres, by name ({shown})"
    if known != num_classes:
        lacking = dataset if names is None else initial.model
        raise InputError(
            f"initial.head: keep, and {initial.model} has {known} classes where {dataset} has {num_classes}; without "
            f"names, which {lacking} lacks, they must be the same ones in the same order: use head: new, or give names "
            "(docs/fine-tuning.md)"
        )
    return np.arange(num_classes), f"all {num_classes} classes keep their centres, in their order"


def _load_what_fits(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set the tensors of a module that a state has in the same shape."""
    own = module.state_dict()
    module.load_state_dict(
        {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}, strict=False
    )
