"""Pools image features to one embedding per template: mean over the images of a media, sum over media.

As AdaFace validation_mixed/insightface_ijb_helper/eval_helper.py (image2template_feature) at c60eaa78, in one
sparse matrix product.

Shapes: N images, T templates, D feature dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from stages.core.errors import InputError

Ids = NDArray[np.int64]
Features = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def pool_templates(
    feature_ND: Features, template_N: Ids, media_N: Ids, processed_N: Mask | None = None
) -> tuple[Ids, NDArray[np.float64], Mask]:
    """Return template ids, rising, their unit embeddings (T, D), and which have any processed image.

    Args:
        feature_ND: features as they are to be added: their length is their weight. Unit ones weigh alike.
        template_N: the template of each image; an image in two templates is listed twice.
        media_N: the still or video each image comes from; the same id in another template is another medium.
        processed_N: False for images that could not be processed. They are left out of their medium's mean; a
            template without any processed image has a zero embedding.

    Raises:
        ValueError: the lengths differ, or there is no image.
    """
    if not (len(feature_ND) == len(template_N) == len(media_N)) or not len(feature_ND):
        raise InputError(
            f"pooling needs a template and a media for each image, got {len(feature_ND)} features, "
            f"{len(template_N)} templates and {len(media_N)} media"
        )
    processed_N = np.ones(len(feature_ND), dtype=np.bool_) if processed_N is None else processed_N
    ids_T, row_N = np.unique(template_N, return_inverse=True)
    keep_M = np.flatnonzero(processed_N)
    weight_M = 1.0 / _images_of_medium(row_N[keep_M], media_N[keep_M])
    weights = scipy.sparse.csr_array(
        (weight_M.astype(feature_ND.dtype), (row_N[keep_M], keep_M)), shape=(ids_T.size, len(feature_ND))
    )
    pooled_TD = (weights @ feature_ND).astype(np.float64)
    norm_T1 = np.linalg.norm(pooled_TD, axis=1, keepdims=True)
    np.divide(pooled_TD, norm_T1, out=pooled_TD, where=norm_T1 > 0)
    filled_T = np.bincount(row_N[keep_M], minlength=ids_T.size) > 0
    return ids_T, pooled_TD, filled_T


def _images_of_medium(row_M: Ids, media_M: Ids) -> Ids:
    """Return for each image the number of images of its template from the same media."""
    if not row_M.size:
        return np.zeros(0, dtype=np.int64)
    order_M = np.lexsort((media_M, row_M))
    row_sorted_M, media_sorted_M = row_M[order_M], media_M[order_M]
    starts_M = np.ones(row_M.size, dtype=np.bool_)
    starts_M[1:] = (np.diff(row_sorted_M) != 0) | (np.diff(media_sorted_M) != 0)
    group_M = np.cumsum(starts_M) - 1
    counts_M = np.empty(row_M.size, dtype=np.int64)
    counts_M[order_M] = np.bincount(group_M)[group_M]
    return counts_M
