"""Hair, ears and hats of a synthetic head: what covers the skull, on the grid of its surface.

Shapes: C, R the coarse grid of face_geometry, S, T the part of the fine grid that is drawn (angle, row), 3
channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.synthetic_faces.geometry import Floats, bump, step
from stages.core.synthetic_faces.model import Hair, Wear
from stages.core.synthetic_faces.skin import SHIFT, Image
from stages.core.synthetic_faces.traits import Bgr

HAT_EDGE = -29.0
LONG = 0.4  # length from which hair covers the ears
FRINGE = 8.0  # a front edge lowered by more is a fringe


def hairline(angle_S: Floats, hair: Hair, traits: Mapping[str, float]) -> Floats:
    """Return the height above which hair grows, by angle around the head (far above the crown: no hair)."""
    signed = np.rad2deg(angle_S)
    degrees = np.abs(signed)
    recession = traits["recession"] if hair.front < FRINGE else 0.0
    front = traits["hairline"] + hair.front - recession * bump(degrees - 38, 11)
    front = front + 1.5 * bump(degrees, 9) - 2.2 * hair.part * bump(signed - 25 * hair.part, 22)
    if hair.bald:
        front = np.full_like(degrees, -95.0)
    if hair.length < LONG:
        ear, behind = -4.0 + 16.0 * bump(degrees - 72, 6), 42.0
    else:
        ear, behind = np.full_like(degrees, 30 + 60 * hair.length), 80.0
    side = ear + (behind - ear) * step(degrees - 101, 1.5)
    line: Floats = (front + (side - front) * step(degrees - 63 + 6 * hair.length, 2.6)).astype(np.float32)
    return line


def hair_opacity(line_S: Floats, y_T: Floats, hair: Hair, grain_ST: Floats) -> Image:
    """Return (S, T) opacity 0..255; ``grain`` (deviation 1) breaks the edge into strands."""
    fringe = hair.front > FRINGE
    jag, soft = (2.2, 3.0) if fringe else (1.3, 8.0)
    reach_ST = grain_ST * np.float32(jag * 255 / soft)
    reach_ST += ((line_S + soft / 2) * (255 / soft))[:, None]
    reach_ST -= y_T * (255 / soft)
    if hair.bald:
        reach_ST = np.minimum(reach_ST, (y_T + 34) * 25)
    np.maximum(reach_ST, 0, out=reach_ST)
    np.minimum(reach_ST, 255, out=reach_ST)
    return reach_ST.astype(np.uint8)


def hair_thickness(line_C: Floats, y_R: Floats, hair: Hair) -> Floats:
    """Return (C, R): how far the hair stands off the skull, px."""
    lead = 1.0 if hair.front > FRINGE else -1.0
    rise = np.clip((line_C[:, None] - y_R + lead) / 11.0, 0, 1)
    rise = rise * rise * (3 - 2 * rise)
    if hair.bald:
        return rise * np.clip((y_R + 34) / 10, 0, 1) * min(hair.volume, 2.0)
    return rise * hair.volume


@lru_cache(maxsize=16)
def strands(shape_ST: tuple[int, int], kind: int) -> Floats:
    """Return a field of strands, mean 0, deviation 1: kinds 0..5 lean increasingly, 6 and 7 curl."""
    rng = np.random.default_rng(7000 + kind)
    wide, tall = shape_ST
    cells = rng.standard_normal((wide // 2, tall // (6 if kind > 5 else 26)), dtype=np.float32)
    clumps = rng.standard_normal((wide // 9, max(tall // 40, 3)), dtype=np.float32)
    field = cv2.resize(cells, (tall, wide), interpolation=cv2.INTER_CUBIC)
    field = field + 1.1 * cv2.resize(clumps, (tall, wide), interpolation=cv2.INTER_CUBIC)
    lean = (kind - 2.5) * 0.16 if kind < 6 else 0.0
    s, r = np.mgrid[0:wide, 0:tall].astype(np.float32)
    wave = 5 * np.sin(r / 9 + s / 17) if kind > 5 else 3 * np.sin(r / 60 + kind)
    from_s = s + lean * (r - tall * 0.2) + wave
    moved = cv2.remap(field, r, from_s.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    unit: Floats = (moved - moved.mean()) / moved.std()
    return unit


@lru_cache(maxsize=16)
def strand_levels(shape_ST: tuple[int, int], kind: int) -> Image:
    """Return the same strands as brightness, 128 in the middle."""
    return np.clip(128 + 42 * strands(shape_ST, kind), 0, 255).astype(np.uint8)


def strand_kind(hair: Hair) -> int:
    """Return the strand field that a haircut uses."""
    if hair.curl > 0.45:
        return 6 + int(hair.part > 0)
    return min(int((hair.part + 1) * 3), 5)


def hair_palette(colour: Bgr) -> Image:
    """Return a (256, 1, 3) palette from dark roots to lit strands."""
    level = np.linspace(0, 1, 256)[:, None]
    shade = 0.42 + 0.95 * level + 0.5 * np.clip(level - 0.8, 0, 1)
    lit = np.asarray(colour) * shade + 40 * np.clip(level - 0.72, 0, 1)
    return np.clip(lit, 0, 255).astype(np.uint8)[:, None, :]


def hat_line(angle_S: Floats, wear: Wear) -> Floats:
    """Return the lower edge of the hat by angle: lower at the back."""
    lower = 8.0 * np.square(np.sin(angle_S / 2))
    if wear.hat == "beanie":
        lower = 1.25 * lower + 3.0
    return HAT_EDGE + lower


@lru_cache(maxsize=4)
def hat_cloth(shape_ST: tuple[int, int], hat: str) -> Image:
    """Return (S, T) brightness of the cloth, 255 for its own colour: panels for a cap, ribs for a beanie."""
    wide, tall = shape_ST
    s, t = np.mgrid[0:wide, 0:tall].astype(np.float32)
    if hat == "cap":
        shade = 1 - 0.35 * (np.abs((s % (wide / 5)) - wide / 10) < 1.2)
    else:
        shade = 0.80 + 0.14 * np.sin(s * (2 * np.pi / 7)) + 0.05 * np.sin(t * (2 * np.pi / 5))
    cloth: Image = (255 * shade).astype(np.uint8)
    return cloth


def ear_lines(angle_S: Floats, y_T: Floats, size: float) -> tuple[tuple[NDArray[np.int32], NDArray[np.int32]], ...]:
    """Return the outer and the inner fold of both ears as OpenCV points on the fine grid (row, angle)."""
    above, u = int(np.argmax(y_T)) + 1, np.linspace(0, 1, 10)
    folds = []
    for degrees, reach in ((85 + 12 * np.sin(u * np.pi), 12.5), (86 + 6 * np.sin(u * np.pi), 7.0)):
        at_t = np.interp(6 + reach * size * (2 * u - 1), y_T[:above], np.arange(above))
        both = []
        for sign in (-1, 1):
            at_s = np.interp(np.deg2rad(degrees) * sign, angle_S, np.arange(len(angle_S)))
            both.append(np.rint(np.stack([at_t, at_s], axis=1) * (1 << SHIFT)).astype(np.int32))
        folds.append((both[0], both[1]))
    return tuple(folds)
