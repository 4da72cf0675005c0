"""Autocast switched off, also on devices that have none, as torch's meta device, on which steps are counted."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def off(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operators keep their inputs' types."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def is_on(device: torch.device) -> bool:
    """Return whether operators may change their inputs' types."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
