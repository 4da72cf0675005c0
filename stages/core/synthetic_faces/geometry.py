"""Geometry of the synthetic head: elliptic slices of a skull, with brow, nose, lips, cheeks and ears raised on it.

Real depth, so that yaw and pitch move the features by parallax and the nose hides what is behind it. Own
construction; the proportions are those of adult anthropometry (63 mm between the pupils are 35.2 px of the
ArcFace template).

Shapes: C columns of the grid (angle around the neck, from the left of the image to the right), R rows (crown
to under the chin), 3 coordinates (see face_model: x right, y down, z to the camera; px of the aligned crop).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from stages.core.synthetic_faces.model import Face

Floats = NDArray[np.floating[Any]]

COLUMNS, ROWS = 92, 100
HALF_TURN = np.deg2rad(112.0)  # the grid covers this much to either side of the face's midline

# slices from crown to under the chin: height y, half width, front depth, how much the sides are lifted
_SLICES = np.array(
    [
        [-67, 0, 0, 0], [-65, 14, 18, 0], [-60, 24, 29, 0], [-52, 32, 38, 0], [-42, 37.5, 44.5, 0],
        [-29, 40.5, 49, 0], [-15, 41.5, 51, 0], [0, 41, 49, 0], [12, 40, 48, 0], [25, 38.2, 48, 1],
        [36, 36.3, 47.5, 4], [46, 34.2, 46, 9], [55, 31.5, 45.5, 15], [61, 28, 44.5, 19],
        [64.5, 24.5, 41, 21], [66, 21, 34, 22], [65, 15, 16, 22],
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A person's head at rest, with the data for painting and moving it."""

    position_3CR: Floats
    outward_3CR: Floats  # unit directions away from the skull's middle: where hair grows to
    y_R: Floats  # height of a row on the front, before sides are lifted: where features are painted
    width_R: Floats  # half width of a row
    angle_C: Floats  # radians from the midline
    moves: Mapping[str, Floats]  # (C, R) fields by which expression, weight and age move the surface
    traits: Mapping[str, float]


def bump(distance: Floats, size: float) -> Floats:
    """Return a bell of height 1: exp(-(distance / size)^2 / 2)."""
    bell: Floats = np.exp(-0.5 * np.square(distance / size))
    return bell


def step(distance: Floats, size: float) -> Floats:
    """Return 0 far below ``distance`` 0 and 1 far above, rising over about four ``size``."""
    rise: Floats = 1 / (1 + np.exp(np.clip(-distance / size, -40, 40)))
    return rise


def build_head(traits: Mapping[str, float]) -> Head:
    """Return the head of a person."""
    y_R, width_R, depth_R, lift_R = _slices(traits)
    unit_C = ((np.arange(COLUMNS) + 0.5) / COLUMNS * 2 - 1).astype(np.float32)
    angle_C = (HALF_TURN * (0.82 * unit_C + 0.18 * unit_C**3)).astype(np.float32)
    sine_C1, cosine_C1 = np.sin(angle_C)[:, None], np.cos(angle_C)[:, None]
    x_CR = width_R * sine_C1
    # a face is flatter in front than an ellipse; behind the ears the skull goes on backwards
    flat_C1 = np.where(cosine_C1 > 0, cosine_C1 * (1.22 - 0.22 * cosine_C1), cosine_C1 * 1.5)
    y_CR = np.ascontiguousarray(np.broadcast_to(y_R, x_CR.shape))
    side_CR = np.abs(x_CR)
    relief_CR = _relief(side_CR, y_CR, traits) * np.clip(cosine_C1 * 2.2, 0, 1)
    ear_CR = _ears(angle_C, y_R, traits)
    x, y = x_CR + np.sign(x_CR) * ear_CR, y_CR - lift_R * (1 - cosine_C1)
    position_3CR = np.stack([x, y, depth_R * flat_C1 + relief_CR - 0.6 * ear_CR]).astype(np.float32)
    centred_3CR = position_3CR - np.array([0, 0, 5], np.float32)[:, None, None]
    outward_3CR = centred_3CR / np.linalg.norm(centred_3CR, axis=0)
    moves = _moves(x_CR, y_CR, np.clip(position_3CR[2] / 25, 0, 1), traits)
    return Head(position_3CR, outward_3CR, y_R, width_R, angle_C, moves, traits)


def _slices(traits: Mapping[str, float]) -> tuple[Floats, Floats, Floats, Floats]:
    """Return height, half width, depth and lift of every row; rows are evenly spaced along the surface."""
    y, width, depth, lift = _SLICES.T
    width = width + traits["forehead_width"] * bump(y + 38, 15) + traits["cheek_width"] * bump(y - 12, 13)
    width = width + traits["jaw_width"] * bump(y - 48, 10) + traits["chin_width"] * bump(y - 63, 6)
    depth = depth + traits["chin_z"] * bump(y - 60, 7)
    y = y + traits["chin_y"] * np.clip((y - 40) / 25, 0, 1)
    slices = np.stack([y, width * traits["face_width"], depth, lift], axis=1)
    knots = np.arange(len(slices))
    fine = PchipInterpolator(knots, slices)(np.linspace(0, len(slices) - 1, 800))
    # weights: what a row spans as seen from the front counts most
    sideways = np.hypot(0.5 * np.diff(fine[:, 1]), 0.6 * np.diff(fine[:, 2]))
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(fine[:, 0]), sideways))])
    at = (np.arange(ROWS) + 0.5) / ROWS * along[-1]
    columns = [np.interp(at, along, fine[:, k]).astype(np.float32) for k in range(4)]
    return columns[0], columns[1], columns[2], columns[3]


def _relief(side: Floats, y: Floats, t: Mapping[str, float]) -> Floats:
    """Return how far features stand out at ``side`` (distance from the midline) and ``y``, in px."""
    eye_y, mouth_y, eye_side = y - t["eye_y"], y - t["mouth_y"], side - t["eye_x"]
    height = t["brow_ridge"] * bump(y + 9, 4.5) * bump(np.maximum(side - 14, 0), 7)
    height -= t["eye_depth"] * bump(eye_y, 5.5) * bump(eye_side + 1.5, 8.5)
    height += 3.6 * bump(np.hypot(eye_side, eye_y * 1.15), 4.6)
    height += t["cheek_z"] * bump(side - 25, 10) * bump(y - t["cheek_y"], 8)
    height -= t["hollow"] * bump(side - 27, 8) * bump(y - 34, 9)
    height -= 1.5 * bump(side - 36, 6) * bump(y + 14, 9)
    # fold from the wing of the nose to the corner of the mouth
    height -= t["fold"] * bump(side - (11 + (y - 22) * 0.42), 2.6) * bump(y - 29, 8)
    # muzzle, lips, the groove under the nose and the one above the chin
    height += 0.9 * bump(side, 16) * bump(mouth_y, 11)
    lips = bump(mouth_y + 2.4, 1.9) + 1.1 * bump(mouth_y - 2.9, 2.3)
    height += t["lip_z"] * bump(side, t["mouth_width"] * 0.6) * lips
    height -= 2.0 * bump(mouth_y, 1.0) * bump(side, t["mouth_width"] * 0.75)
    height -= 0.8 * bump(np.hypot(side - t["mouth_width"] - 1, mouth_y * 0.8), 2.6)
    height -= 0.45 * bump(side, 2.2) * bump(mouth_y + 8, 4)
    height -= 1.6 * bump(mouth_y - 9.5, 3) * bump(side, 10)
    height += 1.5 * bump(side, 8) * bump(y - 58 - t["chin_y"], 5)
    return height + _nose(side, y, t)


def _nose(side: Floats, y: Floats, t: Mapping[str, float]) -> Floats:
    length = t["nose_length"]
    along = np.clip((y + 5) / (length + 5), 0, 1)
    bridge = t["nose_bridge"] * 0.6
    ridge = bridge * np.clip((y + 9) / 8, 0, 1) + (t["nose_tip"] - bridge) * along**1.35
    ridge = ridge + t["nose_hump"] * bump(along - 0.45, 0.16)
    ends = step(length + 2.6 - t["nose_up"] - y, 1.5)
    width = t["nose_bridge_width"] + (t["nose_tip_width"] - t["nose_bridge_width"]) * along**2
    profile = 0.75 * bump(side / width, 0.85) + 0.25 * bump(side / width, 1.7)
    height = ridge * ends * profile * np.clip((y + 12) / 6, 0, 1) - 1.6 * bump(y + 3, 6) * bump(side, 7)
    height = height + 1.8 * bump(np.hypot(side, (y - length) * 0.9), 4.0)
    wing = bump(side - t["nose_wings"], 2.7) * bump(y - length - 0.2, 3.3)
    height = height + 5.0 * wing * (0.7 * ends + 0.3 * bump(y - length - 1, 2.5))
    creased: Floats = height - 1.0 * bump(side - t["nose_wings"] - 4.2, 1.4) * bump(y - length, 4)
    return creased


def _ears(angle_C: Floats, y_R: Floats, t: Mapping[str, float]) -> Floats:
    around_C = bump(np.rad2deg(np.abs(angle_C)) - 90, 9.0)
    down_R = step(15 * t["ear_size"] - np.abs(y_R - 6), 1.6)
    return around_C[:, None] * down_R * np.float32(5.0 * t["ear_out"])


def _moves(x: Floats, y: Floats, front: Floats, t: Mapping[str, float]) -> dict[str, Floats]:
    side = np.abs(x)
    fields = {
        "jaw_y": step(y - t["mouth_y"] - 3, 2.5),
        "brow_y": -bump(y + 13, 6) * front,
        "cheek_z": bump(side - 24, 9) * bump(y - 23, 9) * front,
        "weight_x": np.tanh(x / 14) * bump(y - 34, 14),
        "jowl_z": bump(side - 24, 5) * bump(y - 50, 6) * front,
        "hollow_z": -bump(side - 26, 8) * bump(y - 32, 9) * front,
        "droop_y": (bump(y - t["nose_length"], 5) * bump(side, 8) + bump(side - 26, 9) * bump(y - 44, 12)) * front,
    }
    return {name: np.ascontiguousarray(field, np.float32) for name, field in fields.items()}


def pose_head(head: Head, face: Face) -> Floats:
    """Return the (3, C, R) surface with this face's expression, weight and age, still looking ahead."""
    moved, move = head.position_3CR.copy(), head.moves
    moved[0] += face.weight * 1.3 * move["weight_x"]
    moved[1] += face.mouth_open * 5.0 * move["jaw_y"] + face.brow_raise * 2.0 * move["brow_y"]
    moved[2] += (face.weight + 0.8 * face.smile) * 1.4 * move["cheek_z"]
    # with age cheeks lose their fat, and what is soft sinks
    aged = face.age - 0.4
    moved[1] += aged * 2.6 * move["droop_y"]
    moved[2] += aged * 2.6 * (move["jowl_z"] + move["hollow_z"])
    return moved


def rotation(face: Face) -> NDArray[np.float64]:
    """Return the (3, 3) rotation: yaw, then pitch, then roll."""
    angles = np.deg2rad([face.yaw, face.pitch, face.roll])
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles), np.sin(angles)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = roll @ pitch @ yaw
    return turned


def normals(position_3CR: Floats) -> Floats:
    """Return (3, C, R) unit normals, pointing outwards."""
    a, b = np.empty_like(position_3CR), np.empty_like(position_3CR)
    np.subtract(position_3CR[:, 2:], position_3CR[:, :-2], out=a[:, 1:-1])
    np.subtract(position_3CR[:, :, 2:], position_3CR[:, :, :-2], out=b[:, :, 1:-1])
    a[:, 0], a[:, -1] = a[:, 1], a[:, -2]
    b[:, :, 0], b[:, :, -1] = b[:, :, 1], b[:, :, -2]
    normal = np.empty_like(position_3CR)
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        np.subtract(a[i] * b[j], a[j] * b[i], out=normal[k])
    normal /= np.sqrt(np.einsum("kcr,kcr->cr", normal, normal)) + 1e-6
    return normal


def surface_points(head: Head, position_3CR: Floats, points_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N, 3) points on ``position`` at which the front's (x, y) points were painted."""
    above = int(np.argmax(head.y_R)) + 1  # rows under the chin are seen from below only
    row_N = np.interp(points_N2[:, 1], head.y_R[:above], np.arange(above))
    width_N = np.interp(row_N, np.arange(ROWS), head.width_R)
    angle_N = np.arcsin(np.clip(points_N2[:, 0] / width_N, -1, 1))
    column_N = np.interp(angle_N, head.angle_C, np.arange(COLUMNS))
    c, r = np.clip(column_N.astype(int), 0, COLUMNS - 2), np.clip(row_N.astype(int), 0, ROWS - 2)
    u, v = column_N - c, row_N - r
    p = position_3CR
    left_3N = p[:, c, r] * (1 - v) + p[:, c, r + 1] * v
    right_3N = p[:, c + 1, r] * (1 - v) + p[:, c + 1, r + 1] * v
    found: NDArray[np.float64] = left_3N * (1 - u) + right_3N * u
    return found.T
