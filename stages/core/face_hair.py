"""Hair, ears and hats of a drawn head: what covers the skull, on the grid of its surface.

Shapes: C, R the coarse grid of face_geometry, S, T the fine grid that is drawn (angle, row), 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.face_geometry import Floats, bump, step
from stages.core.face_model import Bgr, Hair, Wear

Image = NDArray[np.uint8]

HAT_EDGE = -29.0


def hairline(angle_S: Floats, hair: Hair, traits: Mapping[str, float]) -> Floats:
    """Return the row height above which hair grows (a large negative number: none), by angle around the head."""
    degrees = np.abs(np.rad2deg(angle_S))
    signed = np.rad2deg(angle_S)
    front = (
        traits["hairline"]
        + hair.front
        - (traits["recession"] if hair.front < 8 else 0.0) * bump(degrees - 38, 11)
    )
    front = front + 1.5 * bump(degrees, 9) - 2.2 * hair.part * bump(signed - 25 * hair.part, 22)
    if hair.bald:
        front = np.full_like(degrees, -95.0)
    temple = step(degrees - 63 + 6 * hair.length, 2.6)
    ear = (
        -4.0 + 16.0 * bump(degrees - 72, 6)
        if hair.length < 0.4
        else np.full_like(degrees, 30 + 60 * hair.length)
    )
    behind = 42.0 if hair.length < 0.4 else 80.0
    side = ear + (behind - ear) * step(degrees - 101, 1.5)
    line: Floats = (front + (side - front) * temple).astype(np.float32)
    return line


def hair_opacity(line_S: Floats, y_T: Floats, hair: Hair, grain_ST: Floats, soft: float) -> Floats:
    """Return (S, T) opacity 0..1; ``grain`` breaks the edge into strands."""
    fringe = hair.front > 8
    reach = line_S[:, None] - y_T + (2.2 if fringe else 1.5) * grain_ST
    opacity = np.clip(reach / (soft if fringe else 2 * soft) + 0.5, 0, 1)
    if hair.bald:
        opacity *= np.clip((y_T + 34) / 10, 0, 1)
    return opacity


def hair_thickness(line_C: Floats, y_R: Floats, hair: Hair) -> Floats:
    """Return (C, R): how far the hair stands off the skull, px."""
    rise = np.clip((line_C[:, None] - y_R + (1 if hair.front > 8 else -1)) / 11.0, 0, 1)
    rise = rise * rise * (3 - 2 * rise)
    if hair.bald:
        return rise * np.clip((y_R + 34) / 10, 0, 1) * min(hair.volume, 2.0)
    return rise * hair.volume


@lru_cache(maxsize=16)
def strands(shape_ST: tuple[int, int], kind: int) -> Floats:
    """Return one of eight fields of strands, mean 0 and deviation 1: kinds 0..5 lean further, 6 and 7 are curly."""
    rng = np.random.default_rng(7000 + kind)
    wide, tall = shape_ST
    cells = (wide // 2, tall // (6 if kind > 5 else 26))
    fine = cv2.resize(
        rng.standard_normal((cells[0], cells[1]), dtype=np.float32),
        (tall, wide),
        interpolation=cv2.INTER_CUBIC,
    )
    clumps = rng.standard_normal((wide // 9, max(tall // 40, 3)), dtype=np.float32)
    field = fine + 1.1 * cv2.resize(clumps, (tall, wide), interpolation=cv2.INTER_CUBIC)
    lean = (kind - 2.5) * 0.16 if kind < 6 else 0.0
    s, r = np.mgrid[0:wide, 0:tall].astype(np.float32)
    wave = 5 * np.sin(r / 9 + s / 17) if kind > 5 else 3 * np.sin(r / 60 + kind)
    moved = cv2.remap(
        field, r, s + lean * (r - tall * 0.2) + wave, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    return (moved - moved.mean()) / moved.std()


def strand_kind(hair: Hair) -> int:
    """Return which field of strands a haircut shows."""
    if hair.curl > 0.45:
        return 6 + int(hair.part > 0)
    return int(np.clip((hair.part + 1) * 3, 0, 5))


def hair_palette(colour: Bgr) -> Image:
    """Return a (256, 1, 3) palette from dark roots to lit strands."""
    level = np.linspace(0, 1, 256)[:, None]
    shade = 0.42 + 0.95 * level + 0.5 * np.clip(level - 0.8, 0, 1)
    lit = np.asarray(colour) * shade + 40 * np.clip(level - 0.72, 0, 1)
    return np.clip(lit, 0, 255).astype(np.uint8)[:, None, :]


def hat_line(angle_S: Floats, wear: Wear) -> Floats:
    """Return the lower edge of the hat by angle: lower at the back."""
    lower = (
        8.0 * np.square(np.sin(angle_S / 2))
        if wear.hat == "cap"
        else 10.0 * np.square(np.sin(angle_S / 2)) + 3.0
    )
    return (HAT_EDGE + lower).astype(np.float32)


def hat_texture(shape_ST: tuple[int, int], wear: Wear) -> Image:
    """Return (S, T, 3) cloth: panels for a cap, ribs for a beanie."""
    wide, tall = shape_ST
    s = np.arange(wide, dtype=np.float32)[:, None]
    t = np.arange(tall, dtype=np.float32)[None, :]
    if wear.hat == "cap":
        shade = 1 - 0.35 * (np.abs((s % (wide / 5)) - wide / 10) < 1.2) + 0 * t
    else:
        shade = 0.86 + 0.14 * np.sin(s * (2 * np.pi / 7)) + 0.05 * np.sin(t * (2 * np.pi / 5))
    cloth = shade[..., None] * np.asarray(wear.second_cloth, np.float32)
    return np.clip(cloth, 0, 255).astype(np.uint8)
