"""Features of a list of images, and the fusion of an image with its flip.

As AdaFace validation_mixed/validate_IJB_BC.py (fuse_features_with_norm) at c60eaa78.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Fusion = Literal["none", "pre_norm_sum", "norm_weighted_avg", "average", "concat"]


@dataclass(frozen=True)
class Features:
    """Features before normalising, of the images and of their mirror images."""

    feature_ND: Floats
    flipped_ND: Floats | None = None
    seen: Mapping[str, Floats] = field(default_factory=dict)
    """Scores (N,) of quality methods that read the images instead of the features, by method."""

    @property
    def feature_norm_N(self) -> Floats:
        """L2 norm of each image's own feature, without its flip."""
        norm_N: Floats = np.linalg.norm(self.feature_ND, axis=1)
        return norm_N


# aligned 112x112 BGR images, uint8 (112, 112, 3), as OpenCV reads them -> their features, in order
Embed = Callable[[Iterable[Image]], Features]


def fuse(features: Features, fusion: Fusion) -> Floats:
    """Return the fused feature of each image: its direction is the embedding, its length the fused norm.

    ``none``
        the image's own feature, without its flip.
    ``pre_norm_sum``
        image plus flip, un-normalised: AdaFace's ``pre_norm_vector_add``, the rule of its published numbers,
        and insightface's verification.py and ijb_11.py, which add raw features.
    ``norm_weighted_avg``
        unit vectors weighed by their norms: the direction of ``pre_norm_sum``, the mean norm as length.
    ``average``
        the sum of unit vectors, the mean norm as length.
    ``concat``
        unit vectors one behind the other, (N, 2D), the mean norm as length; CR-FIQA's ERC compares these.

    AdaFace's IJB script multiplies by the fused norm after ``pre_norm_vector_add`` only: the other three as
    published are with ``use_norm`` off.

    Raises:
        ValueError: the flip is wanted but was not embedded, or there is no such fusion.
    """
    if fusion == "none":
        return features.feature_ND
    if features.flipped_ND is None:
        raise InputError("this fusion needs features of mirrored images, but only the images themselves were embedded")
    plain_ND, flipped_ND = features.feature_ND, features.flipped_ND
    if fusion == "pre_norm_sum":
        return plain_ND + flipped_ND
    norm_2N1: list[Floats] = [np.linalg.norm(side_ND, axis=1, keepdims=True) for side_ND in (plain_ND, flipped_ND)]
    length_N1: Floats = (norm_2N1[0] + norm_2N1[1]) / np.float32(2)
    if fusion == "norm_weighted_avg":
        fused_ND = normalise(plain_ND + flipped_ND)
    elif fusion == "average":
        fused_ND = normalise(normalise(plain_ND) + normalise(flipped_ND))
    elif fusion == "concat":
        fused_ND = normalise(np.concatenate([normalise(plain_ND), normalise(flipped_ND)], axis=1))
    else:
        raise InputError(f"unknown fusion {fusion!r}: choose none, pre_norm_sum, norm_weighted_avg, average or concat")
    fused_ND *= length_N1
    return fused_ND


def normalise(feature_ND: Floats) -> Floats:
    """Return unit-length embeddings; an all-zero feature stays zero, so its score with anything is 0."""
    norm_N1 = np.linalg.norm(feature_ND, axis=1, keepdims=True)
    embedding_ND: Floats = np.divide(feature_ND, norm_N1, out=np.zeros_like(feature_ND), where=norm_N1 > 0)
    return embedding_ND
