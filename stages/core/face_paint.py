"""What moves on the front view: eyes, mouth, and the brows and beard in the hair colour of the image.

Units and canvas as in face_skin. Shapes: H, W of the canvas, 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.face_model import Bgr, Face, Identity, Shot
from stages.core.face_skin import LEFT, SCALE, SHIFT, TOP, Image, Skin, canvas_points, fill, stroke

_UNIT = np.linspace(-1, 1, 15)
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)

Points = NDArray[np.float64]


def paint_front(identity: Identity, skin: Skin, shot: Shot) -> Image:
    """Return the (H, W, 3) front view of a person in one image, under even light."""
    canvas_HW3 = cv2.addWeighted(
        skin.bare_HW3, 1.0, skin.wrinkles_HW3, -1.15 * max(shot.face.age - 0.12, 0.0), 0
    )
    if shot.wear.beard > 0:
        _paint_beard(canvas_HW3, skin, shot)
    _paint_mouth(canvas_HW3, identity.traits, skin, shot.face, shot.wear.lips)
    for sign in (-1, 1):
        _paint_eye(canvas_HW3, sign, identity.traits, skin, shot)
    brow_colour = tuple(0.55 * c for c in shot.wear.hair_colour)
    rows = slice(*_span(identity.traits["brow_y"] - 9, identity.traits["brow_y"] + 9, TOP))
    _blend(canvas_HW3[rows], skin.brow_HW[rows], brow_colour, 0.9)
    return canvas_HW3


def _span(low: float, high: float, origin: float) -> tuple[int, int]:
    return max(int((low - origin) * SCALE), 0), int((high - origin) * SCALE)


def _blend(patch: Image, opacity: Image, colour: tuple[float, ...], strength: float) -> None:
    """Lay ``colour`` over ``patch`` in place."""
    a = opacity[..., None].astype(np.float32) * np.float32(strength / 255)
    base = patch.astype(np.float32)
    base += (np.asarray(colour, np.float32) - base) * a
    np.copyto(patch, base, casting="unsafe")


def _paint_beard(canvas_HW3: Image, skin: Skin, shot: Shot) -> None:
    rows = slice(*_span(12, 70, TOP))
    colour = tuple(0.6 * c for c in shot.wear.hair_colour)
    level = shot.wear.beard
    if level < 0.45:
        _blend(canvas_HW3[rows], skin.beard_HW[rows], (52, 52, 56), 0.28 + 0.4 * level)
    else:
        _blend(canvas_HW3[rows], (skin.moustache_HW if level < 0.7 else skin.beard_HW)[rows], colour, 0.85)


def _paint_eye(canvas_HW3: Image, sign: int, t: Mapping[str, float], skin: Skin, shot: Shot) -> None:
    """Paint one eye; ``sign`` is -1 for the one on the image's left."""
    face = shot.face
    upper, lower = _lids(sign, t, face)
    opening = np.concatenate([upper, lower[::-1]])
    low = opening.min(axis=0) - (4, 6)
    high = opening.max(axis=0) + (4, 4)
    (x0, x1), (y0, y1) = _span(low[0], high[0], LEFT), _span(low[1], high[1], TOP)
    patch = canvas_HW3[y0:y1, x0:x1]
    here = np.array([x0 / SCALE, y0 / SCALE])
    crease = upper + np.stack(
        [np.zeros(15), -t["lid_crease"] * (0.5 + 0.5 * (1 - _UNIT**2)) * (1 - 0.4 * face.squint)], 1
    )
    dark = tuple(0.55 * c for c in skin.tone)
    lid = cv2.GaussianBlur(_with_stroke(patch, crease - here, dark, 0.7), (0, 0), 0.9)
    np.copyto(patch, lid)
    ball = _eyeball(patch.shape, sign, t, shot, upper - here)
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill(mask, opening - here, 255)
    a = mask[..., None].astype(np.float32) / 255
    np.copyto(patch, patch + (ball - patch.astype(np.float32)) * a, casting="unsafe")
    stroke(patch, lower - here, tuple(0.66 * c for c in skin.tone), 0.35)
    lash = tuple(float(c) for c in np.array([22, 24, 30]) * 0.9 + 14 * (1 - t["lash"]))
    stroke(patch, upper[2:] - here, lash, 0.35 + 0.45 * t["lash"])
    stroke(patch, upper[6:] + (0.3 * sign, -0.2) - here, lash, 0.3 + 0.5 * t["lash"])


def _with_stroke(patch: Image, points: Points, colour: tuple[float, ...], width: float) -> Image:
    copy = patch.copy()
    stroke(copy, points, colour, width)
    return copy


def _lids(sign: int, t: Mapping[str, float], face: Face) -> tuple[Points, Points]:
    """Return the (15, 2) edges of the upper and the lower lid, from inner to outer corner."""
    open_ = max(1 - 0.95 * face.squint, 0.06)
    apex = _UNIT - t["eye_apex"] * (1 - _UNIT**2)
    arc = np.maximum(1 - np.abs(apex) ** 2.2, 0)
    tilt = -t["eye_tilt"] * 0.5 * (_UNIT + 1) + 0.45 * (1 - _UNIT) * 0.5
    x = sign * (t["eye_x"] + _UNIT * t["eye_width"])
    up = t["eye_y"] + tilt - t["eye_upper"] * arc * open_
    down = (
        t["eye_y"]
        + tilt
        + t["eye_lower"] * np.maximum(1 - np.abs(_UNIT + 0.1) ** 2.0, 0) * (0.6 + 0.4 * open_)
    )
    return np.stack([x, up], axis=1), np.stack([x, np.maximum(down, up)], axis=1)


def _eyeball(
    shape: tuple[int, ...], sign: int, t: Mapping[str, float], shot: Shot, upper: Points
) -> NDArray[np.float32]:
    ball = np.full(shape, (206, 208, 212), np.uint8)
    middle = upper[7] * (1, 0) + (0, upper[[0, 14], 1].mean() - 0.5)
    inner = upper[0]
    cv2.circle(ball, _fixed(inner), int(2.0 * SCALE * 16), (150, 158, 196), -1, cv2.LINE_AA, SHIFT)
    iris = middle + (1.9 * shot.face.gaze_x, 1.1 * shot.face.gaze_y)
    tint = np.array(shot.wear.second_cloth) * 0.15 + np.array([44, 58, 74])
    radius = t["iris"]
    fill(ball, iris + _CIRCLE * radius, tuple(0.45 * tint))
    fill(ball, iris + _CIRCLE * (radius * 0.84), tuple(tint))
    fill(ball, iris + (0, 0.6) + _CIRCLE * (radius * 0.6), tuple(1.25 * tint))
    fill(ball, iris + _CIRCLE * 1.35, (12, 12, 14))
    side = float(np.sign(shot.light.azimuth)) or 1.0
    fill(ball, iris + (1.1 * side, -1.2) + _CIRCLE * 0.72, (248, 248, 248))
    stroke(ball, upper + (0, 0.8), (92, 96, 104), 1.3)
    return cv2.GaussianBlur(ball, (3, 3), 0).astype(np.float32)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    x, y = canvas_points(point[None])[0]
    return int(x), int(y)


def mouth_corner(t: Mapping[str, float], face: Face) -> tuple[float, float]:
    """Return x (to the side) and y of the mouth's corner under this face's expression, in units."""
    return t["mouth_width"] * (1 + 0.14 * face.smile - 0.10 * face.mouth_open), t[
        "mouth_y"
    ] - 1.9 * face.smile - t["mouth_curve"] * 0.6


def _paint_mouth(canvas_HW3: Image, t: Mapping[str, float], skin: Skin, face: Face, red: float) -> None:
    wide, corner_y = mouth_corner(t, face)
    u = _UNIT
    gap = face.mouth_open * 6.0 + 1.3 * max(face.smile - 0.55, 0)
    thin = 1 - 0.25 * max(face.smile, 0)
    bow = t["cupid"] * (np.exp(-((np.abs(u) - 0.22) ** 2) / 0.02) - 0.9 * np.exp(-(u**2) / 0.012))
    arc = 1 - u**2
    middle = (
        corner_y + (t["mouth_y"] - corner_y) * (1 - u**2) + 0.35 * np.cos(u * 2 * np.pi) * (1 - np.abs(u))
    )
    upper_in, lower_in = middle - gap * 0.3 * arc**0.7, middle + gap * arc**0.7
    upper_out = upper_in - t["lip_upper"] * thin * arc**0.75 - bow * thin * 0.8
    lower_out = lower_in + t["lip_lower"] * thin * np.maximum(1 - np.abs(u) ** 2.3, 0) ** 0.8
    x = u * wide
    (x0, x1), (y0, y1) = (
        _span(-wide - 4, wide + 4, LEFT),
        _span(upper_out.min() - 4, lower_out.max() + 4, TOP),
    )
    patch = canvas_HW3[y0:y1, x0:x1]
    here = np.array([x0 / SCALE, y0 / SCALE])
    lip = np.asarray(skin.tone) * (0.72 - 0.26 * red, 0.66 - 0.30 * red, 0.88 - 0.08 * red)
    painted = patch.copy()
    _outline(painted, x, upper_out, upper_in, here, 0.88 * lip)
    _outline(painted, x, lower_in, lower_out, here, lip)
    painted = cv2.GaussianBlur(painted, (0, 0), 1.5)
    shine = np.array([[0.0, (lower_in + lower_out)[7] / 2 - 0.2]]) + _CIRCLE * (wide * 0.28, 0.55)
    fill(painted, shine - here, tuple(np.minimum(lip * 1.14, 255)))
    np.copyto(patch, cv2.GaussianBlur(cv2.addWeighted(patch, 0.12, painted, 0.88, 0), (3, 3), 0))
    if gap > 0.6:
        _outline(patch, x[1:-1], upper_in[1:-1], lower_in[1:-1], here, np.array([38, 30, 62]))
        teeth = np.minimum(upper_in + 2.4, lower_in)
        _outline(patch, x[3:-3] * 0.96, (upper_in + 0.1)[3:-3], teeth[3:-3], here, np.array([196, 206, 212]))
    stroke(patch, np.stack([x, upper_in], 1) - here, tuple(np.asarray(skin.tone) * (0.30, 0.28, 0.42)), 0.5)


def _outline(
    patch: Image,
    x: NDArray[np.float64],
    top: NDArray[np.float64],
    bottom: NDArray[np.float64],
    here: Points,
    colour: NDArray[np.float64],
) -> None:
    points = np.stack([np.r_[x, x[::-1]], np.r_[top, bottom[::-1]]], axis=1) - here
    fill(patch, points, tuple(float(c) for c in colour))


__all__ = ["Bgr", "mouth_corner", "paint_front"]
