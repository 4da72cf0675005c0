"""Embeds images of which some cannot be read: failures are counted, and each protocol decides how they score.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images import decoding
from stages.core.metrics.features import Embed, Features, Floats, Image

SIZE = 112


@dataclass(frozen=True)
class Failure:
    """An image that could not be processed, and why."""

    name: str
    reason: str

    @classmethod
    def of(cls, name: str, error: Exception) -> Failure:
        """Return the failure of ``name``, without the path that an operating system's message repeats."""
        return cls(name, (isinstance(error, OSError) and error.strerror) or str(error))


@dataclass(frozen=True)
class Processed:
    """Features of all images, in order; failed images have rows of zeros."""

    features: Features
    processed_N: NDArray[np.bool_]
    failures: tuple[Failure, ...]

    @property
    def mean_feature_norm(self) -> float:
        """Mean L2 norm of the processed images' own features."""
        return float(self.features.feature_norm_N[self.processed_N].mean(dtype=np.float64))


@runtime_checkable
class SharedPass(Protocol):
    """A backbone in several processes: each reads and embeds its share of a set, and all get the whole."""

    def process(
        self, what: str, image: Callable[[int], Image | Failure], num_images: int, *, max_failed: float, label: str
    ) -> Processed:
        """Return what ``process`` returns for all images, given how to read one by its number."""


def decode(data: bytes | memoryview) -> Image:
    """Return an encoded image as (height, width, 3) uint8 in BGR order.

    Raises:
        ValueError: it is empty, cut short or not an image.
    """
    image = decoding.decode(data)
    if image is None:
        raise InputError(f"{len(data)} bytes are not a complete JPEG or PNG image")
    return image


def decode_aligned(data: bytes | memoryview) -> Image:
    """Return an aligned face as (112, 112, 3) uint8 in BGR order.

    Raises:
        ValueError: it cannot be decoded, or has another size.
    """
    image = decode(data)
    if image.shape != (SIZE, SIZE, 3):
        raise InputError(f"an aligned face has {SIZE}x{SIZE} pixels, this image has {image.shape[1]}x{image.shape[0]}")
    return image


def process(
    what: str, items: Iterable[Image | Failure], num_images: int, embed: Embed, *, max_failed: float
) -> Processed:
    """Embed the readable images of a set in one pass.

    Args:
        what: name of the set, for messages.
        items: aligned images in order, or what went wrong with them.
        num_images: how many items there are.
        embed: the backbone.
        max_failed: share of images that may fail, in [0, 1]; one more stops the pass at once.

    Raises:
        ValueError: more failed; none is left; or the features are not finite, or not one for each image.
    """
    sieve = _Sieve(what, num_images, max_failed)
    readable = sieve.through(items)
    first = next(readable, None)
    if first is None:
        raise InputError(f"{what}: none of {num_images} images can be processed{sieve.example()}")
    features = embed(itertools.chain([first], readable))
    processed_N = np.array(sieve.processed, dtype=np.bool_)
    _check_features(what, features, int(processed_N.sum()))
    if sieve.failures:
        flipped_ND = features.flipped_ND
        features = Features(
            _spread(features.feature_ND, processed_N),
            None if flipped_ND is None else _spread(flipped_ND, processed_N),
            {name: _spread(score_M, processed_N) for name, score_M in features.seen.items()},
        )
    return Processed(features, processed_N, tuple(sieve.failures))


@dataclass
class _Sieve:
    """Passes readable images on to the backbone and records the failures."""

    what: str
    num_images: int
    max_failed: float
    processed: list[bool] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def through(self, items: Iterable[Image | Failure]) -> Iterator[Image]:
        for item in items:
            self.processed.append(not isinstance(item, Failure))
            if not isinstance(item, Failure):
                yield item
                continue
            self.failures.append(item)
            if len(self.failures) > self.max_failed * self.num_images:
                raise InputError(
                    f"{self.what}: {len(self.failures)} of the first {len(self.processed)} images cannot be "
                    f"processed; of all {self.num_images} at most a share of {self.max_failed:g} may fail "
                    f"(max_failed){self.example()}"
                )

    def example(self) -> str:
        return f"; the first is {self.failures[0].name}: {self.failures[0].reason}" if self.failures else ""


def _check_features(what: str, features: Features, wanted: int) -> None:
    for feature_MD in (features.feature_ND, features.flipped_ND):
        if feature_MD is not None and len(feature_MD) != wanted:
            raise InputError(f"{what}: wanted {wanted} features, one for each image, got {len(feature_MD)}")
        if feature_MD is not None and not np.isfinite(feature_MD).all():
            raise InputError(
                f"{what}: some features hold NaN or infinity: the backbone's weights are damaged or its "
                "training diverged"
            )


def _spread(feature_MD: Floats, processed_N: NDArray[np.bool_]) -> Floats:
    """Put the features, or scores (M,), of the processed images at their rows; zeros between."""
    feature_ND = np.zeros((processed_N.size, *feature_MD.shape[1:]), dtype=feature_MD.dtype)
    feature_ND[processed_N] = feature_MD
    return feature_ND
