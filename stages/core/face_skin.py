"""A person's skin, brows and beard, painted once on a flat front view: fine texture is half of what an identity is.

The front view is a canvas of SCALE px per unit over x in [LEFT, -LEFT) and y in [TOP, BOTTOM) (units and axes of
face_model). Shapes: H, W of that canvas, 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.face_model import SKIN_TONES, Identity, Rng

Image = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

SCALE = 3.0
LEFT, TOP, BOTTOM = -42.0, -56.0, 70.0
WIDTH, HEIGHT = int(-2 * LEFT * SCALE), int((BOTTOM - TOP) * SCALE)
SHIFT = 4  # fractional bits of the coordinates OpenCV draws at


@dataclass(frozen=True)
class Skin:
    """What is painted once per person."""

    bare_HW3: Image
    wrinkles_HW3: Image  # what full age takes away from ``bare``
    brow_HW: Image  # opacity
    beard_HW: Image  # opacity of a full beard
    moustache_HW: Image
    tone: tuple[float, float, float]


def canvas_points(points_N2: NDArray[np.float64] | Sequence[tuple[float, float]]) -> NDArray[np.int32]:
    """Return (x, y) units as OpenCV's fixed-point canvas coordinates."""
    flat = (np.asarray(points_N2, np.float64) - (LEFT, TOP)) * SCALE - 0.5
    return np.rint(flat * (1 << SHIFT)).astype(np.int32)


def fill(image: Image, points_N2: NDArray[np.float64], colour: Sequence[float] | float) -> None:
    """Fill a polygon given in units, anti-aliased."""
    cv2.fillPoly(image, [canvas_points(points_N2)], colour, cv2.LINE_AA, SHIFT)


def stroke(
    image: Image, points_N2: NDArray[np.float64], colour: Sequence[float] | float, width: float
) -> None:
    """Draw a line through points given in units, ``width`` units wide, anti-aliased."""
    thickness = max(round(width * SCALE), 1)
    cv2.polylines(image, [canvas_points(points_N2)], False, colour, thickness, cv2.LINE_AA, SHIFT)


def skin_tone(level: float) -> tuple[float, float, float]:
    """Return the BGR colour of skin between lightest (0) and darkest (1)."""
    at = level * (len(SKIN_TONES) - 1)
    blue, green, red = (
        float(np.interp(at, range(len(SKIN_TONES)), [tone[k] for tone in SKIN_TONES])) for k in range(3)
    )
    return blue, green, red


def paint_skin(identity: Identity) -> Skin:
    """Paint everything of a person's front view that does not move."""
    rng = np.random.default_rng(identity.texture_seed)
    t = identity.traits
    tone = skin_tone(identity.tone)
    x_HW, y_HW = _coordinates()
    red_HW = _redness(x_HW, y_HW, t)
    grain_HW = 1 + 0.025 * _noise(rng, 8) + t["mottle"] * (0.022 * _noise(rng, 22) + 0.016 * _noise(rng, 52))
    grain_HW = grain_HW + 0.012 * _noise(rng, 150)
    grain_HW = grain_HW * _shadows(x_HW, y_HW, t)
    spots_HW = _spots(rng, t)
    colour_HW3 = np.asarray(tone, np.float32) * grain_HW[..., None]
    colour_HW3 *= 1 - red_HW[..., None] * np.array([0.20, 0.17, 0.02], np.float32)
    colour_HW3 *= 1 - spots_HW[..., None] * np.array([0.80, 0.68, 0.52], np.float32)
    wrinkles_HW = _wrinkles(rng, t).astype(np.float32)[..., None] * np.array([0.42, 0.42, 0.40], np.float32)
    wrinkles_HW3 = wrinkles_HW * (np.asarray(tone, np.float32) / 200)
    beard_HW, moustache_HW = _beards(rng, x_HW, y_HW, t)
    return Skin(_to_bytes(colour_HW3), _to_bytes(wrinkles_HW3), _brows(rng, t), beard_HW, moustache_HW, tone)


def _to_bytes(values: Floats) -> Image:
    return np.clip(values, 0, 255).astype(np.uint8)


def _coordinates() -> tuple[Floats, Floats]:
    x_W = (np.arange(WIDTH, dtype=np.float32) + 0.5) / SCALE + LEFT
    y_H = (np.arange(HEIGHT, dtype=np.float32) + 0.5) / SCALE + TOP
    return np.broadcast_to(x_W, (HEIGHT, WIDTH)), np.broadcast_to(y_H[:, None], (HEIGHT, WIDTH))


def _noise(rng: Rng, cells: int) -> Floats:
    """Return smooth noise of unit deviation with about ``cells`` blobs over the width."""
    small = rng.standard_normal((cells * HEIGHT // WIDTH + 1, cells), dtype=np.float32)
    smooth: Floats = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return smooth / smooth.std()


def _bell(x: Floats, y: Floats, sx: float, sy: float) -> Floats:
    bell: Floats = np.exp(-0.5 * ((x / sx) ** 2 + (y / sy) ** 2))
    return bell


def _redness(x: Floats, y: Floats, t: Mapping[str, float]) -> Floats:
    side = np.abs(x)
    red = 0.55 * _bell(side - 23, y - 20, 9, 8) + 0.7 * _bell(x, y - t["nose_length"], 6, 4)
    red = red + 0.4 * _bell(x, y - 57, 10, 6) + 0.3 * _bell(side - t["eye_x"], y - 5, 8, 4)
    return red + 0.2 * _bell(x, y + 30, 20, 10)


def _shadows(x: Floats, y: Floats, t: Mapping[str, float]) -> Floats:
    """Return the light that reaches hollows: sockets, nostrils, under nose and lip."""
    side, length = np.abs(x), t["nose_length"]
    dark = 0.22 * _bell(side - t["eye_x"] + 6.5, y - t["eye_y"] + 2.0, 4.5, 4.5)
    dark = dark + 0.16 * _bell(side - t["eye_x"], y - t["eye_y"] + 5.0, 7.5, 3.0)
    dark = dark + t["bags"] * 0.30 * _bell(side - t["eye_x"] + 1, y - t["eye_y"] - 5.2, 6.0, 1.9)
    nostril = _bell(side - t["nose_wings"] * 0.56, y - length - 3.4 + t["nose_up"], 1.9 * t["nostril"], 1.15)
    dark = dark + 0.75 * nostril + 0.20 * _bell(x, y - length - 4.8, 6.5, 1.9)
    crease = _bell(side - t["nose_wings"] - 2.6 + 0.10 * (y - length) ** 2, y - length, 0.9, 2.8)
    dark = dark + 0.30 * crease + 0.16 * _bell(x, y - t["mouth_y"] - 8.2, 8.0, 2.0)
    dark = dark + 0.14 * t["fold"] * _bell(side - (10 + (y - 22) * 0.42), y - 31, 1.3, 7.0)
    light: Floats = 1 - np.minimum(dark, 0.85)
    return light


def _spots(rng: Rng, t: Mapping[str, float]) -> Floats:
    """Return the opacity of freckles and moles."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(round(max(t["freckles"], 0.0) * 190)):
        x, y = rng.normal(0, 15), rng.normal(15, 9)
        _dot(image, x, y, rng.uniform(0.35, 0.8), int(rng.uniform(30, 105)))
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(-34, 34), rng.uniform(-34, 58)
        _dot(image, x, y, rng.uniform(0.5, 1.25), int(rng.uniform(130, 240)))
    return cv2.GaussianBlur(image, (0, 0), 0.7).astype(np.float32) / 255


def _dot(image: Image, x: float, y: float, radius: float, value: int) -> None:
    centre = canvas_points([(x, y)])[0]
    cv2.circle(
        image,
        (int(centre[0]), int(centre[1])),
        round(radius * SCALE * (1 << SHIFT)),
        value,
        -1,
        cv2.LINE_AA,
        SHIFT,
    )


def _wrinkles(rng: Rng, t: Mapping[str, float]) -> Image:
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    strength = t["wrinkles"]
    for k in range(int(rng.integers(2, 5))):  # forehead
        x = np.linspace(-rng.uniform(14, 24), rng.uniform(14, 24), 16)
        y = (
            -20.0
            - 5.0 * k
            + rng.normal(0, 0.8)
            - 1.5 * np.cos(x / 9 + rng.normal(0, 0.6))
            + rng.normal(0, 0.25, 16)
        )
        stroke(image, np.stack([x, y], 1), 110 * strength, 0.7)
    for sign in (-1, 1):
        eye = np.array([sign * t["eye_x"], t["eye_y"]])
        for _ in range(3):  # crow's feet
            angle = rng.uniform(-0.6, 0.7)
            start = eye + (sign * (t["eye_width"] + 2.5), 1.0 + 2 * angle)
            end = start + np.array([sign * np.cos(angle), np.sin(angle)]) * rng.uniform(4, 8)
            stroke(image, np.stack([start, end]), 120 * strength, 0.6)
        u = np.linspace(0, 1, 9)
        under = np.stack(
            [eye[0] + sign * (u * 14 - 8), eye[1] + 6 + 2.2 * np.sin(u * np.pi) + rng.normal(0, 0.4)], 1
        )
        stroke(image, under, 110 * strength, 0.8)
        fold = np.stack([sign * (10 + 8 * u + rng.normal(0, 0.6)), 22 + 16 * u - 2 * np.sin(u * np.pi)], 1)
        stroke(image, fold, 95 * strength * (0.5 + 0.5 * t["fold"]), 1.2)
        chin = np.stack([sign * (t["mouth_width"] + 2 + 1.5 * u), t["mouth_y"] + 2 + 9 * u], 1)
        stroke(image, chin, 100 * strength, 0.8)
        frown = np.stack([sign * (2.6 + 0.8 * u + rng.normal(0, 0.4)), -13 + 8 * u], 1)
        stroke(image, frown, 90 * strength, 0.7)
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def _brows(rng: Rng, t: Mapping[str, float]) -> Image:
    """Return the opacity of the brows: a soft band and single hairs on it."""
    band = np.zeros((HEIGHT, WIDTH), np.uint8)
    hairs = np.zeros((HEIGHT, WIDTH), np.uint8)
    for sign in (-1, 1):
        u = np.linspace(0, 1, 12)
        middle = (
            t["brow_y"]
            - t["brow_arch"] * np.sin(u**1.35 * np.pi * 0.92)
            - t["brow_tilt"] * (u - 0.4)
            + 1.6 * u**2
        )
        half = (
            t["brow_thickness"]
            * (0.62 + 0.5 * np.sin(np.minimum(u * 1.5 + 0.25, 1) * np.pi * 0.5))
            * (1 - u**2.6)
            * 0.62
        )
        half = half + 0.15
        x = sign * (t["brow_inner"] + t["brow_length"] * u)
        fill(band, np.stack([np.r_[x, x[::-1]], np.r_[middle - half, (middle + half)[::-1]]], 1), 255)
        for _ in range(round(90 * t["brow_density"])):
            v = rng.uniform(0, 0.95)
            root = (
                np.interp(v, u, x),
                np.interp(v, u, middle) + rng.uniform(-0.8, 1.0) * np.interp(v, u, half),
            )
            lean = np.deg2rad(68 - 60 * min(v * 1.6, 1) + rng.normal(0, 9))
            tip = (root[0] + sign * np.cos(lean) * 2.3, root[1] - np.sin(lean) * 1.9)
            stroke(hairs, np.array([root, tip]), 200, 0.34)
    soft = cv2.GaussianBlur(band, (0, 0), 1.8)
    return cv2.addWeighted(soft, 0.62 * t["brow_density"] + 0.12, hairs, 0.42 + 0.25 * t["brow_density"], 0)


def _beards(rng: Rng, x: Floats, y: Floats, t: Mapping[str, float]) -> tuple[Image, Image]:
    side, mouth = np.abs(x), t["mouth_y"]
    grain = np.clip(0.78 + 0.22 * _noise(rng, 110), 0.2, 1)
    edge = 0.8 * _noise(rng, 18)
    lips = 1 - _bell(x, y - mouth - 0.8, t["mouth_width"] * 0.85, 4.2)
    above = 1 / (1 + np.exp(np.minimum((t["nose_length"] + 6.0 - y - edge) / 0.9, 40)))
    moustache = above / (1 + np.exp((side - t["mouth_width"] - 1.5 - 0.12 * (y - mouth) + edge) / 0.9))
    moustache = moustache / (1 + np.exp((y - mouth - 1) / 1.0)) * lips
    cheek_line = 46 - 0.0195 * side**2 - 0.012 * np.maximum(side - 18, 0) ** 2
    full = 1 / (1 + np.exp(-(y - cheek_line + edge) / 1.3)) * lips
    full = np.maximum(full, moustache)
    return _to_bytes(255 * full * grain), _to_bytes(255 * moustache * grain)
