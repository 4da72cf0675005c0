"""Quality scores read from a file: any method's, as eDifFIQA, FROQ, CR-FIQA, OFIQ, dasec and facet write them.

Higher is better; the range is the method's own. The formats are those of stages/io/score_files.py; names are matched
by the ends of their paths (stages/core/formats/image_names.py). Nothing is trained: the stage `train_quality` keeps a
copy of the scores beside the run, which is what the run is judged by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import BaseModel, Field

from stages.core.errors import InputError, UnknownNameError
from stages.core.formats.image_names import Matched, match
from stages.core.metrics.features import Features, Floats
from stages.core.metrics.quality import Learned, Material
from stages.io import score_files
from stages.io.score_files import ANY, ScoreFile

COPY = "scores.parquet"


class Config(BaseModel, extra="forbid", frozen=True):
    """A file of image names and scores."""

    name: Literal["scores_file"]
    path: str = Field(description="file of image names and scores: CSV, Parquet, text, JSON or a pickle")
    column: str | None = Field(None, description="which score, where the file has several")
    sha256: str | None = Field(
        None, description="of the file: another file is refused; changing it makes DVC read the file again"
    )
    max_missing: float = Field(
        0.01, ge=0, le=1, description="share of a set's images that the file may not name; they are discarded first"
    )

    def num_images(self, available: int) -> int:
        """Return the number of training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return nothing: the scores are there."""
    return Learned()


def keep(config: Config, folder: Path, sha256: str) -> None:
    """Write a copy of the scores into the run's folder.

    Args:
        config: names the file.
        folder: of the quality method.
        sha256: of the file as it is.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read, or is another file than was named.
    """
    if config.sha256 not in (None, sha256):
        raise InputError(f"{config.path} has the SHA-256 {sha256}, wanted {config.sha256}: correct `quality.sha256`")
    read = score_files.read(Path(config.path), config.column)
    rows = [(of_set, image, score) for of_set, scores in read.by_set.items() for image, score in scores.items()]
    pd.DataFrame(rows, columns=["set", "image", "score"]).to_parquet(folder / COPY, index=False)


class Scorer:
    """Looks up the score of each image by its name."""

    def __init__(self, scores: ScoreFile, max_missing: float = 0.01) -> None:
        self.scores, self.max_missing = scores, max_missing

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a run: its copy of the scores."""
        tree = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
        frame = pd.read_parquet(folder / COPY)
        by_set = {
            str(name): dict(zip(part["image"], part["score"].astype(float), strict=True))
            for name, part in frame.groupby("set", sort=False)
        }
        return cls(ScoreFile(Path(tree["path"]), "Parquet", "score", by_set, 0), tree["max_missing"])

    def of_images(self, name: str, images: Sequence[str]) -> Matched:
        """Return the scores of a set's images.

        Raises:
            ValueError: the file names too few of them, or two of its names stand for one image.
            LookupError: the file is of other sets.
        """
        scores = self.scores.of(name) if name != ANY else {}
        found = match(scores, images)
        if len(found.missing) > self.max_missing * len(images):
            ours, theirs = found.missing[0], next(iter(found.unknown), "no other name")
            raise InputError(
                f"{self.scores.path} has no score of {len(found.missing)} of the {len(images)} images of {name}, more "
                f"than {self.max_missing:.2%}: the set has {ours}, the file {theirs}"
            )
        return found

    def score(self, features: Features) -> Floats:
        """Refuse: images without names have no score here."""
        raise UnknownNameError(
            "the quality method scores_file knows images by the names of a test set: use it in the suite `fiqa` or "
            "with `facet judge`"
        )

    __call__ = score
