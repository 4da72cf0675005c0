"""CR-FIQA's classifiability (CVPR 2023; fdbtrs/CR-FIQA losses.py at a8f98da6): CCS, NNCCS, target and loss.

CCS is the cosine of an image with its own class centre, NNCCS with the nearest other one.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Form = Literal["paper", "code", "vit_fiqa"]
# what the released code puts in place of the own class before it looks for the nearest other one
FLOOR = -1e-12
EPS = 1e-9


def ccs_and_nnccs(cosine_BC: Tensor, label_B: Tensor, *, floor: bool) -> tuple[Tensor, Tensor]:
    """Return CCS and NNCCS, shape (B,) each.

    Args:
        cosine_BC: of every image with every class centre.
        label_B: own classes.
        floor: whether NNCCS is never below -1e-12, as in the released code, or as low as it is.

    >>> cosine_BC = torch.tensor([[0.5, -0.25, -0.5]])
    >>> ccs_and_nnccs(cosine_BC, torch.tensor([0]), floor=False)
    (tensor([0.5000]), tensor([-0.2500]))
    """
    own_B1 = label_B[:, None]
    masked_BC = cosine_BC.scatter(1, own_B1, FLOOR if floor else -torch.inf)
    return cosine_BC.gather(1, own_B1)[:, 0], masked_BC.amax(dim=1)


def target(form: Form, cosine_BC: Tensor, label_B: Tensor) -> Tensor:
    """Return the regression target of each image, shape (B,), as ``target_of`` computes it from CCS and NNCCS."""
    return target_of(form, *ccs_and_nnccs(cosine_BC, label_B, floor=False))


def target_of(form: Form, ccs_B: Tensor, nnccs_B: Tensor) -> Tensor:
    """Return the regression target of images with these cosines.

    ``code`` divides by NNCCS as released: where every other class has a negative cosine, by -1e-12. Paper and
    authors (issue 7) add 1. ``vit_fiqa``, their later code, also lets NNCCS be negative.

    Args:
        form: of the target.
        ccs_B: cosines with the own centre.
        nnccs_B: with the nearest other one, as low as it is.
    """
    if form != "vit_fiqa":
        nnccs_B = nnccs_B.clamp_min(FLOOR)
    return ccs_B / (nnccs_B if form == "code" else nnccs_B + (1 + EPS))


def loss(predicted_B: Tensor, target_B: Tensor, beta: float) -> Tensor:
    """Return SmoothL1, mean over the batch; its published weight is alpha = 10."""
    return functional.smooth_l1_loss(predicted_B, target_B, beta=beta)
