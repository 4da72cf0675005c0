"""Paints a person's skin, brows and beard once on a flat front view: fine texture is half of an identity.

The front view is a canvas of SCALE px per unit over x in [LEFT, -LEFT) and y in [TOP, BOTTOM) (units and axes
of face_model). Shapes: H, W of that canvas, h, w half of that, 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.synthetic_faces.model import Identity, Rng
from stages.core.synthetic_faces.traits import SKIN_TONES, Bgr

Image = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Points = NDArray[np.float64]

SCALE = 2.5
LEFT, TOP, BOTTOM = -42.0, -56.0, 70.0
WIDTH, HEIGHT = int(-2 * LEFT * SCALE), int((BOTTOM - TOP) * SCALE)
SHIFT = 4  # fractional bits of the coordinates OpenCV draws at

# units to fixed-point pixels in two operations: this runs fifty times per image
_FACTOR = SCALE * (1 << SHIFT)
_ORIGIN = np.array([LEFT * SCALE + 0.5, TOP * SCALE + 0.5]) * (1 << SHIFT)


@dataclass(frozen=True)
class Skin:
    """The layers that are painted once per person."""

    bare_HW3: Image
    wrinkles_HW3: Image  # what full age takes away from ``bare``
    brow_HW: Image  # opacity
    beard_HW: Image  # opacity of a full beard
    moustache_HW: Image
    tone: Bgr


def canvas_points(points_N2: Points | Sequence[tuple[float, float]]) -> NDArray[np.int32]:
    """Return (x, y) units as OpenCV's fixed-point canvas coordinates."""
    fixed: NDArray[np.int32] = np.rint(np.asarray(points_N2) * _FACTOR - _ORIGIN).astype(np.int32)
    return fixed


def fill(image: Image, points_N2: Points, colour: Sequence[float] | float) -> None:
    """Fill a polygon given in units, anti-aliased."""
    cv2.fillPoly(image, [canvas_points(points_N2)], colour, cv2.LINE_AA, SHIFT)


def stroke(image: Image, points_N2: Points, colour: Sequence[float] | float, width: float) -> None:
    """Draw a line through points given in units, ``width`` units wide, anti-aliased."""
    thickness = max(round(width * SCALE), 1)
    cv2.polylines(image, [canvas_points(points_N2)], False, colour, thickness, cv2.LINE_AA, SHIFT)


def skin_tone(level: float) -> Bgr:
    """Return the BGR colour of skin between lightest (0) and darkest (1)."""
    at = level * (len(SKIN_TONES) - 1)
    blue, green, red = (float(np.interp(at, range(len(SKIN_TONES)), tone)) for tone in zip(*SKIN_TONES, strict=True))
    return blue, green, red


def paint_skin(identity: Identity) -> Skin:
    """Paint all parts of a person's front view that do not change per image."""
    rng = np.random.default_rng(identity.texture_seed)
    t = identity.traits
    tone = skin_tone(identity.tone)
    x_hw, y_hw = _coordinates()
    light_HW = _enlarge(_shadows(x_hw, y_hw, t) * (1 + 0.025 * _noise(rng, 8, x_hw.shape)))
    grain_HW = 0.022 * _noise(rng, 22) + 0.016 * _noise(rng, 52)
    grain_HW = light_HW * (1 + t["mottle"] * grain_HW + 0.012 * _noise(rng, 150))
    red_HW, spots_HW = _enlarge(_redness(x_hw, y_hw, t)), _spots(rng, t)
    paint = [
        channel * grain_HW * (1 - blush * red_HW) * (1 - dark * spots_HW)
        for channel, blush, dark in zip(tone, (0.20, 0.17, 0.02), (0.80, 0.68, 0.52), strict=True)
    ]
    wrinkles_HW = _wrinkles(rng, t)
    wrinkles_HW3 = cv2.merge([cv2.multiply(wrinkles_HW, 0.0024 * channel) for channel in tone])
    beard_HW, moustache_HW = _beards(rng, x_hw, y_hw, t)
    bare_HW3 = cv2.merge([_to_bytes(channel) for channel in paint])
    return Skin(bare_HW3, wrinkles_HW3, _brows(rng, t), beard_HW, moustache_HW, tone)


def _to_bytes(values: Floats) -> Image:
    return np.clip(values, 0, 255).astype(np.uint8)


def _coordinates() -> tuple[Floats, Floats]:
    x_w = (np.arange(WIDTH // 2, dtype=np.float32) + 0.5) * 2 / SCALE + LEFT
    y_h = (np.arange(HEIGHT // 2, dtype=np.float32) + 0.5) * 2 / SCALE + TOP
    x_hw, y_hw = np.meshgrid(x_w, y_h)
    return x_hw, y_hw


def _enlarge(field_hw: Floats) -> Floats:
    field_HW: Floats = cv2.resize(field_hw.astype(np.float32), (WIDTH, HEIGHT))
    return field_HW


def _noise(rng: Rng, cells: int, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> Floats:
    """Return smooth noise of unit deviation with about ``cells`` blobs over the width."""
    small = rng.standard_normal((cells * HEIGHT // WIDTH + 1, cells), dtype=np.float32)
    smooth: Floats = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return smooth / np.float32(smooth.std())


def _bell(x: Floats, y: Floats, sx: float, sy: float) -> Floats:
    bell: Floats = np.exp(-0.5 * (np.square(x / sx) + np.square(y / sy)))
    return bell


def _rise(distance: Floats, size: float) -> Floats:
    rise: Floats = 1 / (1 + np.exp(np.clip(-distance / size, -30, 30)))
    return rise


def _redness(x: Floats, y: Floats, t: Mapping[str, float]) -> Floats:
    side = np.abs(x)
    red = 0.55 * _bell(side - 23, y - 20, 9, 8) + 0.7 * _bell(x, y - t["nose_length"], 6, 4)
    red = red + 0.4 * _bell(x, y - 57, 10, 6) + 0.3 * _bell(side - t["eye_x"], y - 5, 8, 4)
    redness: Floats = red + 0.2 * _bell(x, y + 30, 20, 10)
    return redness


def _shadows(x: Floats, y: Floats, t: Mapping[str, float]) -> Floats:
    """Return the ambient light in hollows: sockets, nostrils, under nose and lip."""
    side, down = np.abs(x), y - t["nose_length"]
    eye_side, eye_y = side - t["eye_x"], y - t["eye_y"]
    dark = 0.22 * _bell(eye_side + 6.5, eye_y + 2.0, 4.5, 4.5) + 0.16 * _bell(eye_side, eye_y + 5.0, 7.5, 3.0)
    dark += t["bags"] * 0.30 * _bell(eye_side + 1, eye_y - 5.2, 6.0, 1.9)
    nostril_y = down - 3.4 + t["nose_up"]
    dark += 0.75 * _bell(side - t["nose_wings"] * 0.56, nostril_y, 1.9 * t["nostril"], 1.15)
    dark += 0.20 * _bell(x, down - 4.8, 6.5, 1.9)
    dark += 0.30 * _bell(side - t["nose_wings"] - 2.6 + 0.10 * np.square(down), down, 0.9, 2.8)
    dark += 0.16 * _bell(x, y - t["mouth_y"] - 8.2, 8.0, 2.0)
    dark += 0.10 * _bell(side - t["mouth_width"] - 1.0, y - t["mouth_y"], 1.8, 2.2)
    dark += 0.14 * t["fold"] * _bell(side - (10 + (y - 22) * 0.42), y - 31, 1.3, 7.0)
    light: Floats = 1 - np.minimum(dark, 0.85)
    return light


def _spots(rng: Rng, t: Mapping[str, float]) -> Floats:
    """Return the opacity of freckles and moles."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    freckles, moles = round(max(t["freckles"], 0.0) * 190), int(rng.integers(2, 9))
    x = np.concatenate([rng.normal(0, 15, freckles), rng.uniform(-34, 34, moles)])
    y = np.concatenate([rng.normal(15, 9, freckles), rng.uniform(-34, 58, moles)])
    radius = np.concatenate([rng.uniform(0.35, 0.8, freckles), rng.uniform(0.5, 1.25, moles)])
    value = np.concatenate([rng.uniform(30, 105, freckles), rng.uniform(130, 240, moles)])
    reach = np.rint(radius * SCALE * (1 << SHIFT)).astype(int)
    for centre, size, level in zip(canvas_points(np.stack([x, y], 1)).tolist(), reach.tolist(), value, strict=True):
        cv2.circle(image, centre, size, float(level), -1, cv2.LINE_AA, SHIFT)
    soft: Floats = cv2.GaussianBlur(image, (3, 3), 0.6).astype(np.float32) / 255
    return soft


def _wrinkles(rng: Rng, t: Mapping[str, float]) -> Image:
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(int(rng.integers(2, 5))):  # forehead
        x = np.linspace(-rng.uniform(14, 24), rng.uniform(14, 24), 16)
        wave = 1.5 * np.cos(x / 9 + rng.normal(0, 0.6)) + rng.normal(0, 0.25, 16)
        stroke(image, np.stack([x, -20.0 - 5.0 * k + rng.normal(0, 0.8) - wave], 1), 110 * t["wrinkles"], 0.7)
    for sign in (-1, 1):
        _eye_wrinkles(image, rng, sign, t)
        u = np.linspace(0, 1, 9)
        fold = np.stack([sign * (10 + 8 * u + rng.normal(0, 0.6)), 22 + 16 * u - 2 * np.sin(u * np.pi)], 1)
        stroke(image, fold, 95 * t["wrinkles"] * (0.5 + 0.5 * t["fold"]), 1.2)
        chin = np.stack([sign * (t["mouth_width"] + 2 + 1.5 * u), t["mouth_y"] + 2 + 9 * u], 1)
        stroke(image, chin, 100 * t["wrinkles"], 0.8)
        frown = np.stack([sign * (2.6 + 0.8 * u + rng.normal(0, 0.4)), -13 + 8 * u], 1)
        stroke(image, frown, 90 * t["wrinkles"], 0.7)
    soft: Image = cv2.GaussianBlur(image, (0, 0), 1.2)
    return soft


def _eye_wrinkles(image: Image, rng: Rng, sign: int, t: Mapping[str, float]) -> None:
    eye = np.array([sign * t["eye_x"], t["eye_y"]])
    for _ in range(3):  # crow's feet
        angle, reach = rng.uniform(-0.6, 0.7), rng.uniform(4, 8)
        start = eye + np.array([sign * (t["eye_width"] + 2.5), 1.0 + 2 * angle])
        end = start + np.array([sign * np.cos(angle), np.sin(angle)]) * reach
        stroke(image, np.stack([start, end]), 120 * t["wrinkles"], 0.6)
    u = np.linspace(0, 1, 9)
    down = 6 + 2.2 * np.sin(u * np.pi) + rng.normal(0, 0.4)
    stroke(image, np.stack([eye[0] + sign * (u * 14 - 8), eye[1] + down], 1), 110 * t["wrinkles"], 0.8)


def _brows(rng: Rng, t: Mapping[str, float]) -> Image:
    """Return the opacity of the brows: a soft band and single hairs on it."""
    band = np.zeros((HEIGHT, WIDTH), np.uint8)
    hairs = np.zeros((HEIGHT, WIDTH), np.uint8)
    u = np.linspace(0, 1, 12)
    middle = t["brow_y"] - t["brow_arch"] * np.sin(u**1.35 * np.pi * 0.92) - t["brow_tilt"] * (u - 0.4) + 1.6 * u**2
    full = 0.62 + 0.5 * np.sin(np.minimum(u * 1.5 + 0.25, 1) * np.pi * 0.5)
    half = t["brow_thickness"] * full * (1 - u**2.6) * 0.62 + 0.15
    for sign in (-1, 1):
        x = sign * (t["brow_inner"] + t["brow_length"] * u)
        fill(band, np.stack([np.r_[x, x[::-1]], np.r_[middle - half, (middle + half)[::-1]]], 1), 255)
        along = rng.uniform(0, 0.95, round(80 * t["brow_density"]))
        across = rng.uniform(-0.8, 1.0, len(along)) * np.interp(along, u, half)
        root = np.stack([np.interp(along, u, x), np.interp(along, u, middle) + across], axis=1)
        lean = np.deg2rad(68 - 60 * np.minimum(along * 1.6, 1) + rng.normal(0, 9, len(along)))
        tip = root + np.stack([sign * np.cos(lean) * 2.3, -np.sin(lean) * 1.9], axis=1)
        lines = canvas_points(np.stack([root, tip], axis=1).reshape(-1, 2)).reshape(-1, 2, 2)
        cv2.polylines(hairs, list(lines), False, 200, 1, cv2.LINE_AA, SHIFT)
    soft = cv2.GaussianBlur(band, (0, 0), 1.5)
    mixed: Image = cv2.addWeighted(soft, 0.62 * t["brow_density"] + 0.12, hairs, 0.42 + 0.25 * t["brow_density"], 0)
    return mixed


def _beards(rng: Rng, x: Floats, y: Floats, t: Mapping[str, float]) -> tuple[Image, Image]:
    """Return the opacities of a full beard and of a moustache."""
    side, from_mouth = np.abs(x), y - t["mouth_y"]
    grain_HW = np.clip(0.78 + 0.22 * _noise(rng, 110), 0.2, 1)
    edge = 0.8 * _noise(rng, 18, x.shape)
    lips = 1 - _bell(x, from_mouth - 0.8, t["mouth_width"] * 0.85, 4.2)
    moustache = _rise(y - t["nose_length"] - 6.0 + edge, 0.9) * _rise(1 - from_mouth, 1.0) * lips
    moustache *= _rise(t["mouth_width"] + 1.5 + 0.12 * from_mouth - side - edge, 0.9)
    cheek_line = 46 - 0.0195 * np.square(side) - 0.012 * np.square(np.maximum(side - 18, 0))
    full = np.maximum(_rise(y - cheek_line + edge, 1.3) * lips, moustache)
    return _to_bytes(_enlarge(255 * full) * grain_HW), _to_bytes(_enlarge(255 * moustache) * grain_HW)
