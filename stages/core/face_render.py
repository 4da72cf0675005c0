"""Draws a person under given conditions: the painted surface is turned, lit, splatted far-to-near and cut to a frame.

Shapes: C, R coarse grid (face_geometry), S, T fine grid, H, W pixels, 3 channels BGR.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core import face_hair, face_scene
from stages.core.alignment import SIZE, TEMPLATE_52, similarity
from stages.core.face_geometry import (
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
from stages.core.face_model import Identity, Light, Shot
from stages.core.face_paint import mouth_corner, paint_front
from stages.core.face_skin import LEFT, SCALE, TOP, Image, Skin, paint_skin

FINE = (320, 352)  # S, T
SUPERSAMPLING = 2.0
DISTANCE = 620.0  # of the camera, px of the aligned crop: weak perspective
PALETTE_LEVELS = 128  # value of the shade that leaves a colour as it was painted


@dataclass(frozen=True)
class Person:
    """An identity with everything that is built once for all of its images."""

    identity: Identity
    head: Head
    skin: Skin
    front_map: tuple[NDArray[np.int16], NDArray[np.uint16]]
    angle_S: Floats
    y_T: Floats


@dataclass(frozen=True)
class Frame:
    """Where a face is put: aligned to the template, or anywhere, as a detector finds it."""

    height: int = SIZE
    width: int = SIZE
    target_52: NDArray[np.float64] | None = None  # where the landmarks go; None: the template


ALIGNED = Frame()


@dataclass(frozen=True)
class Drawing:
    """An image and where its five landmarks really are."""

    image_HW3: Image
    landmarks_52: NDArray[np.float64]


def build_person(identity: Identity) -> Person:
    """Build what all images of one identity share (a few milliseconds)."""
    head = build_head(identity.traits)
    column_S = (np.arange(FINE[0]) + 0.5) / FINE[0] * COLUMNS - 0.5
    row_T = (np.arange(FINE[1]) + 0.5) / FINE[1] * ROWS - 0.5
    angle_S = np.interp(column_S, np.arange(COLUMNS), head.angle_C).astype(np.float32)
    y_T = np.interp(row_T, np.arange(ROWS), head.y_R).astype(np.float32)
    width_T = np.interp(row_T, np.arange(ROWS), head.width_R).astype(np.float32)
    x_ST = (np.sin(angle_S)[:, None] * width_T - LEFT) * SCALE - 0.5
    y_ST = np.broadcast_to((y_T - TOP) * SCALE - 0.5, x_ST.shape)
    fixed, fraction = cv2.convertMaps(
        x_ST.astype(np.float32), np.ascontiguousarray(y_ST, np.float32), cv2.CV_16SC2
    )
    return Person(identity, head, paint_skin(identity), (fixed, fraction), angle_S, y_T)


def draw(person: Person, shot: Shot, frame: Frame = ALIGNED) -> Drawing:
    """Draw one image."""
    position_CR3 = pose_head(person.head, shot.face)
    camera_33 = rotation(shot.face)
    marks_52 = project(surface_points(person.head, position_CR3, _landmarks(person, shot)), camera_33)
    rng = np.random.default_rng(shot.seed)
    seen_52 = marks_52 + rng.normal(0, shot.landmark_error, (5, 2))
    to_frame_23 = similarity(seen_52, TEMPLATE_52 if frame.target_52 is None else frame.target_52)
    # faces smaller than aligned ones are drawn at the aligned size and averaged down, as a lens would
    zoom = float(np.hypot(to_frame_23[0, 0], to_frame_23[1, 0]))
    finer = SUPERSAMPLING / min(max(zoom, 0.35), 1.25)
    height, width = round(frame.height * finer), round(frame.width * finer)
    ratio = width / frame.width
    to_canvas_23 = to_frame_23 * ratio
    to_canvas_23[:, 2] += (ratio - 1) / 2  # pixel centres, as cv2.resize sees them
    scene = face_scene.Scene(person.identity, person.skin.tone, shot, camera_33, to_canvas_23, rng)
    canvas_HW3 = scene.background(height, width)
    scene.draw_behind(canvas_HW3)
    colour_ST3, position_CR3 = _dress(person, shot, position_CR3)
    shade_ST = cv2.resize(_shade(normals(position_CR3), camera_33, shot.light), FINE[::-1])
    lit_ST3 = cv2.multiply(
        colour_ST3, cv2.applyColorMap(shade_ST, face_scene.SHADE_PALETTE), scale=1 / PALETTE_LEVELS
    )
    points_CR2 = project(position_CR3, camera_33) @ to_canvas_23[:, :2].T + to_canvas_23[:, 2]
    layer_HW4 = splat(
        points_CR2.astype(np.float32),
        lit_ST3,
        person.angle_S,
        shot.face.yaw,
        shot.face.pitch,
        (height, width),
    )
    face_scene.compose(canvas_HW3, layer_HW4)
    scene.draw_front(canvas_HW3)
    image = cv2.resize(canvas_HW3, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    true_52 = marks_52 @ to_frame_23[:, :2].T + to_frame_23[:, 2]
    return Drawing(face_scene.develop(image, shot.light), true_52)


def project(points_N3: NDArray[np.floating], camera_33: NDArray[np.float64]) -> NDArray[np.floating]:
    """Return (..., 2) image places of (..., 3) points, before the similarity that frames them."""
    turned = points_N3 @ camera_33.T.astype(points_N3.dtype)
    return turned[..., :2] * (DISTANCE / (DISTANCE + 40 - turned[..., 2:]))


def _landmarks(person: Person, shot: Shot) -> NDArray[np.float64]:
    t = person.identity.traits
    corner_x, corner_y = mouth_corner(t, shot.face)
    eye_y = t["eye_y"] - t["eye_tilt"] * 0.5
    return np.array(
        [
            (-t["eye_x"], eye_y),
            (t["eye_x"], eye_y),
            (0.0, t["nose_length"]),
            (-corner_x, corner_y),
            (corner_x, corner_y),
        ]
    )


def _dress(person: Person, shot: Shot, position_CR3: Floats) -> tuple[Image, Floats]:
    """Return the painted surface, and the grid with hair and hat standing off the skull."""
    head, hair, wear = person.head, shot.wear.hair, shot.wear
    t = person.identity.traits
    colour_ST3 = cv2.remap(
        paint_front(person.identity, person.skin, shot),
        *person.front_map,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    face_scene.paint_ears(colour_ST3, person.angle_S, person.y_T, t, person.skin.tone)
    field_ST = face_hair.strands(FINE, face_hair.strand_kind(hair))
    opacity_ST = face_hair.hair_opacity(
        face_hair.hairline(person.angle_S, hair, t), person.y_T, hair, field_ST, 3.0
    )
    last = int(np.searchsorted(-opacity_ST.max(axis=0)[::-1], 0.0)) if not opacity_ST.any() else FINE[1]
    level_ST = np.clip(128 + 42 * field_ST[:, :last], 0, 255).astype(np.uint8)
    hair_ST3 = cv2.applyColorMap(level_ST, face_hair.hair_palette(wear.hair_colour))
    opacity_ST = opacity_ST[:, :last].astype(np.float32)
    colour_ST3[:, :last] = cv2.blendLinear(
        np.ascontiguousarray(colour_ST3[:, :last]), hair_ST3, 1 - opacity_ST, opacity_ST
    )
    thickness_CR = face_hair.hair_thickness(face_hair.hairline(head.angle_C, hair, t), head.y_R, hair)
    if wear.hat != "none":
        covered_CR = np.clip((face_hair.hat_line(head.angle_C, wear)[:, None] - head.y_R) / 4, 0, 1)
        thickness_CR = np.maximum(thickness_CR * (1 - covered_CR), 5.5 * covered_CR)
        covered_ST = face_hair.hat_line(person.angle_S, wear)[:, None] > person.y_T
        np.copyto(colour_ST3, face_hair.hat_texture(FINE, wear), where=covered_ST[..., None])
    # a haircut has no cliffs
    thickness_CR = cv2.GaussianBlur(thickness_CR.astype(np.float32), (0, 0), 1.6)
    moved_CR3 = position_CR3.copy()
    moved_CR3 += thickness_CR[..., None].astype(np.float32) * _outwards(position_CR3)
    return colour_ST3, moved_CR3


def _outwards(position_CR3: Floats) -> Floats:
    centred = position_CR3 - np.array([0, 0, 5], np.float32)
    return centred / np.linalg.norm(centred, axis=-1, keepdims=True)


def _shade(normal_CR3: Floats, camera_33: NDArray[np.float64], light: Light) -> Image:
    """Return (C, R) brightness, PALETTE_LEVELS for a surface that shows its own colour."""
    azimuth, elevation = np.deg2rad([light.azimuth, light.elevation])
    direction = np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )
    half = direction + (0, 0, 1)
    # the light is turned into the head's frame: cheaper than turning every normal
    toward = (camera_33.T @ np.stack([direction, (0, -1, 0), half / np.linalg.norm(half)], axis=1)).astype(
        np.float32
    )
    dots = normal_CR3 @ toward
    diffuse = np.clip((dots[..., 0] + 0.25) / 1.25, 0, 1)
    sky = 0.88 + 0.12 * dots[..., 1]
    gloss = np.maximum(dots[..., 2], 0)
    gloss = gloss * gloss
    gloss = gloss * gloss
    gloss = gloss * gloss
    level = light.ambient * sky + 0.05 + (1.1 - light.ambient) * diffuse + 0.16 * gloss * gloss
    return np.clip(level * PALETTE_LEVELS, 0, 255).astype(np.uint8)


def splat(
    points_CR2: Floats, colour_ST3: Image, angle_S: Floats, yaw: float, pitch: float, size: tuple[int, int]
) -> Image:
    """Return (H, W, 4): the surface's colours and its coverage, nearest parts on top.

    A head is ordered by angle from the line of sight: whatever lies nearer to it hides what lies further, so columns
    are written from the outline inwards and no depth is compared. Rows are written so that what hangs over comes last.
    """
    height, width = size
    fine_ST2 = cv2.resize(points_CR2, (colour_ST3.shape[1], colour_ST3.shape[0]))
    x = np.clip(fine_ST2[..., 0] + 1.5, 0, width + 1).astype(np.int32)
    y = np.clip(fine_ST2[..., 1] + 1.5, 0, height + 1).astype(np.int32)
    place_ST = y * (width + 2) + x
    packed_ST = cv2.cvtColor(colour_ST3, cv2.COLOR_BGR2BGRA).view(np.uint32)[..., 0]
    away_S = np.rad2deg(angle_S) + yaw
    first, last = np.searchsorted(away_S, [-100, 100])
    middle = int(np.searchsorted(away_S, 0))
    pixels = np.zeros((height + 2) * (width + 2), np.uint32)
    facing = int(place_ST.shape[1] * (0.93 if pitch > 0 else 0.3))
    for rows in (slice(None, facing, -1), slice(0, facing)):
        for columns in (slice(first, middle), slice(last - 1, middle - 1 if middle else None, -1)):
            pixels[place_ST[columns, rows].ravel()] = packed_ST[columns, rows].ravel()
    layer = pixels.view(np.uint8).reshape(height + 2, width + 2, 4)[1:-1, 1:-1]
    return _close(np.ascontiguousarray(layer))


def _close(layer_HW4: Image) -> Image:
    """Fill single pixels that no point fell on from their neighbours."""
    hole_HW = (
        cv2.morphologyEx(layer_HW4[..., 3], cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) - layer_HW4[..., 3]
    )
    if hole_HW.any():
        cv2.copyTo(cv2.dilate(layer_HW4, np.ones((3, 3), np.uint8)), hole_HW, layer_HW4)
    return layer_HW4
