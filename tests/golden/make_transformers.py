"""Makes transformers.npz with the authors' code: insightface's and CVLface's ViTs, and AdaFace's IR-SE-50.

    python -m tests.golden.make_transformers insightface_vit.py cvlface_vit.py net.py

The files are insightface's recognition/arcface_torch/backbones/vit.py at 7fadd420, CVLface's
research/recognition/code/run_v1/models/vit/vit.py at d3d09c93 and AdaFace's net.py at c60eaa78. The first two import timm and
fvcore; what they take of them makes initial weights, which are overwritten, and drops branches, which is off here: stand-ins
do (``stand_in``). Sizes are those of backbones/__init__.py and models/vit/__init__.py. Weights and image are filled as shared/golden/README.md says. ``masked`` is the narrow network of
``MASKED`` in training mode, with the tokens kept in the order of the stored random numbers and no stochastic depth. Its
mask_ratio only says that tokens are masked: both programs call ``random_masking`` without it, whose default is 0.1.
"""

from __future__ import annotations

import json
import runpy
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support_backbones import filled, golden_image, six_images

INSIGHTFACE = {"img_size": 112, "patch_size": 9, "num_classes": 512, "num_heads": 8, "norm_layer": "ln"}
CVLFACE = {"img_size": 112, "patch_size": 8, "num_classes": 512, "embed_dim": 512, "norm_layer": "ln", "mask_ratio": 0.0}
SIZES: dict[str, dict[str, Any]] = {
    "insightface_vit_t": {**INSIGHTFACE, "embed_dim": 256, "depth": 12, "drop_path_rate": 0.05, "mask_ratio": 0.0},
    "insightface_vit_s": {**INSIGHTFACE, "embed_dim": 512, "depth": 12, "drop_path_rate": 0.05, "mask_ratio": 0.0},
    "insightface_vit_b": {**INSIGHTFACE, "embed_dim": 512, "depth": 24, "drop_path_rate": 0.05, "mask_ratio": 0.05},
    "insightface_vit_l": {**INSIGHTFACE, "embed_dim": 768, "depth": 24, "drop_path_rate": 0.05, "mask_ratio": 0.05},
    "cvlface_vit_small": {**CVLFACE, "depth": 12, "mlp_ratio": 5, "num_heads": 8, "drop_path_rate": 0.1},
    "cvlface_vit_base": {**CVLFACE, "depth": 24, "mlp_ratio": 3, "num_heads": 16, "drop_path_rate": 0.1},
}
MASKED = {"img_size": 112, "patch_size": 16, "num_classes": 16, "embed_dim": 16, "depth": 2, "num_heads": 8,
          "drop_path_rate": 0.0, "mask_ratio": 0.3, "norm_layer": "ln"}  # fmt: skip


def main(insightface: str, cvlface: str, net: str) -> None:
    stand_in("fvcore.nn", flop_count=None)
    stand_in("timm.models.layers", DropPath=lambda _: torch.nn.Identity(), to_2tuple=lambda size: (size, size),
             trunc_normal_=torch.nn.init.trunc_normal_)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classes = {"insightface": runpy.run_path(insightface), "cvlface": runpy.run_path(cvlface)}
    makers = {name: (lambda name=name: transformer(classes, name, SIZES[name])) for name in SIZES}
    makers["adaface_ir_se_50"] = lambda: runpy.run_path(net)["IR_SE_50"]([112, 112])
    arrays: dict[str, Any] = {}
    for name, make in makers.items():
        network = fill(make()).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.cuda.amp, without a GPU
            made = network(golden_image())
        arrays[f"{name}_out0"] = (made[0] * made[1] if isinstance(made, tuple) else made).numpy()
        arrays[f"{name}_keys"] = text({key: list(value.shape) for key, value in network.state_dict().items()})
    arrays |= masked(transformer(classes, "insightface", MASKED))
    np.savez_compressed(Path(__file__).with_name("transformers.npz"), **arrays)


def stand_in(name: str, **members: Any) -> None:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules[".".join(parts[:end])] = types.ModuleType(".".join(parts[:end]))
    vars(sys.modules[name]).update(members)


def transformer(classes: dict[str, dict[str, Any]], name: str, sizes: dict[str, Any]) -> torch.nn.Module:
    network: torch.nn.Module = classes[name.partition("_")[0]]["VisionTransformer"](**sizes)
    return network


def fill(network: torch.nn.Module) -> torch.nn.Module:
    network.load_state_dict({key: filled(key, list(value.shape)) for key, value in network.state_dict().items()})
    return network


def masked(network: torch.nn.Module) -> dict[str, Any]:
    """Return a training step's output and gradients with masked tokens, and the random numbers that chose them."""
    fill(network).train()
    noise_BT = torch.rand(6, 49, generator=torch.Generator().manual_seed(0))
    rand, torch.rand = torch.rand, lambda *size, **options: noise_BT.clone()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            feature_BD = network(six_images())
            feature_BD.cos().sum().backward()
    finally:
        torch.rand = rand
    grads = {f"masked_grad_{name}": dict(network.named_parameters())[name].grad.numpy()
             for name in ("mask_token", "pos_embed", "patch_embed.proj.bias")}  # fmt: skip
    return {"masked_noise": noise_BT.numpy(), "masked_out0": feature_BD.detach().numpy(), **grads}


def text(tree: object) -> Any:
    return np.frombuffer(json.dumps(tree).encode(), np.uint8)


if __name__ == "__main__":
    main(*sys.argv[1:])
