"""Imports a published checkpoint: models/NAME, in the format of runs/RUN/backbone, with its quality method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.core.errors import InputError
from stages.core.images.pixels import SIDE, ColorOrder, ValueRange
from stages.core.networks import checkpoint_keys
from stages.core.networks.checkpoint_keys import FAMILIES, FamilyName, Recognised
from stages.io import checkpoint_reader, class_names
from stages.models import import_head, model_files
from stages.runtime import artifacts, initial_folders, plugins


@dataclass(frozen=True)
class Said:
    """What the user states about a checkpoint; None: as in its family's published models."""

    family: FamilyName | None = None
    color_order: ColorOrder | None = None
    value_range: ValueRange | None = None
    dataset: str | None = None
    published: str | None = None
    depth: int | None = None
    """Number of layers in the network's name: 50 for IR-50."""
    keep_head: bool = False
    head: tuple[Path, ...] = ()
    """Files of the class centres, if they are not in the checkpoint: one, or one for each GPU."""
    classes: Path | None = None
    """File with the names of the classes, a line each."""


def place(checkpoint: Path, folder: Path, said: Said) -> model_files.Model:
    """Recognise, check, and write ``folder``; an earlier import is replaced only by a complete one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, its keys are not exactly those of a network known here, or they are those of two.
    """
    recognised = checkpoint_keys.recognise(checkpoint_reader.read(checkpoint), said.family)
    if recognised.prefix.endswith("net.") and said.color_order is None:
        raise InputError(
            f"{checkpoint} is a CVLface model, and these differ in colour order: "
            "give --color-order, as `color_space` in its model.yaml"
        )
    backbone, config = load(recognised)
    if not recognised.sure and None in (said.color_order, said.value_range):
        raise InputError(
            f"{checkpoint} has the keys of insightface's networks (RGB, -1 to 1) and of MagFace's without their prefix "
            "(BGR, 0 to 1): give --architecture insightface or --architecture magface"
        )
    depth = config["depth"] if "depth" in config else 2 * sum(config["units"]) + 2
    if said.depth not in (None, depth, depth + 1):  # 100 and 101 are two names of one depth
        raise InputError(f"{checkpoint} has {depth} layers, but {said.published or 'you'} expected {said.depth}")
    head = import_head.find(recognised, config["feature_dim"], said.head, said.classes, keep=said.keep_head)
    with artifacts.write_folder(folder) as aside:
        model_files.save_weights(aside / "weights.pt", backbone, head.kept)
        if head.names is not None:
            class_names.write(aside / initial_folders.CLASSES, head.names)
        digest = artifacts.sha256(aside / "weights.pt")
        model = describe(checkpoint, recognised, config, said, digest, head.num_classes)
        model_files.save_program(aside / "program.pt2", backbone, model.color_order, model.value_range)
        write_quality(aside / "quality", backbone, model)
        # last: a folder without it is no model, should this end before its time
        artifacts.write_json(aside / "model.json", model.model_dump(mode="json"))
    return model


def load(recognised: Recognised) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network with the checkpoint's weights, in evaluation mode, and its configuration.

    Raises:
        ValueError: the keys are not exactly the network's: missing, unexpected and misshapen ones are listed.
    """
    tree = checkpoint_keys.read_config(recognised)
    module = plugins.load("backbones", tree["name"])
    config = module.Config.model_validate(tree)
    with torch.device("meta"):  # its initial weights are not wanted
        backbone: nn.Module = module.build(config)
    wanted = {key: value.shape for key, value in backbone.state_dict().items()}
    try:
        state = checkpoint_keys.fit(recognised.state, wanted)
    except ValueError as error:
        network = f"the network {recognised.family} with {blocks(tree)} blocks"
        raise InputError(f"the keys are not those of {network}: {error}") from error
    backbone.load_state_dict(state, assign=True)
    return backbone.eval(), config.model_dump(mode="json")


def blocks(backbone: Mapping[str, Any]) -> str:
    """Return the numbers of blocks of a network's configuration: of its stages, or of a ViT as a whole.

    >>> blocks({"units": [3, 4, 14, 3]}), blocks({"depth": 12})
    ('3, 4, 14, 3', '12')
    """
    return ", ".join(str(number) for number in backbone.get("units", [backbone.get("depth")]))


def describe(
    checkpoint: Path,
    recognised: Recognised,
    config: dict[str, Any],
    said: Said,
    weights_sha256: str,
    num_classes: int | None,
) -> model_files.Model:
    """Return the ``model.json`` of an imported checkpoint."""
    family = FAMILIES[recognised.family]
    return model_files.Model(
        backbone=config,
        head={},
        color_order=said.color_order or family.color_order,
        value_range=said.value_range or family.value_range,
        image_size=SIDE,
        feature_dim=config["feature_dim"],
        num_classes=num_classes,
        dataset=said.dataset or "unknown",
        weights_sha256=weights_sha256,
        source=model_files.Source(
            file=checkpoint.name,
            sha256=artifacts.sha256(checkpoint),
            family=recognised.family,
            published=said.published,
        ),
    )


def write_quality(folder: Path, backbone: nn.Module, model: model_files.Model) -> None:
    """Write the checkpoint's quality method like a trained one: CR-FIQA's own layer, else the feature norm."""
    folder.mkdir()
    tree: dict[str, Any] = {"name": "feature_norm", "backbone_sha256": model.weights_sha256}
    layer = getattr(backbone, "qs", None)
    if isinstance(layer, nn.Linear):
        tree["name"] = "cr_fiqa"
        tree["target"] = "code"  # as released
        model_files.save({"weight": layer.weight.detach(), "bias": layer.bias.detach()}, folder / "weights.pt")
        tree["weights_sha256"] = artifacts.sha256(folder / "weights.pt")
        method = plugins.load("quality", "cr_fiqa").Scorer.load(folder).module()
        model_files.save_program(folder / "program.pt2", backbone, model.color_order, model.value_range, method)
    artifacts.write_json(folder / "quality.json", tree)
