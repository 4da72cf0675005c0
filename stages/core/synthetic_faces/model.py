"""Parameters of a synthetic face: the traits of an identity, and the conditions of each image.

Lengths are in pixels of the aligned 112x112 crop, measured from the point between the eyes: x to the right of
the image, y down, z towards the camera. Identity sits in geometry and in fine texture; colours change from
image to image, because colour survives low resolution and would make 11-pixel faces as easy as clean ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.core.synthetic_faces.traits import GREY_HAIR, HAIR_COLOURS, TRAITS, Bgr

Rng = np.random.Generator


@dataclass(frozen=True)
class Hair:
    """A haircut: its style, not where hair grows."""

    length: float  # 0 cropped .. 1 over the shoulders
    volume: float  # thickness over the skull, px
    front: float  # lowers (+) or raises (-) the front edge, px; above 8 it is a fringe
    part: float  # side the strands fall to, -1 .. 1
    curl: float  # 0 straight .. 1 curly
    bald: bool = False


@dataclass(frozen=True)
class Identity:
    """What all images of one person share."""

    traits: Mapping[str, float]
    tone: float  # 0 lightest .. 1 darkest, as an index into SKIN_TONES
    hair: Hair
    beard: float  # 0 never .. 1 always
    glasses: float  # share of images with glasses
    age: float  # 0 young .. 1 old
    texture_seed: int


@dataclass(frozen=True)
class Pose:
    """Poses of a set: the deviation of yaw, and its bounds by absolute value, in degrees."""

    yaw_sd: float = 16.0
    yaw_min: float = 0.0
    yaw_max: float = 55.0
    pitch_sd: float = 6.0


WEB = Pose()
FRONTAL = Pose(yaw_sd=6.0, yaw_max=14.0, pitch_sd=4.0)
CROSS_POSE = Pose(yaw_sd=30.0, yaw_min=12.0, yaw_max=58.0, pitch_sd=9.0)
PROFILE = Pose(yaw_sd=60.0, yaw_min=42.0, yaw_max=65.0, pitch_sd=5.0)


@dataclass(frozen=True)
class Face:
    """Head pose and facial expression; degrees, positive yaw turns the face to the image's right."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    smile: float = 0.15  # -0.5 sad .. 1
    mouth_open: float = 0.0  # 0 .. 1
    squint: float = 0.1  # 0 open .. 1 nearly shut
    brow_raise: float = 0.0  # -1 .. 1
    gaze_x: float = 0.0  # -1 .. 1
    gaze_y: float = 0.0
    age: float = 0.4  # 0 young .. 1 old
    weight: float = 0.0  # fuller (+) or leaner (-) cheeks, px


@dataclass(frozen=True)
class Wear:
    """What is worn, including hair."""

    hair: Hair
    hair_colour: Bgr = (40, 60, 90)
    beard: float = 0.0  # 0 shaven, below 0.45 stubble, below 0.7 moustache, above full
    lips: float = 0.2  # 0 as the skin .. 1 painted
    glasses: str = "none"  # none, thin, thick, sun
    hat: str = "none"  # none, cap, beanie
    cloth: Bgr = (110, 80, 60)
    second_cloth: Bgr = (200, 200, 200)


@dataclass(frozen=True)
class Light:
    """Light and the camera's response to it."""

    azimuth: float = -25.0  # degrees, positive from the image's right
    elevation: float = 35.0
    ambient: float = 0.5  # share that comes from everywhere
    gain: Bgr = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


@dataclass(frozen=True)
class Shot:
    """Conditions of one image."""

    face: Face
    wear: Wear
    light: Light
    landmark_error: float = 0.0  # px, how badly the detector placed the landmarks that align the face
    seed: int = 0


def draw_identity(rng: Rng) -> Identity:
    """Draw a random identity."""
    normal = np.clip(rng.standard_normal(len(TRAITS)), -2, 2)
    traits = {
        name: mean + deviation * float(value)
        for (name, (mean, deviation)), value in zip(TRAITS.items(), normal, strict=True)
    }
    return Identity(
        traits=traits,
        tone=float(np.clip(rng.normal(0.36, 0.22), 0, 1)),
        hair=draw_hair(rng),
        beard=float(rng.uniform()) if rng.uniform() < 0.45 else 0.0,
        glasses=0.75 if rng.uniform() < 0.2 else 0.04,
        age=float(rng.beta(1.6, 2.2)),
        texture_seed=int(rng.integers(2**31)),
    )


def draw_hair(rng: Rng) -> Hair:
    """Draw a random haircut."""
    long = rng.uniform() < 0.42
    return Hair(
        length=float(rng.uniform(0.42, 1.0) if long else rng.uniform(0.0, 0.25)),
        volume=float(rng.uniform(3.0, 7.0) if long else rng.uniform(1.5, 5.5)),
        front=float(rng.uniform(9, 15) if rng.uniform() < 0.16 else rng.normal(0, 2.2)),
        part=float(rng.uniform(-1, 1)),
        curl=float(max(rng.normal(0.1, 0.35), 0.0)),
        bald=bool(not long and rng.uniform() < 0.12),
    )


def draw_shot(rng: Rng, identity: Identity, pose: Pose = WEB, age: float | None = None) -> Shot:
    """Draw random conditions for one image of ``identity``; ``age`` overrides the person's usual one."""
    usual = identity.age + float(rng.normal(0, 0.14))
    age = float(np.clip(usual if age is None else age, 0, 1))
    return Shot(
        face=_draw_face(rng, pose, age),
        wear=_draw_wear(rng, identity, age),
        light=_draw_light(rng),
        landmark_error=float(abs(rng.normal(0.0, 0.7))),
        seed=int(rng.integers(2**31)),
    )


def passport(identity: Identity) -> Shot:
    """Return passport conditions: frontal, even light, no accessories."""
    shot = draw_shot(np.random.default_rng(identity.texture_seed), identity)
    wear = replace(shot.wear, hair=identity.hair, glasses="none", hat="none")
    return replace(shot, face=Face(age=identity.age), wear=wear, light=Light(), landmark_error=0.0)


def _draw_face(rng: Rng, pose: Pose, age: float) -> Face:
    size = abs(float(rng.normal(0, pose.yaw_sd)))
    if size > pose.yaw_max - pose.yaw_min:
        size = float(rng.uniform(0, pose.yaw_max - pose.yaw_min))
    smile = float(rng.uniform(0.3, 1.0) if rng.uniform() < 0.4 else rng.normal(0.0, 0.2))
    squint = float(rng.normal(0.06, 0.12)) + 0.16 * max(smile, 0.0)
    return Face(
        yaw=(pose.yaw_min + size) * (1 if rng.uniform() < 0.5 else -1),
        pitch=float(np.clip(rng.normal(0, pose.pitch_sd), -18, 18)),
        roll=float(rng.normal(0, 7)),
        smile=float(np.clip(smile, -0.5, 1)),
        mouth_open=float(rng.beta(1.3, 3.0)) if rng.uniform() < 0.35 else 0.0,
        squint=float(np.clip(squint, 0, 1 if rng.uniform() < 0.04 else 0.6)),
        brow_raise=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        gaze_x=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        gaze_y=float(np.clip(rng.normal(0, 0.25), -1, 1)),
        age=age,
        weight=float(rng.normal(0, 0.6)),
    )


def _draw_wear(rng: Rng, identity: Identity, age: float) -> Wear:
    usual = replace(
        identity.hair,
        front=identity.hair.front + float(rng.normal(0, 1)),
        volume=identity.hair.volume * float(rng.uniform(0.8, 1.2)),
    )
    other = draw_hair(rng)
    glasses = "none"
    if rng.uniform() < identity.glasses:
        glasses = ("thin", "thick")[int(rng.integers(2))]
    elif rng.uniform() < 0.03:
        glasses = "sun"
    colour = np.array(HAIR_COLOURS[int(rng.integers(len(HAIR_COLOURS)))]) * rng.uniform(0.75, 1.25)
    if rng.uniform() < 1.6 * (age - 0.45):
        colour = 0.25 * colour + 0.75 * np.array(GREY_HAIR) * rng.uniform(0.8, 1.3)
    beard = float(rng.uniform(0.3, 1)) if rng.uniform() < identity.beard * 0.8 else 0.0
    return Wear(
        hair=usual if rng.uniform() < 0.55 else other,
        hair_colour=_bgr(colour),
        beard=beard,
        lips=float(rng.beta(1.2, 2.5)) * (0.35 if identity.beard else 1.0),
        glasses=glasses,
        hat=("cap", "beanie")[int(rng.integers(2))] if rng.uniform() < 0.07 else "none",
        cloth=_bgr(rng.uniform(20, 235, 3) * 0.6 + rng.uniform(10, 90)),
        second_cloth=_bgr(rng.uniform(20, 240, 3)),
    )


def _draw_light(rng: Rng) -> Light:
    warmth, green = rng.normal(0, 0.07), rng.normal(0, 0.02)
    return Light(
        azimuth=float(np.clip(rng.normal(0, 42), -100, 100)),
        elevation=float(np.clip(rng.normal(28, 20), -25, 75)),
        ambient=float(rng.uniform(0.3, 0.62)),
        gain=_bgr(rng.uniform(0.72, 1.18) * np.array([1 - warmth, 1 + green, 1 + warmth])),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        contrast=float(rng.uniform(0.8, 1.15)),
        saturation=0.0 if rng.uniform() < 0.1 else float(rng.uniform(0.55, 1.2)),
    )


def _bgr(values: NDArray[np.float64]) -> Bgr:
    blue, green, red = (float(value) for value in values)
    return (blue, green, red)
