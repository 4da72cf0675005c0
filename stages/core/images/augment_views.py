"""Views of a training image that an objective may request, each drawn from its own random stream.

A view's pixels follow from (seed, epoch, position, view) alone: not from the worker that draws it, the other views
asked for, or what was drawn before. Images are uint8 (H, W, 3), blue first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from stages.core.errors import InputError, UnknownNameError
from stages.core.images import augment, low_view
from stages.core.images.augment import Image

VIEWS: Final = ("training", "clean", "high", "low")
"""training: the configured augmentation; clean: flip alone (MagFace, CR-FIQA); high, low: QGFace's H and L."""


@dataclass(frozen=True)
class Views:
    """Which views, in which order; a repeated name is drawn again (QGFace's pair of two low views)."""

    names: tuple[str, ...]
    training: augment.Probabilities
    low: low_view.Probabilities = field(default_factory=low_view.Probabilities)

    def __post_init__(self) -> None:
        """Refuse unknown names.

        Raises:
            LookupError: an unknown view.
            ValueError: no view.
        """
        unknown = [name for name in self.names if name not in VIEWS]
        if unknown:
            raise UnknownNameError(f"no view {unknown[0]!r}: there are {', '.join(VIEWS)}")
        if not self.names:
            raise InputError(f"an objective needs at least one view of {', '.join(VIEWS)}")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def streams(self) -> tuple[int, ...]:
        """Return the stream number of each view: 1 for "training", 5 if it is repeated."""
        return tuple(
            1 + VIEWS.index(name) + len(VIEWS) * self.names[:v].count(name) for v, name in enumerate(self.names)
        )

    def draw(self, v: int, image_HW3: Image, rng: np.random.Generator) -> Image:
        """Return view number ``v`` of the image; a new array, or the image itself if nothing is changed.

        ``rng`` is to be at the view's stream.
        """
        name = self.names[v]
        if name == "training":
            return augment.augment(image_HW3, self.training, rng)
        if name == "low":
            return low_view.degrade(image_HW3, self.low, rng)
        return augment.mirror(image_HW3) if rng.random() < self.training.flip else image_HW3
