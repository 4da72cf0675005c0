"""FROQ (Babnik et al., IJCB 2025): the mean norm of some inner layers' outputs, chosen on a calibration set.

LSIbabnikz/FROQ observer/initialization.py at 2a22f137 and observer/inference.py at 8dc61226. No weight is trained. Each
layer is ranked by Spearman's correlation of its output's Frobenius norm with pseudo-labels over the calibration images;
of the ten best, layers are added to the best one so that the correlation of the mean norm is highest, and the set
with the highest correlation on this way is kept. Higher is better; the range is that of the layers' norms.

Pseudo-labels: ``perturbations`` are the authors' (baselineFIQA/ at 8dc61226): the mean of three cosines of an image's
embedding, with its mirror image's, with those under noise, and with those under 64 occluded squares. ``centre`` is the
cosine with the own class centre, which labelled training images give without another pass (ours, 75 times cheaper).

It differs from the authors' code in this: batch norms are folded into the layers before them, as everywhere in facet;
a layer whose norm is constant or which does not run is never chosen (published: gets random scores); images are
training images of the run, augmented as in training, not the authors' subset of Glint360K.

Shapes: N images, B batch, L layers, C classes, D feature dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from stages.core.errors import InputError
from stages.core.metrics.features import Features, Floats
from stages.core.metrics.quality import Learned, Material, read_options, seen
from stages.core.networks.fold_batch_norm import fold

BATCH = 32
SQUARE = 14
"""Side of an occluded square, pixels."""
NOISE, NUM_NOISES = 1e-3, 10
"""Weight of the noise, and draws of it."""


WANTS_PIXELS = True
"""Whether calibration needs the images and the network, not features alone."""


class Config(BaseModel, extra="forbid", frozen=True):
    """Layers by name, or how they are chosen."""

    name: Literal["froq"]
    labels: Literal["perturbations", "centre"] = Field(description="pseudo-labels of the calibration images")
    calibration: int = Field(1000, ge=20, description="training images that layers are chosen on")
    top: int = Field(10, ge=1, description="layers considered")
    seed: int = Field(0, ge=0, description="of the noise")
    layers: tuple[str, ...] = Field((), description="names of the layers; empty: they are chosen")

    def num_images(self, available: int) -> int:
        """Return the number of training images it is calibrated on."""
        return 0 if self.layers else min(self.calibration, available)


def train(config: Config, material: Material) -> Learned:
    """Return the chosen layers.

    Raises:
        ValueError: the calibration images are missing, or no layer's norm varies with them.
    """
    if config.layers:
        return Learned(options={"layers": list(config.layers)})
    if material.backbone is None or material.pixels_N3HW is None:
        raise InputError("FROQ is calibrated on images and needs the network: stage train_quality gives both")
    network = fold(material.backbone)
    label_N = _labels(config, material, network)
    norm_NL, names = layer_norms(network, material.pixels_N3HW)
    chosen, correlation = choose(norm_NL, label_N, config.top)
    return Learned(
        metrics={"layers": len(chosen), "correlation": correlation},
        options={"layers": [names[layer] for layer in chosen]},
    )


@torch.no_grad()
def layer_norms(network: nn.Module, pixels_N3HW: Tensor) -> tuple[NDArray[np.float64], list[str]]:
    """Return the norm of each layer's output for each image, and the layers' names in the order of the network."""
    names = [name for name, _ in network.named_modules() if name]
    parts = []
    for pixels_B3HW in _batches(pixels_N3HW):
        norms = _run(network, names, pixels_B3HW)
        empty_B = torch.full((len(pixels_B3HW),), torch.nan)
        parts.append(torch.stack([norms.get(name, empty_B).double().cpu() for name in names], dim=1))
    return torch.cat(parts).numpy(), names


def choose(norm_NL: NDArray[np.float64], label_N: NDArray[np.float64], top: int) -> tuple[list[int], float]:
    """Return the layers whose mean norm follows the labels best, in the order they were added, and the correlation.

    Raises:
        ValueError: no layer's norm is finite and varies.
    """
    single_L = np.array([_spearman(norm_N, label_N) for norm_N in norm_NL.T])
    best = [int(layer) for layer in np.argsort(-single_L, kind="stable")[:top] if np.isfinite(single_L[layer])]
    if not best:
        raise InputError("FROQ found no layer whose norm varies over the calibration images")
    chosen, correlations = [best.pop(0)], [float(single_L.max())]
    while best:
        tried = [_spearman(norm_NL[:, [*chosen, layer]].mean(axis=1), label_N) for layer in best]
        correlations.append(max(tried))
        chosen.append(best.pop(tried.index(max(tried))))
    size = correlations.index(max(correlations)) + 1
    return chosen[:size], correlations[size - 1]


def _batches(pixels_N3HW: Tensor) -> list[Tensor]:
    return [pixels_N3HW[begin : begin + BATCH] for begin in range(0, len(pixels_N3HW), BATCH)]


def _spearman(norm_N: NDArray[np.float64], label_N: NDArray[np.float64]) -> float:
    if not np.isfinite(norm_N).all() or np.ptp(norm_N) == 0:
        return -np.inf
    return float(scipy.stats.spearmanr(norm_N, label_N).statistic)


@torch.no_grad()
def _labels(config: Config, material: Material, network: nn.Module) -> NDArray[np.float64]:
    if config.labels == "centre":
        centre_ND = material.centre_CD[material.label_N]
        return functional.cosine_similarity(material.feature_ND, centre_ND).double().numpy()
    assert material.pixels_N3HW is not None
    device = material.pixels_N3HW.device
    noise_M3HW = torch.randn(
        (NUM_NOISES, *material.pixels_N3HW.shape[1:]), generator=torch.Generator().manual_seed(config.seed)
    ).to(device)
    batches = _batches(material.pixels_N3HW)
    parts = [_robustness(network, pixels_B3HW, noise_M3HW, material.black) for pixels_B3HW in batches]
    return torch.cat(parts).double().cpu().numpy()


def _robustness(network: nn.Module, pixels_B3HW: Tensor, noise_M3HW: Tensor, black: float) -> Tensor:
    """Return the mean cosine of each image with its mirror image, under noise and under occlusion, a third each."""
    feature_BD = network(pixels_B3HW)

    def likeness(changed_B3HW: Tensor) -> Tensor:
        return functional.cosine_similarity(feature_BD, network(changed_B3HW))

    noised = [likeness((1 - NOISE) * pixels_B3HW + NOISE * noise_3HW) for noise_3HW in noise_M3HW]
    occluded = []
    for top in range(0, pixels_B3HW.shape[2], SQUARE):
        for left in range(0, pixels_B3HW.shape[3], SQUARE):
            changed_B3HW = pixels_B3HW.clone()
            changed_B3HW[:, :, top : top + SQUARE, left : left + SQUARE] = black
            occluded.append(likeness(changed_B3HW))
    parts = (likeness(pixels_B3HW.flip(3)), torch.stack(noised).mean(dim=0), torch.stack(occluded).mean(dim=0))
    return torch.stack(parts).mean(dim=0)


def _run(network: nn.Module, names: Sequence[str], pixels_B3HW: Tensor) -> dict[str, Tensor]:
    """Return the norm of each named layer's output, shape (B,).

    Norms are taken where a layer ends, before another changes its output in place. Hooks are removed afterwards: in a
    copy of the network they would still write for the original.
    """
    norms: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim > 1 and len(output) == len(pixels_B3HW):
                norms[name] = output.detach().float().flatten(1).norm(dim=1)

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        network(pixels_B3HW)
    finally:
        for hook in hooks:
            hook.remove()
    return norms


class Scorer:
    """Scores images by passes through the network; ``network`` computes the scores that ``score`` returns."""

    def __init__(self, config: Config) -> None:
        if not config.layers:
            raise InputError("FROQ has no layers yet: the stage train_quality chooses them, or give quality.layers")
        self.config = config

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a run."""
        return cls(read_options(folder, Config, "froq"))

    def key(self) -> str:
        """Return the layers: others give other scores."""
        return ",".join(("froq", *self.config.layers))

    def network(self, backbone: nn.Module) -> nn.Module:
        """Return a network from images to score_B1."""
        return Observed(backbone, self.config.layers)

    def score(self, features: Features) -> Floats:
        """Return score_N, computed while the images were embedded."""
        return seen(features, "froq")


class Observed(nn.Module):
    """A copy of a backbone; from images to the mean norm of some layers' outputs, score_B1."""

    def __init__(self, backbone: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        there = dict(backbone.named_modules())
        missing = [name for name in layers if name not in there]
        if missing:
            raise InputError(f"the network has no layer {', '.join(missing)}: choose FROQ's layers for this network")
        self.layers = tuple(layers)
        self.backbone = copy.deepcopy(backbone).eval().requires_grad_(False)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return score_B1."""
        norms: Mapping[str, Tensor] = _run(self.backbone, self.layers, image_B3HW)
        return torch.stack([norms[name] for name in self.layers]).mean(dim=0)[:, None]
