"""Exports a model as one file without dependencies on facet: ONNX, TorchScript, safetensors, a plain state dict.

ONNX and TorchScript take float32 images (N, 3, 112, 112), RGB, 0 to 255, and do the rest themselves: the first nodes of
the graph bring pixels to the network's range and order. insightface's ``ArcFaceONNX`` (python-package/insightface/
model_zoo/arcface_onnx.py at 7fadd420) finds a ``Sub`` and a ``Mul`` among the first eight nodes and then hands over
just such images, whatever the network was trained with; but it opens files with one output only.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.errors import InputError
from stages.core.images.pixels import SIDE, ColorOrder, ValueRange
from stages.models import model_files

INPUT = "data"
TOLERANCE = 1e-4
"""Largest difference of an embedding's values from the network's, relative for norms and scores."""
OPSET = 18
MEANING = {
    "embedding": "unit length; the cosine of two is their similarity",
    "feature_norm": "length of the feature before normalising; a proxy of quality",
    "quality": "score of the quality method, higher is better",
    "feature": "before normalising; its direction is the embedding, its length the feature norm",
}


class Network(nn.Module):
    """A backbone and its quality method, from the network's own input to the outputs of a file."""

    def __init__(self, backbone: nn.Module, quality: nn.Module | None, *, feature_only: bool) -> None:
        super().__init__()
        self.backbone, self.quality, self.feature_only = backbone, quality, feature_only

    def forward(self, pixels_N3HW: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return feature_ND alone, or embedding_ND, feature_norm_N and, where there is a method, score_N."""
        feature_ND: Tensor = self.backbone(pixels_N3HW)
        return feature_ND if self.feature_only else model_files.outputs(feature_ND, self.quality)


class WithPixels(nn.Module):
    """The same network with preprocessing, from float32 RGB images, 0 to 255."""

    def __init__(self, network: nn.Module, color_order: ColorOrder, value_range: ValueRange) -> None:
        super().__init__()
        self.network, self.reverse = network, color_order == "BGR"
        self.mean, self.scale = mean_and_scale(value_range)

    def forward(self, image_N3HW: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the network gives."""
        pixels_N3HW = (image_N3HW - self.mean) * self.scale
        made: Tensor | tuple[Tensor, ...] = self.network(pixels_N3HW.flip(1) if self.reverse else pixels_N3HW)
        return made


def mean_and_scale(value_range: ValueRange) -> tuple[float, float]:
    """Return the mean to subtract from pixels in [0, 255] and the factor to multiply by.

    >>> mean_and_scale((-1.0, 1.0)) == (127.5, 1 / 127.5)
    True
    """
    low, high = value_range
    scale = (high - low) / 255
    return -low / scale, scale


@dataclass(frozen=True)
class Portable:
    """What is exported, and its metadata."""

    network: Network
    model: model_files.Model
    about: Mapping[str, Any]
    """Metadata of the file, as JSON."""

    @property
    def outputs(self) -> list[str]:
        """Names of the file's outputs, in order."""
        return list(self.about["outputs"])

    def with_pixels(self) -> nn.Module:
        """Return the network as exported, with preprocessing."""
        return WithPixels(self.network, self.model.color_order, self.model.value_range).eval()


def describe(
    backbone: nn.Module, model: model_files.Model, quality: tuple[str, nn.Module] | None, *, feature_only: bool,
    scales: Mapping[str, Any] | None = None,
) -> Portable:
    """Return what to export.

    Args:
        backbone: in evaluation mode.
        model: what is known of it.
        quality: name of the quality method and the method from feature_ND to score_N; the feature norm needs none.
        feature_only: one output, as insightface wants it.
        scales: what the scores mean on test sets, by set.
    """
    names = ["feature"] if feature_only else ["embedding", "feature_norm"] + ["quality"] * (quality is not None)
    about = {
        "input": {
            "name": INPUT, "type": "float32", "shape": ["N", 3, SIDE, SIDE], "color_order": "RGB",
            "value_range": [0, 255],
            "alignment": f"five points brought to the ArcFace template of {SIDE} pixels by a similarity transform",
        },
        "inside": {"color_order": model.color_order, "value_range": list(model.value_range)},
        "outputs": {name: MEANING[name] for name in names},
        "quality_method": quality[0] if quality else "feature_norm",
        "quality_scales": scales or {},
        "flip_fusion": f"{model.fusion}; not in the file: embed the mirror image too and add",
        "backbone": model.backbone,
        "dataset": model.dataset,
        "weights_sha256": model.weights_sha256,
        "source": model.source.model_dump() if model.source else None,
    }  # fmt: skip
    network = Network(backbone, None if feature_only or quality is None else quality[1], feature_only=feature_only)
    return Portable(network.eval(), model, about)


def write_onnx(path: Path, portable: Portable) -> None:
    """Write an ONNX file for any number of images, checked with onnxruntime if that is installed.

    Raises:
        ValueError: a package is missing, or the file gives other numbers than the network.
    """
    require("ONNX", "onnx", "onnxscript")
    import onnx

    from stages.io import onnx_graph

    pixels_N3HW = torch.zeros(2, 3, SIDE, SIDE)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of operators of packages that are not installed
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations, at each release other ones
            made = torch.onnx.export(
                portable.network, (pixels_N3HW,), None, dynamo=True, opset_version=OPSET, verbose=False,
                input_names=["pixels"], output_names=portable.outputs,
                dynamic_shapes={"pixels_N3HW": {0: torch.export.Dim("N", min=1)}},
            )  # fmt: skip
    finally:
        log.setLevel(level)
    assert made is not None
    mean, scale = mean_and_scale(portable.model.value_range)
    graph = onnx_graph.finish(
        made.model_proto, INPUT, mean, scale, reverse=portable.model.color_order == "BGR", about=portable.about
    )
    onnx.save(graph, str(path))
    if importlib.util.find_spec("onnxruntime"):
        compare(path, portable, run_onnx(path, images()))


def run_onnx(path: Path, image_N3HW: Tensor) -> list[np.ndarray]:
    """Return the outputs of an ONNX file, in order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(None, {INPUT: image_N3HW.numpy()})
    return made


def write_torchscript(path: Path, portable: Portable) -> None:
    """Write a TorchScript file, with ``facet.json`` among its extra files; checked after reading it again.

    Raises:
        ValueError: the file gives other numbers than the network.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export: that is program.pt2
        traced = torch.jit.trace(portable.with_pixels(), images()[:2])  # type: ignore[no-untyped-call]
        said = {"facet.json": json.dumps(portable.about)}
        model_files.write_archive(path, lambda whole: torch.jit.save(traced, whole, _extra_files=said))
        made = torch.jit.load(path)(images())  # type: ignore[no-untyped-call]
    compare(path, portable, [value.numpy() for value in (made if isinstance(made, tuple) else (made,))])


def write_safetensors(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a state dict; the metadata are in the header as text.

    Raises:
        ValueError: the package is missing.
    """
    require("safetensors", "safetensors")
    from safetensors.torch import save

    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    # their save_file lets nobody but the owner read it
    path.write_bytes(save({key: value.contiguous() for key, value in state.items()}, said))


def require(what: str, *packages: str) -> None:
    """Raise an error with an installation command if an optional package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install 'facet[export]'")


def images() -> Tensor:
    """Return three test images for comparison: float32 RGB, 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=generator).float()


def compare(path: Path, portable: Portable, measured: Sequence[np.ndarray]) -> None:
    """Refuse a file whose outputs differ from the network's.

    Raises:
        ValueError: it gives another number of outputs, or one is off by more than ``TOLERANCE``.
    """
    with torch.no_grad():
        made = portable.with_pixels()(images())
    wanted = [value.numpy() for value in (made if isinstance(made, tuple) else (made,))]
    if len(measured) != len(wanted):
        raise InputError(f"{path.name} has {len(measured)} outputs, wanted {', '.join(portable.outputs)}")
    for name, got, expected in zip(portable.outputs, measured, wanted, strict=True):
        size = 1.0 if name == "embedding" else max(float(np.abs(expected).max()), 1e-12)
        off = float(np.abs(got - expected).max()) / size if got.shape == expected.shape else float("inf")
        if not off <= TOLERANCE:
            raise InputError(f"{path.name} differs from the network it was made from: {name} by {off:g}")
