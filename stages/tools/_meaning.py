"""The meaning of a model's quality scores, for `facet score`: read from its evaluation, or measured now."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages import evaluate
from stages.config.evaluation import Fiqa, uses_flip
from stages.core.errors import InputError
from stages.core.metrics.quality import Scorer
from stages.core.metrics.quality_scale import Scale
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.models import model_files
from stages.models.lookup import ModelHere
from stages.pictures import meaning
from stages.pictures.meaning import Asked, Meaning
from stages.pictures.score import Row
from stages.quality import feature_norm
from stages.runtime import artifacts, places
from stages.tools import verify


def of(arguments: argparse.Namespace, model: ModelHere, scorers: Mapping[str, Scorer], method: str) -> Meaning | None:
    """Return the meaning that the options ask for; None if they ask for none."""
    asked = _asked(arguments)
    if asked is None:
        if arguments.dataset is not None:
            raise InputError("--dataset measures what a cut does: give --discard or --fnmr too")
        return None
    folder = model.results / "fiqa"
    if arguments.dataset is not None:
        folder = measure(model, scorers, arguments.set, places.eval_folder(arguments.dataset), asked)
    return meaning.read(folder, arguments.set, method, asked)


def _asked(arguments: argparse.Namespace) -> Asked | None:
    if arguments.discard is not None:
        return meaning.parse("discard", arguments.discard)
    return None if arguments.fnmr is None else meaning.parse("fnmr", arguments.fnmr)


def measure(
    model: ModelHere, scorers: Mapping[str, Scorer], set_name: str, folder: Path, asked: Asked
) -> Path:
    """Evaluate suite `fiqa` on one set; return where the results are.

    An imported model keeps them in its own folder. A run's folder is DVC's: they lie under ``.facet``.
    """
    switches = Fiqa.model_validate({"sets": [set_name], "fmr": sorted({1e-2, 1e-3, asked.fmr or 1e-2}, reverse=True)})
    embedder = Embedder.load(model.backbone, flip=uses_flip(switches), keep=True)
    embed, scores = scoring_embedder.watched(embedder, scorers), scoring_embedder.scores_of(scorers)
    measured = evaluate.measure("fiqa", folder, switches, embed, scores)
    weights = model_files.read_model(model.backbone).weights_sha256
    results = model.results
    if model.backbone == artifacts.backbone_folder(model.name):
        results = artifacts.STATE / "measured" / model.name
    here = ModelHere(model.name, model.backbone, model.quality, results)
    verify.keep(here, {"fiqa": measured}, {"run": model.name, "dataset": str(folder), "weights_sha256": weights})
    return results / "fiqa"


def add(rows: Sequence[Row], found: Meaning) -> int:
    """Add to each face its place on the scale and whether the cut keeps it; return how many it drops."""
    scored = [row for row in rows if row["face"]]
    for row in scored:
        score = float(row[found.method])
        row["percent"] = float(found.scale.percent(np.array([score]))[0])
        row["kept"] = not score < found.cut.cut and math.isfinite(score)
    return sum(not row["kept"] for row in scored)


class OnScale(nn.Module):
    """A quality method on a scale from 0 to 100: the same numbers as ``Scale.percent``, as a network."""

    score_K: Tensor
    percent_K: Tensor

    def __init__(self, method: nn.Module, scale: Scale) -> None:
        super().__init__()
        self.method = method
        self.register_buffer("score_K", torch.from_numpy(scale.score_K).float())
        self.register_buffer("percent_K", torch.from_numpy(scale.percent_K).float())

    def forward(self, feature_ND: Tensor) -> Tensor:
        """Return percent_N."""
        score_N1 = self.method(feature_ND)[:, None]
        step_K, rise_K = self.score_K.diff(), self.percent_K.diff()
        between_NK = ((score_N1 - self.score_K[:-1]) / step_K).clamp(0, 1) * rise_K
        ends_N = (score_N1[:, 0] >= self.score_K[0]) * self.percent_K[0]
        ends_N = ends_N + (score_N1[:, 0] > self.score_K[-1]) * (100 - self.percent_K[-1])
        percent_N: Tensor = between_NK.sum(dim=1) + ends_N
        return percent_N


def on_scale(here: ModelHere, quality: tuple[str, nn.Module] | None, set_name: str) -> tuple[str, nn.Module]:
    """Return a model's method on the scale of a set, with its name in words; without a method, the feature norm.

    Raises:
        FileNotFoundError: the model's quality was not measured.
        LookupError: not on this set.
    """
    name, method = quality or ("feature_norm", _norm(here).module())
    scale = meaning.scale(here.results / "fiqa", set_name, name)
    return scale.text(name, set_name), OnScale(method, scale)


def scales(here: ModelHere, quality: tuple[str, nn.Module] | None) -> dict[str, Any]:
    """Return the scales of the score in a file, or of its feature norm, by set; empty where none was measured."""
    if quality is None and _norm(here).config.scale != "norm":
        return {}  # these are of OFIQ's numbers, and the file has the norm
    return meaning.scales(here.results / "fiqa", quality[0] if quality else "feature_norm")


def _norm(here: ModelHere) -> feature_norm.Scorer:
    """Return the model's own feature norm, if that is its method, else the plain one."""
    if here.quality is None or artifacts.read_json(here.quality / "quality.json")["name"] != "feature_norm":
        return feature_norm.Scorer()
    return feature_norm.Scorer.load(here.quality)
