"""Data for the studies of quality: training sets of any make in a project folder, and images of known quality held out.

Shapes: N images, P people, L levels.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import synthesize, unpack
from stages.core.metrics.processing import decode
from stages.runtime import artifacts
from stages.synthesis import plan
from stages.synthesis.config import Config
from stages.synthesis.rendering import cores, draw_sitting

LEVELS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
# no test set is drawn; the smallest sizes that are allowed
_EVAL = {"identities": 4, "pairs": 20, "ijb_templates": 4, "tinyface_distractors": 0}


def prepare(name: str, train: Mapping[str, Any], seed: int = 1) -> None:
    """Draw and unpack data/NAME below the working folder, unless it is there."""
    if (artifacts.unpacked_folder(name) / "card.json").is_file():
        return
    config = Config.model_validate({"seed": seed, "train": dict(train), "eval": _EVAL})
    with artifacts.write_folder(artifacts.DATA / name / "train") as folder:
        synthesize.Studio(config, cores()).write_train(folder)
    artifacts.write_yaml(artifacts.RESOLVED / "datasets" / f"{name}.yaml", {"unpack": {}})
    unpack.main(argparse.Namespace(name=name))


@dataclass(frozen=True)
class Held:
    """Images that no training has seen, a person's one after another: first a clean one, then one of each level."""

    image_NHW3: NDArray[np.uint8]
    person_N: NDArray[np.int64]
    """The label in training, or a number of one who is not in it."""
    quality_N: NDArray[np.float64]
    is_probe_N: NDArray[np.bool_]
    """False: the clean one, which is compared with and not measured."""


def held_out(path: Path, people: Sequence[int], *, known: bool, seed: int = 1) -> Held:
    """Return new images at every level of people of the training set (``known``) or of others; kept in ``path``."""
    if not path.is_file():
        _draw(path, people, "train" if known else "levels", seed)
    with np.load(path) as kept:
        return Held(*(kept[name] for name in ("image", "person", "quality", "is_probe")))


def _draw(path: Path, people: Sequence[int], stream: str, seed: int) -> None:
    # a person's training images come first in its stream, 20 of them
    seen = 20 if stream == "train" else 0
    qualities = [*[1.0] * seen, 1.0, *LEVELS]
    pictures = tuple(plan.Picture(slot, quality) for slot, quality in enumerate(qualities))
    images = []
    for person in people:
        drawn = draw_sitting(seed, plan.Sitting(plan.STREAMS[stream], person, pictures))
        images += [decode(one.jpeg) for one in drawn[seen:]]
    columns: dict[str, Any] = {
        "image": np.stack(images), "person": np.repeat(np.array(people, np.int64), 1 + len(LEVELS)),
        "quality": np.tile(np.array(qualities[seen:]), len(people)),
        "is_probe": np.tile(np.arange(1 + len(LEVELS)) > 0, len(people)),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with artifacts.write_file(path) as aside, aside.open("wb") as stream_:
        np.savez_compressed(stream_, **columns)
