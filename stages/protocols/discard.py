"""Error versus discard of a quality score on verification pairs, as CR-FIQA and as ISO/IEC 29794-1 define it.

Shapes: N images, P pairs, T templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics import discard_curves, rates

VERSION = "1"

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Curves:
    """Both curves at one false match rate. ``threshold`` is the ISO curve's, fixed on all impostor pairs."""

    fmr: float
    erc: discard_curves.ErcCurve
    edc: discard_curves.EdcCurve
    threshold: float

    @property
    def resolved_until(self) -> float:
        """Largest discard of the ERC grid up to which the remaining impostor pairs still resolve the rate."""
        resolved_K = [rates.unresolved(int(num), self.fmr) is None for num in self.erc.num_impostor_K]
        return float(self.erc.discard_K[resolved_K.index(False) - 1 if False in resolved_K else -1])


def pair_quality(quality_N: Floats, first_P: Rows, second_P: Rows) -> Floats:
    """Return the quality of each pair of rows: that of the worse image, or template."""
    return np.minimum(quality_N[first_P], quality_N[second_P])


def template_quality(quality_N: Floats, row_N: Rows, num_templates: int) -> Floats:
    """Return the quality of each template: that of its worst image (CR-FIQA IJB-C Evaluation/ijb_qs_pair_file.py).

    Images of quality -inf, which could not be processed, are not in their template; one without any other has
    quality -inf.

    >>> template_quality(np.array([0.5, 0.2, -np.inf, -np.inf]), np.array([0, 0, 0, 1]), 2).tolist()
    [0.2, -inf]
    """
    worst_T = np.full(num_templates, np.inf)
    used_N = np.isfinite(quality_N)
    np.minimum.at(worst_T, row_N[used_N], quality_N[used_N])
    return np.where(np.isinf(worst_T), -np.inf, worst_T)


def measure(
    cosine_P: Floats, is_same_P: Mask, quality_P: Floats, fmrs: Sequence[float]
) -> tuple[dict[float, Curves], dict[float, str]]:
    """Return curves at each false match rate, and the reasons for missing ones.

    A rate needs 1/rate impostor pairs before anything is discarded. CR-FIQA's curve goes on with fewer, as
    published; ``Curves.resolved_until`` says from where on its threshold is coarser than the rate it is named
    after.

    Raises:
        ValueError: no genuine pairs, lengths that differ, or NaN.
    """
    genuine_G, impostor_I = cosine_P[is_same_P], cosine_P[~is_same_P]
    if not genuine_G.size:
        raise InputError("a discard curve needs genuine pairs, got none")
    reasons = {fmr: rates.unresolved(impostor_I.size, fmr) for fmr in fmrs}
    resolved = [fmr for fmr in fmrs if reasons[fmr] is None]
    erc = discard_curves.erc_curve(cosine_P, is_same_P, quality_P, resolved)
    curves = {}
    for fmr in resolved:
        threshold = rates.threshold_at_fmr(impostor_I, fmr)
        edc = discard_curves.edc_curve(genuine_G < threshold, quality_P[is_same_P])
        curves[fmr] = Curves(fmr, erc[fmr], edc, threshold)
    return curves, {fmr: reason for fmr, reason in reasons.items() if reason is not None}
