"""Surroundings of a synthetic head: background, neck, clothes, long hair, glasses, peak of a cap, camera.

Shapes: H, W pixels of the supersampled canvas, N points, 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.synthetic_faces.hair import HAT_EDGE, LONG
from stages.core.synthetic_faces.model import Identity, Light, Rng, Shot
from stages.core.synthetic_faces.skin import SHIFT, Image
from stages.core.synthetic_faces.traits import Bgr

Points = NDArray[np.float64]
Colour = Sequence[float] | NDArray[np.float64]

_GREY = np.array([0.114, 0.587, 0.299])
_LEVEL = np.linspace(0, 1, 256)[:, None]


def _shade_palette() -> Image:
    """Return a (256, 1, 3) palette: shadows on skin turn warm before they turn dark."""
    level = np.linspace(0, 255 / 128, 256)[:, None]
    tinted = np.power(level, np.array([1.12, 1.06, 0.90]))
    palette: Image = np.clip(tinted * 128, 0, 255).astype(np.uint8)[:, None, :]
    return palette


SHADE_PALETTE = _shade_palette()
_SIDE = np.linspace(-1, 1, 12)


def _neck() -> Points:
    """Return the upper and the lower edge of the neck, then three shadows of the chin, 5 points each."""
    edges = [
        np.stack([_SIDE * width, 0 * _SIDE + y, 0 * _SIDE + z], axis=1)
        for y, width, z in ((25.0, 26.0, -8.0), (112.0, 29.0, -14.0))
    ]
    casts = [
        np.array([(-28, 38, -6), (28, 38, -6), (25, low - 16, -6), (0, low, 2), (-25, low - 16, -6)])
        for low in (86.0, 79.0, 72.0)
    ]
    return np.concatenate([*edges, *casts])


_NECK = _neck()


def compose(canvas_HW3: Image, layer_HW4: Image) -> None:
    """Put a layer with hard coverage on the canvas; averaging down later smooths its edges."""
    covered_HW = cv2.extractChannel(layer_HW4, 3)
    cv2.copyTo(cv2.cvtColor(layer_HW4, cv2.COLOR_BGRA2BGR), covered_HW, canvas_HW3)


def develop(image_HW3: Image, light: Light) -> Image:
    """Apply the camera: saturation, white balance, contrast and gamma."""
    if light.saturation != 1:
        mix = np.eye(3) * light.saturation + (1 - light.saturation) * _GREY
        image_HW3 = cv2.transform(image_HW3, mix)
    curve = np.clip((_LEVEL * np.asarray(light.gain) - 0.45) * light.contrast + 0.45, 0, 1) ** light.gamma
    developed: Image = cv2.LUT(image_HW3, np.rint(curve * 255).astype(np.uint8).reshape(1, 256, 3))
    return developed


@dataclass(frozen=True)
class Scene:
    """One image's surroundings, in the pixels of its canvas."""

    identity: Identity
    tone: Bgr
    shot: Shot
    camera_33: NDArray[np.float64]
    to_canvas_23: NDArray[np.float64]
    rng: Rng

    @property
    def lit(self) -> float:
        """Brightness of surroundings that the light model does not cover."""
        return 0.55 + 0.45 * self.shot.light.ambient

    def background(self, height: int, width: int) -> Image:
        """Return a smooth, out-of-focus background."""
        cells = int(self.rng.integers(2, 7))
        base = self.rng.uniform(20, 220, 3) * 0.5 + self.rng.uniform(0, 110)
        spread = float(self.rng.uniform(4, 46))
        small = 0.5 * (base + base.mean()) + self.rng.normal(0, spread, (cells, cells, 1))
        small = small + self.rng.normal(0, spread * 0.3, (cells, cells, 3))
        blobs = np.clip(small, 0, 255).astype(np.uint8)
        wide: Image = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)
        return wide

    def place(self, points_N3: Points, turn: float = 1.0) -> Points:
        """Return canvas points of points on the head; ``turn`` below 1 follows part of its rotation."""
        camera = self.camera_33 if turn == 1 else np.eye(3) * (1 - turn) + self.camera_33 * turn
        flat: Points = (points_N3 @ camera.T)[:, :2] @ self.to_canvas_23[:, :2].T + self.to_canvas_23[:, 2]
        return flat

    def fill(self, canvas: Image, points_N2: Points, colour: Colour) -> None:
        """Fill a polygon, anti-aliased."""
        cv2.fillPoly(canvas, [_fixed(points_N2)], [float(c) for c in colour], cv2.LINE_AA, SHIFT)

    def line(
        self,
        canvas: Image,
        lines: Sequence[Points],
        colour: Colour,
        width: float,
        *,
        closed: bool = False,
        smooth: bool = True,
    ) -> None:
        """Draw lines ``width`` units wide."""
        thickness = max(round(width * float(np.hypot(*self.to_canvas_23[:, 0]))), 1)
        fixed = [_fixed(points_N2) for points_N2 in lines]
        way = cv2.LINE_AA if smooth else cv2.LINE_8
        cv2.polylines(canvas, fixed, closed, [float(c) for c in colour], thickness, way, SHIFT)

    def draw_behind(self, canvas: Image) -> None:
        """Draw long hair, neck and clothes."""
        if self.shot.wear.hair.length >= LONG:
            self._draw_long_hair(canvas)
        self._draw_neck(canvas)
        collar = float(self.place(np.array([(0.0, 78.0, 0.0)]), 0.5)[0, 1])
        if collar < canvas.shape[0]:
            self._draw_clothes(canvas)

    def _draw_neck(self, canvas: Image) -> None:
        """Draw the neck as upright strips, darker to the sides, in the shadow of the chin."""
        places = _fixed(self.place(_NECK, 0.6))
        top, bottom, casts = places[: len(_SIDE)], places[len(_SIDE) : 2 * len(_SIDE)], places[2 * len(_SIDE) :]
        colour = np.asarray(self.tone) * (0.86, 0.90, 1.0) * self.lit
        off_light = (_SIDE[1:] + _SIDE[:-1]) / 2 - 0.5 * np.sin(np.deg2rad(self.shot.light.azimuth))
        for k, paint in enumerate(((0.88 - 0.40 * off_light**2)[:, None] * colour).tolist()):
            strip = np.concatenate([top[k : k + 2], bottom[k + 1 : k - 1 if k else None : -1]])
            cv2.fillConvexPoly(canvas, strip, paint, cv2.LINE_8, SHIFT)
        for cast, shade in zip(casts.reshape(-1, 5, 2), (0.66, 0.58, 0.50), strict=True):
            cv2.fillConvexPoly(canvas, cast, (shade * colour).tolist(), cv2.LINE_8, SHIFT)

    def _draw_clothes(self, canvas: Image) -> None:
        u = np.linspace(-1, 1, 21)
        neck = np.abs(u) < 0.27
        top = 82 + 30 * np.abs(u) ** 1.6
        top[neck] = 80 + 20 * (0.27 - np.abs(u[neck])) / 0.27
        edge = np.stack([u * 96, top, 0 * u - 14], axis=1)
        hem = np.array([(110.0, 300, -14), (-110, 300, -14)])
        cloth = np.asarray(self.shot.wear.cloth) * self.lit
        places = self.place(np.concatenate([edge, hem]), 0.35)
        self.fill(canvas, places, cloth * 0.85)
        self.line(canvas, [places[8:13]], np.asarray(self.shot.wear.second_cloth) * 0.8 * self.lit, 2.2)

    def _draw_long_hair(self, canvas: Image) -> None:
        hair, u, v = self.shot.wear.hair, np.linspace(0, np.pi, 15), np.linspace(0, 1, 9)
        end, half = 10 + 85 * hair.length, 44 + hair.volume
        arc = np.stack([-half * np.cos(u), -20 - 46 * np.sin(u), 0 * u - 12], axis=1)
        swing = half + 6 * np.sin(v * 2.2) - 22 * v**4 + 1.5 * np.sin(v * 9 + self.shot.seed % 7)
        right = np.stack([swing, -12 + (end + 12) * v**0.9, 0 * v - 12], axis=1)
        outline = np.concatenate([arc, right, right[::-1] * (-1, 1, 1)])
        colour = np.asarray(self.shot.wear.hair_colour) * self.lit
        self.fill(canvas, self.place(outline, 0.9), colour * 0.5)
        edges = self.place(np.concatenate([right - (1, 2, 0), (right - (1, 2, 0)) * (-1, 1, 1)]), 0.9)
        shares = self.rng.uniform(0, 1, 24)
        strands = edges[9:] + (edges[:9] - edges[9:]) * shares[:, None, None]
        for k, shade in enumerate((0.40, 0.58, 0.78)):
            # no anti-aliasing: thick smooth lines are slow, and the canvas is averaged down
            self.line(canvas, list(strands[k::3]), colour * shade, 1.4, smooth=False)

    def draw_front(self, canvas: Image) -> None:
        """Draw glasses and the peak of a cap."""
        if self.shot.wear.glasses != "none":
            self._draw_glasses(canvas)
        if self.shot.wear.hat == "cap":
            u = np.linspace(-1, 1, 15)
            depth = 50 * np.sqrt(1 - 0.75 * u**2)
            near = np.stack([36 * u, HAT_EDGE + 1 + 4 * (1 - u**2), depth], axis=1)
            far = np.stack([31 * u, HAT_EDGE + 3 + 3 * (1 - u**2), depth + 27 * (1 - u**4)], axis=1)
            cloth = np.asarray(self.shot.wear.second_cloth)
            self.fill(canvas, self.place(np.concatenate([near, far[::-1]])), cloth * 0.62)
            self.line(canvas, [self.place(far)], cloth * 0.4, 0.8)

    def _draw_glasses(self, canvas: Image) -> None:
        t, kind = self.identity.traits, self.shot.wear.glasses
        turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        across, down = (np.sign(f(turn)) * np.abs(f(turn)) ** 0.7 for f in (np.cos, np.sin))
        colour = {"thin": (70, 74, 84), "thick": (24, 24, 28), "sun": (16, 16, 18)}[kind]
        width = {"thin": 0.8, "thick": 1.9, "sun": 1.3}[kind]
        rims = []
        for sign in (-1, 1):
            x, y = sign * t["eye_x"] + 11.6 * across, t["eye_y"] + 1.5 + 8.2 * down
            rims.append(self.place(np.stack([x, y, 57 - 0.014 * x**2], axis=1)))
        shine = self.rng.uniform() < 0.35
        for rim in rims:
            if kind == "sun":
                self.fill(canvas, rim, (30, 26, 24))
            elif shine:
                glare = canvas.copy()
                self.fill(glare, rim[4:14], (235, 235, 235))
                cv2.addWeighted(glare, 0.22, canvas, 0.78, 0, dst=canvas)
        self.line(canvas, rims, colour, width, closed=True)
        inner = t["eye_x"] - 11.6
        bridge = np.array([(-inner, -1, 56), (0, -2.5, 57.5), (inner, -1, 56.0)])
        lines = [self.place(bridge)]
        for sign in (-1, 1):
            if sign * self.shot.face.yaw < -8:  # the arm on the far side is hidden by the head
                arm = [
                    (sign * (t["eye_x"] + 11.6), -2, 46.0),
                    (sign * 39.5, -2, 28.0),
                    (sign * 41.5, -3, 6.0),
                ]
                lines.append(self.place(np.array(arm)))
        self.line(canvas, lines, colour, width)


def _fixed(points_N2: Points) -> NDArray[np.int32]:
    return np.rint(points_N2 * (1 << SHIFT)).astype(np.int32)
