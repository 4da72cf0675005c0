"""IJB-B and IJB-C 1:1 verification, as AdaFace validation_mixed/insightface_ijb_helper at c60eaa78.

Shapes: N images, T templates, P pairs, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import UnknownNameError
from stages.core.metrics import features, scores

VERSION = "2"  # exact scores where a rate depends on them, float32 elsewhere
_TABLE = 2**24  # ids may spread so far for a table of them to be worth its memory
FMRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Templates:
    """Template ids, rising, their unit embeddings, and which have any processed image."""

    id_T: Ids
    embedding_TD: NDArray[np.float64]
    filled_T: Mask

    def rows(self, ids: Ids) -> tuple[NDArray[np.float64], Mask]:
        """Return embeddings and whether they are filled, of listed templates; zero and empty where there is none."""
        row_P = np.minimum(np.searchsorted(self.id_T, ids), self.id_T.size - 1)
        known_P = self.id_T[row_P] == ids
        embedding_PD = self.embedding_TD[row_P]
        embedding_PD[~known_P] = 0
        return embedding_PD, known_P & self.filled_T[row_P]


def weigh(
    feature_ND: features.Floats, *, use_norm: bool, detector_score_N: features.Floats | None = None
) -> features.Floats:
    """Return features with the length that is their weight in pooling.

    AdaFace's published numbers keep the norm and do not use the detector; insightface uses both; CVLface's
    headline drops the norm and uses the detector.
    """
    weighed_ND = feature_ND if use_norm else features.normalise(feature_ND)
    return weighed_ND if detector_score_N is None else weighed_ND * detector_score_N[:, np.newaxis]


def compare(
    templates: Templates, first_P: Ids, second_P: Ids, tick: Callable[[int], None] = lambda count: None
) -> scores.PairScores:
    """Return the scores of the listed pairs of template ids, in their order.

    A template none of whose images could be processed matches nobody: each of its genuine pairs is an error.

    Raises:
        LookupError: a pair names a template without images.
    """
    first_row_P, second_row_P = rows_of(templates.id_T, first_P), rows_of(templates.id_T, second_P)
    return scores.sieve_pairs(templates.embedding_TD, first_row_P, second_row_P, templates.filled_T, tick)


def rows_of(id_T: Ids, ids_P: Ids) -> NDArray[np.int32]:
    """Return the row of each template id.

    Raises:
        LookupError: there is no template of an id.
    """
    lowest, highest = int(id_T[0]), int(id_T[-1])
    if ids_P.size and (int(ids_P.min()) < lowest or int(ids_P.max()) > highest):
        missing = ids_P[(ids_P < lowest) | (ids_P > highest)][0]
        raise UnknownNameError(f"template {missing} is in the pairs but has no images")
    if highest - lowest > _TABLE:
        row_P = np.searchsorted(id_T, ids_P).astype(np.int32)
        known_P = id_T[row_P] == ids_P
    else:
        table = np.full(highest - lowest + 1, -1, dtype=np.int32)
        table[id_T - lowest] = np.arange(id_T.size, dtype=np.int32)
        row_P = table[ids_P - lowest if lowest else ids_P]
        known_P = row_P >= 0
    if not known_P.all():
        raise UnknownNameError(f"template {ids_P[~known_P][0]} is in the pairs but has no images")
    return row_P
