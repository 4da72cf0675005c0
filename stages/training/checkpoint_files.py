"""Files of a checkpoint: written whole and synced, and hashed on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch


class Hashed:
    """A file that is hashed while it is written, so that nobody has to read it again."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and hash; torch requires this name and the next."""
        self.digest.update(data)
        return self.stream.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self.stream.flush()


def digest_file(path: Path) -> Path:
    """Return the file beside ``path`` that has its SHA-256 until the checkpoint is complete."""
    return path.with_name(f"{path.name}.sha256")


def take_digest(path: Path) -> str:
    """Return the digest that the process which wrote ``path`` has left beside it, and remove that."""
    beside = digest_file(path)
    digest = beside.read_text(encoding="ascii")
    beside.unlink()
    return digest


def save(tree: Mapping[str, Any], path: Path) -> None:
    """Write a tree of tensors, sync it to the disk, and leave its SHA-256 beside it.

    Raises:
        OSError: it cannot be written whole.
    """
    # through a file of Python's: given a path, torch hides the reason and raises a RuntimeError
    try:
        with path.open("wb") as stream:
            hashed = Hashed(stream)
            torch.save(dict(tree), hashed)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        digest_file(path).write_text(hashed.digest.hexdigest(), encoding="ascii")
    except RuntimeError as error:  # of torch's archive, which found itself cut short; the reason is under it
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise OSError(f"{path.name}: {first_line(reason)}") from error


def sync(path: Path) -> None:
    """Sync a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]
