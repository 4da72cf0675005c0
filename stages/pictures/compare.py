"""Compares the faces of pictures: cosines, quality scores, and a verdict at a calibrated threshold.

    from stages.pictures import compare, detect
    found = compare.find_faces([Path("a.jpg"), Path("b.jpg")], detect.choose(None))
    print(compare.compare(found.entries, Embedder.load(folder), {}).similarity_NN)

Shapes: N faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError, UnknownNameError
from stages.core.metrics.features import Embed, Floats, Fusion, fuse, normalise
from stages.core.metrics.suite_result import Score
from stages.pictures.detect import Detect, Face, read_picture
from stages.runtime import artifacts


@dataclass(frozen=True)
class Entry:
    """A face to compare: a picture's name, with ``#2`` for its second largest face."""

    name: str
    face: Face


@dataclass(frozen=True)
class Found:
    """The faces of some pictures, and messages about the pictures."""

    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Skipped pictures, with the reason."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Calibration:
    """The cosine threshold for the same person, and the error rates measured there."""

    threshold: float
    fmr: float
    tar: float
    where: str
    """Set and model of the measurement; says so if the requested false match rate could not be resolved."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`."""

    names_N: list[str]
    similarity_NN: NDArray[np.float64]
    """Cosines of the fused embeddings."""
    quality: dict[str, list[float]]
    """Scores of each method, one per face; higher is better."""

    def pairs(self) -> list[tuple[str, str, float]]:
        """Return every pair once: two names and their cosine."""
        first_P, second_P = np.triu_indices(len(self.names_N), 1)
        return [
            (self.names_N[i], self.names_N[j], float(self.similarity_NN[i, j]))
            for i, j in zip(first_P, second_P, strict=True)
        ]


def find_faces(paths: Sequence[Path], detect: Detect, *, every_face: bool = False) -> Found:
    """Read pictures and detect their faces; skip unusable pictures with the reason.

    Args:
        paths: picture files.
        detect: finds and aligns faces, the largest first.
        every_face: take all faces of a picture instead of its largest.
    """
    found = Found()
    names = names_of(paths)
    for path, name in zip(paths, names, strict=True):
        try:
            image_HW3 = read_picture(path)
        except (ValueError, OSError) as error:
            found.left_out[name] = str(error)
            continue
        faces = detect(image_HW3)
        if not faces:
            height, width = image_HW3.shape[:2]
            found.left_out[name] = f"no face found in {path}, {width} x {height} pixels"
            continue
        if len(faces) > 1 and not every_face:
            found.notes.append(f"{name}: {len(faces)} faces, using the largest (--every-face uses all)")
        for place, face in enumerate(faces if every_face else faces[:1], 1):
            found.entries.append(Entry(name if place == 1 else f"{name}#{place}", face))
    return found


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the shortest names that distinguish the paths: file names, or whole paths where these repeat.

    >>> names_of([Path("a/1.jpg"), Path("a/2.jpg")])
    ['1.jpg', '2.jpg']
    >>> names_of([Path("a/1.jpg"), Path("b/1.jpg")])
    ['a/1.jpg', 'b/1.jpg']
    """
    short = [path.name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def compare(
    entries: Sequence[Entry], embed: Embed, scores: Mapping[str, Score], fusion: Fusion = "pre_norm_sum"
) -> Comparison:
    """Embed faces and compare every pair.

    Args:
        entries: two faces or more.
        embed: a backbone.
        scores: quality methods by name; the feature norm is always there.
        fusion: of a face and its mirror image.

    Raises:
        ValueError: there are fewer than two faces.
    """
    if len(entries) < 2:
        raise InputError(f"comparing needs at least two faces, got {len(entries)}")
    features = embed([entry.face.aligned_HW3 for entry in entries])
    embedding_ND = normalise(fuse(features, fusion)).astype(np.float64)
    quality: dict[str, Floats] = {"feature_norm": features.feature_norm_N}
    quality |= {name: score(features) for name, score in scores.items()}
    return Comparison(
        [entry.name for entry in entries],
        np.clip(embedding_ND @ embedding_ND.T, -1, 1),
        {name: [float(value) for value in score_N] for name, score_N in quality.items()},
    )


def calibration(details: Path, set_name: str, fmr: float) -> Calibration:
    """Return the threshold that the evaluation on a verification set gave for a false match rate.

    Where the set has too few impostor pairs for it, the lowest rate it resolves is taken, and said.

    Args:
        details: ``results/RUN/hq/details.json``.
        set_name: a set in it, such as ``lfw``.
        fmr: false match rate, one that was evaluated.

    Raises:
        FileNotFoundError: the model has not been evaluated.
        LookupError: not on this set.
        ValueError: no false match rate was resolved.
    """
    if not details.is_file():
        raise FileNotFoundError(f"{details} is missing: evaluate the model, or give a --threshold")
    sets = artifacts.read_json(details)["sets"]
    if set_name not in sets:
        raise UnknownNameError(f"{details} has no set {set_name!r}: there are {', '.join(sets)}")
    read = {float(rate): point["strict"] for rate, point in sets[set_name]["tar_at_far"].items()}
    resolved = {rate: point for rate, point in read.items() if point is not None}
    if not resolved:
        raise InputError(f"{details}: {set_name} is too small to resolve a false match rate: give a --threshold")
    # one not asked for is no better known for being lower
    nearest = min(resolved, key=lambda rate: (rate < fmr * (1 - 1e-9), abs(np.log(rate / fmr))))
    where = set_name
    if not np.isclose(nearest, fmr):
        where += f", which does not resolve an FMR of {fmr:g}"
    point = resolved[nearest]
    return Calibration(float(point["threshold"]), nearest, float(point["tar"]), where)
