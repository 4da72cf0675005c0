"""Matches the image names of a score file with those of a test set, by the ends of their paths.

Shapes: N images of the set.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_LISTED = 20


@dataclass(frozen=True)
class Matched:
    """Scores of a set's images; -inf where there is none, so that such images are discarded first."""

    score_N: NDArray[np.float64]
    missing: tuple[str, ...]
    """Images of the set that the file does not name."""
    unknown: tuple[str, ...]
    """Names of the file that the set does not have."""
    not_assessed: tuple[str, ...]
    """Images that the file names without a score."""

    def describe(self) -> dict[str, Any]:
        """Return counts and the first names, for JSON."""
        tree: dict[str, Any] = {"images": int(self.score_N.size)}
        for key in ("missing", "unknown", "not_assessed"):
            names = getattr(self, key)
            tree[key] = len(names)
            tree[f"first_{key}"] = list(names[:_LISTED])
        return tree


def match(scores: Mapping[str, float], names: Sequence[str]) -> Matched:
    """Return the score of each image.

    Names agree if the last parts of their paths do, without the image's ending: as many parts as the set needs to
    tell its images apart. An image of a ``.bin`` file is known by its number: ``12`` is ``images/00012.jpg`` (CR-FIQA
    feature_extraction/extract_bin.py at eb03b813).

    Args:
        scores: by name; NaN: not assessed.
        names: of the set's images.

    Raises:
        ValueError: two names of the file stand for one image, with different scores.

    >>> match({"a/b/00001.jpg": 0.5, "a/b/7.jpg": 1.0}, ["0", "1"]).score_N.tolist()
    [-inf, 0.5]
    """
    numbered = all(name.isdecimal() for name in names)
    parts = [_parts(name, numbered) for name in names]
    depth = _depth(parts)
    found: dict[tuple[str, ...], tuple[str, float]] = {}
    wanted = {part[-depth:]: row for row, part in enumerate(parts)}
    unknown = []
    for name, score in scores.items():
        key = _parts(name, numbered)[-depth:]
        if key not in wanted:
            unknown.append(name)
        elif key in found and not _equal(found[key][1], score):
            raise InputError(f"{found[key][0]} and {name} both stand for image {names[wanted[key]]}: leave one out")
        else:
            found[key] = (name, score)
    given_N = np.array([found.get(key, ("", math.inf))[1] for key in wanted], dtype=np.float64)
    if np.isneginf(given_N).any() or any(score == math.inf for _, score in found.values()):
        raise InputError("a score is infinite: give a number, or none for an image that was not assessed")
    return Matched(
        np.where(np.isfinite(given_N), given_N, -np.inf),
        tuple(name for name, score in zip(names, given_N, strict=True) if score == math.inf),
        tuple(unknown),
        tuple(name for name, score in zip(names, given_N, strict=True) if math.isnan(score)),
    )


def _parts(name: str, numbered: bool) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
    for ending in _ENDINGS:
        if plain.lower().endswith(ending):
            plain = plain[: -len(ending)]
            break
    *folders, stem = plain.split("/")
    return (*folders, (stem.lstrip("0") or "0") if numbered and stem.isdecimal() else stem)


def _depth(parts: Sequence[tuple[str, ...]]) -> int:
    """Return the number of last parts that tell all images apart."""
    longest = max(map(len, parts), default=1)
    for depth in range(1, longest + 1):
        if len({part[-depth:] for part in parts}) == len(parts):
            return depth
    raise InputError("two images of the set have one name but for its ending: rename one")


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
