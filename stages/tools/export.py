"""`facet export`: writes a model as one file for other programs: ONNX, TorchScript, safetensors or a state dict.

facet export adaface --format onnx --output adaface.onnx
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stages.core.errors import InputError
from stages.core.networks import checkpoint_convert
from stages.models import export, lookup, model_files
from stages.models.lookup import ModelHere
from stages.runtime import artifacts, plugins, program
from stages.tools import _meaning

SUFFIX = {"onnx": ".onnx", "torchscript": ".ts.pt", "safetensors": ".safetensors", "state-dict": ".pth"}
LAYOUTS = ("own", "adaface", "insightface", "magface")
EXAMPLES = """\
ONNX and TorchScript take float32 images (N, 3, 112, 112), RGB, 0 to 255, any N, and give embedding, feature_norm and,
if the model has a quality method with weights, quality. Their metadata hold the scales from 0 to 100 of that score (or
of the feature norm) on the sets that suite fiqa has measured. With --insightface the only output is the feature, as
insightface's ArcFaceONNX requires. safetensors and state-dict hold the weights alone; the network's own colour order
and value range are in the file or are printed.

examples:
  facet export adaface --format onnx
  facet export adaface --format onnx --insightface --output ~/.insightface/models/mine/adaface.onnx
  facet export adaface_r50 --format state-dict --layout insightface --output backbone.pth"""


def main(arguments: argparse.Namespace) -> None:
    """Find the model, write the file, print its inputs and outputs."""
    here = lookup.find(arguments.model)
    check(arguments)
    path: Path = arguments.output or Path(here.name + SUFFIX[arguments.format])
    path.parent.mkdir(parents=True, exist_ok=True)
    backbone, model = model_files.read_backbone(here.backbone)
    if arguments.format in ("onnx", "torchscript"):
        quality = quality_of(here)
        scales = _meaning.scales(here, quality)
        if arguments.scale is not None:
            quality, scales = _meaning.on_scale(here, quality, arguments.scale), {}
        made = export.describe(backbone, model, quality, feature_only=arguments.insightface, scales=scales)
        with artifacts.write_file(path) as aside:
            (export.write_onnx if arguments.format == "onnx" else export.write_torchscript)(aside, made)
        gives = ", ".join(made.outputs)
        print(f"{path}: takes {export.INPUT}, float32 (N, 3, 112, 112), RGB, 0 to 255; gives {gives}")
        return
    state = in_layout(backbone.state_dict(), model, arguments.layout)
    low, high = model.value_range
    # a layout has keys and constants; colours and range stay those the weights were trained with
    about: dict[str, Any] = {
        "color_order": model.color_order, "value_range": [low, high], "layout": arguments.layout,
        "backbone": model.backbone, "dataset": model.dataset, "weights_sha256": model.weights_sha256,
    }  # fmt: skip
    with artifacts.write_file(path) as aside:
        if arguments.format == "safetensors":
            export.write_safetensors(aside, state, about)
        else:
            model_files.save(state, aside)
    print(f"{path}: {len(state)} tensors; the network takes {model.color_order} in [{low:g}, {high:g}]")


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that cannot be combined.

    Raises:
        ValueError: with what to say instead.
    """
    graph = arguments.format in ("onnx", "torchscript")
    if arguments.layout != "own" and graph:
        raise InputError("--layout is for weights: use it with --format safetensors or state-dict")
    if arguments.scale is not None and (arguments.insightface or not graph):
        raise InputError("--scale is for the output quality: use it with --format onnx or torchscript")
    if arguments.insightface and arguments.format != "onnx":
        raise InputError("--insightface is for ONNX files: use it with --format onnx")


def quality_of(here: ModelHere) -> tuple[str, nn.Module] | None:
    """Return the model's quality method by its name; None if it has none but the feature norm."""
    if here.quality is None:
        return None
    tree = artifacts.read_json(here.quality / "quality.json")
    if "weights_sha256" not in tree:
        return None
    backbone_sha256 = artifacts.read_json(here.backbone / "model.json")["weights_sha256"]
    if tree.get("backbone_sha256") != backbone_sha256:
        raise InputError(f"{here.quality} was trained on another backbone: run `dvc repro train_quality@{here.name}`")
    name = str(tree["name"])
    module: nn.Module = plugins.load("quality", name).Scorer.load(here.quality).module()
    return name, module.eval()


def in_layout(state: dict[str, Tensor], model: model_files.Model, layout: str) -> dict[str, Tensor]:
    """Return the weights under the keys of another family's network; the outputs do not change.

    Raises:
        ValueError: there is no exact way from the one to the other.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    own = model.backbone.get("style", model.backbone["name"])
    if layout in ("own", own):
        return plain
    if own == "adaface" and layout in ("insightface", "magface"):
        return checkpoint_convert.to_staged(plain, model.backbone["units"], layout)  # type: ignore[arg-type]
    if own in ("insightface", "magface") and layout == "adaface":
        return checkpoint_convert.to_flat(plain, model.backbone["units"], own)
    raise InputError(f"no exact conversion from {own} to {layout}: only to and from adaface")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet export",
        description="Write a model as one file for other programs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("model", help="a run of params.yaml, a name under models/, or a folder")
    options.add_argument("--format", required=True, choices=list(SUFFIX))
    options.add_argument("--output", type=Path, help="file to write (default: the model's name, in this folder)")
    options.add_argument("--insightface", action="store_true", help="ONNX with one output, as insightface requires")
    options.add_argument("--scale", metavar="SET", help="quality from 0 to 100: share of SET's images that score lower")
    options.add_argument("--layout", choices=LAYOUTS, default="own", help="key layout of the weights (default: own)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
