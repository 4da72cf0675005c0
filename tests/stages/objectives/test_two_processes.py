"""Objectives with statistics, queues or layers of their own: two processes that share a batch end as one that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.config.training import Config
from stages.core.losses.contrastive import REFERENCE
from stages.runtime import devices
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from tests.stages import ranks, training_data
from tests.stages.small_training import config, distance, last

# a batch of 8 gives 16 keys: 19 and 5 cut within a batch, where the order of the keys decides which stay
QUEUES: dict[str, dict[str, Any]] = {
    "none": {"queue": "none"},
    "plain": {"queue": "plain", "queue_size": 19},
    "short": {"queue": "plain", "queue_size": 5, "mask": "same_image"},
    "proxy": {"queue": "proxy", "queue_size": 19},
    "momentum": {"queue": "momentum", "queue_size": 19, "encoder_momentum": 0.5, "mask": "same_image"},
    "margin": {"queue": "plain", "queue_size": 40, "margin_method": "dynamic", "both_ways": False},
    "one": {"pair": "training", "contrast_weight": 0.0},
}
SCALERS = {"sgn": "half", "cos": "whole", "linear": "half"}


def of(objective: dict[str, Any], head: str = "cosface") -> Config:
    """Return four steps in float64, where only the order of sums differs."""
    shared = {"sync_batch_norm": True, "precision": "fp64"}
    chosen = config(head, compute=shared, dropout=0.0, epochs=1)
    return chosen.model_copy(update={"objective": objective})


def qgface(**fields: Any) -> dict[str, Any]:
    # statistics of the last batch, so that within these few steps some images are clear and some are not
    return {"name": "qgface", "threshold": 0.5, "t_alpha": 1.0, "h": 1.0, **fields}


CASES: dict[str, Config] = {
    **{f"queue {name}": of(qgface(**fields)) for name, fields in QUEUES.items()},
    **{f"scaler {shape}": of(qgface(queue_size=19, weight_shape=shape, weight_span=span))
       for shape, span in SCALERS.items()},
    **{f"head {head}": of(qgface(queue="proxy", queue_size=19), head) for head in ("adaface", "curricularface", "magface")},
    "cr_fiqa": of({"name": "cr_fiqa"}),
    **{f"ig_fiqa {reading}": of({"name": "ig_fiqa", "guidance": reading}) for reading in ("listing", "low_variance")},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every case trained by one process and by two; their checkpoints lie under .facet of the folder."""
    root = tmp_path_factory.mktemp("two")
    training_data.write(root)
    with pytest.MonkeyPatch.context() as monkeypatch:
        devices.prepare(1)
        monkeypatch.chdir(root)
        monkeypatch.setattr("stages.runtime.artifacts.STATE", root / ".facet")
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "FACET_PROCS", "FACET_LOADER_WORKERS"):
            monkeypatch.delenv(name, raising=False)

        def train(case: str, ours: Processes | None = None) -> None:
            key = f"{case}-{1 if ours is None else 2}"
            loop.Training(CASES[case], open_records("tiny"), ours).run(Checkpoints(key, processes=ours), key)

        def both(ours: Processes) -> None:
            for case in CASES:
                train(case, ours)

        ranks.run(2, both, timeout_s=280)  # sixteen trainings, on a machine that may be busy
        for case in CASES:
            train(case)
        yield root


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_does(trained: Path, case: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stages.runtime.artifacts.STATE", trained / ".facet")
    one, two = last(f"{case}-1"), last(f"{case}-2")
    assert one.step == two.step == 4
    # weights, momenta, the head's statistics, queue, scaler, slow copy, running CCS, quality layer
    assert distance(two, one) < 1e-9
    for mine, theirs in zip(two.shared["history"], one.shared["history"], strict=True):
        for name in ("loss", "accuracy", "target_cosine"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-9), name
    if "contrast" in (epoch := one.shared["history"][-1]):  # and there were pairs to tell apart
        assert epoch["split_share"] > 0
        assert epoch["contrast"] != pytest.approx(REFERENCE, rel=1e-3)
