"""Units that a bootstrap over verification pairs draws: people where they are known.

Shapes: N images, S sides of pairs: images or templates, P pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse.csgraph
from numpy.typing import NDArray

Units = NDArray[np.integer[Any]]


def units(
    first_P: Units, second_P: Units, is_same_P: NDArray[np.bool_], identity_N: Units | None, side_N: Units | None = None
) -> tuple[Units, Units, str]:
    """Return the bootstrap unit of either side of each pair, (P,) each, and what the units are.

    Identities where they are known; else, where sides are compared several times, those that genuine pairs
    link; else each pair for itself.

    Args:
        first_P: row of the first side of each pair.
        second_P: row of the second.
        is_same_P: genuine pairs.
        identity_N: who is on each image; None if nobody knows.
        side_N: side that each image belongs to; None: images are compared.
    """
    num_sides = int(max(first_P.max(), second_P.max())) + 1
    if identity_N is not None:
        side_N = np.arange(identity_N.size) if side_N is None else side_N
        person_S = np.zeros(max(num_sides, int(side_N.max()) + 1), dtype=np.int64)
        person_S[side_N] = np.unique(identity_N, return_inverse=True)[1]
        return person_S[first_P], person_S[second_P], "identities"
    if np.bincount(np.concatenate([first_P, second_P]), minlength=num_sides).max() <= 1:
        pair_P = np.arange(first_P.size)
        return pair_P, pair_P, "pairs"
    links = scipy.sparse.coo_array(
        (np.ones(int(is_same_P.sum()), np.bool_), (first_P[is_same_P], second_P[is_same_P])),
        shape=(num_sides, num_sides),
    )
    linked_S = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    return linked_S[first_P], linked_S[second_P], "people linked by genuine pairs"
