"""CR-FIQA and IG-FIQA trained with the backbone: the authors' numbers, the guidance, and the layer that is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.core.losses import classifiability
from stages.core.losses.class_cosines import own_and_nearest
from stages.core.metrics.quality import Material
from stages.heads import arcface, cosface
from stages.objectives import cr_fiqa, ig_fiqa
from stages.quality import joint


def as_is(image: Tensor) -> Tensor:
    return image


def arcface_head(dim: int, classes: int) -> arcface.Head:
    # the published head does not clamp cosines to 1 - 1e-4
    config = arcface.Config(name="arcface", margin=0.5, beyond_pi="wrap")
    return arcface.Head(config, dim, classes)


def test_three_steps_of_cr_fiqa_are_the_authors(golden: Path) -> None:
    given = np.load(golden / "cr_fiqa.npz")
    dim, classes = given["weight"].shape
    head = arcface_head(dim, classes)
    head.weight.data = torch.tensor(given["weight"].T.copy())
    config = cr_fiqa.Config(name="cr_fiqa", target="code")
    for step in range(3):
        feature_BD = torch.tensor(given["features"][step], requires_grad=True)
        label_B = torch.tensor(given["labels"][step])
        quality_B1 = torch.tensor(given["quality"][step], requires_grad=True)
        objective = cr_fiqa.build(config, dim, classes)

        class Given(torch.nn.Module):
            """The fixture gives the layer's output, not the layer."""

            def forward(self, feature_BD: Tensor, quality_B1: Tensor = quality_B1) -> Tensor:
                return quality_B1

        objective.layer = Given()  # type: ignore[assignment]
        head.weight.grad = None
        output = objective(as_is, head, [feature_BD], label_B, 0.0)
        output.loss.backward()
        assert float(output.loss.detach()) == pytest.approx(float(given["loss"][step]), rel=1e-5)
        assert float(output.terms["quality"]) == pytest.approx(float(given["loss_quality"][step]), rel=1e-5)
        assert torch.allclose(output.target_cosine_B, torch.tensor(given["ccs"][step][:, 0]), atol=1e-6)
        # as released, the nearest cosine is never below -1e-12; none of these is
        assert torch.allclose(output.nearest_cosine_B, torch.tensor(given["nnccs"][step][:, 0]), atol=1e-6)
        for got, wanted in (
            (feature_BD.grad, given["grad_features"][step]),
            (head.weight.grad, given["grad_weight"][step].T),
            # the published gradient is of the mean over the batch times alpha
            (quality_B1.grad, given["grad_quality"][step]),
        ):
            wanted = torch.tensor(wanted)
            assert (got - wanted).norm() <= 1e-4 * wanted.norm()


def test_the_layer_learns_and_moves_the_backbone_unless_detached() -> None:
    for detach in (False, True):
        torch.manual_seed(0)
        head = cosface.Head(cosface.Config(name="cosface", margin=0.3), 16, 10)
        objective = cr_fiqa.build(cr_fiqa.Config(name="cr_fiqa", detach=detach), 16, 10)
        feature_BD = torch.randn(8, 16, requires_grad=True)
        label_B = torch.arange(8)
        objective(as_is, head, [feature_BD], label_B, 0.0).loss.backward()
        with_quality = feature_BD.grad.clone()
        feature_BD.grad = None
        head(feature_BD, label_B).loss.backward()
        assert torch.allclose(with_quality, feature_BD.grad, atol=1e-7) == detach
        assert objective.layer.weight.grad.norm() > 0


def test_own_and_nearest_are_those_of_all_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.core.losses.class_cosines.CLASSES_AT_ONCE", 7)
    torch.manual_seed(0)
    head = cosface.Head(cosface.Config(name="cosface", margin=0.3), 16, 30)
    feature_BD, label_B = torch.randn(8, 16), torch.tensor([0, 6, 7, 13, 14, 29, 5, 28])
    wanted = classifiability.ccs_and_nnccs(head.cosines(feature_BD)[0], label_B, floor=False)
    for got, want in zip(own_and_nearest(head, feature_BD, label_B), wanted, strict=True):
        assert torch.allclose(got, want, atol=1e-6)


def guided(**fields: object) -> ig_fiqa.IgFiqa:
    objective = ig_fiqa.build(ig_fiqa.Config.model_validate({"name": "ig_fiqa", **fields}), 16, 4)
    objective.epochs = 10
    return objective


def test_a_class_follows_the_mean_of_its_images_and_the_others_stay() -> None:
    objective = guided()
    objective.follow(torch.tensor([1, 1, 3]), torch.tensor([0.2, 0.4, -1.0]), epoch=0.0)
    assert torch.allclose(objective.running_ccs_C, torch.tensor([1.0, 0.9 + 0.1 * 0.3, 1.0, 0.9 - 0.1]))
    # the momentum rises from epoch to epoch, to 1 where nothing moves
    objective.follow(torch.tensor([0]), torch.tensor([0.0]), epoch=5.7)
    assert objective.running_ccs_C[0] == pytest.approx(0.95)
    objective.follow(torch.tensor([0]), torch.tensor([0.0]), epoch=10.0)
    assert objective.running_ccs_C[0] == pytest.approx(0.95)
    objective.follow(torch.tensor([2]), torch.tensor([float("nan")]), epoch=0.0)
    assert objective.running_ccs_C[2] == 1


def test_the_listing_counts_classes_of_low_ccs_less_and_the_other_reading_those_of_high() -> None:
    for guidance, sign in (("listing", 1), ("low_variance", -1)):
        objective = guided(guidance=guidance)
        objective.running_ccs_C.copy_(torch.tensor([0.1, 0.5, 0.5, 0.9]))
        z_C = (objective.running_ccs_C - 0.5) / (objective.running_ccs_C.std() + 1e-6)
        assert torch.allclose(objective.weights(), 1 + (sign * z_C).clamp(-1, 0))
    assert torch.equal(guided(guidance="none").weights(), torch.ones(4))


def test_steps_over_the_epochs_follow_the_listing() -> None:
    """Line by line (kim1102/IG-FIQA README.md), in batches without two images of a class, where it is defined."""
    torch.manual_seed(0)
    head, objective = arcface_head(16, 9), ig_fiqa.build(ig_fiqa.Config(name="ig_fiqa"), 16, 9)
    objective.epochs = 4
    weight_C = torch.ones(9)
    for step in range(8):
        epoch, label_B = step // 2, torch.randperm(9)[:5]
        clean_BD = torch.randn(5, 16)
        augmented_BD = clean_BD + torch.randn(5, 16)
        total = objective(as_is, head, [clean_BD, augmented_BD], label_B, step / 2).loss
        cosine_BC = functional.normalize(augmented_BD) @ functional.normalize(head.weight).T
        ccs_B = cosine_BC[range(5), label_B]
        nnccs_B = cosine_BC.scatter(1, label_B[:, None], -2.0).amax(dim=1)
        loss_B = functional.smooth_l1_loss(
            objective.layer(augmented_BD)[:, 0], ccs_B / (nnccs_B.clamp_min(-1e-12) + 1 + 1e-9), beta=0.5, reduction="none"
        )
        momentum = 0.9 + 0.1 * epoch / 4
        weight_C[label_B] = (momentum * weight_C[label_B] + (1 - momentum) * ccs_B).detach()
        z_B = (weight_C[label_B] - weight_C.mean()) / (weight_C.std() + 1e-6)
        wanted = head(clean_BD, label_B).loss + 10 * (loss_B * (1 + z_B.clip(-1, 0))).mean()
        assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert torch.allclose(objective.running_ccs_C, weight_C, atol=1e-6)
    assert weight_C.std() > 0.01


def test_recognition_sees_the_clean_view_and_quality_the_augmented_one() -> None:
    torch.manual_seed(0)
    head = cosface.Head(cosface.Config(name="cosface", margin=0.3), 16, 4)
    objective = guided()
    assert objective.views == ("clean", "training")
    clean, augmented = torch.randn(4, 16, requires_grad=True), torch.randn(4, 16, requires_grad=True)
    output = objective(as_is, head, [clean, augmented], torch.arange(4), 0.0)
    alone = head(clean, torch.arange(4)).loss
    assert float(output.loss.detach()) == pytest.approx(float(alone.detach() + 10 * output.terms["quality"]), rel=1e-6)
    output.loss.backward()
    wanted = torch.autograd.grad(alone, clean)[0]
    assert torch.allclose(clean.grad, wanted, atol=1e-7)
    assert augmented.grad.norm() > 0
    assert guided(augmented=False).views == ("clean",)


def test_guidance_none_without_augmentation_is_cr_fiqa() -> None:
    torch.manual_seed(0)
    head = arcface_head(16, 4)
    plain = cr_fiqa.build(cr_fiqa.Config(name="cr_fiqa"), 16, 4)
    objective = guided(guidance="none", augmented=False)
    objective.layer.load_state_dict(plain.layer.state_dict())
    feature_BD, label_B = torch.randn(8, 16), torch.arange(8) % 4
    one = plain(as_is, head, [feature_BD], label_B, 0.0).loss
    other = objective(as_is, head, [feature_BD], label_B, 0.0).loss
    assert float(one.detach()) == pytest.approx(float(other.detach()), rel=1e-6)


def test_the_method_joint_takes_the_layer_over(tmp_path: Path) -> None:
    layer = guided().quality_layer()
    feature_ND = torch.randn(5, 16)
    material = Material(torch.zeros(0, 16), torch.zeros(0, dtype=torch.long), torch.zeros(4, 16), layer.state_dict())
    learned = joint.train(joint.Config(name="joint"), material)
    torch.save(dict(learned.weights), tmp_path / "weights.pt")
    score_N = joint.Scorer.load(tmp_path).module()(feature_ND)
    assert torch.allclose(score_N, layer(feature_ND)[:, 0])
    with pytest.raises(ValueError, match="needs a run whose objective learns quality"):
        joint.train(joint.Config(name="joint"), Material(feature_ND, torch.zeros(5), torch.zeros(4, 16)))
