"""A small training run in an empty project: its configuration, its execution, its final weights and checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.config.training import Config
from stages.training import loop
from stages.training.checkpoints import Checkpoints, Snapshot
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from tests.stages import training_data

# what tells a process how many train and load
PROCESS_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "FACET_PROCS", "FACET_LOADER_WORKERS")
HEADS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333},
    "arcface": {"margin": 0.5},
    "cosface": {"margin": 0.35},
    "curricularface": {"margin": 0.5},
    "magface": {"min_norm": 1.0, "max_norm": 10.0, "norm_weight": 1.0},
    "mv_softmax": {"kind": "am", "margin": 0.35},
    "softmax": {},
    "sphereface": {"margin": 1.4},
    "combined": {"m1": 1.1, "m2": 0.2, "m3": 0.1},
    "elasticface": {"margin_kind": "arc", "margin": 0.4},
    "uniface": {"margin": 0.3},
    "subcenter_arcface": {"margin": 0.4},
}


# optimisers, schedules and averages: whatever holds for one of them holds for all
WAYS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "nesterov": {"nesterov": True, "head_learning_rate_scale": 0.5},
    "adamw": {
        "optimiser": "adamw", "learning_rate": 0.005, "head_learning_rate_scale": 3.0, "decay": "cosine",
        "milestones": [], "ema_decay": 0.9, "ema_warmup": True,
    },
}  # fmt: skip


def config(
    head: str = "adaface", compute: Any = None, validation: Any = None, dropout: float = 0.2, **schedule: Any
) -> Config:
    return Config.model_validate(
        {
            "compute": compute or {}, "validation": validation or {},
            "dataset": "tiny",
            "backbone": {
                "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
                "stem_stride": 2, "feature_dim": 16, "dropout": dropout,
            },
            "head": {"name": head, "scale": 16.0} | HEADS[head],
            "augmentation": {
                "crop_probability": 0.2, "low_res_probability": 0.2, "photometric_probability": 0.2
            },
            "schedule": {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "milestones": [2]} | schedule,
            "seed": 7,
        }
    )  # fmt: skip


def prepare(path: Path, monkeypatch: pytest.MonkeyPatch, unset: Sequence[str]) -> Path:
    """Write the training set, change to its folder, and unset these environment variables."""
    training_data.write(path)
    monkeypatch.chdir(path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", path / ".facet")
    for name in unset:
        monkeypatch.delenv(name, raising=False)
    return path


def train(of: Config, key: str = "key", ours: Processes | None = None) -> loop.Training:
    training = loop.Training(of, open_records("tiny"), ours)
    training.run(Checkpoints(key, processes=ours), "train")
    return training


def weights(training: loop.Training) -> dict[str, torch.Tensor]:
    networks, average = training.networks, training.stepper.average
    averaged = {} if average is None else average.modules.state_dict(prefix="ema.")
    return {**networks.backbone.state_dict(), **networks.head.state_dict(prefix="head."), **averaged}


def same(left: loop.Training, right: loop.Training) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def last(key: str) -> Snapshot:
    snapshot = Checkpoints(key).last()
    assert snapshot is not None
    return snapshot


def distance(left: Snapshot, right: Snapshot) -> float:
    """Return the largest norm of a tensor's difference between the states; relative above rounding error."""
    def tensors(of: Snapshot) -> dict[str, torch.Tensor]:
        backbone = {f"backbone.{name}": value for name, value in of.shared["backbone"].items()}
        tree = {**of.rows, **backbone, **of.shared["head"], **of.own}
        for part in ("optimiser", "ema"):
            tree |= {f"{part}.{name}.{key}": value for name, state in of.shared.get(part, {}).items()
                     for key, value in state.items()}  # fmt: skip
        return {name: value.double() for name, value in tree.items()}

    a, b = tensors(left), tensors(right)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).norm() / b[name].norm().clamp_min(1e-2)) for name in a)
