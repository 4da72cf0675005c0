"""Evaluation of a network in training: sets of any suite, by the code and options that `evaluate` has for them."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from stages.config import evaluation
from stages.config.training import Config
from stages.config.validation import AVERAGE
from stages.core.losses.class_parallel import of_processes
from stages.embedding.embedder import Embedder
from stages.embedding.shared_embed import SharedEmbed
from stages.runtime import numerics
from stages.suites import _pairs, hq


def of(config: Config, folder: Path) -> Callable[[nn.Module], Mapping[str, float]]:
    """Return a function that evaluates a backbone on the sets of ``config.validation``; all processes share the work.

    Names: those of the sets of hq and ``avg``, their mean; ``SUITE.METRIC`` for other suites.

    Args:
        config: of the training.
        folder: with the test sets.

    Raises:
        FileNotFoundError: a set of pairs is missing.
    """
    wanted = config.validation
    of_hq = evaluation.Hq.model_validate({"sets": wanted.sets, "fusion": wanted.fusion})
    suites = wanted.suites.chosen()
    for name in wanted.sets:
        try:
            _pairs.find(folder, name)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"validation: {error}") from error

    def validate(backbone: nn.Module) -> Mapping[str, float]:
        # a copy, because an embedder arranges its network for itself
        shown, shard = copy.deepcopy(backbone), of_processes()
        shard.first_(shown.buffers())
        embedder = Embedder(
            shown, config.color_order, next(backbone.parameters()).device,
            flip=any(map(evaluation.uses_flip, (of_hq, *suites.values()))), value_range=config.value_range,
            # a step of so many images, which keeps all activations, has fitted into the GPU's memory
            most=config.schedule.batch_size // shard.world_size // config.compute.chunks,
        )  # fmt: skip
        embed = SharedEmbed(embedder, shard)
        found: dict[str, float] = {}
        with numerics.applied("ieee"):
            if wanted.sets:
                metrics = hq.measure(folder, of_hq, embed, {}).metrics
                found = {name: metrics[name] for name in wanted.sets}
                found[AVERAGE] = hq.mean_accuracy(metrics, wanted.sets)
            for name, switches in suites.items():
                module: Any = importlib.import_module(f"stages.suites.{name}")
                metrics = module.measure(folder, switches, embed, {}).metrics
                found |= {f"{name}.{metric}": value for metric, value in metrics.items()}
        return found

    return validate
