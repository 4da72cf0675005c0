"""Quality methods by name, and an embedder that also shows them the images, or more of the network than the feature.

Images are read once: each goes on to the backbone and, on its way, before the methods. What a network beside the
backbone says of an image (SER-FIQ) is kept as features are, under a key of its own.

Shapes: N images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.core.metrics.features import Embed, Features, Floats, Image
from stages.core.metrics.quality import ReadsNames, Scorer, SeesImages, SeesNetwork
from stages.core.metrics.suite_result import Score
from stages.embedding.embedder import Embedder
from stages.runtime import artifacts, plugins

UNTRAINED = ("ser_fiq", "sharpness", "brisque")
AT_ONCE = 2048
"""Images buffered for a second network; 77 MB."""


def trained(folder: Path) -> dict[str, Scorer]:
    """Return a run's quality method by its name.

    Args:
        folder: with its ``quality.json``.
    """
    name = str(artifacts.read_json(folder / "quality.json")["name"])
    scorer: Scorer = plugins.load("quality", name).Scorer.load(folder)
    return {name: scorer}


def of_pictures(folder: Path | None) -> dict[str, Scorer]:
    """Return a model's quality method for pictures of anybody: none if it has none, or scores in a file."""
    if folder is None:
        return {}
    return {name: scorer for name, scorer in trained(folder).items() if not isinstance(scorer, ReadsNames)}


def of_run(folder: Path, more: Iterable[str]) -> dict[str, Scorer]:
    """Return a run's quality method, and the other methods in ``more``, with their default options."""
    own = trained(folder)
    return own | untrained(name for name in more if name not in own)


def scores_of(scorers: Mapping[str, Scorer]) -> dict[str, Score]:
    """Return functions that compute scores from features, by method; one that reads names is returned as it is."""
    return {name: scorer if isinstance(scorer, ReadsNames) else scorer.score for name, scorer in scorers.items()}


def untrained(names: Iterable[str]) -> dict[str, Scorer]:
    """Return methods that need no training, with their default options.

    Raises:
        FileNotFoundError: one needs a package that is not installed.
    """
    return {name: plugins.load("quality", name).Scorer() for name in names}


def watched(embedder: Embedder, scorers: Mapping[str, Scorer]) -> Embed:
    """Return an embedder like ``embedder`` that also passes the images to the methods that need them."""
    images = {name: scorer for name, scorer in scorers.items() if isinstance(scorer, SeesImages)}
    networks = {
        name: _beside(embedder, scorer) for name, scorer in scorers.items() if isinstance(scorer, SeesNetwork)
    }
    return Seeing(embedder, images, networks) if images or networks else embedder


class Seeing:
    """An embedder whose features include the scores of methods that read the images."""

    def __init__(self, embed: Embed, images: Mapping[str, SeesImages], networks: Mapping[str, Embed]) -> None:
        self.embed, self.images, self.networks = embed, images, networks

    def __call__(self, images: Iterable[Image]) -> Features:
        """Return the features of aligned images, with ``seen``."""
        passing = _Passing(self)
        features = self.embed(passing.through(images))
        return replace(features, seen={**features.seen, **passing.scores()})


class _Passing:
    """One pass of images, shown to the methods on their way to the backbone."""

    def __init__(self, to: Seeing) -> None:
        self.to = to
        self.looked: dict[str, list[float]] = {name: [] for name in to.images}
        self.asked: dict[str, list[Floats]] = {name: [] for name in to.networks}
        self.waiting: list[Image] = []

    def through(self, images: Iterable[Image]) -> Iterator[Image]:
        """Yield the images and show each to the methods."""
        for image in images:
            for name, method in self.to.images.items():
                self.looked[name].append(method.look(image))
            if self.to.networks:
                self.waiting.append(image)
                if len(self.waiting) == AT_ONCE:
                    self._ask()
            yield image

    def scores(self) -> dict[str, Floats]:
        """Return score_N of every method."""
        if self.waiting:
            self._ask()
        looked = {name: np.array(score_N, dtype=np.float32) for name, score_N in self.looked.items()}
        return looked | {name: np.concatenate(parts) for name, parts in self.asked.items()}

    def _ask(self) -> None:
        for name, embed in self.to.networks.items():
            self.asked[name].append(embed(self.waiting).feature_ND[:, 0])
        self.waiting = []


def _beside(embedder: Embedder, method: SeesNetwork) -> Embedder:
    """Return the embedder of the method's network, whose only feature is the score."""
    kept_under = None
    if embedder.network is not None:
        kept_under = f"{embedder.network}-{hashlib.sha256(method.key().encode()).hexdigest()[:12]}"
    return Embedder(
        method.network(embedder.backbone), embedder.color_order, embedder.device,
        flip=False, value_range=embedder.value_range, network=kept_under,
    )  # fmt: skip
