"""Pictures that tools draw: similarity matrices with faces, contact sheets of scores.

Shapes: N faces.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray

from stages.pictures.compare import Calibration, Comparison
from stages.runtime import artifacts

Image = NDArray[np.uint8]
FACE_INCHES = 1.3


def draw_comparison(path: Path, comparison: Comparison, images: Sequence[Image], limit: Calibration | None) -> None:
    """Draw the similarity matrix with the faces along both sides; pairs of one person are framed."""
    count = len(images)
    figure = Figure(figsize=(FACE_INCHES * (count + 1) + 0.6, FACE_INCHES * (count + 1) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(comparison.similarity_NN, vmin=-1, vmax=1, cmap=mpl.colormaps["RdYlGn"], alpha=0.75)
    for i in range(count):
        for j in range(count):
            value = comparison.similarity_NN[i, j]
            same = limit is not None and i != j and value >= limit.threshold
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", weight="bold" if same else "normal")
            if same:
                axes.add_patch(mpl.patches.Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, lw=2))
        _put_face(axes, images[i], (i, -1.0))
        _put_face(axes, images[i], (-1.0, i))
    axes.set_xlim(-1.5, count - 0.5)
    axes.set_ylim(count - 0.5, -1.5)
    labels = [
        name + "".join(f"\n{method} {values[i]:.3g}" for method, values in comparison.quality.items())
        for i, name in enumerate(comparison.names_N)
    ]
    axes.set_xticks(range(count), labels, fontsize=8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if limit is not None:
        axes.set_title(f"framed: cosine of {limit.threshold:.3f} or more", fontsize=9)
    with artifacts.write_file(path) as aside:
        figure.savefig(aside, dpi=110, format=path.suffix.removeprefix(".") or "png")


def _put_face(axes: mpl.axes.Axes, image_HW3: Image, place: tuple[float, float]) -> None:
    # at 110 dots per inch a face of 1.3 inches has 143 pixels
    axes.add_artist(AnnotationBbox(OffsetImage(image_HW3[:, :, ::-1], zoom=0.72), place, frameon=False))


def draw_sheet(
    path: Path, method: str, rows: Mapping[str, tuple[Sequence[Image], Sequence[str]]], words: str = ""
) -> None:
    """Draw rows of faces with a score below each.

    Args:
        path: a PNG.
        method: what scored them.
        rows: by name, images and their scores as they are shown.
        words: below all of them.
    """
    columns = max(len(images) for images, _ in rows.values())
    lines = [line for one in words.split("\n") for line in textwrap.wrap(one, int(15 * columns))]
    figure = Figure(figsize=(columns + 0.4, 1.45 * len(rows) + 0.3 + 0.14 * len(lines)), layout="constrained")
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=7, x=0.01, ha="left")
    figure.suptitle(f"quality by {method}, higher is better", fontsize=9)
    all_axes = figure.subplots(len(rows), columns, squeeze=False)
    for axes in all_axes.ravel():
        axes.set_axis_off()
    for line, (name, (images, labels)) in zip(all_axes, rows.items(), strict=True):
        line[0].text(-0.08, 0.5, name, rotation=90, va="center", ha="right", transform=line[0].transAxes, fontsize=9)
        for axes, image_HW3, label in zip(line, images, labels, strict=False):
            axes.imshow(image_HW3[:, :, ::-1])
            axes.set_title(label, fontsize=8 if len(label) < 8 else 6, y=-0.22)
    with artifacts.write_file(path) as aside:
        figure.savefig(aside, dpi=110, format=path.suffix.removeprefix(".") or "png")
