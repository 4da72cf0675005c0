"""Figures of heads: the gradient scaling term over angle and norm, margins over angle, MagFace's margin and penalty.

The first is AdaFace's figure 3 (CVPR 2022), with values that the heads themselves compute.

Shapes: A angles, N norms.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from stages.core.losses.gradient_scaling import angle_shift, cosine_shift, gradient_scaling, lead
from stages.core.losses.head import CosineHead
from stages.reporting.panels import INK, LINESTYLES, SERIES, STYLE
from stages.run_page.head_settings import Setting

APART = math.radians(70)
"""Between the two class centres."""
STRONGEST = 2.5
"""Where the colours end."""
COLOURS = LinearSegmentedColormap.from_list("strength", ["#eef2f6", "#f6c992", "#d5562c", "#6b0d12"])
_ANGLES, _NORMS = 281, 61
_ACROSS = 3
_TITLE_SIZE, _TITLE_LETTERS = 9.5, 40
"""As many fit above a panel."""
_ROW_INCHES, _BOX_INCHES, _BAR_INCHES = 2.1, 2.5, 0.75


@dataclass(frozen=True)
class HeadFigure:
    """A figure by its file's name, with the sentence that belongs under it."""

    name: str
    caption: str
    figure: Figure

    def write(self, stream: io.BytesIO, kind: str) -> None:
        """Write it as ``svg`` or ``png``; the same numbers give the same bytes."""
        dates = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(stream, format=kind, dpi=120, metadata=dates)


def gradients(settings: Sequence[Setting]) -> HeadFigure:
    """Return the gradient scaling term of each head over angle and norm, as AdaFace's figure 3 has it."""
    across = min(_ACROSS, len(settings))
    down = math.ceil(len(settings) / across)
    width, height = 3.4 * across, _ROW_INCHES * down + _BAR_INCHES
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure((width, height))
        mesh: Any = None
        for place, setting in enumerate(settings):
            row, column = divmod(place, across)
            # the box of a sector reaches down to the middle of its circle, where nothing is drawn: boxes overlap
            top = height - 0.35 - row * _ROW_INCHES
            box = ((3.4 * column + 0.25) / width, (top - _BOX_INCHES) / height, 2.9 / width, _BOX_INCHES / height)
            mesh = _sector(figure.add_axes(box, projection="polar"), setting)
        below = figure.add_axes((0.5 - 1.3 / width, 0.45 / height, 2.6 / width, 0.1 / height))
        bar = figure.colorbar(mesh, cax=below, orientation="horizontal", extend="max")
        bar.set_label("gradient scaling term |P − 1| · |df/dcos|")
    return HeadFigure(
        "heads-gradient",
        "Colour: how hard the loss pulls at the feature. Angle: from the own class centre (left) to another one, 70° "
        "away (right). Radius: the feature's norm. Dotted: equally near to both centres. Solid: equally likely to "
        "belong to both, in the eyes of the head.",
        figure,
    )


def _sector(axes: Any, setting: Setting) -> Any:
    head, (low, high) = setting.build(), setting.norms()
    angle_A = torch.linspace(0, APART, _ANGLES, dtype=torch.float64)
    norm_N = torch.linspace(low, high, _NORMS, dtype=torch.float64)
    angle_K, norm_K = angle_A.repeat(_NORMS), norm_N.repeat_interleave(_ANGLES)
    strength_NA = gradient_scaling(head, angle_K, norm_K, APART).reshape(_NORMS, _ANGLES).numpy()
    mesh = axes.pcolormesh(
        angle_A.numpy(), norm_N.numpy(), strength_NA, cmap=COLOURS, vmin=0, vmax=STRONGEST, shading="gouraud",
        rasterized=True,
    )  # fmt: skip
    axes.plot([APART / 2] * 2, [low, high], color=INK, linewidth=1.1, linestyle=(0, (1, 1.6)))
    axes.plot(*_boundary(head, angle_A, norm_N), color=INK, linewidth=1.4)
    axes.set(thetamin=0, thetamax=math.degrees(APART), rmin=low, rmax=high, rorigin=low - 0.8 * (high - low))
    axes.set_theta_direction(-1)
    axes.set_theta_offset(math.pi / 2 + APART / 2)
    axes.set_xticks([0, APART / 2, APART], ["own\ncentre", "", "other\ncentre"])
    axes.set_yticks([low, (low + high) / 2, high], [f"{norm:.3g}" for norm in (low, (low + high) / 2, high)])
    axes.tick_params(labelsize=7)
    axes.set_title(setting.title, pad=8, fontsize=_title_size(setting.title))
    return mesh


def _boundary(head: CosineHead, angle_A: Tensor, norm_N: Tensor) -> tuple[list[float], list[float]]:
    """Return angles and norms at which the true class falls behind the other, margins included."""
    angles, norms = list[float](), list[float]()
    for norm in norm_N.tolist():
        ahead_A = lead(head, angle_A, torch.full_like(angle_A, norm), APART).numpy()
        found = np.flatnonzero(ahead_A >= 0)
        if found.size and found[-1] + 1 < len(ahead_A):
            last = int(found[-1])
            share = ahead_A[last] / (ahead_A[last] - ahead_A[last + 1])
            angles.append(float(angle_A[last] + share * (angle_A[last + 1] - angle_A[last])))
            norms.append(norm)
    return angles, norms


def margins(settings: Sequence[Setting]) -> HeadFigure:
    """Return by how much each head lowers the true class's cosine, over the angle, for three norms."""
    angle_A = torch.linspace(0, math.pi / 2, 181, dtype=torch.float64)
    with _axes(len(settings)) as (figure, axes_P):
        for axes, setting in zip(axes_P, settings, strict=True):
            head, (low, high) = setting.build(), setting.norms()
            for style, norm in enumerate((low, (low + high) / 2, high)):
                shift_A = cosine_shift(head, angle_A, torch.full_like(angle_A, norm))
                _line(axes, np.degrees(angle_A.numpy()), shift_A, style, f"norm {norm:.3g}")
            axes.set_title(setting.title, fontsize=_title_size(setting.title))
            axes.set(xlabel="angle to the own centre, degrees", ylabel="cosine lowered by")
            axes.set(ylim=(0, 1), xlim=(0, 90), xticks=[0, 30, 60, 90])
            axes.legend(fontsize=7)
    return HeadFigure(
        "heads-margin",
        "By how much a head lowers the true class's cosine. Lines on top of each other: the norm has no part in it.",
        figure,
    )


def over_norm(settings: Sequence[Setting]) -> HeadFigure | None:
    """Return margin and penalty over the norm, of the heads that have such; None if there is none."""
    moving = [setting for setting in settings if _follows_norm(setting)]
    pushing = [setting for setting in settings if setting.build().penalty(torch.ones(1)) is not None]
    if not moving and not pushing:
        return None
    with _axes(len(moving) + len(pushing)) as (figure, axes_P):
        for axes, setting in zip(axes_P, moving, strict=False):
            head, norm_N = setting.build(), _wider(setting)
            for style, degrees in enumerate((15, 45, 75)):
                enlarged_N = angle_shift(head, torch.full_like(norm_N, math.radians(degrees)), norm_N)
                _line(axes, norm_N, enlarged_N, style, f"at {degrees}°")
            axes.set(title=f"{setting.title}: margin", xlabel="feature norm", ylabel="angle enlarged by, radians")
            axes.legend(fontsize=7)
        for axes, setting in zip(axes_P[len(moving) :], pushing, strict=True):
            head, norm_N = setting.build(), _wider(setting)
            _line(axes, norm_N, torch.stack([_penalty(head, norm) for norm in norm_N]), 1, "")
            axes.set(title=f"{setting.title}: penalty", xlabel="feature norm", ylabel="added to the loss")
        for axes in axes_P:
            axes.set_ylim(bottom=0)
    return HeadFigure(
        "heads-norm",
        "Heads that follow the feature's norm, their measure of quality: by how much they enlarge the angle to the own "
        "centre, for a face at three angles from it, and what they add to the loss, weight included.",
        figure,
    )


def _follows_norm(setting: Setting) -> bool:
    angle_2, norm_2 = torch.full((2,), 0.8, dtype=torch.float64), torch.tensor(setting.norms(), dtype=torch.float64)
    low, high = cosine_shift(setting.build(), angle_2, norm_2).tolist()
    return bool(abs(high - low) > 1e-9)


def _wider(setting: Setting) -> Tensor:
    """Return norms from somewhat below the head's range to somewhat above it."""
    low, high = setting.norms()
    room = 0.2 * (high - low)
    return torch.linspace(max(0.1, low - room), high + room, 221, dtype=torch.float64)


def _penalty(head: CosineHead, norm: Tensor) -> Tensor:
    added = head.penalty(norm[None])
    assert added is not None
    return added[0]


def _title_size(title: str) -> float:
    """Return the size at which a title is no wider than its panel."""
    return _TITLE_SIZE * min(1.0, _TITLE_LETTERS / len(title))


@contextmanager
def _axes(count: int) -> Iterator[tuple[Figure, list[Any]]]:
    """Yield a figure of panels side by side."""
    across = min(_ACROSS, count)
    down = math.ceil(count / across)
    with matplotlib.rc_context(STYLE):
        figure = Figure((3.4 * across, 2.7 * down), layout="constrained")
        axes = list(figure.subplots(down, across, squeeze=False).flatten())
        for unused in axes[count:]:
            unused.set_axis_off()
        yield figure, axes[:count]


def _line(axes: Any, x: Any, y: Any, style: int, label: str) -> None:
    axes.plot(np.asarray(x), np.asarray(y), color=SERIES[style], linestyle=LINESTYLES[style], label=label or None)


def svg(drawn: HeadFigure) -> str:
    """Return a figure as an SVG document."""
    stream = io.BytesIO()
    drawn.write(stream, "svg")
    return stream.getvalue().decode()


