"""Exports a trained backbone: weights, ``model.json``, and a program that runs without this repository.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field, ValidationError, field_validator
from torch import Tensor, nn
from torch.nn import functional

from stages.core.errors import InputError
from stages.core.images.pixels import SIDE, VALUE_RANGE, ColorOrder, ValueRange, to_network
from stages.core.metrics.features import Fusion
from stages.runtime import artifacts, plugins


class Source(BaseModel, extra="forbid", frozen=True):
    """Origin of the weights of an imported checkpoint."""

    file: str = Field(description="name of the imported file")
    sha256: str = Field(description="of that file")
    family: str = Field(description="whose layout its keys have: adaface, insightface, magface, ...")
    published: str | None = Field(default=None, description="its entry in models.yaml, where it is one of those")


class Model(BaseModel, extra="forbid", frozen=True):
    """``model.json``: everything needed to use the weights elsewhere."""

    backbone: dict[str, Any] = Field(description="name and every field of its configuration")
    head: dict[str, Any]
    color_order: ColorOrder = Field(description="of the channels the network sees")
    value_range: ValueRange = Field(
        description="what the pixel values 0 and 255 become: -1 to 1 is (x / 255 - 0.5) / 0.5, MagFace's is 0 to 1"
    )
    image_size: Literal[112] = Field(description="side of an aligned image, pixels")
    feature_dim: int
    num_classes: int | None = Field(description="identities it was trained on; null: the source does not say")
    dataset: str
    weights_sha256: str = Field(description="of weights.pt")
    fusion: Fusion = Field(default="pre_norm_sum", description="of an image and its flip, in the numbers known of it")
    source: Source | None = Field(default=None, description="of an imported checkpoint; null: trained here")

    @field_validator("value_range")
    @classmethod
    def _check_range(cls, value_range: ValueRange) -> ValueRange:
        low, high = value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError("the lower end should come first, as in -1, 1 or 0, 1")
        return value_range


class Program(nn.Module):
    """The exported program: uint8 images, blue first -> unit embedding and the norm of the feature, no flip.

    Given a quality method, a module from feature_ND to score_N, its score comes third.
    """

    def __init__(
        self,
        backbone: nn.Module,
        color_order: ColorOrder,
        value_range: ValueRange = VALUE_RANGE,
        quality: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.quality = backbone, quality
        self.color_order: ColorOrder = color_order
        self.value_range = value_range

    def forward(self, image_N3HW: Tensor) -> tuple[Tensor, ...]:
        """Return embedding_ND, feature_norm_N and, where there is a method, score_N."""
        return outputs(self.backbone(to_network(image_N3HW, self.color_order, self.value_range)), self.quality)


def outputs(feature_ND: Tensor, quality: nn.Module | None) -> tuple[Tensor, ...]:
    """Return embedding_ND, feature_norm_N and, if there is a quality method, score_N."""
    made = functional.normalize(feature_ND, dim=1), feature_ND.norm(dim=1)
    return made if quality is None else (*made, quality(feature_ND))


def save_weights(path: Path, backbone: nn.Module, head: nn.Module, quality: nn.Module | None = None) -> None:
    """Write the state dicts as plain contiguous CPU tensors: equal weights give equal bytes.

    Args:
        path: where to.
        backbone: as trained.
        head: its class centres and statistics.
        quality: a layer that was trained with them (``Objective.quality_layer``).
    """
    parts = {"backbone": backbone, "head": head} | ({} if quality is None else {"quality": quality})
    tree = {
        name: {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
        for name, module in parts.items()
    }
    save(tree, path)


def save(tree: Mapping[str, Any], path: Path) -> None:
    """Write a tree of tensors; a file of torch's own, whose bytes a file of Python's would not have.

    Raises:
        OSError: it cannot be written whole.
    """
    try:
        torch.save(tree, path)
    except RuntimeError as error:
        # torch hides the reason, in what looks like a bug
        said = str(error).splitlines()[0]
        if not any(sign in said for sign in ("inline_container", "iostream")):
            raise
        raise OSError(f"{path} cannot be written whole: make room, or make its folder writable ({said})") from error


def write_archive(path: Path, save_to: Callable[[io.BytesIO], None]) -> None:
    """Write a file that torch makes in memory: if torch writes it itself, a full disk ends the process silently."""
    whole = io.BytesIO()
    save_to(whole)
    path.write_bytes(whole.getbuffer())


def save_program(
    path: Path,
    backbone: nn.Module,
    color_order: ColorOrder,
    value_range: ValueRange = VALUE_RANGE,
    quality: nn.Module | None = None,
) -> None:
    """Write the exported program, for any number of images, after comparing it with the original network.

    Raises:
        ValueError: what was written and read again does not give the same embeddings.
    """
    program = Program(backbone, color_order, value_range, quality).eval()
    generator = torch.Generator().manual_seed(0)
    image_N3HW = torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's own deprecations, at each release other ones
        exported = torch.export.export(
            program, (image_N3HW[:2],), dynamic_shapes={"image_N3HW": {0: torch.export.Dim("N", min=1)}}
        )
        for node in exported.graph.nodes:
            # it names files by absolute path: the same training in another folder would give other bytes
            node.meta.pop("stack_trace", None)
        write_archive(path, lambda whole: torch.export.save(exported, whole))
        measured = torch.export.load(path).module()(image_N3HW)
        wanted = program(image_N3HW)
    for got, expected in zip(measured, wanted, strict=True):
        if not torch.allclose(got, expected, rtol=1e-5, atol=1e-5):
            off = float((got - expected).abs().max())
            raise InputError(f"{path.name} differs from the network it was made from by {off:g}")


def read_model(folder: Path) -> Model:
    """Return the contents of a run's ``model.json``.

    Raises:
        FileNotFoundError: the folder has none.
        ValueError: it says something else than this version writes, or its weights are other ones.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the stage train_backbone writes it; run `dvc repro`")
    try:
        model = Model.model_validate(artifacts.read_json(path))
    except ValidationError as error:
        raise InputError(f"{path}: {artifacts.explain(error)}") from error
    measured = artifacts.sha256(folder / "weights.pt")
    if measured != model.weights_sha256:
        raise InputError(f"{folder / 'weights.pt'} does not match {path}: run `dvc checkout`")
    return model


def read_weights(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Return the state dicts ``backbone`` and ``head`` of a run."""
    path = folder / "weights.pt"
    tree: dict[str, dict[str, Tensor]] = torch.load(path, map_location="cpu", weights_only=True)
    return tree


def read_backbone(folder: Path) -> tuple[nn.Module, Model]:
    """Return the trained network of a run, in evaluation mode, and its ``model.json``."""
    model = read_model(folder)
    module = plugins.load("backbones", model.backbone["name"])
    backbone: nn.Module = module.build(module.Config.model_validate(model.backbone))
    backbone.load_state_dict(read_weights(folder)["backbone"])
    return backbone.eval(), model
