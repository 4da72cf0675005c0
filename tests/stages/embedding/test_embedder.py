"""The embedder: what it shows the network is what model.json declares, and batches change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.core.images.pixels import ColorOrder
from stages.embedding import embedder
from stages.embedding.embedder import Embedder
from stages.models import model_files
from stages.runtime import artifacts, plugins

CPU = torch.device("cpu")
BACKBONE = {
    "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
    "stem_stride": 2, "feature_dim": 16, "dropout": 0.4,
}  # fmt: skip


class FirstPixel(nn.Module):
    """A network whose feature is what it sees in one corner."""

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return image_B3HW[:, :, 0, 0]


def write_model(folder: Path, color_order: ColorOrder = "BGR", **changes: object) -> None:
    folder.mkdir()
    module = plugins.load("backbones", "iresnet")
    torch.manual_seed(0)
    backbone = module.build(module.Config.model_validate(BACKBONE))
    model_files.save_weights(folder / "weights.pt", backbone, nn.Linear(16, 4))
    tree = {
        "backbone": BACKBONE, "head": {}, "color_order": color_order, "value_range": [-1.0, 1.0],
        "image_size": 112, "feature_dim": 16, "num_classes": 4, "dataset": "tiny",
        "weights_sha256": artifacts.sha256(folder / "weights.pt"),
    }  # fmt: skip
    artifacts.write_json(folder / "model.json", tree | changes)


def noise(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 112, 112, 3), np.uint8)


@pytest.mark.parametrize(("order", "seen"), [("BGR", [-1.0, -1.0, 1.0]), ("RGB", [1.0, -1.0, -1.0])])
def test_a_pure_red_image_reaches_the_network_as_declared(order: ColorOrder, seen: list[float]):
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 2] = 255  # blue, green, red
    features = Embedder(FirstPixel(), order, CPU)([red])
    assert features.feature_ND.tolist() == [seen]
    assert features.flipped_ND is not None
    assert features.flipped_ND.tolist() == [seen]


def test_the_flip_is_a_mirror_from_left_to_right():
    image = np.zeros((112, 112, 3), np.uint8)
    image[0, -1] = 255
    features = Embedder(FirstPixel(), "BGR", CPU)([image])
    assert features.feature_ND.tolist() == [[-1.0, -1.0, -1.0]]
    assert features.flipped_ND is not None
    assert features.flipped_ND.tolist() == [[1.0, 1.0, 1.0]]


def test_features_keep_the_order_of_the_images_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_model(tmp_path / "run")
    images = noise(10)
    whole = Embedder.load(tmp_path / "run", CPU)(images)
    assert whole.feature_ND.shape == (10, 16)
    assert whole.feature_ND.dtype == np.float32
    monkeypatch.setattr(embedder, "BATCH_SIZE", 3)
    parts = Embedder.load(tmp_path / "run", CPU)(iter(images))
    np.testing.assert_allclose(parts.feature_ND, whole.feature_ND, rtol=1e-4, atol=1e-5)
    mirrored = Embedder.load(tmp_path / "run", CPU, flip=False)(images[:, :, ::-1])
    assert mirrored.flipped_ND is None
    np.testing.assert_allclose(mirrored.feature_ND, whole.flipped_ND, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overlaps", [False, True])
def test_a_gpus_next_batch_is_read_while_it_computes_one(overlaps: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedder, "BATCH_SIZE", 3)
    images = noise(8)
    wanted = Embedder(FirstPixel(), "BGR", CPU, flip=False)(images)
    events: list[str] = []
    made = Embedder(FirstPixel(), "BGR", CPU, flip=False)
    assert not made.overlaps
    made.overlaps = overlaps
    run, keep = made.embed, embedder._Pass._keep
    made.embed = lambda batch: (events.append("start"), run(batch))[1]  # type: ignore[method-assign]
    monkeypatch.setattr(embedder._Pass, "_keep", lambda *of: (events.append("keep"), keep(*of))[1])
    features = made(iter(images))
    assert np.array_equal(features.feature_ND, wanted.feature_ND)
    one, two = ["start", "keep"] * 3, ["start", "start", "keep", "start", "keep", "keep"]
    assert events == (two if overlaps else one)


def test_a_batch_fills_a_gpu_and_its_size_is_part_of_what_kept_features_depend_on():
    assert embedder.batch_size(CPU) == 64
    assert embedder.batch_size(torch.device("cuda")) == 512


def test_features_are_those_of_the_plain_network_in_evaluation_mode(tmp_path: Path):
    write_model(tmp_path / "run", "RGB")
    images = noise(4)
    features = Embedder.load(tmp_path / "run", CPU)(images)
    backbone, _ = model_files.read_backbone(tmp_path / "run")
    rgb_N3HW = torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        wanted_ND = backbone((rgb_N3HW.float() / 255 - 0.5) / 0.5)
    np.testing.assert_allclose(features.feature_ND, wanted_ND.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(96, 112, 3), (112, 112), (112, 112, 4)])
def test_images_that_are_not_aligned_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"wanted aligned images, uint8 \(112, 112, 3\)"):
        Embedder(FirstPixel(), "BGR", CPU)([np.zeros(shape, np.uint8)])


def test_a_network_that_gives_nan_is_refused():
    class Broken(nn.Module):
        def forward(self, image_B3HW: Tensor) -> Tensor:
            return image_B3HW[:, :, 0, 0] * torch.nan

    with pytest.raises(ValueError, match="not finite"):
        Embedder(Broken(), "BGR", CPU)(noise(1))


def test_weights_of_another_model_are_refused(tmp_path: Path):
    write_model(tmp_path / "run", weights_sha256="0" * 64)
    with pytest.raises(ValueError, match="does not match"):
        Embedder.load(tmp_path / "run", CPU)


@pytest.mark.parametrize(
    ("color_order", "value_range", "seen"),
    [("BGR", [0.0, 1.0], [0.0, 0.0, 1.0]), ("RGB", [0.0, 1.0], [1.0, 0.0, 0.0]), ("RGB", [-1.0, 1.0], [1.0, -1.0, -1.0])],
)
def test_range_and_order_are_those_of_the_models_file(
    color_order: ColorOrder, value_range: list[float], seen: list[float], tmp_path: Path
):
    write_model(tmp_path / "run", color_order, value_range=value_range)
    loaded = Embedder.load(tmp_path / "run", CPU)
    loaded.backbone = FirstPixel()
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 2] = 255
    assert loaded([red]).feature_ND.tolist() == [seen]


def test_a_range_that_is_none_is_refused(tmp_path: Path):
    write_model(tmp_path / "run", value_range=[1.0, 0.0])
    with pytest.raises(ValueError, match="the lower end should come first"):
        Embedder.load(tmp_path / "run", CPU)


def test_a_device_that_is_none_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    write_model(tmp_path / "run")
    monkeypatch.setenv("FACET_DEVICE", "toaster")
    with pytest.raises(ValueError, match="FACET_DEVICE should be cpu, cuda or cuda:0, got 'toaster'"):
        Embedder.load(tmp_path / "run")


def test_a_gpu_reads_ahead_in_large_batches_and_in_smaller_ones_beside_a_training():
    gpu = torch.device("meta")  # as any device but a CPU
    alone = Embedder(FirstPixel(), "BGR", gpu)
    assert (alone.overlaps, alone.batch_size) == (True, 512)
    assert Embedder(FirstPixel(), "BGR", gpu, most=128).batch_size == 128
    assert Embedder(FirstPixel(), "BGR", CPU, most=8).batch_size == embedder.BATCH_SIZE
