"""Writes brisque.json from the package brisque 0.2.0: python tests/golden/make_brisque.py, if it is installed.

Grey images of three kinds, drawn by ``image``: smooth, noisy, blurred; their 36 features and their scores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

KINDS = ("smooth", "noisy", "blocky")


def image(kind: str, side: int = 112) -> np.ndarray:
    """Return a computed image uint8 (side, side, 3) that needs no file."""
    rng = np.random.default_rng(KINDS.index(kind))
    down, across = np.mgrid[:side, :side] / side
    base = 120 + 60 * np.sin(9 * down + 4 * across) + 40 * np.cos(21 * across * down)
    if kind == "noisy":
        base = base + rng.normal(0, 25, base.shape)
    if kind == "blocky":
        base = base[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)
    colour = base[..., None] * [0.9, 1.0, 1.1] + rng.normal(0, 2, (side, side, 3))
    return np.clip(colour, 0, 255).astype(np.uint8)


def main() -> None:
    """Write the file."""
    import cv2
    import skimage.color
    from brisque import BRISQUE

    judge = BRISQUE(url=False)
    tree = {}
    for kind in KINDS:
        rgb = image(kind)
        grey = skimage.color.rgb2gray(rgb)
        small = cv2.resize(grey, None, fx=1 / 2, fy=1 / 2, interpolation=cv2.INTER_CUBIC)
        # its own ``score`` stops at numpy 2.4, which makes no number of an array of one
        made = [value for part in (grey, small) for value in judge.calculate_brisque_features(part)]
        features = [float(np.ravel(value)[0]) for value in made]
        tree[kind] = {"features": features, "score": float(judge.calculate_image_quality_score(features))}
        sys.stderr.write(f"{kind} {tree[kind]['score']:.2f}\n")
    (Path(__file__).parent / "brisque.json").write_text(json.dumps(tree))


if __name__ == "__main__":
    main()
