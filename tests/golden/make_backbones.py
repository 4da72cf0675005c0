"""Makes backbones_more.npz with the authors' code: networks missing from shared/golden/backbones.npz.

    python -m tests.golden.make_backbones mobilefacenet.py model_irse.py

The two files are insightface's recognition/arcface_torch/backbones/mobilefacenet.py at 7fadd420 and CurricularFace's
backbone/model_irse.py at 68c8727f. Weights and image are filled as shared/golden/README.md says.
"""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from tests.support_backbones import filled, golden_image


def main(mobilefacenet: str, model_irse: str) -> None:
    mobile, irse = runpy.run_path(mobilefacenet), runpy.run_path(model_irse)
    networks = {
        "insightface_mbf": lambda: mobile["get_mbf"](False, 512),
        "insightface_mbf_large": lambda: mobile["get_mbf_large"](False, 512),
        "curricularface_ir_50": lambda: irse["IR_50"]([112, 112]),
        "curricularface_ir_101": lambda: irse["IR_101"]([112, 112]),
    }
    arrays = {}
    for name, make in networks.items():
        network = make().eval()
        state = {key: filled(key, list(value.shape)) for key, value in network.state_dict().items()}
        network.load_state_dict(state)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = network(golden_image())
        arrays[f"{name}_out0"] = (made[0] if isinstance(made, tuple) else made).numpy()
        keys = json.dumps({key: list(value.shape) for key, value in state.items()})
        arrays[f"{name}_keys"] = np.frombuffer(keys.encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("backbones_more.npz"), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
