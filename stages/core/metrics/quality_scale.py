"""A quality score on a scale from 0 to 100: the percentage of a set's images that score lower, and how sure that is.

Shapes: N images, K steps of the scale, U people, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.metrics.curve_bands import draw_weights

NUM_STEPS = 100
_LEVEL = 0.95

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]
Units = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Scale:
    """Rising scores with their percentages, linear in between."""

    score_K: Floats
    percent_K: Floats
    images: int
    people: int | None
    """Whom ``within`` was resampled over; None: not known, so images were taken as independent."""
    within: float
    """Half the width of the 95 % band around the whole scale, in points."""

    @property
    def step(self) -> float:
        """Largest rise between neighbouring scores, in points: more than 1 where images have equal scores."""
        return float(np.diff(self.percent_K).max()) if self.score_K.size > 1 else 100.0

    def percent(self, score_N: Floats) -> Floats:
        """Return each score's place, 0 below all images of the set and 100 above them.

        >>> scale = Scale(np.array([1.0, 3.0]), np.array([0.0, 100.0]), 9, None, 1.0)
        >>> scale.percent(np.array([0.0, 1.5, 9.0])).tolist()
        [0.0, 25.0, 100.0]
        """
        low, high = (0.0, 100.0) if self.score_K.size > 1 else (self.percent_K[0], self.percent_K[0])
        percent_N: Floats = np.interp(score_N, self.score_K, self.percent_K, left=low, right=high)
        return percent_N

    def text(self, method: str, where: str) -> str:
        """Return what the scale means, and what the set cannot resolve, in words."""
        if self.score_K.size == 1:
            return f"{method} from 0 to 100 is not resolved: all {self.images} images of {where} have the same score"
        over = f"{self.images} images" if self.people is None else f"{self.people} people"
        said = (
            f"{method} from 0 to 100: percentage of the {self.images} images of {where} that score lower, known to "
            f"within {self.within:.1f} points (95 % over {over})"
        )
        equal = f"; equal scores leave steps of up to {self.step:.0f} points" if self.step > self.within else ""
        return said + equal

    def tree(self, method: str, where: str) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "meaning": self.text(method, where), "images": self.images, "people": self.people, "within": self.within,
            "score": self.score_K.tolist(), "percent": self.percent_K.tolist(),
        }  # fmt: skip

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Scale:
        """Return the scale that ``tree`` gave."""
        steps = np.array(tree["score"], np.float64), np.array(tree["percent"], np.float64)
        return cls(*steps, tree["images"], tree["people"], tree["within"])


def of_scores(score_N: Numbers, identity_N: Units | None) -> Scale | None:
    """Return the scale of a set's scores at 100 of its own percentiles and its best score; None without any score.

    Args:
        score_N: of each image; one that is not finite is left out.
        identity_N: who is on each image; None if nobody knows.
    """
    used_N = np.isfinite(score_N)
    rising_N = np.sort(score_N[used_N]).astype(np.float64)
    if not rising_N.size:
        return None
    place_K = np.floor(np.arange(NUM_STEPS) * rising_N.size / NUM_STEPS).astype(int)
    score_K, inverse = np.unique(np.append(rising_N[place_K], rising_N[-1]), return_inverse=True)
    # equal scores share the middle of their percentiles
    percent_K = np.bincount(inverse, np.append(np.arange(NUM_STEPS), 100.0)) / np.bincount(inverse)
    # Dvoretzky, Kiefer and Wolfowitz's band, with Massart's constant (Annals of Probability 18, 1990)
    within = min(100 * math.sqrt(math.log(2 / (1 - _LEVEL)) / (2 * rising_N.size)), 100.0)
    if identity_N is None:
        return Scale(score_K, percent_K, int(rising_N.size), None, within)
    step_N = np.searchsorted(score_K, score_N[used_N], side="right")
    people, over_people = _over_people(step_N, identity_N[used_N], score_K.size)
    return Scale(score_K, percent_K, int(rising_N.size), people, max(within, over_people))


def _over_people(step_N: Units, identity_N: Units, num: int) -> tuple[int, float]:
    """Return the number of people, and the 95th percentile over resamples of people of the largest shift, in points.

    One person says nothing of others: 100.
    """
    person_N = np.unique(identity_N, return_inverse=True)[1]
    people = int(person_N.max()) + 1
    if people == 1:
        return people, 100.0
    count_UK = np.bincount(person_N * (num + 1) + step_N, minlength=people * (num + 1)).reshape(people, num + 1)
    count_BK = np.vstack([count_UK.sum(axis=0), draw_weights(people) @ count_UK])
    share_BK = count_BK.cumsum(axis=1) / count_BK.sum(axis=1, keepdims=True)
    shift_B = np.abs(share_BK[1:] - share_BK[0]).max(axis=1)
    return people, float(100 * np.quantile(shift_B, _LEVEL))
