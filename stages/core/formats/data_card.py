"""Statistics for the data card of a training set: numbers of images and identities, and sizes.

Legend: N images, R identity ranges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


def quantiles(values_N: Ints) -> dict[str, float] | None:
    """Return mean and quantiles, which are values that occur (no interpolation); None for no values.

    >>> quantiles(np.array([1, 2, 9]))["median"]
    2
    """
    if not len(values_N):
        return None
    drawn = np.quantile(values_N, list(_QUANTILES.values()), method="inverted_cdf").tolist()
    return {"mean": round(float(values_N.mean()), 3), **dict(zip(_QUANTILES, drawn, strict=True))}


def describe_images(label_N: Ints, length_N: Ints, width_N: Ints, height_N: Ints) -> dict[str, Any]:
    """Return counts, images per identity (of those that have any), bytes per image and sizes in pixels."""
    identities, count_I = np.unique(label_N, return_counts=True)
    size_S2, num_S = np.unique(np.stack([width_N, height_N], axis=1), axis=0, return_counts=True)
    return {
        "images": len(label_N),
        "identities": len(identities),
        "images_per_identity": quantiles(count_I),
        "image_bytes": {"total": int(length_N.sum()), **(quantiles(length_N) or {})},
        "sizes": {f"{w}x{h}": int(num) for (w, h), num in zip(size_S2.tolist(), num_S, strict=True)},
    }


def ranges_that_disagree(begin_R: Ints, end_R: Ints, key_N: Ints, label_N: Ints) -> int:
    """Count identity ranges [begin, end) of keys without images or with more than one identity.

    ``key_N`` rises; images that are missing from it are passed over.
    """
    first_R, last_R = np.searchsorted(key_N, begin_R), np.searchsorted(key_N, end_R) - 1
    changes_N = np.cumsum(np.diff(label_N, prepend=label_N[:1]) != 0)
    some_R = last_R >= first_R
    clipped = np.clip([first_R, last_R], 0, max(len(key_N) - 1, 0))
    one_R = changes_N[clipped[0]] == changes_N[clipped[1]] if len(key_N) else some_R
    return int(np.count_nonzero(~(some_R & one_R)))
