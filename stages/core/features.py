"""What a backbone gives for a list of images, and how an image and its flip are fused.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """Features before normalising, of the images as they are and mirrored."""

    feature_ND: Floats
    flipped_ND: Floats | None = None

    @property
    def feature_norm_N(self) -> Floats:
        """L2 norm of each image's own feature, without its flip."""
        norm_N: Floats = np.linalg.norm(self.feature_ND, axis=1)
        return norm_N


# aligned 112x112 BGR images, uint8 (112, 112, 3), as OpenCV reads them -> their features, in order
Embed = Callable[[Iterable[Image]], Features]


def fuse(features: Features, *, use_flip: bool) -> Floats:
    """Return (N, D) features: image plus flip, un-normalised (AdaFace's ``pre_norm_vector_add``), or the image's own.

    Raises:
        ValueError: the flip is wanted but was not embedded.
    """
    if not use_flip:
        return features.feature_ND
    if features.flipped_ND is None:
        raise ValueError("features of mirrored images are wanted, but only the images' own were embedded")
    return features.feature_ND + features.flipped_ND


def normalise(feature_ND: Floats) -> Floats:
    """Return unit-length embeddings; an all-zero feature stays zero, so that its score with anything is 0."""
    norm_N1 = np.linalg.norm(feature_ND, axis=1, keepdims=True)
    embedding_ND: Floats = np.divide(feature_ND, norm_N1, out=np.zeros_like(feature_ND), where=norm_N1 > 0)
    return embedding_ND
