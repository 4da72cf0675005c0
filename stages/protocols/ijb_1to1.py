"""IJB-B and IJB-C 1:1 verification, as AdaFace validation_mixed/insightface_ijb_helper at c60eaa78.

Shapes: N images, T templates, P pairs, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core import features, scores

VERSION = "1"
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
    """Return features as they are pooled: their length is their weight.

    AdaFace's published numbers keep the norm and do not use the detector; insightface uses both; CVLface's
    headline drops the norm and uses the detector.
    """
    weighed_ND = feature_ND if use_norm else features.normalise(feature_ND)
    return weighed_ND if detector_score_N is None else weighed_ND * detector_score_N[:, np.newaxis]


def compare(
    templates: Templates, first_P: Ids, second_P: Ids, tick: Callable[[int], None] = lambda count: None
) -> NDArray[np.float64]:
    """Return the score of each listed pair of template ids, in their order.

    A template none of whose images could be processed matches nobody: each of its genuine pairs is an error.

    Raises:
        LookupError: a pair names a template without images.
    """
    id_T = templates.id_T
    row_2P = [np.minimum(np.searchsorted(id_T, ids), id_T.size - 1) for ids in (first_P, second_P)]
    for ids, row_P in zip((first_P, second_P), row_2P, strict=True):
        if not np.array_equal(id_T[row_P], ids):
            raise LookupError(f"template {ids[id_T[row_P] != ids][0]} is in the pairs but has no images")
    return scores.pair_scores(templates.embedding_TD, row_2P[0], row_2P[1], templates.filled_T, tick)
