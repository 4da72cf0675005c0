"""Recognises published checkpoints by their keys, and reads depth and width from their shapes.

Facts of the layouts: AdaFace (Lightning, ``model.*``), insightface (plain), MagFace (``features.module.*`` or
``module.features.*``), CR-FIQA (plain, with ``qs``), CurricularFace (plain, blocks without their middle batch norm) and
the ViTs of insightface (plain, with a mask token) and CVLface (``net.*``, without).

Shapes: C classes, D feature dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.core.images.pixels import ColorOrder, ValueRange

State = Mapping[str, Tensor]
FamilyName = Literal[
    "adaface", "ir_se", "insightface", "magface", "cr_fiqa", "curricularface", "mobilefacenet", "vit", "cvlface_vit"
]
SHOWN = 8
"""Maximum number of keys of each kind in an error."""


@dataclass(frozen=True)
class Family:
    """One checkpoint layout: its network, and the input of its published models."""

    backbone: Mapping[str, Any]
    """Name and fields of the backbone's configuration that the keys do not determine."""
    anchor: str
    """A key that each of its networks has."""
    color_order: ColorOrder
    value_range: ValueRange
    head: str | None = None
    """Key of the class centres (D, C), if they are in the same file."""


FAMILIES: dict[FamilyName, Family] = {
    "adaface": Family(
        {"name": "iresnet", "style": "adaface", "dropout": 0.4},
        "input_layer.0.weight", "BGR", (-1.0, 1.0), "head.kernel",
    ),
    "ir_se": Family({"name": "ir_se", "dropout": 0.4}, "input_layer.0.weight", "BGR", (-1.0, 1.0), "head.kernel"),
    "insightface": Family(
        {"name": "iresnet", "style": "insightface", "dropout": 0.0}, "layer1.0.conv1.weight", "RGB", (-1.0, 1.0)
    ),
    "magface": Family(
        {"name": "magface", "dropout": 0.4}, "layer1.0.conv1.weight", "BGR", (0.0, 1.0), "fc.weight"
    ),
    "cr_fiqa": Family({"name": "cr_fiqa", "dropout": 0.4}, "layer1.0.conv1.weight", "RGB", (-1.0, 1.0)),
    "curricularface": Family(
        {"name": "curricularface", "dropout": 0.4}, "input_layer.0.weight", "RGB", (-1.0, 1.0)
    ),
    "mobilefacenet": Family({"name": "mobilefacenet"}, "conv_sep.layers.0.weight", "RGB", (-1.0, 1.0)),
    "vit": Family(
        {"name": "vit", "heads": 8, "drop_path": 0.05, "mask_ratio": 0.0}, "patch_embed.proj.weight", "RGB", (-1.0, 1.0)
    ),
    "cvlface_vit": Family(
        {"name": "cvlface_vit", "drop_path": 0.1, "mask_ratio": 0.0}, "patch_embed.proj.weight", "RGB", (-1.0, 1.0)
    ),
}  # fmt: skip
NESTED = ("state_dict", "state_dict_backbone", "model_state_dict", "model", "backbone", "net")
"""Names under which training programs keep the weights."""
CVLFACE_HEADS = {12: 8, 24: 16}
"""Heads of the attention of CVLface's ViTs by depth: no tensor tells them (models/vit/__init__.py at d3d09c93)."""
MAGFACE_PREFIXES = ("features.module.", "module.features.")


@dataclass(frozen=True)
class Recognised:
    """A checkpoint's backbone, under the keys of its network."""

    family: FamilyName
    prefix: str
    """The prefix that was removed from every key."""
    state: dict[str, Tensor]
    head_CD: Tensor | None
    """Class centres, one per row, if the file has them."""
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    """Running statistics of the head, as ours names them, if the file has them."""
    sure: bool = True
    """Whether keys or a person say the family: MagFace's keys without their prefix are insightface's."""


def recognise(tree: Mapping[str, Any], family: FamilyName | None = None) -> Recognised:
    """Return which family's network a checkpoint holds.

    Args:
        tree: what the file holds: a state dict, or one under a name that training programs use (``NESTED``).
        family: None: as the keys say.

    Raises:
        ValueError: no family's keys are in it, or not those of ``family``.
    """
    tensors = _tensors(tree)
    for anchor in dict.fromkeys(known.anchor for known in FAMILIES.values()):
        prefixes = [key.removesuffix(anchor) for key in tensors if key.endswith(anchor)]
        prefixes = [prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")]
        if prefixes:
            prefix = min(prefixes, key=len)
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            found = _family_of(anchor, prefix, state)
            if family is not None and FAMILIES[family].anchor != anchor:
                raise InputError(f"the keys are not those of the network {family}, but of {found}")
            chosen = family or found
            sure = family is not None or found != "insightface"
            return Recognised(
                chosen, prefix, state, _head(chosen, prefix, tensors), _statistics(chosen, tensors), sure
            )
    anchors = {known.anchor: [name for name, one in FAMILIES.items() if one.anchor == known.anchor]
               for known in FAMILIES.values()}  # fmt: skip
    wanted = ", ".join(f"{anchor} ({', '.join(names)})" for anchor, names in anchors.items())
    raise InputError(
        f"unknown network: one of {wanted} is missing; unexpected: {describe(tensors) or 'no tensors at all'}"
    )


def read_config(recognised: Recognised) -> dict[str, Any]:
    """Return the backbone's configuration: name, and depth and width from the tensors' shapes.

    Raises:
        ValueError: a tensor that tells them is missing, or they fit no network of the family.
    """
    readers: dict[str, Callable[[State], dict[str, Any]]] = {
        "input_layer.0.weight": _read_flat,
        "layer1.0.conv1.weight": _read_staged,
        "conv_sep.layers.0.weight": _read_mobile,
        "patch_embed.proj.weight": _read_transformer,
    }
    fixed = FAMILIES[recognised.family]
    try:
        return {**fixed.backbone, **readers[fixed.anchor](recognised.state)}
    except KeyError as error:
        raise InputError(f"damaged {recognised.family} checkpoint: missing {error.args[0]}") from error


def fit(state: State, wanted: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Return exactly the ``wanted`` tensors, as float32; batch counters, which old files lack, are zeros.

    Raises:
        ValueError: with the lists of missing, unexpected and wrongly shaped keys, or of those that are not finite.
    """
    counters = {key: torch.tensor(0) for key in wanted if key.endswith("num_batches_tracked")}
    given = {**counters, **state}
    complaints = {
        "missing": [key for key in wanted if key not in given],
        "unexpected": [key for key in given if key not in wanted],
        "of another shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(shape)}"
            for key, shape in wanted.items()
            if key in given and given[key].shape != shape
        ],
    }
    if not any(complaints.values()):
        complaints = {"not finite": [key for key, value in given.items() if not bool(value.isfinite().all())]}
    if any(complaints.values()):
        raise InputError("; ".join(f"{what}: {describe(keys)}" for what, keys in complaints.items() if keys))
    return {key: given[key].detach().clone() if key in counters else given[key].detach().float() for key in wanted}


def describe(keys: Iterable[str]) -> str:
    """Return the first few keys and how many more there are.

    >>> describe("abcdefghij")
    'a, b, c, d, e, f, g, h and 2 more'
    """
    listed = list(keys)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _tensors(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    for name in NESTED:
        if isinstance(tree.get(name), Mapping):
            tree = tree[name]
    return {str(key): value for key, value in tree.items() if isinstance(value, Tensor)}


def _family_of(anchor: str, prefix: str, state: State) -> FamilyName:
    if anchor == FAMILIES["mobilefacenet"].anchor:
        return "mobilefacenet"
    if anchor == FAMILIES["vit"].anchor:
        return "vit" if "mask_token" in state else "cvlface_vit"
    if anchor == FAMILIES["adaface"].anchor:
        if any(".res_layer.se_block." in key for key in state):
            return "ir_se"
        normed = any(re.fullmatch(r"body\.\d+\.res_layer\.2\.running_mean", key) for key in state)
        return "adaface" if normed else "curricularface"
    if any(key.startswith("qs.") for key in state):
        return "cr_fiqa"
    return "magface" if prefix in MAGFACE_PREFIXES else "insightface"


def _head(family: FamilyName, prefix: str, tensors: State) -> Tensor | None:
    key = FAMILIES[family].head
    if key is None or not prefix:
        return None
    for candidate in (key, f"module.{key}"):
        if candidate in tensors and tensors[candidate].ndim == 2:
            return tensors[candidate].detach().float().T.contiguous()
    return None


def _statistics(family: FamilyName, tensors: State) -> dict[str, Tensor]:
    """Return the mean and deviation of the norm, which AdaFace's head keeps in tensors of one number."""
    found = {name: tensors.get(f"head.{name}") for name in ("batch_mean", "batch_std")}
    if family != "adaface" or any(value is None or value.numel() != 1 for value in found.values()):
        return {}
    return {name: value.detach().float().reshape(()) for name, value in found.items() if value is not None}


def _stem(state: State, last_width: int, linear: str) -> dict[str, Any]:
    feature_dim, flat = state[linear].shape
    side = isqrt(flat // last_width)
    if side not in (7, 4) or side**2 * last_width != flat:
        raise InputError(f"networks here take 112x112 images, but {linear} has {flat} inputs of {last_width} channels")
    return {"stem_stride": 1 if side == 7 else 2, "feature_dim": feature_dim}


def _read_flat(state: State) -> dict[str, Any]:
    numbers = [int(match[1]) for key in state if (match := re.match(r"body\.(\d+)\.", key))]
    # the last convolution's output; a stage begins where it changes
    kernel = "res_layer.4.weight" if state["body.0.res_layer.4.weight"].ndim == 4 else "res_layer.3.weight"
    widths, units = [state["input_layer.0.weight"].shape[0]], [0]
    for number in range(max(numbers, default=-1) + 1):
        width = state[f"body.{number}.{kernel}"].shape[0]
        if width != widths[-1]:
            widths.append(width)
            units.append(0)
        units[-1] += 1
    if len(units) != 4 or 0 in units:
        raise InputError(f"wanted four stages of growing width, got widths {widths} with {units} blocks")
    return {"units": units, "widths": widths, **_stem(state, widths[-1], "output_layer.3.weight")}


def _read_staged(state: State) -> dict[str, Any]:
    units, widths = [], []
    for stage in (1, 2, 3, 4):
        numbers = [int(match[1]) for key in state if (match := re.match(rf"layer{stage}\.(\d+)\.", key))]
        units.append(max(numbers, default=-1) + 1)
        widths.append(state[f"layer{stage}.0.conv1.weight"].shape[0])
    return {"units": units, "widths": widths, **_stem(state, widths[-1], "fc.weight")}


def _read_mobile(state: State) -> dict[str, Any]:
    narrow = state["layers.0.layers.0.weight"].shape[0]
    base = state["layers.2.layers.0.layers.0.weight"].shape[0] // 2
    units = []
    for stage in (1, 3, 5, 7):
        inner = re.compile(rf"layers\.{stage}\.layers\.(\d+)\.layers")
        numbers = [int(match[1]) for key in state if (match := inner.match(key))]
        units.append(max(numbers, default=0) + 1)
    return {
        "units": units,
        "base_width": base,
        "scale": narrow // base,
        "feature_dim": state["features.layers.2.weight"].shape[0],
    }


def _read_transformer(state: State) -> dict[str, Any]:
    numbers = [int(match[1]) for key in state if (match := re.match(r"blocks\.(\d+)\.", key))]
    width, depth = state["patch_embed.proj.weight"].shape[0], max(numbers, default=-1) + 1
    read = {
        "patch_size": state["patch_embed.proj.weight"].shape[2],
        "width": width,
        "depth": depth,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] // width,
        "feature_dim": state["feature.2.weight"].shape[0],
    }
    if "mask_token" in state:
        return read
    if depth not in CVLFACE_HEADS:
        known = " and ".join(str(number) for number in CVLFACE_HEADS)
        raise InputError(
            f"a CVLface ViT of {depth} blocks: its heads are not in the keys, and only {known} are published"
        )
    return {**read, "heads": CVLFACE_HEADS[depth]}
