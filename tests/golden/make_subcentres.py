"""Makes subcentres.json with the authors' code: Sub-center ArcFace with 1 and 3 centres of a class, in float64.

    python -m tests.golden.make_subcentres train_parall.py

The file is insightface's recognition/subcenter_arcface/train_parall.py at 7fadd420. Features and labels are those of
heads.json; centres are drawn. Of mxnet's program the lines from the sub-centres to the scale are run on torch.
"""

from __future__ import annotations

import json
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.golden.make_margins import Symbols

HERE = Path(__file__).parent
CLASSES, DIM = 6, 8


class MoreSymbols(Symbols):
    """The functions of mx.symbol that the lines of the sub-centres call."""

    @staticmethod
    def reshape(value: Tensor, shape: tuple[int, ...]) -> Tensor:
        return value.reshape(shape)

    @staticmethod
    def max(value: Tensor, axis: int) -> Tensor:
        return value.max(dim=axis).values


def main(train_parall: str) -> None:
    inputs = json.loads((HERE / "heads.json").read_text())["inputs"]
    lines = Path(train_parall).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if "if config.loss_K > 1:" in line)
    middle = next(n for n, line in enumerate(lines) if "if config.loss_m1 != 1.0 or" in line)
    end = next(n for n, line in enumerate(lines) if "fc7 = fc7 * config.loss_s" in line)
    program = "\n".join(textwrap.dedent("\n".join(part)) for part in (lines[start:middle], lines[middle : end + 1]))
    tree = {f"centres_{count}": made(program, count, inputs) for count in (1, 3)}
    (HERE / "subcentres.json").write_text(json.dumps(tree) + "\n")


def made(program: str, count: int, inputs: dict[str, Any]) -> dict[str, Any]:
    drawn = np.random.default_rng(count).normal(size=(CLASSES * count, DIM))
    weight_XD = torch.from_numpy(drawn).requires_grad_()
    feature_BD = torch.tensor(inputs["X"], dtype=torch.float64, requires_grad=True)
    label_B = torch.tensor(inputs["labels"])
    scope = {
        "fc7": functional.normalize(feature_BD, dim=1) @ functional.normalize(weight_XD, dim=1).T, "gt_label": label_B,
        "mx": types.SimpleNamespace(sym=MoreSymbols, symbol=MoreSymbols),
        "args": types.SimpleNamespace(ctx_num_classes=CLASSES),
        "config": types.SimpleNamespace(loss_K=count, loss_m1=1.0, loss_m2=0.5, loss_m3=0.0, loss_s=64.0),
    }  # fmt: skip
    exec(program, scope)
    logits_BC: Any = scope["fc7"]
    loss = functional.cross_entropy(logits_BC, label_B)
    loss.backward()
    return {
        "weight": drawn.tolist(), "logits": logits_BC.tolist(), "loss": float(loss.detach()),
        "grad_X": feature_BD.grad.tolist(), "grad_W": weight_XD.grad.tolist(),
    }  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
