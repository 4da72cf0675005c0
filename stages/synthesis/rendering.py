"""Renders the sittings of a plan in any number of processes; the result does not depend on the number."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_all_start_methods, get_context

import cv2
import numpy as np

from stages.core.errors import InputError
from stages.core.images.alignment import SIZE, TEMPLATE_52
from stages.core.images.degrade import encode, enlarge, sample
from stages.core.synthetic_faces.model import Shot, draw_identity, draw_shot
from stages.core.synthetic_faces.render import ALIGNED, Frame, Person, Points, build_person, draw
from stages.runtime import program
from stages.synthesis.plan import Rng, Sitting, generator, identity_number

JPEG_QUALITY = 95
_SCENES = 2**31  # image numbers above this stand for scenes; this one for what near-duplicates share


@dataclass(frozen=True)
class Drawn:
    """One stored image and its ground truth."""

    slot: int
    jpeg: bytes
    small_jpeg: bytes | None  # the low-resolution original of an aligned image, where it was asked for
    landmarks_52: Points  # where a detector finds them in ``jpeg``, px
    detector_score: float
    identity: int  # unlike those of all other sets
    quality: float
    shot: Shot


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def draw_all(seed: int, sittings: Sequence[Sitting], processes: int) -> Iterator[list[Drawn]]:
    """Yield the result of ``draw_sitting`` for each sitting, in order, from ``processes`` processes."""
    if processes < 1:
        raise InputError(f"wanted at least one process, got {processes}")
    if processes == 1:
        yield from (draw_sitting(seed, sitting) for sitting in sittings)
        return
    # before the fork: a forked worker that ends OpenCV's threads, which it does not have, crashes
    cv2.setNumThreads(1)
    context = get_context("fork" if "fork" in get_all_start_methods() else "spawn")
    with program.closing(ProcessPoolExecutor(processes, context, initializer=_begin_worker)) as pool:
        yield from pool.map(partial(draw_sitting, seed), sittings, chunksize=2)


def _begin_worker() -> None:
    # the parent's handler would print a traceback here; and a killed parent must not leave workers behind
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    program.die_with_parent()
    cv2.setNumThreads(1)


def draw_sitting(seed: int, sitting: Sitting) -> list[Drawn]:
    """Render all images of one identity."""
    identity = draw_identity(generator(seed, sitting.stream, sitting.identity, 0))
    person = build_person(identity)
    return [_draw_picture(seed, sitting, place, person) for place in range(len(sitting.pictures))]


def _draw_picture(seed: int, sitting: Sitting, place: int, person: Person) -> Drawn:
    picture = sitting.pictures[place]
    rng = generator(seed, sitting.stream, sitting.identity, 1 + place)
    if picture.near is None:
        shot = draw_shot(rng, person.identity, picture.pose, picture.age)
    else:
        only = generator(seed, sitting.stream, sitting.identity, _SCENES)
        shot = _beside(draw_shot(only, person.identity, picture.pose), picture.near, rng)
    if picture.scene:
        first = _SCENES + picture.scene
        same = draw_shot(generator(seed, sitting.stream, sitting.identity, first), person.identity)
        shot = replace(same, face=replace(shot.face, age=same.face.age))
    if picture.plain:
        shot = _plain(shot)
    frame = _loose_frame(rng) if picture.loose else ALIGNED
    drawing = draw(person, shot, frame)
    recorded = sample(drawing.image_HW3, picture.quality, rng)
    landmarks_52, small_jpeg = drawing.landmarks_52, None
    if picture.loose:
        landmarks_52 = _detect(landmarks_52, drawing.image_HW3.shape, recorded.shape, rng)
    else:
        small_jpeg = encode(recorded, JPEG_QUALITY) if picture.small else None
        recorded = enlarge(recorded, SIZE, SIZE, rng)
    jpeg, number = encode(recorded, JPEG_QUALITY), identity_number(sitting.stream, sitting.identity)
    score = _score(picture.quality, shot, rng)
    return Drawn(picture.slot, jpeg, small_jpeg, landmarks_52, score, number, picture.quality, shot)


def _plain(shot: Shot) -> Shot:
    face = replace(shot.face, smile=0.0, mouth_open=0.0, squint=0.05, gaze_x=0.0, gaze_y=0.0)
    glasses = "none" if shot.wear.glasses == "sun" else shot.wear.glasses
    return replace(shot, face=face, wear=replace(shot.wear, hat="none", glasses=glasses))


def _beside(shot: Shot, jitter: float, rng: Rng) -> Shot:
    """Return the next frame: same clothes, light, pose and face, changed only by ``jitter``."""
    yaw, pitch, roll, smile, squint, light = jitter * rng.standard_normal(6)
    face = replace(
        shot.face, yaw=shot.face.yaw + yaw, pitch=shot.face.pitch + pitch, roll=shot.face.roll + roll,
        smile=float(np.clip(shot.face.smile + 0.02 * smile, -0.5, 1)),
        squint=float(np.clip(shot.face.squint + 0.02 * squint, 0, 1)),
    )  # fmt: skip
    blue, green, red = (gain * (1 + 0.01 * light) for gain in shot.light.gain)
    return replace(shot, face=face, light=replace(shot.light, gain=(blue, green, red)))


def _loose_frame(rng: Rng) -> Frame:
    """Return a crop around a face at any place, rotation and size."""
    zoom, turn = rng.uniform(0.85, 1.15), np.deg2rad(np.clip(rng.normal(0, 9), -28, 28))
    width = int(SIZE * zoom * rng.uniform(0.95, 1.35))
    height = int(width * rng.uniform(1.1, 1.35))
    centre = np.array([width * (0.5 + rng.normal(0, 0.035)), height * (0.52 + rng.normal(0, 0.035))])
    rotation_22 = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    target_52 = (TEMPLATE_52 - TEMPLATE_52.mean(axis=0)) @ rotation_22 * zoom + centre
    return Frame(height, width, target_52)


def _detect(true_52: Points, drawn: tuple[int, ...], recorded: tuple[int, ...], rng: Rng) -> Points:
    """Return the landmarks in the pixels of the recorded crop, with a detector's error."""
    ratio = np.array([recorded[1] / drawn[1], recorded[0] / drawn[0]])
    seen_52: Points = (true_52 + 0.5) * ratio - 0.5
    between_eyes = float(np.hypot(*(seen_52[1] - seen_52[0])))
    return seen_52 + rng.normal(0, 0.02 * between_eyes, (5, 2))


def _score(quality: float, shot: Shot, rng: Rng) -> float:
    """Return a detector's confidence: it falls with quality and with yaw."""
    score = 0.55 + 0.38 * quality - 0.0015 * abs(shot.face.yaw) + rng.normal(0, 0.03)
    return float(np.clip(score, 0.5, 0.99))
