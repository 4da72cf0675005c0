"""Makes margins.json with the authors' code: SphereFace-R, combined margins, ElasticFace and UniFace, in float64.

    python -m tests.golden.make_margins spherefacer.py sphereface.py train_parall.py losses.py head.py

The files are opensphere's model/head/spherefacer.py at 310d889 and opensphere/module/head/sphereface.py at a679e82
(beside it module/head/common.py), insightface's recognition/arcface_mxnet/train_parall.py at 7fadd420, ElasticFace's
utils/losses.py at 5496ec06 and UniFace's head.py at 00ade470. Inputs are those of heads.json. Of mxnet's program the
lines of the margin are run on torch, whose functions have the same names (``Symbols``).
"""

from __future__ import annotations

import json
import runpy
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

HERE = Path(__file__).parent


class Symbols:
    """The functions of mx.sym that the margin's lines call."""

    arccos, cos = staticmethod(torch.arccos), staticmethod(torch.cos)

    @staticmethod
    def one_hot(label: Tensor, depth: int, on_value: float, off_value: float) -> Tensor:
        return functional.one_hot(label, depth).double() * (on_value - off_value) + off_value


def main(spherefacer: str, sphereface: str, train_parall: str, losses: str, uniface: str) -> None:
    inputs = json.loads((HERE / "heads.json").read_text())["inputs"]
    given = {"X": torch.tensor(inputs["X"], dtype=torch.float64), "labels": torch.tensor(inputs["labels"]),
             "K": functional.normalize(torch.tensor(inputs["K"], dtype=torch.float64), dim=0)}  # fmt: skip
    tree: dict[str, Any] = {"K_is": "heads.json's, columns at unit length: SphereFace's program brings them to it"}
    tree |= sphere(runpy.run_path(spherefacer), sphereface, given)
    tree |= {f"combined_{m1}_{m2}_{m3}": combined(train_parall, (m1, m2, m3), given)
             for m1, m2, m3 in ((1.0, 0.3, 0.2), (1.35, 0.1, 0.05), (1.0, 0.0, 0.35))}  # fmt: skip
    tree |= elastic(runpy.run_path(losses), given)
    tree |= unified(runpy.run_path(uniface)["Unified_Cross_Entropy_Loss"], given)
    (HERE / "margins.json").write_text(json.dumps(tree) + "\n")


def sphere(module: dict[str, Any], other: str, given: dict[str, Tensor]) -> dict[str, Any]:
    made = {}
    for variant in ("v0", "v1", "v2"):
        head = module["SphereFaceR_H"](8, 6, magn_type=variant, s=60.0, m=1.7, lw=50.0).double()
        head.w.data.copy_(given["K"])
        made[f"sphereface_r_{variant}"] = results(head, given)
    package = types.ModuleType("opensphere_heads")
    package.__path__ = [str(Path(other).parent)]
    sys.modules["opensphere_heads"] = package
    scope = {"__name__": "opensphere_heads.sphereface", "__package__": "opensphere_heads"}
    exec(compile(Path(other).read_text(), other, "exec"), scope)
    head = scope["SphereFace"](8, 6, s=64.0, m=1.7).double()
    head.w.data.copy_(given["K"].T)
    made["sphereface"] = results(head, given)
    return made


def combined(file: str, margins: tuple[float, float, float], given: dict[str, Tensor]) -> dict[str, Any]:
    lines = Path(file).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if "if config.loss_m1 != 1.0 or" in line)
    end = next(n for n, line in enumerate(lines) if "fc7 = fc7 * config.loss_s" in line)
    program = textwrap.dedent("\n".join(lines[start : end + 1]))
    feature_BD = given["X"].clone().requires_grad_()
    scope = {
        "fc7": functional.normalize(feature_BD, dim=1) @ given["K"], "gt_label": given["labels"],
        "mx": types.SimpleNamespace(sym=Symbols), "args": types.SimpleNamespace(ctx_num_classes=6),
        "config": types.SimpleNamespace(loss_m1=margins[0], loss_m2=margins[1], loss_m3=margins[2], loss_s=64.0),
    }  # fmt: skip
    exec(program, scope)
    logits_BC: Any = scope["fc7"]
    loss = functional.cross_entropy(logits_BC, given["labels"])
    loss.backward()
    return {"logits": logits_BC.tolist(), "loss": float(loss), "grad_X": feature_BD.grad.tolist()}


def elastic(module: dict[str, Any], given: dict[str, Tensor]) -> dict[str, Any]:
    made = {}
    # float32, as the buffer that the program puts them into
    drawn_B = 0.4 + 0.05 * torch.randn(len(given["X"]), generator=torch.Generator().manual_seed(0))
    normal, torch.normal = torch.normal, lambda **of: drawn_B[:, None].clone()
    try:
        for kind, name in (("arc", "ElasticArcFace"), ("cosine", "ElasticCosFace")):
            for plus in (False, True):
                head = module[name](8, 6, s=64.0, m=0.4, std=0.05, plus=plus).double()
                head.kernel.data.copy_(given["K"])
                feature_BD = given["X"].clone().requires_grad_()
                logits_BC = head(feature_BD, given["labels"])
                loss = functional.cross_entropy(logits_BC, given["labels"])
                loss.backward()
                made[f"elasticface_{kind}{'_plus' if plus else ''}"] = {
                    "margins": drawn_B.tolist(), "logits": logits_BC.tolist(), "loss": float(loss),
                    "grad_X": feature_BD.grad.tolist(), "grad_K": head.kernel.grad.tolist(),
                }  # fmt: skip
    finally:
        torch.normal = normal
    return made


def unified(kind: Any, given: dict[str, Tensor]) -> dict[str, Any]:
    made = {}
    for name, fields in (("uniface", {}), ("uniface_l_r", {"m": 0.35, "s": 30.0, "l": 0.3, "r": 0.5})):
        head = kind(8, 6, **fields).double()
        head.weight.data.copy_(given["K"].T)
        bias = float(head.bias.detach())
        feature_BD = given["X"].clone().requires_grad_()
        loss = head(feature_BD, given["labels"], torch.arange(6))
        loss.backward()
        made[name] = {
            "loss": float(loss), "bias": bias, "grad_X": feature_BD.grad.tolist(),
            "grad_K": head.weight.grad.T.tolist(), "grad_bias": float(head.bias.grad),
        }  # fmt: skip
    return made


def results(head: Any, given: dict[str, Tensor]) -> dict[str, Any]:
    """Return loss and gradients of a head of opensphere's."""
    feature_BD = given["X"].clone().requires_grad_()
    loss = head(feature_BD, given["labels"])
    loss.backward()
    gradient = head.w.grad if head.w.shape == given["K"].shape else head.w.grad.T
    return {"loss": float(loss), "grad_X": feature_BD.grad.tolist(), "grad_K": gradient.tolist()}


if __name__ == "__main__":
    main(*sys.argv[1:])
