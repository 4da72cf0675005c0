"""Pictures and a table of what benchmarks/studies/premise.py has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmarks.studies.studied_data import LEVELS
from stages.runtime import artifacts

Run = list[dict[str, float]]
"""What each epoch of one training came to."""
Found = Mapping[str, Sequence[Run]]
"""By recipe, its trainings: one per seed."""
MEASURES = {
    "known_norm": "norm, people trained on", "known_p_y": "P_y, people trained on", "stranger_norm": "norm, others",
}  # fmt: skip


def read(folder: Path, recipe: str) -> list[Run]:
    """Return the trainings of a recipe, by seed."""
    return [artifacts.read_json(path)["history"] for path in sorted(folder.glob(f"{recipe}-[0-9]*.json"))]


def last(runs: Sequence[Run], key: str) -> np.ndarray:
    """Return what the last epoch of each training came to."""
    return np.array([run[-1][f"validation_{key}"] for run in runs])


def table(found: Found) -> str:
    """Return the last epochs as a Markdown table: means over seeds, and their extremes where there are several."""
    heads = ["recipe", "seeds", *MEASURES.values(), "rank-1 good, %", "rank-1 poor, %"]
    keys = [*(f"{key}_spearman" for key in MEASURES), "rank1_good", "rank1_poor"]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for name, runs in found.items():
        cells = [name, str(len(runs))]
        for key in keys:
            value_S = last(runs, key)
            unit, form = (100, ".1f") if key.startswith("rank1") else (1, "+.2f")
            text = format(unit * value_S.mean(), form)
            extremes = f" ({format(unit * value_S.min(), form)} to {format(unit * value_S.max(), form)})"
            cells.append(text + (extremes if len(runs) > 1 else ""))
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def draw(found: Found, folder: Path) -> None:
    """Write the pictures that there is something for."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = {name: runs for name, runs in found.items() if name.startswith("low")}
    if grid:
        _save(folder / "premise-epochs.png", grid, 3, _epochs, "Rank correlation with known quality over epochs")
        _save(folder / "premise-levels.png", grid, 3, _levels, "Mean over known quality after the last epoch")
    if found:
        _options(found, folder / "premise-recipes.png")


def _save(path: Path, found: Found, columns: int, fill: Callable[[Axes, Found, str], None], title: str) -> None:
    figure, axes = plt.subplots(1, columns, figsize=(5 * columns, 4.6), constrained_layout=True)
    for axis, (key, label) in zip(axes, MEASURES.items(), strict=True):
        fill(axis, found, key)
        axis.set_title(label, fontsize=10)
        axis.grid(alpha=0.3)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=5, fontsize=8)
    meaning = "low: share of poor training images, aug: probability of low-resolution augmentation, %"
    figure.suptitle(f"{title} ({meaning})", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _style(name: str) -> dict[str, Any]:
    """Return a colour for the share of low quality, a dash for the augmentation, a marker for length."""
    low, augmented, *rest = name.split("_")
    colour = {"low0": "C3", "low10": "C1", "low25": "C2", "low50": "C0"}[low]
    dash, marker = "-" if augmented == "aug20" else "--", "s" if rest else "o"
    return {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4}


def _epochs(axis: Axes, found: Found, key: str) -> None:
    axis.axhline(0, color="black", linewidth=0.8)
    for name, runs in found.items():
        rho_SE = np.array([[row[f"validation_{key}_spearman"] for row in run] for run in runs])
        epoch_E = np.arange(1, rho_SE.shape[1] + 1)
        style = _style(name)
        axis.plot(epoch_E, rho_SE.mean(axis=0), label=name.replace("_", ", "), **style)
        if len(runs) > 1:
            axis.fill_between(epoch_E, rho_SE.min(axis=0), rho_SE.max(axis=0), color=style["color"], alpha=0.15)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(-1, 1)


def _levels(axis: Axes, found: Found, key: str) -> None:
    for name, runs in found.items():
        mean_SL = np.array([[run[-1][f"validation_{key}_at_{level:g}"] for level in LEVELS] for run in runs])
        axis.plot(LEVELS, mean_SL.mean(axis=0), label=name.replace("_", ", "), **_style(name))
    axis.set_xlabel("known quality (1: 112 px, .5: 32 px, .1: 12 px)")


def _options(found: Found, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(15, 1.2 + 0.27 * len(found)), sharey=True, constrained_layout=True)
    names = list(found)
    for axis, (key, label) in zip(axes, MEASURES.items(), strict=True):
        for place, name in enumerate(names):
            rho_S = last(found[name], f"{key}_spearman")
            axis.barh(place, rho_S.mean(), color="C0" if rho_S.mean() > 0 else "C3", alpha=0.7)
            axis.plot(rho_S, [place] * len(rho_S), "k|", markersize=9)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(label, fontsize=10)
        axis.set_xlim(-1, 1)
        axis.grid(alpha=0.3, axis="x")
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    figure.suptitle("Rank correlation with known quality after the last epoch (a tick: one seed)", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)
