"""Everything around a drawn head: background, neck and clothes, long hair, glasses, the peak of a cap, and the camera.

Shapes: H, W pixels of the supersampled canvas, S, T fine grid of the surface, 3 channels BGR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.face_geometry import Floats
from stages.core.face_hair import HAT_EDGE
from stages.core.face_model import Bgr, Identity, Light, Rng, Shot

Image = NDArray[np.uint8]
SHIFT = 4


def _shade_palette() -> Image:
    """Return a (256, 1, 3) palette: shadows on skin turn warm before they turn dark."""
    level = np.linspace(0, 255 / 128, 256)[:, None]
    tinted = np.power(level, np.array([1.12, 1.06, 0.90]))
    return np.clip(tinted * 128, 0, 255).astype(np.uint8)[:, None, :]


SHADE_PALETTE = _shade_palette()


def compose(canvas_HW3: Image, layer_HW4: Image) -> None:
    """Put a layer with hard coverage (0 or 255) on the canvas; averaging down later makes its edges smooth."""
    cv2.copyTo(
        cv2.cvtColor(layer_HW4, cv2.COLOR_BGRA2BGR), np.ascontiguousarray(layer_HW4[..., 3]), canvas_HW3
    )


def develop(image_HW3: Image, light: Light) -> Image:
    """Apply the camera: saturation, white balance, contrast and gamma."""
    if light.saturation != 1:
        weight = np.array([0.114, 0.587, 0.299])
        mix = np.eye(3) * light.saturation + (1 - light.saturation) * weight[None, :]
        image_HW3 = cv2.transform(image_HW3, mix)
    level = np.linspace(0, 1, 256)[:, None]
    curve = np.clip((level * np.asarray(light.gain) - 0.45) * light.contrast + 0.45, 0, 1) ** light.gamma
    developed: Image = cv2.LUT(image_HW3, np.rint(curve * 255).astype(np.uint8).reshape(1, 256, 3))
    return developed


def paint_ears(colour_ST3: Image, angle_S: Floats, y_T: Floats, t: Mapping[str, float], tone: Bgr) -> None:
    """Paint the folds of both ears on the surface."""
    size, u = t["ear_size"], np.linspace(0, 1, 12)
    rows, columns = np.arange(len(y_T)), np.arange(len(angle_S))
    for sign in (-1, 1):
        for degrees, reach, shade in (
            (85 + 12 * np.sin(u * np.pi), 12.5, 0.62),
            (86 + 6 * np.sin(u * np.pi), 7.0, 0.5),
        ):
            at_t = np.interp(
                6 - reach * size + 2 * reach * size * u, y_T[: len(y_T) - 30], rows[: len(y_T) - 30]
            )
            at_s = np.interp(np.deg2rad(degrees) * sign, angle_S, columns)
            points = np.rint(np.stack([at_t, at_s], axis=1) * (1 << SHIFT)).astype(np.int32)
            cv2.polylines(colour_ST3, [points], False, tuple(shade * c for c in tone), 3, cv2.LINE_AA, SHIFT)


@dataclass(frozen=True)
class Scene:
    """One image's surroundings, in the pixels of its canvas."""

    identity: Identity
    tone: Bgr
    shot: Shot
    camera_33: NDArray[np.float64]
    to_canvas_23: NDArray[np.float64]
    rng: Rng

    def background(self, height: int, width: int) -> Image:
        """Return a smooth, out-of-focus background."""
        cells = int(self.rng.integers(2, 7))
        base = self.rng.uniform(20, 220, 3) * 0.55 + self.rng.uniform(0, 110)
        spread = self.rng.uniform(4, 46)
        small = (
            0.5 * (base + base.mean())
            + self.rng.normal(0, spread, (cells, cells, 1))
            + self.rng.normal(0, spread * 0.35, (cells, cells, 3))
        )
        small8 = np.clip(small, 0, 255).astype(np.uint8)
        return cv2.resize(small8, (width, height), interpolation=cv2.INTER_CUBIC)

    def place(self, points_N3: NDArray[np.float64], turn: float = 1.0) -> NDArray[np.float64]:
        """Return canvas places of points on the head; ``turn`` below 1 follows only part of its rotation."""
        camera = self.camera_33 if turn == 1 else np.eye(3) * (1 - turn) + self.camera_33 * turn
        flat = (points_N3 @ camera.T)[:, :2]
        return flat @ self.to_canvas_23[:, :2].T + self.to_canvas_23[:, 2]

    def fill(self, canvas: Image, points_N2: NDArray[np.float64], colour: Sequence[float]) -> None:
        """Fill a polygon, anti-aliased."""
        fixed = np.rint(np.clip(points_N2, -2000, 4000) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], tuple(float(c) for c in colour), cv2.LINE_AA, SHIFT)

    def line(
        self,
        canvas: Image,
        points_N2: NDArray[np.float64],
        colour: Sequence[float],
        width: float,
        closed: bool,
    ) -> None:
        """Draw a line ``width`` units wide."""
        zoom = float(np.hypot(*self.to_canvas_23[:, 0]))
        fixed = np.rint(np.clip(points_N2, -2000, 4000) * (1 << SHIFT)).astype(np.int32)
        cv2.polylines(
            canvas,
            [fixed],
            closed,
            tuple(float(c) for c in colour),
            max(round(width * zoom), 1),
            cv2.LINE_AA,
            SHIFT,
        )

    def draw_behind(self, canvas: Image) -> None:
        """Draw long hair, neck and clothes."""
        wear = self.shot.wear
        lit = 0.55 + 0.45 * self.shot.light.ambient
        if wear.hair.length >= 0.4:
            self._draw_long_hair(canvas, lit)
        side = np.linspace(-1, 1, 12)
        shadow = np.sin(np.deg2rad(self.shot.light.azimuth))
        for left, right in zip(side[:-1], side[1:], strict=True):
            shade = lit * (0.86 - 0.35 * ((left + right) / 2 - 0.5 * shadow) ** 2)
            strip = np.array(
                [(left * 26, 25, -8), (right * 26, 25, -8), (right * 27, 95, -14), (left * 27, 95, -14)]
            )
            self.fill(canvas, self.place(strip, 0.6), np.asarray(self.tone) * shade * (0.86, 0.90, 1.0))
        cast = np.array([(-27, 40, -6), (27, 40, -6), (24, 66, -6), (0, 82, 0), (-24, 66, -6)])
        self.fill(canvas, self.place(cast, 0.6), np.asarray(self.tone) * 0.52 * lit)
        u = np.linspace(-1, 1, 21)
        top = 84 + 30 * np.abs(u) ** 1.6 - 6 * np.exp(-((np.abs(u) - 0.3) ** 2) / 0.01)
        body = np.concatenate([np.stack([u * 96, top, 0 * u - 14], 1), [(110, 300, -14), (-110, 300, -14)]])
        neckline = np.abs(u) < 0.27
        body[:-2][neckline, 1] = 84 + 22 * (0.27 - np.abs(u[neckline])) / 0.27
        self.fill(canvas, self.place(body, 0.35), np.asarray(wear.cloth) * lit)

    def _draw_long_hair(self, canvas: Image, lit: float) -> None:
        wear, u = self.shot.wear, np.linspace(0, np.pi, 15)
        end = 10 + 85 * wear.hair.length
        half = 44 + wear.hair.volume
        arc = np.stack([-half * np.cos(u), -20 - 46 * np.sin(u), 0 * u - 12], axis=1)
        v = np.linspace(0, 1, 9)
        swing = half + 6 * np.sin(v * 2.2) - 22 * v**4 + 1.5 * np.sin(v * 9 + self.shot.seed % 7)
        right = np.stack([swing, -12 + (end + 12) * v**0.9, 0 * v - 12], axis=1)
        outline = np.concatenate([arc, right, right[::-1] * (-1, 1, 1)])
        self.fill(canvas, self.place(outline, 0.9), np.asarray(wear.hair_colour) * 0.5 * lit)
        for x in self.rng.uniform(-1, 1, 30):
            points = np.stack([x * (swing - 1), right[:, 1] - 2 * v, right[:, 2]], axis=1)
            shade = float(self.rng.uniform(0.38, 0.8))
            self.line(
                canvas, self.place(points, 0.9), np.asarray(wear.hair_colour) * shade * lit, 1.4, closed=False
            )

    def draw_front(self, canvas: Image) -> None:
        """Draw glasses and the peak of a cap."""
        if self.shot.wear.glasses != "none":
            self._draw_glasses(canvas)
        if self.shot.wear.hat == "cap":
            u = np.linspace(-1, 1, 15)
            near = np.stack([36 * u, HAT_EDGE + 1 + 4 * (1 - u**2), 50 * np.sqrt(1 - 0.75 * u**2)], axis=1)
            far = np.stack(
                [31 * u, HAT_EDGE + 3 + 3 * (1 - u**2), 50 * np.sqrt(1 - 0.75 * u**2) + 27 * (1 - u**4)],
                axis=1,
            )
            outline = self.place(np.concatenate([near, far[::-1]]))
            self.fill(canvas, outline, np.asarray(self.shot.wear.second_cloth) * 0.62)
            self.line(
                canvas, self.place(far), np.asarray(self.shot.wear.second_cloth) * 0.4, 0.8, closed=False
            )

    def _draw_glasses(self, canvas: Image) -> None:
        t, kind = self.identity.traits, self.shot.wear.glasses
        turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        corner = (
            np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.7,
            np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.7,
        )
        colour = {"thin": (70, 74, 84), "thick": (24, 24, 28), "sun": (16, 16, 18)}[kind]
        width = {"thin": 0.8, "thick": 1.9, "sun": 1.3}[kind]
        rims = []
        for sign in (-1, 1):
            x = sign * t["eye_x"] + 11.6 * corner[0]
            y = t["eye_y"] + 1.5 + 8.2 * corner[1]
            rims.append(self.place(np.stack([x, y, 57 - 0.014 * x**2], axis=1)))
        if kind == "sun":
            for rim in rims:
                self.fill(canvas, rim, (30, 26, 24))
        elif self.rng.uniform() < 0.35:
            glare = canvas.copy()
            for rim in rims:
                self.fill(glare, rim[4:14], (235, 235, 235))
            cv2.addWeighted(glare, 0.22, canvas, 0.78, 0, dst=canvas)
        for rim in rims:
            self.line(canvas, rim, colour, width, closed=True)
        inner = t["eye_x"] - 11.6
        self.line(
            canvas,
            self.place(np.array([(-inner, -1, 56), (0, -2.5, 57.5), (inner, -1, 56.0)])),
            colour,
            width,
            closed=False,
        )
        for sign in (-1, 1):
            if sign * self.shot.face.yaw < -8:  # the arm on the far side is hidden by the head
                arm = np.array(
                    [(sign * (t["eye_x"] + 11.6), -2, 46.0), (sign * 39.5, -2, 28.0), (sign * 41.5, -3, 6.0)]
                )
                self.line(canvas, self.place(arm), colour, width, closed=False)
