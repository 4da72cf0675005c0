"""Batch norm with statistics over all processes, like torch.nn.SyncBatchNorm, but also on CPUs.

Shapes: B batch of this process, K channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.core.errors import InputError


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the batches of all processes; with gradients through the shared statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input, shape (B, K, ...), and update the running statistics."""
        if not self.training:
            return super().forward(input)
        dims = [dim for dim in range(input.dim()) if dim != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = input.new_tensor(float(input.numel() // input.shape[1]))
        dist.all_reduce(count)
        # two passes: the mean of squares less the squared mean cancels in float32
        mean_K = _total(input.sum(dims)) / count
        centred = input - mean_K.view(shape)
        variance_K = _total(centred.square().sum(dims)) / count
        if self.track_running_stats and self.running_mean is not None:
            self._follow(mean_K.detach(), variance_K.detach() * count / (count - 1))
        normalised: Tensor = centred * torch.rsqrt(variance_K + self.eps).view(shape)
        if not self.affine:
            return normalised
        return torch.addcmul(self.bias.view(shape), normalised, self.weight.view(shape))

    def _follow(self, mean_K: Tensor, variance_K: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean_K, share)
        self.running_var.lerp_(variance_K, share)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise InputError(f"wanted a batch of channels, got shape {tuple(input.shape)}")


def sync_over_processes(network: nn.Module, *, on_gpu: bool) -> nn.Module:
    """Return the network with every batch norm synchronised over all processes; names and tensors stay."""
    if on_gpu:
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return synced
    for parent in list(network.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, _BatchNorm):
                setattr(parent, name, _shared(norm))
    return network


class _Total(torch.autograd.Function):
    """Sum over all processes, with gradients: each process adds to the common sum and gets the gradients of all."""

    @staticmethod
    def forward(ctx: Any, value_K: Tensor) -> Tensor:
        return _summed(value_K)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _summed(grads[0])


def _summed(value_K: Tensor) -> Tensor:
    total_K = value_K.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total_K)
    return total_K


def _total(value_K: Tensor) -> Tensor:
    total_K: Tensor = _Total.apply(value_K)  # type: ignore[no-untyped-call]
    return total_K


def _shared(norm: _BatchNorm) -> SharedBatchNorm:
    """Return the synchronised version of a batch norm: attributes and tensors are reused."""
    shared = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    shared._parameters, shared._buffers = norm._parameters, norm._buffers
    return shared
