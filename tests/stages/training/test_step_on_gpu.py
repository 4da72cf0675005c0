"""How often a training step on a GPU makes the host wait, and how many operators it has: neither grows with classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.config.training import Config
from stages.core.losses.sampler import Order
from stages.runtime import plugins
from stages.training.distributed import Processes
from stages.training.step import Stepper
from tests.stages.meta_gpu import Counted, counted
from tests.stages.small_training import HEADS, config

SIZE, DIM = 512, 512
FEW, MANY = 10_000, (85_742, 205_990, 2_059_906)
WAITS = 8
MORE_OPERATORS = 400
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[(head, {}) for head in plugins.names("heads")],
    ("arcface", {"beyond_pi": "wrap", "gradient": "straight_through"}), ("arcface", {"interclass_filter": 0.4}),
    ("adaface", {"program": "cvlface"}), ("adaface", {"proxy": "p_true_class"}),
    ("sphereface", {"variant": "v2"}), ("elasticface", {"plus": True}),
]  # fmt: skip


def of(head: str, fields: dict[str, Any], rate: float = 1.0, **schedule: Any) -> Config:
    tree = config(head, batch_size=SIZE, **schedule).model_dump()
    tree["backbone"] |= {"feature_dim": DIM}
    tree["head"] = {"name": head} | HEADS[head] | {"scale": 64.0} | fields
    return Config.model_validate(tree | {"class_sample_rate": rate})


def step(of: Config, num_classes: int) -> Counted:
    meta = torch.device("meta")
    with meta:  # drawing two million centres takes seconds
        stepper = Stepper(of, num_classes, Order(10**7, SIZE, 1), Processes(device=meta))
    image_VBHW3 = torch.empty(1, SIZE, 112, 112, 3, dtype=torch.uint8, device=meta)
    label_B = torch.empty(SIZE, dtype=torch.int64, device=meta)
    with counted() as counts:
        stepper.advance(0, image_VBHW3, label_B)
    return counts


@pytest.mark.parametrize(("head", "fields"), VARIANTS)
def test_waits_and_operators_do_not_grow_with_the_number_of_classes(head: str, fields: dict[str, Any]):
    few = step(of(head, fields), FEW)
    for num_classes in MANY:
        many = step(of(head, fields), num_classes)
        assert many.waits.total() <= WAITS, many.waits
        assert many.operators <= few.operators + MORE_OPERATORS, (few.operators, many.operators)


def test_a_sample_of_the_classes_makes_the_host_wait_no_more_often():
    sampled = step(of("adaface", {}, rate=0.2), MANY[-1])
    assert sampled.waits.total() <= WAITS, sampled.waits
    assert sampled.operators <= step(of("adaface", {}), FEW).operators + MORE_OPERATORS


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_adamw_and_an_average_of_the_weights_make_the_host_wait_no_more_often(rate: float):
    few, many = (step(of("cosface", {}, rate, optimiser="adamw", ema_decay=0.999), number) for number in (FEW, MANY[-1]))
    assert many.waits.total() <= WAITS, many.waits
    assert many.operators <= few.operators + MORE_OPERATORS
