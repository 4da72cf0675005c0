"""GPUs that failed by themselves rest: for a while no stage leases them. Their marks lie beside their locks."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

REST_S = 900.0
"""How long a GPU rests: a driver that resets it needs a minute, a person who looks at it longer."""
FAULTS = re.compile(
    r"uncorrectable (ECC|NVLink) error|hardware (stack )?error|GPU is lost|fallen off the bus|busy or unavailable"
    r"|CUDA (driver )?error: unknown error",
    re.I,
)
"""What CUDA says of a GPU that failed by itself, whatever ran on it; a kernel's own faults are none of these."""
HELD = "FACET_GPUS"
"""Names of the locks of the GPUs that this process holds, in the order in which CUDA numbers them for it."""


def is_resting(folder: Path, identity: str) -> bool:
    """Return whether the GPU of this lock name failed a short while ago.

    Args:
        folder: of the locks of GPUs.
        identity: name of its lock.
    """
    try:
        return abs(time.time() - _mark(folder, identity).stat().st_mtime) < REST_S
    except FileNotFoundError:
        return False


def note(folder: Path, error: BaseException) -> str:
    """Let this process's GPU rest if an error says that it failed by itself; return what to say of it, or nothing."""
    fault = next((found[0] for one in _causes(error) if (found := FAULTS.search(str(one)))), None)
    identity = _own()
    if fault is None or identity is None:
        return ""
    path = _mark(folder, identity)
    with suppress(OSError):  # another user's mark, or a full disk
        path.write_text(f"{fault}\n", encoding="utf-8")
    return f"; {identity} is not used again for {REST_S / 60:g} minutes, unless you remove {path}"


def _mark(folder: Path, identity: str) -> Path:
    return folder / f"{identity}.rests"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _own() -> str | None:
    """Return the lock name of the GPU that this process computes on; None if it holds none."""
    held = [name for name in os.environ.get(HELD, "").split(",") if name]
    local = os.environ.get("LOCAL_RANK", "0")
    number = int(local) if len(held) > 1 and local.isdigit() else 0
    return held[number] if number < len(held) else None
