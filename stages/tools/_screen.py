"""Draws the frames of `facet demo-video`: a probe at every blur and each model's nearest gallery face below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.metrics.features import Image
from stages.pictures.blur import Gallery, Match, Probe, blurred

SIDE = 168
BAR = 26
Canvas = NDArray[np.uint8]
GREEN, RED, GREY, WHITE = (80, 190, 80), (60, 60, 220), (150, 150, 150), (245, 245, 245)


class Screen:
    """Draws a frame: the probe at every blur, below it each model's nearest gallery face, and the counts so far."""

    def __init__(self, gallery: Gallery, models: Sequence[str], titles: Sequence[str]) -> None:
        self.gallery, self.models, self.titles = gallery, list(models), list(titles)
        self.counts = {(model, level): [0, 0] for model in models for level in range(len(titles))}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, both even, as video codecs require."""
        return 120 + SIDE * len(self.titles), BAR + SIDE + len(self.models) * (SIDE + 2 * BAR)

    def draw(self, probe: Probe, sigmas: Sequence[float], matches: Mapping[str, Sequence[Match]]) -> Canvas:
        """Return the next frame, uint8 (height, width, 3), blue first."""
        width, height = self.size
        canvas = np.full((height, width, 3), 24, np.uint8)
        for level, (title, sigma) in enumerate(zip(self.titles, sigmas, strict=True)):
            left = 120 + level * SIDE
            _write(canvas, title, (left + 6, 18))
            _put(canvas, blurred(probe.image, sigma), left, BAR)
            for row, model in enumerate(self.models):
                place = (left, BAR + SIDE + row * (SIDE + 2 * BAR))
                self._draw_match(canvas, model, level, matches[model][level], place)
        _write(canvas, "probe", (8, BAR + SIDE // 2))
        for row, model in enumerate(self.models):
            top = BAR + SIDE + row * (SIDE + 2 * BAR)
            _write(canvas, model[:14], (8, top + SIDE // 2))
            _write(canvas, "true / false", (8, top + SIDE + BAR + 18), GREY)
        return canvas

    def _draw_match(self, canvas: Canvas, model: str, level: int, match: Match, place: tuple[int, int]) -> None:
        left, top = place
        counts = self.counts[model, level]
        if match.correct is not None:
            counts[0 if match.correct else 1] += 1
        colour = GREY if match.correct is None else GREEN if match.correct else RED
        _put(canvas, self.gallery.images[match.index], left, top, colour)
        said = f"{self.gallery.names[match.index][:10]} {match.cosine:.2f}"
        _write(canvas, said, (left + 6, top + SIDE + 18), colour)
        _write(canvas, f"{counts[0]} / {counts[1]}", (left + 6, top + SIDE + BAR + 18))


def _write(canvas: Canvas, text: str, place: tuple[int, int], colour: tuple[int, int, int] = WHITE) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def _put(canvas: Canvas, image_HW3: Image, left: int, top: int, frame: tuple[int, int, int] | None = None) -> None:
    inner = SIDE - 8
    canvas[top + 4 : top + 4 + inner, left + 4 : left + 4 + inner] = cv2.resize(image_HW3, (inner, inner))
    if frame is not None:
        cv2.rectangle(canvas, (left + 2, top + 2), (left + SIDE - 3, top + SIDE - 3), frame, 3)
