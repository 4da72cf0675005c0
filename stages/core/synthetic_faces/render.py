"""Renders a synthetic face: the painted surface is turned, lit, splatted from the outline inwards and cropped.

Shapes: C, R coarse grid (face_geometry), S, T fine grid, H, W pixels, 3 channels BGR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.images.alignment import SIZE, TEMPLATE_52, similarity
from stages.core.synthetic_faces import hair as face_hair
from stages.core.synthetic_faces import scene as face_scene
from stages.core.synthetic_faces.geometry import (
    COLUMNS,
    ROWS,
    Floats,
    Head,
    build_head,
    normals,
    pose_head,
    rotation,
    surface_points,
)
from stages.core.synthetic_faces.model import Identity, Light, Shot
from stages.core.synthetic_faces.paint import mouth_corner, paint_front
from stages.core.synthetic_faces.skin import LEFT, SCALE, SHIFT, TOP, Image, Skin, paint_skin

FINE = (264, 328)  # S, T of the whole surface
SUPERSAMPLING = 2.0
DISTANCE = 620.0  # of the camera, px of the aligned crop: weak perspective
OWN_COLOUR = 128  # the shade under which a surface shows its own colour

Points = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Person:
    """An identity with everything that is built once for all its images."""

    identity: Identity
    head: Head
    skin: Skin
    front_map: tuple[NDArray[np.int16], NDArray[np.uint16]]
    angle_S: Floats
    y_T: Floats
    ears: tuple[tuple[NDArray[Any], NDArray[Any]], ...]


@dataclass(frozen=True)
class Frame:
    """Placement of a face: aligned to the template, or anywhere, as for a detector."""

    height: int = SIZE
    width: int = SIZE
    target_52: NDArray[np.float64] | None = None  # where the landmarks go; None: the template


ALIGNED = Frame()


@dataclass(frozen=True)
class Drawing:
    """A rendered image and the true places of its five landmarks."""

    image_HW3: Image
    landmarks_52: Points


def build_person(identity: Identity) -> Person:
    """Build the data that all images of one identity share."""
    head = build_head(identity.traits)
    column_S = (np.arange(FINE[0]) + 0.5) / FINE[0] * COLUMNS - 0.5
    row_T = (np.arange(FINE[1]) + 0.5) / FINE[1] * ROWS - 0.5
    angle_S = np.interp(column_S, np.arange(COLUMNS), head.angle_C).astype(np.float32)
    y_T = np.interp(row_T, np.arange(ROWS), head.y_R).astype(np.float32)
    width_T = np.interp(row_T, np.arange(ROWS), head.width_R).astype(np.float32)
    x_ST = (np.sin(angle_S)[:, None] * width_T - LEFT) * SCALE - 0.5
    y_ST = np.broadcast_to((y_T - TOP) * SCALE - 0.5, x_ST.shape).astype(np.float32)
    front_map = cv2.convertMaps(x_ST.astype(np.float32), y_ST, cv2.CV_16SC2)
    ears = face_hair.ear_lines(angle_S, y_T, identity.traits["ear_size"])
    return Person(identity, head, paint_skin(identity), front_map, angle_S, y_T, ears)


def draw(person: Person, shot: Shot, frame: Frame = ALIGNED) -> Drawing:
    """Render one image."""
    rng = np.random.default_rng(shot.seed)
    position_3CR = pose_head(person.head, shot.face)
    camera_33 = rotation(shot.face)
    marks_52 = project(surface_points(person.head, position_3CR, _landmarks(person, shot)).T, camera_33).T
    target_52 = TEMPLATE_52 if frame.target_52 is None else frame.target_52
    to_frame_23 = similarity(marks_52 + rng.normal(0, shot.landmark_error, (5, 2)), target_52)
    # small faces are drawn at the aligned size and averaged down, as a lens would; a whole factor averages fast
    zoom = float(np.hypot(*to_frame_23[:, 0]))
    finer = SUPERSAMPLING if 0.8 < zoom < 1.3 else SUPERSAMPLING / min(max(zoom, 0.35), 1.3)
    size = round(frame.height * finer), round(frame.width * finer)
    to_canvas_23 = to_frame_23 * (size[1] / frame.width)
    to_canvas_23[:, 2] += (size[1] / frame.width - 1) / 2  # pixel centres, as cv2.resize sees them
    scene = face_scene.Scene(person.identity, person.skin.tone, shot, camera_33, to_canvas_23, rng)
    canvas_HW3 = scene.background(*size)
    scene.draw_behind(canvas_HW3)
    position_3CR += _growth(person, shot) * person.head.outward_3CR
    points_2CR = _to_canvas(project(position_3CR, camera_33), to_canvas_23)
    part = _visible(points_2CR[1], person, shot, size[0])
    shade_CR, hidden_CR = _shade(normals(position_3CR), camera_33, shot.light)
    tint_ST3 = cv2.applyColorMap(_enlarge(shade_CR, part), face_scene.SHADE_PALETTE)
    lit_ST3 = cv2.multiply(_dress(person, shot, part), tint_ST3, scale=1 / OWN_COLOUR)
    away_S = np.rad2deg(person.angle_S[part[0]]) + shot.face.yaw
    facing = int(FINE[1] * (0.93 if shot.face.pitch > 0 else 0.3)) - part[1].start
    layer_HW4 = splat(_places(points_2CR, hidden_CR, part, size), lit_ST3, away_S, facing, size)
    face_scene.compose(canvas_HW3, layer_HW4)
    scene.draw_front(canvas_HW3)
    image = cv2.resize(canvas_HW3, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    return Drawing(face_scene.develop(image, shot.light), _to_canvas(marks_52.T, to_frame_23).T)


def project(points_3N: Points, camera_33: NDArray[np.float64]) -> Points:
    """Return (2, ...) image points of (3, ...) points, before the framing similarity."""
    flat = camera_33.astype(points_3N.dtype) @ points_3N.reshape(3, -1)
    seen: Points = flat[:2] * (DISTANCE / (DISTANCE + 40 - flat[2]))
    return seen.reshape(2, *points_3N.shape[1:])


def _to_canvas(points_2N: Points, matrix_23: NDArray[np.float64]) -> Points:
    matrix_23 = matrix_23.astype(points_2N.dtype)
    moved: Points = matrix_23[:, :2] @ points_2N.reshape(2, -1) + matrix_23[:, 2:]
    return moved.reshape(points_2N.shape)


def _landmarks(person: Person, shot: Shot) -> NDArray[np.float64]:
    t = person.identity.traits
    x, y = mouth_corner(t, shot.face)
    eye_y = t["eye_y"] - t["eye_tilt"] * 0.5
    eyes = [(-t["eye_x"], eye_y), (t["eye_x"], eye_y)]
    return np.array([*eyes, (0.0, t["nose_length"]), (-x, y), (x, y)])


def _growth(person: Person, shot: Shot) -> Floats:
    """Return (C, R): the thickness of hair or hat above the skull, px."""
    head, hair = person.head, shot.wear.hair
    thickness_CR = face_hair.hair_thickness(face_hair.hairline(head.angle_C, hair, head.traits), head.y_R, hair)
    if shot.wear.hat != "none":
        edge_C = face_hair.hat_line(head.angle_C, shot.wear)
        covered_CR = np.clip((edge_C[:, None] - head.y_R) / 4, 0, 1)
        thickness_CR = np.maximum(thickness_CR * (1 - covered_CR), 5.5 * covered_CR)
    # a haircut has no cliffs
    smooth: Floats = cv2.GaussianBlur(thickness_CR.astype(np.float32), (0, 0), 1.6)
    return smooth


Part = tuple[slice, slice]


def _visible(y_CR: Floats, person: Person, shot: Shot, height: int) -> Part:
    """Return the part of the fine grid that faces the camera and is inside the frame."""
    away_S = np.rad2deg(person.angle_S) + shot.face.yaw
    first, last = np.searchsorted(away_S, [-100, 100]).tolist()
    rows = np.flatnonzero((y_CR.max(axis=0) > 0) & (y_CR.min(axis=0) < height))
    top, bottom = (rows[0] - 1, rows[-1] + 2) if len(rows) else (0, ROWS)
    return slice(first, last), slice(max(top * FINE[1] // ROWS, 0), min(bottom * FINE[1] // ROWS, FINE[1]))


def _enlarge(field_CR: NDArray[Any], part: Part) -> NDArray[Any]:
    """Return a coarse field on a part of the fine grid."""
    fine: NDArray[Any] = cv2.resize(field_CR, FINE[::-1])
    return np.ascontiguousarray(fine[part])


def _dress(person: Person, shot: Shot, part: Part) -> Image:
    """Return a part of the surface with its colours: skin, ears, hair and hat."""
    hair, wear, tone = shot.wear.hair, shot.wear, person.skin.tone
    front_HW3 = paint_front(person.identity, person.skin, shot)
    fixed, fraction = person.front_map
    colour_ST3: Image = cv2.remap(
        front_HW3, fixed[part], fraction[part], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if hair.length < face_hair.LONG:
        corner = np.array([part[1].start, part[0].start]) * (1 << SHIFT)
        for folds, shade in zip(person.ears, (0.62, 0.5), strict=True):
            lines = [fold - corner for fold in folds]
            cv2.polylines(colour_ST3, lines, False, [shade * c for c in tone], 3, cv2.LINE_8, SHIFT)
    kind = face_hair.strand_kind(hair)
    line_S = face_hair.hairline(person.angle_S[part[0]], hair, person.identity.traits)
    opacity_ST = face_hair.hair_opacity(line_S, person.y_T[part[1]], hair, face_hair.strands(FINE, kind)[part])
    level_ST = np.ascontiguousarray(face_hair.strand_levels(FINE, kind)[part])
    _cover(colour_ST3, cv2.applyColorMap(level_ST, face_hair.hair_palette(wear.hair_colour)), opacity_ST)
    if wear.hat != "none":
        covered_ST = face_hair.hat_line(person.angle_S[part[0]], wear)[:, None] > person.y_T[part[1]]
        cloth_ST = np.ascontiguousarray(face_hair.hat_cloth(FINE, wear.hat)[part])
        palette = np.linspace((0, 0, 0), wear.second_cloth, 256).astype(np.uint8)[:, None]
        cv2.copyTo(cv2.applyColorMap(cloth_ST, palette), covered_ST.astype(np.uint8), colour_ST3)
    return colour_ST3


def _cover(under_ST3: Image, over_ST3: Image, opacity_ST: Image) -> None:
    """Blend ``over`` onto ``under`` in place; ``opacity`` 0..255."""
    over = cv2.cvtColor(opacity_ST, cv2.COLOR_GRAY2BGR)
    kept_ST3 = cv2.multiply(under_ST3, cv2.bitwise_not(over), scale=1 / 255)
    cv2.add(kept_ST3, cv2.multiply(over_ST3, over, scale=1 / 255), dst=under_ST3)


def _shade(normal_3CR: Floats, camera_33: NDArray[np.float64], light: Light) -> tuple[Image, Image]:
    """Return (C, R) brightness, OWN_COLOUR for full colour; and 255 where the surface faces away, else 0."""
    azimuth, elevation = np.deg2rad([light.azimuth, light.elevation])
    flat = np.cos(elevation)
    direction = np.array([np.sin(azimuth) * flat, -np.sin(elevation), np.cos(azimuth) * flat])
    half = direction + np.array([0, 0, 1])
    # the light is turned into the head's frame: cheaper than turning every normal
    toward = np.stack([direction, [0, -1, 0], half / np.linalg.norm(half), [0, 0, 1]]) @ camera_33
    dots = toward.astype(np.float32) @ normal_3CR.reshape(3, -1)
    diffuse = np.maximum((dots[0] + 0.25) / 1.25, 0)
    gloss = np.square(np.square(np.square(np.square(np.maximum(dots[2], 0)))))
    level = light.ambient * (0.88 + 0.12 * dots[1]) + 0.05 + (1.1 - light.ambient) * diffuse + 0.16 * gloss
    shape, hidden = normal_3CR.shape[1:], np.where(dots[3] < -0.05, 255, 0)
    return np.minimum(level * OWN_COLOUR, 255).astype(np.uint8).reshape(shape), hidden.astype(np.uint8).reshape(shape)


def _places(points_2CR: Floats, hidden_CR: Image, part: Part, size: tuple[int, int]) -> NDArray[np.int32]:
    """Return (S, T): the pixel index of each point, in a canvas with a border of one pixel.

    The border takes what lies outside, and its first pixel what faces away.
    """
    height, width = size
    # truncation rounds, since the border shifts by one
    x_ST = _enlarge(np.clip(points_2CR[0] + 1.5, 0, width + 1), part).astype(np.int32)
    place_ST: NDArray[np.int32] = _enlarge(np.clip(points_2CR[1] + 1.5, 0, height + 1), part).astype(np.int32)
    place_ST *= width + 2
    place_ST += x_ST
    place_ST[_enlarge(hidden_CR, part) > 127] = 0
    return place_ST


def splat(place_ST: NDArray[np.int32], colour_ST3: Image, away_S: Floats, facing: int, size: tuple[int, int]) -> Image:
    """Return (H, W, 4): the surface's colours and its coverage, nearest parts on top.

    A head is ordered by angle from the line of sight: what lies nearer to it hides what lies further. So
    columns are written from the outline inwards, rows towards the one that faces the camera, and no depth is
    compared.

    Args:
        place_ST: pixels as ``_places`` counts them.
        colour_ST3: what is written there.
        away_S: degrees between each column and the line of sight, ascending.
        facing: the row that faces the camera.
        size: height and width of the canvas.
    """
    height, width = size
    packed_ST = cv2.cvtColor(colour_ST3, cv2.COLOR_BGR2BGRA).view(np.uint32)[..., 0]
    middle, facing = int(np.searchsorted(away_S, 0)), min(max(facing, 0), place_ST.shape[1])
    pixels = np.zeros((height + 2) * (width + 2), np.uint32)
    for place, packed in zip(_order(place_ST, middle, facing), _order(packed_ST, middle, facing), strict=True):
        pixels[place.ravel()] = packed.ravel()
    layer = pixels.view(np.uint8).reshape(height + 2, width + 2, 4)[1:-1, 1:-1]
    return _close(np.ascontiguousarray(layer))


def _order(grid_ST: NDArray[Any], middle: int, facing: int) -> list[NDArray[Any]]:
    """Return four blocks in the order in which they are written."""
    left, right = grid_ST[:middle], grid_ST[middle:][::-1]
    return [left[:, facing:][:, ::-1], right[:, facing:][:, ::-1], left[:, :facing], right[:, :facing]]


def _close(layer_HW4: Image) -> Image:
    """Fill pixels that no point hit, up to four in a row, from their neighbours."""
    square = np.ones((3, 3), np.uint8)
    covered_HW = cv2.extractChannel(layer_HW4, 3)
    hole_HW = cv2.morphologyEx(covered_HW, cv2.MORPH_CLOSE, square, iterations=2) - covered_HW
    if cv2.countNonZero(hole_HW):
        cv2.copyTo(cv2.dilate(layer_HW4, square, iterations=2), hole_HW, layer_HW4)
    return layer_HW4
