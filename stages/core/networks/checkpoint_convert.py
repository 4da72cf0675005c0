"""Converts an AdaFace IResNet to insightface's or MagFace's layout, exactly, and back where that is possible.

AdaFace's first shortcut and last batch norm have no parameters; insightface's have, and can be filled in so that the
outputs stay the same. Backwards only what was filled in so can be left out.

Keys are those of the networks themselves, without a checkpoint's prefix. Shapes: D feature dimensions, W channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from stages.core.errors import InputError

State = Mapping[str, Tensor]
Staged = Literal["insightface", "magface"]
EPSILON = {"adaface": 1e-5, "insightface": 1e-5, "magface": 2e-5}
"""Epsilon of every batch norm of a layout."""
_RENAMED = {
    "input_layer.0": "conv1", "input_layer.1": "bn1", "input_layer.2": "prelu",
    "output_layer.0": "bn2", "output_layer.3": "fc", "output_layer.4": "features",
}  # fmt: skip
_RES_LAYER = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
_IDENTITY = "layer1.0.downsample."


def to_staged(state: State, units: Sequence[int], layout: Staged = "insightface") -> dict[str, Tensor]:
    """Return an AdaFace state dict in the staged layout; outputs in evaluation mode do not change.

    Args:
        state: keys ``input_layer.*, body.*, output_layer.*``.
        units: residual blocks per stage.
        layout: MagFace's adds another number to its variances, which are shifted to make up for it.
    """
    made = {_staged_key(key, units): value.clone() for key, value in state.items()}
    kind = state["input_layer.0.weight"]
    width, feature_dim = kind.shape[0], state["output_layer.3.weight"].shape[0]
    eye_WW = torch.eye(width, dtype=kind.dtype)
    made[f"{_IDENTITY}0.weight"] = eye_WW[:, :, None, None]
    made |= _plain_norm(f"{_IDENTITY}1", width, kind.dtype)
    made["features.weight"] = torch.ones(feature_dim, dtype=kind.dtype)
    made["features.bias"] = torch.zeros(feature_dim, dtype=kind.dtype)
    return _shift_variances(made, EPSILON["adaface"] - EPSILON[layout])


def to_flat(state: State, units: Sequence[int], layout: Staged = "insightface") -> dict[str, Tensor]:
    """Return a staged state dict in AdaFace's layout; outputs in evaluation mode do not change, up to rounding.

    The last batch norm's scale and shift are taken into its statistics and the linear layer before it.

    Raises:
        ValueError: the first shortcut was trained: AdaFace's network has no place for it.
    """
    shifted = _shift_variances(dict(state), EPSILON[layout] - EPSILON["adaface"])
    if not _is_identity(shifted):
        raise InputError(
            f"{_IDENTITY}* is not the identity: AdaFace's network cannot hold a trained shortcut in the first block"
        )
    scale_D, shift_D = shifted.pop("features.weight"), shifted.pop("features.bias")
    if bool((scale_D == 0).any()):
        raise InputError("features.weight has zeros: AdaFace's last batch norm has no scale and cannot represent that")
    variance_D, mean_D = shifted["features.running_var"], shifted["features.running_mean"]
    deviation_D = (variance_D + EPSILON["adaface"]).sqrt()
    # w (y - m) / s + b = (sign(w) y - m') / s' with s' = s / |w| and m' = sign(w) m - b s'
    sign_D = scale_D.sign()
    new_D = deviation_D / scale_D.abs()
    shifted["fc.weight"] = shifted["fc.weight"] * sign_D[:, None]
    shifted["fc.bias"] = shifted["fc.bias"] * sign_D
    shifted["features.running_mean"] = sign_D * mean_D - shift_D * new_D
    # unchanged bits where there is nothing to take in
    shifted["features.running_var"] = torch.where(
        scale_D.abs() == 1, variance_D, new_D.square() - EPSILON["adaface"]
    )
    kept = {key: value.clone() for key, value in shifted.items() if not key.startswith(_IDENTITY)}
    return {_flat_key(key, units): value for key, value in kept.items()}


def _plain_norm(name: str, width: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return an identity batch norm: variance and epsilon add up to 1."""
    return {
        f"{name}.weight": torch.ones(width, dtype=dtype),
        f"{name}.bias": torch.zeros(width, dtype=dtype),
        f"{name}.running_mean": torch.zeros(width, dtype=dtype),
        f"{name}.running_var": torch.full((width,), 1 - EPSILON["adaface"], dtype=dtype),
        f"{name}.num_batches_tracked": torch.tensor(0),
    }


def _is_identity(state: State) -> bool:
    kernel = state[f"{_IDENTITY}0.weight"].double()
    norm = {name: state[f"{_IDENTITY}1.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")}
    gain_W = norm["weight"] / (norm["running_var"] + EPSILON["adaface"]).sqrt()
    matrix_WW = kernel[:, :, 0, 0] * gain_W[:, None]
    shift_W = norm["bias"] - norm["running_mean"] * gain_W
    eye_WW = torch.eye(kernel.shape[0], dtype=torch.float64)
    # float32 holds 1 - epsilon to 6e-8
    return torch.allclose(matrix_WW, eye_WW, rtol=0, atol=1e-7) and bool((shift_W.abs() <= 1e-7).all())


def _shift_variances(state: dict[str, Tensor], by: float) -> dict[str, Tensor]:
    return {
        key: value + by if by and key.endswith("running_var") else value.clone() for key, value in state.items()
    }


def _staged_key(key: str, units: Sequence[int]) -> str:
    match = re.fullmatch(r"body\.(\d+)\.(res_layer|shortcut_layer)\.(\d+)\.(\w+)", key)
    if match is None:
        prefix, leaf = key.rsplit(".", 1)
        return f"{_RENAMED[prefix]}.{leaf}"
    number, part, place, leaf = int(match[1]), match[2], int(match[3]), match[4]
    stage = 1
    while number >= units[stage - 1]:
        number -= units[stage - 1]
        stage += 1
    inner = _RES_LAYER[place] if part == "res_layer" else f"downsample.{place}"
    return f"layer{stage}.{number}.{inner}.{leaf}"


def _flat_key(key: str, units: Sequence[int]) -> str:
    match = re.fullmatch(r"layer(\d)\.(\d+)\.(\w+)\.(?:(\d)\.)?(\w+)", key)
    if match is None:
        prefix, leaf = key.rsplit(".", 1)
        return f"{next(old for old, new in _RENAMED.items() if new == prefix)}.{leaf}"
    number = sum(units[: int(match[1]) - 1]) + int(match[2])
    if match[3] == "downsample":
        return f"body.{number}.shortcut_layer.{match[4]}.{match[5]}"
    return f"body.{number}.res_layer.{_RES_LAYER.index(match[3])}.{match[5]}"
