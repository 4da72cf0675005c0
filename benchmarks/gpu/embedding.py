"""Embedding as an evaluation does it: images a second in IEEE and in TF32, and what TF32 changes.

Shapes: N images, B batch, D feature dimensions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.gpu.bench import Bench, Item
from benchmarks.gpu.results import Row, at_most
from stages.core.images.pixels import SIDE
from stages.core.networks.fold_batch_norm import fold
from stages.embedding.embedder import Embedder, batch_size
from stages.runtime import numerics, plugins
from stages.runtime.numerics import Matmul
from stages.training.cost import Roofline

OF_ROOFLINE = 1.25
BATCHES = 6
Images = np.ndarray


def items(bench: Bench) -> Iterator[Item]:
    """Yield each network."""
    for name in bench.sizes.nets:
        yield Item(f"{name}, images in memory", lambda name=name: compare(bench, name))  # type: ignore[misc]


def compare(bench: Bench, name: str) -> Row:
    """Return the speed of both ways, their difference, and the roofline of IEEE."""
    module = plugins.load("backbones", bench.sizes.nets[name]["name"])
    config = module.Config.model_validate(bench.sizes.nets[name])
    embedder = Embedder(calibrated(bench, module.build(config)), "BGR", bench.device, flip=False)
    size = batch_size(bench.device)
    image_NHW3 = np.random.default_rng(1).integers(0, 256, (BATCHES * size, SIDE, SIDE, 3)).astype(np.uint8)
    ieee_s, exact_ND = embed(embedder, image_NHW3, "ieee")
    tf32_s, rough_ND = embed(embedder, image_NHW3, "tf32")
    roofline_s = reckoned(bench, module.build(config).eval(), size) / size
    unit_ND, other_ND = (of / np.linalg.norm(of, axis=1, keepdims=True) for of in (exact_ND, rough_ND))
    apart = float(np.linalg.norm(unit_ND - other_ND, axis=1).mean())
    return Row(
        f"IEEE {1 / ieee_s:,.0f} images/s, TF32 {1 / tf32_s:,.0f}; unit embeddings {apart:.1e} apart",
        f"IEEE {1 / roofline_s:,.0f} images/s by its roofline",
        at_most("IEEE / roofline", ieee_s / roofline_s, OF_ROOFLINE),
        numbers={"ieee_s": ieee_s, "tf32_s": tf32_s, "apart": apart, "roofline_s": roofline_s},
    )  # fmt: skip


def calibrated(bench: Bench, network: nn.Module) -> nn.Module:
    """Return the network with running statistics of a batch of noise: without any, a deep one's features overflow."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
    network = network.to(bench.device).train()
    with torch.no_grad():
        network(torch.randn(bench.sizes.batch // 8 + 1, 3, SIDE, SIDE, device=bench.device))
    return network.eval()


def embed(embedder: Embedder, image_NHW3: Images, matmul: Matmul) -> tuple[float, np.ndarray]:
    """Return seconds an image, after a first batch, and the features."""
    with numerics.applied(matmul):
        embedder(image_NHW3[: batch_size(embedder.device)])
        begin = time.perf_counter()
        feature_ND = embedder(image_NHW3).feature_ND
    return (time.perf_counter() - begin) / len(image_NHW3), feature_ND


def reckoned(bench: Bench, network: nn.Module, size: int) -> float:
    """Return the seconds of a batch by the roofline of float32."""
    folded = fold(network).to("meta")
    with torch.device("meta"), torch.inference_mode(), Roofline(bench.card, "ieee") as roofline:
        folded(torch.empty(size, 3, SIDE, SIDE).to(memory_format=torch.channels_last))
    return roofline.seconds
