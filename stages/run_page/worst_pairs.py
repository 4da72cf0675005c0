"""The worst errors of a verification set: impostors that look most alike, and genuine pairs that look least alike.

The suite stores no score of single pairs, so the set is embedded again; with kept features only its images are read.

Shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.config import evaluation
from stages.core.errors import InputError
from stages.core.metrics.features import Image
from stages.core.metrics.processing import Failure
from stages.embedding.embedder import Embedder
from stages.run_page.reading import RunResults
from stages.runtime import artifacts, set_pins
from stages.suites import _pairs

NUM_PAIRS = 5
"""Of each kind, of each set."""
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Pair:
    """A pair to show: two faces as JPEG, and how alike the network finds them."""

    images: tuple[bytes, bytes]
    names: tuple[str, str]
    norms: tuple[float, float]
    """Of the features: the untrained measure of quality."""
    cosine: float
    wrong: bool
    """Whether it is an error at the threshold."""


@dataclass(frozen=True)
class WorstPairs:
    """Of one set."""

    threshold: float
    """Cosine: the mean over the folds of the evaluation."""
    num_impostors: int
    num_genuine: int
    num_false_matches: int
    num_false_non_matches: int
    impostors: tuple[Pair, ...]
    """The most alike first."""
    genuine: tuple[Pair, ...]
    """The least alike first."""


def of_run(run: RunResults, names: Sequence[str] | None = None) -> dict[str, WorstPairs]:
    """Return the worst pairs of each set of suite ``hq``, or of the named ones.

    Raises:
        ValueError: a named set was not measured, or files changed since the evaluation.
    """
    measured = run.sets("hq")
    if unknown := sorted(set(names or ()) - set(measured)):
        raise InputError(f"run {run.name} was not measured on {', '.join(unknown)}: there are {', '.join(measured)}")
    chosen = [name for name in measured if names is None or name in names]
    if not chosen:
        return {}
    path = artifacts.RESOLVED / "runs" / f"{run.name}.yaml"
    section = artifacts.read_section(path, "evaluate_hq", evaluation.SECTIONS["hq"])
    switches = evaluation.Hq.model_validate(section.switches.model_dump())
    embed = Embedder.load(artifacts.backbone_folder(run.name), flip=switches.fusion != "none", keep=True)
    folder = set_pins.checked(section.dataset, set_pins.recorded(run.name, "evaluate_hq"))
    return {
        name: worst(_pairs.embed_pairs(folder, name, switches, embed, f"pairs {name}"), threshold(measured[name]))
        for name in chosen
    }


def threshold(details: dict[str, Any]) -> float:
    """Return the mean threshold of a set's folds as a cosine; the folds have it as a squared L2 distance.

    >>> threshold({"threshold_per_fold": [1.0, 1.4]})
    0.4
    """
    return 1 - float(np.mean(details["threshold_per_fold"])) / 2


def worst(pairs: _pairs.Pairs, limit: float, count: int = NUM_PAIRS) -> WorstPairs:
    """Return the pairs furthest on the wrong side of a threshold, or nearest to it; a match reaches the threshold."""
    processed_P = pairs.processed.processed_N[pairs.first_P] & pairs.processed.processed_N[pairs.second_P]
    impostor_P, genuine_P = ~pairs.is_same_P & processed_P, pairs.is_same_P & processed_P
    matches_P = pairs.cosine_P >= limit
    return WorstPairs(
        limit,
        int(impostor_P.sum()),
        int(genuine_P.sum()),
        int((impostor_P & matches_P).sum()),
        int((genuine_P & ~matches_P).sum()),
        tuple(_shown(pairs, row, bool(matches_P[row])) for row in _first(-pairs.cosine_P, impostor_P, count)),
        tuple(_shown(pairs, row, not matches_P[row]) for row in _first(pairs.cosine_P, genuine_P, count)),
    )


def _first(key_P: NDArray[np.float64], among_P: NDArray[np.bool_], count: int) -> list[int]:
    rows = np.flatnonzero(among_P)
    ordered: list[int] = rows[np.argsort(key_P[rows], kind="stable")[:count]].tolist()
    return ordered


def _shown(pairs: _pairs.Pairs, row: int, wrong: bool) -> Pair:
    first, second = int(pairs.first_P[row]), int(pairs.second_P[row])
    norm_N = pairs.processed.features.feature_norm_N
    names = (str(first), str(second)) if pairs.names is None else (pairs.names[first], pairs.names[second])
    return Pair(
        (_jpeg(pairs.image(first)), _jpeg(pairs.image(second))),
        names,
        (float(norm_N[first]), float(norm_N[second])),
        float(pairs.cosine_P[row]),
        wrong,
    )


def _jpeg(image: Image | Failure) -> bytes:
    """Return a face as JPEG; nothing if it can no longer be read."""
    if isinstance(image, Failure):
        return b""
    done, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes() if done else b""
