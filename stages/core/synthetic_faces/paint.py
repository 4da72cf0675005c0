"""Paints the parts of the front view that change per image: eyes, mouth, and brows and beard in the hair colour.

Units and canvas as in face_skin. Shapes: H, W of the canvas or of a patch of it, 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from stages.core.synthetic_faces.model import Face, Identity, Shot
from stages.core.synthetic_faces.skin import LEFT, SCALE, SHIFT, TOP, Image, Points, Skin, canvas_points, fill, stroke

_U = np.linspace(-1, 1, 13)
_ARC = 1 - _U**2
_TURN = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_LEVEL = np.linspace(0, 1, 256)[:, None]
_BOTH_SIDES = np.array([[[1.0, 1.0]], [[-1.0, 1.0]]])


def paint_front(identity: Identity, skin: Skin, shot: Shot) -> Image:
    """Return the (H, W, 3) front view of a person in one image, under even light."""
    t = identity.traits
    worn = -1.15 * max(shot.face.age - 0.12, 0.0)
    canvas_HW3: Image = cv2.addWeighted(skin.bare_HW3, 1.0, skin.wrinkles_HW3, worn, 0)
    if shot.wear.beard > 0:
        _paint_beard(canvas_HW3, skin, shot)
    _paint_mouth(canvas_HW3, t, skin, shot.face, shot.wear.lips)
    _paint_eyes(canvas_HW3, t, skin, shot)
    rows = slice(*_span(t["brow_y"] - 6.5, t["brow_y"] + 5.5, TOP))
    columns = slice(*_span(-34, 34, LEFT))
    brow_colour = [0.55 * c for c in shot.wear.hair_colour]
    blend(canvas_HW3[rows, columns], skin.brow_HW[rows, columns], brow_colour, 0.9)
    return canvas_HW3


def mouth_corner(t: Mapping[str, float], face: Face) -> tuple[float, float]:
    """Return x (to the side) and y of the mouth's corner under this face's expression, in units."""
    wide = t["mouth_width"] * (1 + 0.14 * face.smile - 0.10 * face.mouth_open)
    return wide, t["mouth_y"] - 1.9 * face.smile - t["mouth_curve"] * 0.6


def blend(patch: Image, opacity: Image, colour: Sequence[float], strength: float) -> None:
    """Blend ``colour`` over ``patch`` in place, with alpha ``opacity`` (0..255) times ``strength``."""
    added = np.rint(_LEVEL * strength * np.asarray(colour)).astype(np.uint8)[:, None]
    kept = np.rint(255 * (1 - np.repeat(_LEVEL, 3, axis=1) * strength)).astype(np.uint8)[:, None]
    opacity = np.ascontiguousarray(opacity)
    under = cv2.multiply(patch, cv2.applyColorMap(opacity, kept), scale=1 / 255)
    cv2.add(under, cv2.applyColorMap(opacity, added), dst=patch)


def _span(low: float, high: float, origin: float) -> tuple[int, int]:
    return max(int((low - origin) * SCALE), 0), max(int((high - origin) * SCALE), 1)


def _paint_beard(canvas_HW3: Image, skin: Skin, shot: Shot) -> None:
    rows = slice(*_span(12, 70, TOP))
    level = shot.wear.beard
    if level < 0.45:
        blend(canvas_HW3[rows], skin.beard_HW[rows], (52, 52, 56), 0.28 + 0.4 * level)
    else:
        opacity = skin.moustache_HW if level < 0.7 else skin.beard_HW
        blend(canvas_HW3[rows], opacity[rows], [0.6 * c for c in shot.wear.hair_colour], 0.85)


def _paint_eyes(canvas_HW3: Image, t: Mapping[str, float], skin: Skin, shot: Shot) -> None:
    """Paint both eyes in one patch."""
    upper, lower = _lids(t, shot.face)
    top, bottom = float(upper[:, 1].min()) - t["lid_crease"] - 3, float(lower[:, 1].max()) + 2
    wide = float(upper[-1, 0]) + 3
    (y0, y1), (x0, x1) = _span(top, bottom, TOP), _span(-wide, wide, LEFT)
    patch = canvas_HW3[y0:y1, x0:x1]
    here = np.array([x0 / SCALE, y0 / SCALE])
    fold = t["lid_crease"] * (0.5 + 0.5 * _ARC) * (1 - 0.4 * shot.face.squint)
    _strokes(patch, upper - np.stack([0 * fold, fold], axis=1), here, [0.55 * c for c in skin.tone], 0.7)
    cv2.GaussianBlur(patch, (0, 0), 0.8, dst=patch)
    ball = _eyeballs(patch.shape, t, shot, upper, here)
    mask = np.zeros(patch.shape[:2], np.uint8)
    _fills(mask, np.concatenate([upper, lower[::-1]]), here, 255)
    seen = cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR)
    skin_part = cv2.multiply(patch, cv2.bitwise_not(seen), scale=1 / 255)
    cv2.add(skin_part, cv2.multiply(ball, seen, scale=1 / 255), dst=patch)
    _strokes(patch, lower, here, [0.66 * c for c in skin.tone], 0.35)
    lash = [14 * (1 - t["lash"]) + c for c in (20, 22, 27)]
    _strokes(patch, upper[2:], here, lash, 0.35 + 0.45 * t["lash"])
    _strokes(patch, upper[5:] + np.array([0.3, -0.2]), here, lash, 0.3 + 0.5 * t["lash"])


def _lids(t: Mapping[str, float], face: Face) -> tuple[Points, Points]:
    """Return the (13, 2) edges of the upper and lower lid of the right eye, from inner to outer corner."""
    open_ = max(1 - 0.95 * face.squint, 0.06)
    apex = _U - t["eye_apex"] * _ARC
    tilt = -t["eye_tilt"] * 0.5 * (_U + 1) + 0.225 * (1 - _U)
    x = t["eye_x"] + _U * t["eye_width"]
    lid = t["eye_upper"] * (1 - 0.28 * (face.age - 0.4))
    up = t["eye_y"] + tilt - lid * np.maximum(1 - np.abs(apex) ** 2.2, 0) * open_
    round_ = np.maximum(1 - np.square(_U + 0.1), 0)
    down = t["eye_y"] + tilt + t["eye_lower"] * round_ * (0.6 + 0.4 * open_)
    return np.stack([x, up], axis=1), np.stack([x, np.maximum(down, up)], axis=1)


def _strokes(patch: Image, points: Points, here: Points, colour: Sequence[float], width: float) -> None:
    """Draw a line on the right eye and its mirror image on the left."""
    both = list(canvas_points(points * _BOTH_SIDES - here))
    thickness = max(round(width * SCALE), 1)
    cv2.polylines(patch, both, False, [float(c) for c in colour], thickness, cv2.LINE_AA, SHIFT)


def _fills(patch: Image, points: Points, here: Points, colour: Sequence[float] | float) -> None:
    """Fill a polygon on the right eye and its mirror image on the left."""
    cv2.fillPoly(patch, list(canvas_points(points * _BOTH_SIDES - here)), colour, cv2.LINE_AA, SHIFT)


def _eyeballs(shape: tuple[int, ...], t: Mapping[str, float], shot: Shot, upper: Points, here: Points) -> Image:
    ball = np.full(shape, (206, 208, 212), np.uint8)
    _fills(ball, upper[0] + _CIRCLE * 2.0, here, (150, 158, 196))
    middle = np.array([upper[6, 0], float(upper[[0, 12], 1].mean()) - 0.5 + 1.1 * shot.face.gaze_y])
    tint = [0.06 * c + own for c, own in zip(shot.wear.second_cloth, (50, 64, 76), strict=True)]
    light, radius = (1.1 if shot.light.azimuth > 0 else -1.1), t["iris"]
    # iris from its rim inwards, pupil, and the light's reflection: x, y, radius
    rings = np.array([(0, 0, radius), (0, 0, 0.84 * radius), (0, 0.6, 0.6 * radius), (0, 0, 1.35), (light, -1.2, 0.72)])
    paints = [*([shade * c for c in tint] for shade in (0.45, 1.0, 1.25)), (12, 12, 14), (248, 248, 248)]
    # both eyes look the same way: the left one is moved, not mirrored
    for side in middle * _BOTH_SIDES[:, 0]:
        centre = side - here + np.array([1.9 * shot.face.gaze_x, 0])
        outlines = canvas_points(centre + rings[:, None, :2] + _CIRCLE * rings[:, None, 2:])
        for outline, paint in zip(outlines, paints, strict=True):
            cv2.fillPoly(ball, [outline], paint, cv2.LINE_AA, SHIFT)
    _strokes(ball, upper + np.array([0, 0.8]), here, (92, 96, 104), 1.3)
    soft: Image = cv2.GaussianBlur(ball, (3, 3), 0)
    return soft


def _paint_mouth(canvas_HW3: Image, t: Mapping[str, float], skin: Skin, face: Face, red: float) -> None:
    wide, corner_y = mouth_corner(t, face)
    gap = face.mouth_open * 6.0 + 1.3 * max(face.smile - 0.55, 0)
    thin = (1 - 0.25 * max(face.smile, 0)) * (1 - 0.45 * (face.age - 0.4))
    bow = t["cupid"] * (np.exp(-((np.abs(_U) - 0.22) ** 2) / 0.02) - 0.9 * np.exp(-(_U**2) / 0.012))
    middle = corner_y + (t["mouth_y"] - corner_y) * _ARC + 0.35 * np.cos(_U * 2 * np.pi) * (1 - np.abs(_U))
    opening = gap * _ARC**0.7
    upper_in, lower_in = middle - 0.3 * opening, middle + opening
    upper_out = upper_in - t["lip_upper"] * thin * _ARC**0.75 - bow * thin * 0.8
    lower_out = lower_in + t["lip_lower"] * thin * np.maximum(1 - np.abs(_U) ** 2.3, 0) ** 0.8
    x = _U * wide
    (y0, y1), (x0, x1) = (
        _span(upper_out.min() - 4, lower_out.max() + 4, TOP),
        _span(-wide - 4, wide + 4, LEFT),
    )
    patch = canvas_HW3[y0:y1, x0:x1]
    here = np.array([x0 / SCALE, y0 / SCALE])
    lip = np.asarray(skin.tone) * (0.72 - 0.26 * red, 0.66 - 0.30 * red, 0.88 - 0.08 * red)
    painted = patch.copy()
    fill(painted, _between(x, upper_out, upper_in) - here, (0.88 * lip).tolist())
    fill(painted, _between(x, lower_in, lower_out) - here, lip.tolist())
    painted = cv2.GaussianBlur(painted, (0, 0), 1.2)
    shine = np.array([0.0, float(lower_in[6] + lower_out[6]) / 2 - 0.2]) + _CIRCLE * (wide * 0.28, 0.55)
    fill(painted, shine - here, np.minimum(lip * 1.14, 255).tolist())
    cv2.addWeighted(patch, 0.12, painted, 0.88, 0, dst=patch)
    if gap > 0.6:
        fill(patch, _between(x[1:-1], upper_in[1:-1], lower_in[1:-1]) - here, (38, 30, 62))
        teeth = np.minimum(upper_in + 2.4, lower_in)
        fill(patch, _between(0.96 * x[3:-3], upper_in[3:-3] + 0.1, teeth[3:-3]) - here, (196, 206, 212))
    dark = [share * c for share, c in zip((0.30, 0.28, 0.42), skin.tone, strict=True)]
    stroke(patch, np.stack([x, upper_in], 1) - here, dark, 0.5)


def _between(x: Points, top: Points, bottom: Points) -> Points:
    """Return the outline of the area between two lines over the same ``x``."""
    return np.stack([np.concatenate([x, x[::-1]]), np.concatenate([top, bottom[::-1]])], axis=1)
