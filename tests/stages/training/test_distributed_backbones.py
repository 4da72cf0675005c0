"""Two processes train every backbone: DDP waits for ever, or fails, where a parameter gets no gradient."""

from __future__ import annotations

import pytest
import torch

from stages.config.training import Config
from stages.core.losses.sampler import Order
from stages.runtime import plugins
from stages.training.distributed import Processes
from stages.training.step import Stepper
from tests.stages import ranks
from tests.stages.small_training import config
from tests.support_backbones import NARROW_CONFIGS

SIZE, CLASSES, STEPS = 8, 6, 3


def steps(of: Config, ours: Processes) -> Stepper:
    stepper = Stepper(of, CLASSES, Order(SIZE * STEPS, SIZE, 1, ours.rank, ours.size), ours)
    generator = torch.Generator().manual_seed(ours.rank)
    for step in range(STEPS):
        image_VBHW3 = torch.randint(256, (1, SIZE // 2, 112, 112, 3), dtype=torch.uint8, generator=generator)
        stepper.advance(step, image_VBHW3, torch.randint(CLASSES, (SIZE // 2,), generator=generator))
    return stepper


@pytest.mark.slow
def test_every_backbone_trains_in_two_processes_that_stay_alike():
    trees = list(NARROW_CONFIGS.values())
    assert {tree["name"] for tree in trees} >= set(plugins.names("backbones")), "add the new one to NARROW_CONFIGS"

    def both(ours: Processes) -> None:
        for tree in trees:
            stepper = steps(config("softmax").model_copy(update={"backbone": tree}), ours)
            for name, parameter in stepper.networks.backbone.named_parameters():
                mean = ours.sum(parameter) / ours.size
                torch.testing.assert_close(parameter.detach(), mean, rtol=1e-6, atol=1e-7, msg=f"{tree['name']}: {name}")

    ranks.run(2, both)
