"""Thinning of a curve to what a screen can show: fewer points of a polyline, none of it further than a tolerance away.

From a point the line goes to the furthest that it can reach (sectors of Williams, 1978, and of Sklansky & Gonzalez,
1980); what that leaves too far away is cut as Ramer (1972) and Douglas & Peucker (1973) do.

Shapes: N points of the curve, K points that stay; 2 is x and y, both in the unit of the screen.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def thin(point_N2: Points, tolerance: float) -> NDArray[np.intp]:
    """Return the indices of the points that stay, in order: no point of the curve is further than ``tolerance`` away.

    Both ends stay, and a point of each extreme, in x and in y. A corner whose two sides are longer than three times
    the tolerance stays, so that a step stays a step.

    Args:
        point_N2: the curve's points, in the order in which it is drawn.
        tolerance: in the points' unit; 0 drops only points on the straight line between others.

    >>> thin(np.array([[0.0, 0.0], [1.0, 0.1], [2.0, 0.0], [2.0, 9.0], [5.0, 9.0]]), tolerance=0.25).tolist()
    [0, 2, 3, 4]
    """
    if len(point_N2) < 3:
        return np.arange(len(point_N2))
    fixed = {0, len(point_N2) - 1, *map(int, point_N2.argmin(axis=0)), *map(int, point_N2.argmax(axis=0))}
    ends = sorted(fixed)
    kept = [0]
    for first, last in itertools.pairwise(ends):
        kept += _sleeves(point_N2, first, last, tolerance)
    return np.array(kept)


def _sleeves(point_N2: Points, first: int, last: int, tolerance: float) -> list[int]:
    """Return the points that stay between two that do, and the second: from each the furthest that a line reaches."""
    kept, start = list[int](), first
    while start < last:
        end = _reach(point_N2[start : last + 1], tolerance) + start
        kept += _halves(point_N2, start, end, tolerance)
        start = end
    return kept


def _reach(point_M2: Points, tolerance: float) -> int:
    """Return the last point to which a straight line from the first passes all between within the tolerance.

    Each point leaves a sector of directions open; a point in what is left of the sectors can be reached.
    """
    low, high, base, reached = -math.inf, math.inf, None, 1
    for index, (x, y) in enumerate((point_M2[1:] - point_M2[0]).tolist(), start=1):
        away = math.hypot(x, y)
        if away <= tolerance:
            reached = index if base is None else reached
            continue
        angle = math.atan2(y, x)
        base = angle if base is None else base
        turned = (angle - base + math.pi) % (2 * math.pi) - math.pi
        if low <= turned <= high:
            reached = index
        half = math.asin(tolerance / away)
        low, high = max(low, turned - half), min(high, turned + half)
        if low > high:
            break
    return reached


def _halves(point_N2: Points, first: int, last: int, tolerance: float) -> list[int]:
    """Return the points that stay between two, and the second: where one is too far from the line, it is cut there.

    A line that stays within a sector is near enough, but for curves that turn back beyond its ends.
    """
    kept, pieces = [last], [(first, last)]
    while pieces:
        start, end = pieces.pop()
        if end - start < 2:
            continue
        away_M = distances(point_N2[start + 1 : end], point_N2[start], point_N2[end])
        furthest = int(away_M.argmax())
        if away_M[furthest] > tolerance:
            middle = start + 1 + furthest
            kept.append(middle)
            pieces += [(start, middle), (middle, end)]
    return sorted(kept)


def distances(point_M2: Points, start_2: Points, end_2: Points) -> Points:
    """Return the distance of each point to the straight line between two others, its ends included, shape (M,).

    >>> distances(np.array([[1.0, 2.0], [-3.0, 4.0]]), np.array([0.0, 0.0]), np.array([4.0, 0.0])).tolist()
    [2.0, 5.0]
    """
    along_2 = end_2 - start_2
    squared = float(along_2 @ along_2)
    share_M = np.clip((point_M2 - start_2) @ along_2 / squared, 0, 1) if squared else np.zeros(len(point_M2))
    away: Points = np.hypot(*(point_M2 - start_2 - share_M[:, None] * along_2).T)
    return away
