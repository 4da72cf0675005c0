"""Inspects a checkpoint, a model folder, a quality folder or an ONNX file: contents and colour order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.core.errors import InputError
from stages.core.networks import checkpoint_keys
from stages.core.networks.checkpoint_keys import FAMILIES
from stages.inspection.facts import Sight
from stages.io import checkpoint_reader
from stages.models import model_files
from stages.runtime import artifacts


def see_checkpoint(path: Path) -> Sight:
    """Inspect a checkpoint file: the family of its network, or its tensors.

    Raises:
        ValueError: it is damaged, or no checkpoint.
    """
    tree, sight = checkpoint_reader.read(path), Sight("PyTorch checkpoint")
    sight.facts["entries"] = ", ".join(str(key) for key in list(tree)[:8]) + (" ..." if len(tree) > 8 else "")
    try:
        recognised = checkpoint_keys.recognise(tree)
        config = checkpoint_keys.read_config(recognised)
    except ValueError as error:
        sight.facts["network"] = f"not recognised: {str(error)[:300]}"
        _count(_tensors(tree), sight)
        return sight
    family = FAMILIES[recognised.family]
    other = "" if recognised.sure else ", or magface without its prefix, which takes BGR in 0 to 1"
    begin = f", keys begin with {recognised.prefix}" if recognised.prefix else ""
    sight.facts["family"] = recognised.family + other + begin
    sight.facts["network"] = ", ".join(f"{key} {value}" for key, value in config.items())
    sight.facts["colour order"] = f"{family.color_order}, as this family's published models take it"
    low, high = family.value_range
    sight.facts["value range"] = f"{low:g} to {high:g}, as this family's published models take it"
    centres = recognised.head_CD
    sight.facts["class centres"] = "none" if centres is None else f"{len(centres):,} identities"
    _count(recognised.state, sight)
    said = "" if recognised.sure else " --architecture insightface"
    sight.facts["next"] = f"facet import {path.name} NAME{said}"
    return sight


def see_model(folder: Path) -> Sight:
    """Inspect a model folder: runs/RUN/backbone, or models/NAME.

    Raises:
        ValueError: model.json and the weights do not belong together.
    """
    model, sight = model_files.read_model(folder), Sight("model folder (model.json)")
    sight.facts["network"] = ", ".join(f"{key} {value}" for key, value in model.backbone.items())
    sight.facts["head"] = ", ".join(f"{key} {value}" for key, value in model.head.items()) or "none"
    sight.facts["colour order"] = model.color_order
    sight.facts["value range"] = "{:g} to {:g}".format(*model.value_range)
    sight.facts["image"] = f"{model.image_size} x {model.image_size}, aligned"
    sight.facts["feature"] = f"{model.feature_dim} numbers"
    sight.facts["trained on"] = f"{model.dataset}, {model.num_classes or 'an unknown number of'} identities"
    if model.source is not None:
        sight.facts["imported from"] = f"{model.source.file} ({model.source.family}), sha256 {model.source.sha256[:12]}"
    _count(model_files.read_weights(folder)["backbone"], sight)
    sight.facts["files"] = ", ".join(sorted(path.name for path in folder.iterdir()))
    return sight


def see_quality(folder: Path) -> Sight:
    """Inspect a quality folder."""
    tree, sight = artifacts.read_json(folder / "quality.json"), Sight("quality method (quality.json)")
    sight.facts = {key: value for key, value in tree.items() if not isinstance(value, (list, dict))}
    return sight


def see_onnx(path: Path) -> Sight:
    """Inspect an ONNX file.

    Raises:
        ValueError: onnxruntime cannot load it.
    """
    import onnxruntime  # here: it takes a second

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        said = dict(session.get_modelmeta().custom_metadata_map)
        faces = {"input": session.get_inputs(), "output": session.get_outputs()}
        shown = {f"{what} {one.name}": f"{one.type} {one.shape}" for what, every in faces.items() for one in every}
    except Exception as error:  # its errors have no other common base
        raise InputError(f"{path} is not an ONNX model that onnxruntime can load: {str(error)[:200]}") from error
    sight = Sight("ONNX model")
    sight.facts |= shown
    for key in ("color_order", "value_range"):
        sight.facts[key.replace("_", " ")] = said.get(key, "not given in the file: ask its author")
    return sight


def _tensors(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a tree of mappings, one level down at most."""
    found = {str(key): value for key, value in tree.items() if isinstance(value, Tensor)}
    for key, inner in tree.items():
        if isinstance(inner, Mapping):
            found |= {f"{key}.{name}": value for name, value in inner.items() if isinstance(value, Tensor)}
    return found


def _count(state: Mapping[str, Tensor], sight: Sight) -> None:
    numbers = sum(value.numel() for value in state.values())
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    sight.facts["tensors"] = f"{len(state)} with {numbers:,} numbers, {', '.join(kinds)}"
    odd = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if odd:
        sight.problems.append(f"{len(odd)} tensors hold NaN or infinity, such as {odd[0]}")
