"""Folds batch norms in evaluation mode into the preceding convolutions and linear layers: less memory traffic.

The numbers change by rounding only. Networks of stages/backbones have them beside each other in an ``nn.Sequential``,
or under the names of ``residual_nets.StagedNet``; a batch norm before a convolution stays: padding comes after it.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from stages.core.networks.residual_nets import StagedBlock, StagedNet

NAMED = {
    StagedBlock: (("conv1", "bn2"), ("conv2", "bn3")),
    StagedNet: (("conv1", "bn1"), ("fc", "features")),
}
"""The batch norm that follows each layer, where both are attributes."""


def fold(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, with every batch norm after a convolution or linear layer folded in.

    Its state dict has other keys: it is for computing, not for saving.
    """
    made = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(made.modules()):
        if isinstance(module, nn.Sequential):
            pairs = tuple(itertools.pairwise(module._modules))
        else:
            pairs = next((pairs for kind, pairs in NAMED.items() if isinstance(module, kind)), ())
        for layer, norm in pairs:
            _take_in(module, layer, norm)
    return made


def _take_in(parent: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = getattr(parent, layer_name), getattr(parent, norm_name)
    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        setattr(parent, layer_name, fuse_conv_bn_eval(layer, _affine(norm)))
    elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        setattr(parent, layer_name, fuse_linear_bn_eval(layer, _affine(norm)))
    else:
        return
    setattr(parent, norm_name, nn.Identity())


def _affine(norm: nn.modules.batchnorm._BatchNorm) -> nn.modules.batchnorm._BatchNorm:
    """Give a batch norm without scale and shift neutral ones, which torch's fusing requires."""
    if not norm.affine:
        assert norm.running_var is not None
        norm.weight = nn.Parameter(torch.ones_like(norm.running_var), requires_grad=False)
        norm.bias = nn.Parameter(torch.zeros_like(norm.running_var), requires_grad=False)
    return norm
