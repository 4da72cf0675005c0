"""Heads as figures show them: published settings, or a run's own, with running statistics set to stated values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from stages.core.errors import InputError, UnknownNameError
from stages.core.losses.gradient_scaling import STILL
from stages.core.losses.head import CosineHead
from stages.runtime import artifacts, plugins, yaml_text

MEAN_NORM, STD_NORM = 20.0, 5.0
"""Statistics of the feature norm that figures assume unless they are told others."""
BIAS = "bias"
"""Name of UniFace's learned threshold, times the scale."""
DEVIATIONS = 3.0
"""Half of the range of norms that is drawn; AdaFace's margin is at its end there with the published h of 0.333."""


@dataclass(frozen=True)
class Setting:
    """A head to draw: its section of params.yaml, and the state of its running statistics."""

    title: str
    section: Mapping[str, Any]
    state: Mapping[str, float] = field(default_factory=dict)
    """Values of buffers by name, and of UniFace's bias."""

    def build(self) -> CosineHead:
        """Return the head for two classes, with statistics that stay as ``state`` sets them.

        Raises:
            ValueError: the section does not fit the head, or it has no such statistic.
        """
        module = plugins.load("heads", str(self.section.get("name")))
        still = {"t_alpha": STILL} if "t_alpha" in module.Config.model_fields else {}
        head: CosineHead = module.Head(module.Config(**{**self.section, **still}), 2, 2)
        held = dict(head.named_buffers()) | {name: each.data for name, each in head.named_parameters() if name == BIAS}
        for name, value in self.state.items():
            if name not in held:
                raise InputError(f"head {self.section['name']} has no statistic {name!r}, only {', '.join(held)}")
            held[name].copy_(torch.tensor(value))
        return head.double()

    def norms(self) -> tuple[float, float]:
        """Return the range of feature norms to draw: the head's own where it has one, else around the mean."""
        config = getattr(self.build(), "config", None)
        low, high = getattr(config, "min_norm", None), getattr(config, "max_norm", None)
        if low is not None and high is not None:
            return float(low), float(high)
        mean, std = self.state.get("batch_mean", MEAN_NORM), self.state.get("batch_std", STD_NORM)
        return max(0.0, mean - DEVIATIONS * std), mean + DEVIATIONS * std


def published(names: Sequence[str] = ()) -> list[Setting]:
    """Return heads with their published settings; AdaFace with settled statistics.

    Args:
        names: of the heads; empty: all.

    Raises:
        UnknownNameError: no published setting of a head is drawn.
    """
    drawn = _published()
    there = {str(setting.section["name"]) for setting in drawn}
    for name in names:
        if name not in there:
            raise UnknownNameError(f"no figure of a published head {name!r}, only of {', '.join(sorted(there))}")
    return [setting for setting in drawn if not names or setting.section["name"] in names]


def _published() -> list[Setting]:
    norms = {"batch_mean": MEAN_NORM, "batch_std": STD_NORM}
    loop = {"gradient": "straight_through", "beyond_pi": "wrap"}
    return [
        Setting("softmax", {"name": "softmax"}),
        Setting("CosFace, m 0.35", {"name": "cosface", "margin": 0.35}),
        Setting("ArcFace, m 0.5", {"name": "arcface", "margin": 0.5}),
        Setting("ArcFace as insightface computes it", {"name": "arcface", "margin": 0.5, **loop}),
        Setting("MV-AM-Softmax, m 0.35", {"name": "mv_softmax", "kind": "am", "margin": 0.35, "scale": 32}),
        Setting("CurricularFace, at the start (t 0)", {"name": "curricularface", "margin": 0.5}, {"t": 0.0}),
        Setting("CurricularFace, late (t 0.6)", {"name": "curricularface", "margin": 0.5}, {"t": 0.6}),
        Setting("combined, m 1, 0.3, 0.2", {"name": "combined", "m1": 1, "m2": 0.3, "m3": 0.2}),
        Setting("SphereFace, m 1.7", {"name": "sphereface", "margin": 1.7}),
        Setting("SphereFace-R v2, m 1.4", {"name": "sphereface", "variant": "v2", "margin": 1.4, "scale": 60}),
        Setting("UniFace, m 0.4, at the start", {"name": "uniface", "margin": 0.4}),
        Setting("MagFace, margins 0.45 to 0.8", {"name": "magface"}),
        Setting("AdaFace, m 0.4, h 0.333", {"name": "adaface", "margin": 0.4, "h": 0.333}, norms),
    ]


def of_run(run: str) -> Setting:
    """Return the head of a run, with the feature norm's statistics at the end of its training where they are known.

    Raises:
        FileNotFoundError: the run is not resolved.
    """
    path = artifacts.RESOLVED / "runs" / f"{run}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `dvc repro resolve` writes it for each run of params.yaml")
    section = yaml_text.read(path)["train"]["head"]
    module = plugins.load("heads", section["name"])
    buffers = dict(module.Head(module.Config(**section), 2, 2).named_buffers())
    last = _last_statistics(run)
    known = {"batch_mean": last.get("norm_mean", MEAN_NORM), "batch_std": last.get("norm_std", STD_NORM)}
    state = {name: value for name, value in known.items() if name in buffers}
    if "t" in buffers:
        state["t"] = last.get("t", 0.0)
    if "threshold" in last:
        state[BIAS] = last["threshold"] * float(section["scale"])
    fields = ", ".join(f"{name} {value}" for name, value in section.items() if name in ("margin", "h"))
    return Setting(f"{run}: {section['name']}{f', {fields}' if fields else ''}", section, state)


def _last_statistics(run: str) -> dict[str, float]:
    """Return the head's statistics in the last line of a training's curve."""
    path = artifacts.details_folder(run, "train").with_suffix(".csv")
    if not path.is_file():
        return {}
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        return {}
    pairs = zip(head.split(","), lines[-1].split(","), strict=True)
    return {name: float(value) for name, value in pairs if value and name != "epoch"}
