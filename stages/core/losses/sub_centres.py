"""One centre for each class, of a head with several: the dominant sub-centre (insightface subcenter_arcface/drop.py).

Shapes: N images, C classes, K sub-centres of a class, D feature dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def dominant(weight_CX: Tensor, feature_ND: Tensor, label_N: Tensor) -> Tensor:
    """Return each class's sub-centre that is the nearest one of most of its images, (C, D); the first one on ties.

    Args:
        weight_CX: the sub-centres of each class one after another, X = K D; with K = 1 they are returned as they are.
        feature_ND: of images, before normalising.
        label_N: their classes; one without any image has its first sub-centre.

    >>> weight_CX = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    >>> dominant(weight_CX, torch.tensor([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 0]))
    tensor([[0., 2.]])
    """
    centre_CKD = weight_CX.view(len(weight_CX), -1, feature_ND.shape[1])
    num_classes, num_centres = centre_CKD.shape[:2]
    if num_centres == 1:
        return weight_CX
    own_NKD = functional.normalize(centre_CKD[label_N], dim=2)
    nearest_N = torch.einsum("nkd,nd->nk", own_NKD, feature_ND).argmax(dim=1)
    count_CK = torch.bincount(label_N * num_centres + nearest_N, minlength=num_classes * num_centres)
    chosen_C = count_CK.view(num_classes, num_centres).argmax(dim=1)
    centre_CD: Tensor = centre_CKD[torch.arange(num_classes), chosen_C]
    return centre_CD
