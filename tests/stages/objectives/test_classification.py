"""Classification is the head's loss on the first view, and nothing else."""

from __future__ import annotations

import torch

from stages.heads import cosface
from stages.runtime import plugins


def test_it_is_the_loss_of_the_head_on_the_features_of_the_first_view():
    torch.manual_seed(0)
    head = cosface.Head(cosface.Config(name="cosface", margin=0.35), 3, 5)
    module = plugins.load("objectives", "classification")
    objective = module.build(module.Config(name="classification"), 3, 5)
    image_B3HW, label_B = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    output = objective(lambda image: image.mean(dim=(2, 3)), head, [image_B3HW], label_B, 0.5)
    assert torch.equal(output.loss, head(image_B3HW.mean(dim=(2, 3)), label_B).loss)
    assert objective.views == ("training",)
    assert not list(objective.parameters())
