"""Cache of features by network and by pixels of the image, so that all protocols of a run share one pass.

    .facet/embeddings/NETWORK/NUMBER.npz     keys (n, 17) uint8, features (n, D) float32: at most 4096 rows each

A key is a digest of an aligned image's pixels and whether it was mirrored, so that nothing can be stale: another
image, alignment or degradation is another key; other weights, colour order, range, device or version of torch
another NETWORK. The folder may be deleted at any time; a damaged file is thrown away and its images are embedded
again. Networks not used for longest go first when all take more than ``FACET_EMBEDDINGS_GB`` (20; 0 keeps
nothing). IJB-C takes 1.9 GB with flips and 512 dimensions.

Shapes: R rows, one for each image or mirrored image, D feature dimensions.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics.features import Floats, Image
from stages.runtime import artifacts, progress

Key = bytes

_ROWS = 4096
_FLUSH_S = 30.0
_ROW_BITS = 12
_OPEN = 4
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def key_of(image: Image, *, mirrored: bool) -> Key:
    """Return the cache key of an image's features."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() + bytes([mirrored])


class Shelf:
    """The cached features of one network."""

    def __init__(self, network: str) -> None:
        """Find the cached files.

        Args:
            network: a digest of everything a feature depends on but the image.
        """
        self.folder = artifacts.STATE / "embeddings" / network
        self._place: dict[Key, int] = {}
        self._files: list[Path] = []
        self._open: dict[int, Floats] = {}
        self._new_keys: list[Key] = []
        self._new_rows: list[Floats] = []
        self._last_s = time.monotonic()
        self._scan()

    def get(self, key: Key) -> Floats | None:
        """Return the cached features (D,) of ``key``, or None."""
        place = self._place.get(key)
        if place is None:
            return None
        number, row = place >> _ROW_BITS, place & (_ROWS - 1)
        if number not in self._open:
            while len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open)))
            try:
                with np.load(self._files[number]) as arrays:
                    self._open[number] = arrays["features"]
            except _DAMAGED as error:
                self._drop(number, error)
                return None
        feature_D: Floats = self._open[number][row]
        return feature_D

    def put(self, keys: Sequence[Key], feature_RD: Floats) -> None:
        """Add rows of features; they are written a few thousand at a time, or every half minute."""
        self._new_keys += keys
        self._new_rows += list(feature_RD)
        if len(self._new_keys) >= _ROWS or time.monotonic() - self._last_s > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write pending features; a full disk costs only the time to embed again, never the stage."""
        for begin in range(0, len(self._new_keys), _ROWS):
            part = slice(begin, begin + _ROWS)
            keys_R17 = np.frombuffer(b"".join(self._new_keys[part]), np.uint8).reshape(-1, 17)
            name = f"{time.time_ns():020d}-{os.getpid()}-{begin}.npz"
            try:
                with artifacts.write_file(self.folder / name) as aside, aside.open("wb") as stream:
                    np.savez(stream, keys=keys_R17, features=np.stack(self._new_rows[part]))
            except OSError as error:
                progress.say(f"warning: cannot cache embeddings in {self.folder}: {error}")
        self._new_keys, self._new_rows, self._last_s = [], [], time.monotonic()

    @contextmanager
    def one_pass(self, first: Key) -> Iterator[None]:
        """Block other passes that begin with the same image: they will find the features in the cache.

        Whatever ends the pass, what it has embedded is kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{first.hex()}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                progress.say("waiting for another stage that is embedding these images")
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._scan()
            os.utime(self.folder)
            try:
                yield
            finally:
                self.flush()

    def _scan(self) -> None:
        """Read the keys of new files."""
        for path in sorted(set(self.folder.glob("*.npz")) - set(self._files)):
            self._files.append(path)
            number = len(self._files) - 1
            try:
                with np.load(path) as arrays:
                    keys_R17: NDArray[np.uint8] = arrays["keys"]
            except _DAMAGED as error:
                self._drop(number, error)
                continue
            raw = keys_R17.tobytes()
            for row in range(len(keys_R17)):
                self._place[raw[17 * row : 17 * row + 17]] = number << _ROW_BITS | row

    def _drop(self, number: int, error: Exception) -> None:
        path = self._files[number]
        progress.say(f"warning: {path} is damaged ({error}): embedding its images again")
        path.unlink(missing_ok=True)
        self._place = {key: place for key, place in self._place.items() if place >> _ROW_BITS != number}


def limit_bytes() -> int:
    """Return the size limit of the cache over all networks."""
    given = os.environ.get("FACET_EMBEDDINGS_GB", "20")
    try:
        return int(float(given) * 1e9)
    except ValueError as error:
        raise InputError(f"FACET_EMBEDDINGS_GB should be a number of gigabytes, got {given!r}") from error


def prune(keep: str) -> None:
    """Delete the networks not used for longest until the rest fit the limit; ``keep`` stays."""
    folders = [path for path in (artifacts.STATE / "embeddings").glob("*") if path.is_dir()]
    size = {path: sum(file.stat().st_size for file in path.glob("*.npz")) for path in folders}
    for path in sorted(folders, key=lambda path: path.stat().st_mtime):
        if sum(size.values()) <= limit_bytes():
            return
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)
            size.pop(path)
