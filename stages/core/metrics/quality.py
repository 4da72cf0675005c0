"""Interface of quality methods: training material, learned weights, and the scorer.

Shapes: N images, C classes, D feature dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel
from torch import Tensor, nn

from stages.core.errors import UnknownNameError
from stages.core.formats.image_names import Matched
from stages.core.metrics.features import Features, Floats, Image


@dataclass(frozen=True)
class Material:
    """Training images as features of the frozen backbone, augmented as in its own training."""

    feature_ND: Tensor
    """Features before normalising."""
    label_N: Tensor
    centre_CD: Tensor
    """The head's class centres, not normalised."""
    layer: Mapping[str, Tensor] | None = None
    """Weight (1, D) and bias (1,) of the quality layer that the run's objective trained, if it trains one."""
    backbone: nn.Module | None = None
    """The network, for a method whose module has ``WANTS_PIXELS``."""
    pixels_N3HW: Tensor | None = None
    """The images as the network sees them, for such a method."""
    black: float = -1.0
    """Value of a black pixel among them."""


@dataclass(frozen=True)
class Learned:
    """Weights of a method and statistics of its training; a method without training has neither."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that training has chosen; they replace those of ``quality.json``."""


class Scorer(Protocol):
    """Every method's scorer; higher is better."""

    def score(self, features: Features) -> Floats:
        """Return score_N."""
        ...


@runtime_checkable
class SeesImages(Protocol):
    """A scorer on images: its score, from each aligned image (blue first), is in ``Features.seen``."""

    def look(self, image_HW3: Image) -> float:
        """Return the image's score."""
        ...


@runtime_checkable
class SeesNetwork(Protocol):
    """A scorer on more of the network than its feature; its score is in ``Features.seen``."""

    def network(self, backbone: nn.Module) -> nn.Module:
        """Return a network from the backbone's input to score_N1."""
        ...

    def key(self) -> str:
        """Return a key that distinguishes this network from others on the same backbone."""
        ...


@runtime_checkable
class ReadsNames(Protocol):
    """A scorer that knows the images of a test set by their names."""

    def of_images(self, name: str, images: Sequence[str]) -> Matched:
        """Return the scores of a set's images."""
        ...

    def __call__(self, features: Features) -> Floats:
        """Refuse: features have no names."""
        ...


def seen(features: Features, name: str) -> Floats:
    """Return score_N of a method that reads the images.

    Raises:
        LookupError: whoever embedded the images has not let it look.
    """
    if name not in features.seen:
        raise UnknownNameError(
            f"the quality method {name} needs the images: embed with stages.embedding.scoring_embedder.Seeing"
        )
    return features.seen[name].astype("float32")


C = TypeVar("C", bound=BaseModel)


def read_options(folder: Path, config: type[C], name: str) -> C:
    """Return a method's configuration from its ``quality.json``; without that file, the defaults."""
    path = folder / "quality.json"
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"name": name}
    return config.model_validate({key: tree[key] for key in config.model_fields if key in tree})
