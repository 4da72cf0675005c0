"""Data behind the pages of a run's quality methods: scores of each image, a few faces, bands of the curves.

Shapes: N images, P pairs, S sides of pairs: images or templates, K steps of discarding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from stages.core.metrics import curve_bands, quality_cuts, quality_scale
from stages.core.metrics.discard_curves import ERC_DISCARD_K
from stages.core.metrics.processing import Failure
from stages.core.metrics.resampling_units import units
from stages.core.metrics.suite_result import Table, finite
from stages.protocols import discard
from stages.suites._quality_pairs import Compared

# worst and best, and of those that score and known quality rank most differently, each way
NUM_FACES, NUM_WRONG = 8, 4
_JPEG_QUALITY = 85
FEATURE_NORM = "feature_norm"

Floats = NDArray[np.float64]
Units = NDArray[np.integer[Any]]


@dataclass
class Kept:
    """Collected set by set; ``tables`` and ``curves`` are written beside the results."""

    curves: dict[str, Table] = field(
        default_factory=lambda: {
            "bands": Table(("set", "method", "fmr", "convention", "discard", "fnmr", "low", "high")),
            "areas": Table(("set", "method", "fmr", "edc_auc", "low", "high", "less", "less_low", "less_high")),
            "cuts": Table(("set", "method", "fmr", *quality_cuts.COLUMNS)),
        }
    )
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By method and set."""
    _scores: list[dict[str, Any]] = field(default_factory=list)
    _faces: dict[str, list[Any]] = field(default_factory=lambda: {"set": [], "row": [], "jpeg": []})

    def add(
        self,
        name: str,
        compared: Compared,
        known_N: Floats | None,
        identity_N: Units | None,
        quality: Mapping[str, Floats],
        curves: Mapping[str, Mapping[float, discard.Curves]],
    ) -> str:
        """Add one set; return what the bands were resampled over.

        Args:
            name: of the set.
            compared: its images and pairs.
            known_N: quality each image was rendered with; None if nobody knows.
            identity_N: who is on each image; None if nobody knows.
            quality: scores by method, -inf for an image that could not be processed.
            curves: by method and false match rate.
        """
        num_images = compared.processed.processed_N.size
        nothing_N = np.full(num_images, np.nan)
        self._scores.append(
            {
                "set": [name] * num_images,
                "row": np.arange(num_images),
                "image": list(compared.names or map(str, range(num_images))),
                "identity": np.full(num_images, -1) if identity_N is None else identity_N,
                "known_quality": nothing_N if known_N is None else known_N,
                "norm": np.where(compared.processed.processed_N, compared.processed.features.feature_norm_N, np.nan),
                **{method: np.where(np.isfinite(score_N), score_N, np.nan) for method, score_N in quality.items()},
            }
        )
        self._add_faces(name, compared, quality, known_N)
        self.add_scales(name, identity_N, quality)
        return self._add_bands(name, compared, identity_N, quality, curves)

    def add_scales(self, name: str, identity_N: Units | None, quality: Mapping[str, Floats]) -> None:
        """Add the scale of each method on one set; arguments as ``add``."""
        for method, score_N in quality.items():
            scale = quality_scale.of_scores(score_N, identity_N)
            if scale is not None:
                self.scales.setdefault(method, {})[name] = scale.tree(method, name)

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return ``scores``, one row per image, and ``faces``, JPEGs of those that pages show.

        ``identity`` is -1 where nobody knows it, ``known_quality`` NaN; ``norm`` and scores are NaN for an image
        that could not be processed.
        """
        columns = self._scores[0] if self._scores else {}
        return {
            "scores": {key: np.concatenate([part[key] for part in self._scores]) for key in columns},
            "faces": dict(self._faces),
        }

    def _add_faces(
        self, name: str, compared: Compared, quality: Mapping[str, Floats], known_N: Floats | None
    ) -> None:
        shown: set[int] = set()
        for score_N in quality.values():
            shown.update(*_extremes(score_N, NUM_FACES))
            if known_N is not None:
                shown.update(*_extremes(rank_excess(score_N, known_N), NUM_WRONG))
        for row in sorted(shown):
            image = compared.image(row)
            if isinstance(image, Failure):
                continue  # there a moment ago: no reason to lose the measurement
            packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
            for column, value in (("set", name), ("row", row), ("jpeg", packed.tobytes())):
                self._faces[column].append(value)

    def _add_bands(
        self,
        name: str,
        compared: Compared,
        identity_N: Units | None,
        quality: Mapping[str, Floats],
        curves: Mapping[str, Mapping[float, discard.Curves]],
    ) -> str:
        first_P, second_P, over = units(
            compared.first_P, compared.second_P, compared.is_same_P, identity_N, compared.side_N
        )
        weight_BU = curve_bands.draw_weights(int(max(first_P.max(), second_P.max())) + 1)
        areas: dict[tuple[str, float], Floats] = {}
        for method, score_N in quality.items():
            quality_P = compared.pair_quality(score_N)
            pairs = curve_bands.Pairs(compared.cosine_P, compared.is_same_P, quality_P, first_P, second_P)
            for fmr, curve in curves[method].items():
                found = quality_cuts.cuts(
                    score_N, quality_P, compared.cosine_P, compared.is_same_P, curve.threshold, first_P, weight_BU
                )
                self._add_cuts((name, method, f"{fmr:.0e}"), found)
            drawn: dict[float, dict[curve_bands.Convention, Floats]] = {
                fmr: {"cr_fiqa": curve.erc.fnmr_K, "iso": np.array([curve.edc.at(share) for share in ERC_DISCARD_K])}
                for fmr, curve in curves[method].items()
            }
            for fmr, band_of in curve_bands.bands(pairs, weight_BU, drawn).items():
                areas[method, fmr] = np.append(curves[method][fmr].erc.auc, band_of["cr_fiqa"].area_B)
                for convention, band in band_of.items():
                    self._draw((name, method, f"{fmr:.0e}", convention), drawn[fmr][convention], band)
        self._add_areas(name, areas)
        return over

    def _add_areas(self, name: str, areas: Mapping[tuple[str, float], Floats]) -> None:
        """Add each area, and its difference from the feature norm's, both on the same resamples."""
        for (method, fmr), area_B in areas.items():
            less_B = areas[FEATURE_NORM, fmr] - area_B
            numbers = [area_B[0], *curve_bands.interval(area_B[1:]), less_B[0], *curve_bands.interval(less_B[1:])]
            if np.isfinite(numbers).all():
                self.curves["areas"].rows.append((name, method, f"{fmr:.0e}", *map(float, numbers)))

    def _add_cuts(self, key: tuple[str, str, str], found: Sequence[quality_cuts.Cut]) -> None:
        """Add the cuts on a score; empty where a rate has no value."""
        for one in found:
            numbers = [vars(one)[column] for column in quality_cuts.COLUMNS]
            self.curves["cuts"].rows.append((*key, *(number if np.isfinite(number) else "" for number in numbers)))

    def _draw(self, key: tuple[str, str, str, str], curve_K: Floats, band: curve_bands.Band) -> None:
        for share, fnmr, *limits in zip(ERC_DISCARD_K, curve_K, band.low_K, band.high_K, strict=True):
            if np.isfinite(fnmr):
                shown = [limit if finite(limit) is not None else "" for limit in limits]
                self.curves["bands"].rows.append((*key, round(float(share), 2), float(fnmr), *shown))


def rank_excess(score_N: Floats, known_N: Floats) -> Floats:
    """Return how far an image's score ranks above its known quality, in (-1, 1); -inf without a score.

    >>> rank_excess(np.array([1.0, 2.0, -np.inf]), np.array([0.9, 0.1, 0.5])).tolist()
    [-0.5, 0.5, -inf]
    """
    excess_N = np.full(score_N.size, -np.inf)
    used_N = np.isfinite(score_N)
    ranks = [scipy.stats.rankdata(values_N[used_N]) for values_N in (score_N, known_N)]
    excess_N[used_N] = (ranks[0] - ranks[1]) / max(int(used_N.sum()), 1)
    return excess_N


def _extremes(value_N: Floats, count: int) -> tuple[list[int], list[int]]:
    """Return the rows of the lowest and of the highest finite values, the most extreme first."""
    used_N = np.flatnonzero(np.isfinite(value_N))
    rising_N = used_N[np.argsort(value_N[used_N], kind="stable")]
    falling_N = used_N[np.argsort(-value_N[used_N], kind="stable")]
    return rising_N[:count].tolist(), falling_N[:count].tolist()
