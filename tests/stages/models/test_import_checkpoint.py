"""Published checkpoints put in place: each family in its own layout, made here because the real files are far away."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.models import import_checkpoint, lookup, model_files
from stages.models.import_checkpoint import Said
from stages.runtime import artifacts
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file

CPU = torch.device("cpu")
DECLARED = {
    "adaface": ("BGR", (-1.0, 1.0)), "insightface": ("RGB", (-1.0, 1.0)), "magface": ("BGR", (0.0, 1.0)),
    "cr_fiqa": ("RGB", (-1.0, 1.0)), "curricularface": ("RGB", (-1.0, 1.0)), "mobilefacenet": ("RGB", (-1.0, 1.0)),
    "ir_se": ("BGR", (-1.0, 1.0)), "vit": ("RGB", (-1.0, 1.0)), "cvlface_vit": ("RGB", (-1.0, 1.0)),
}  # fmt: skip
SEEN = {
    ("BGR", (-1.0, 1.0)): [-1.0, -1.0, 1.0], ("RGB", (-1.0, 1.0)): [1.0, -1.0, -1.0], ("BGR", (0.0, 1.0)): [0.0, 0.0, 1.0]
}  # fmt: skip
"""What a pure red pixel is to the network, by colour order and value range."""


def network(family: str) -> nn.Module:
    return fill(build(NARROW_CONFIGS[family]))


def checkpoint(family: str, path: Path) -> Path:
    torch.save(published_file(family, dict(network(family).state_dict())), path)
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind that a network may want to be shown images, imported."""
    folder = tmp_path_factory.mktemp("models")
    families = ("adaface", "magface", "cr_fiqa")
    for family in families:
        import_checkpoint.place(checkpoint(family, folder / f"{family}.pth"), folder / family, Said(published=f"{family}_x"))
    return {family: folder / family for family in families}


def red() -> np.ndarray:
    image = np.zeros((112, 112, 3), np.uint8)
    image[:, :, 2] = 255  # blue, green, red
    return image


class Watched(nn.Module):
    """Remembers what a network was shown."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image_B3HW: Tensor) -> Tensor:
        self.seen_3 = image_B3HW[0, :, 50, 50].tolist()
        feature_BD: Tensor = self.inner(image_B3HW)
        return feature_BD


@pytest.mark.parametrize("family", NARROW_CONFIGS)
def test_a_pure_red_image_reaches_each_familys_network_as_declared(family: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)  # the slow part, tested below
    said = Said("insightface") if family == "insightface" else Said()  # whose keys others have too
    import_checkpoint.place(checkpoint(family, tmp_path / "c.pth"), tmp_path / "m", said)
    model = model_files.read_model(tmp_path / "m")
    assert (model.color_order, model.value_range) == DECLARED[family]
    embedder = Embedder.load(tmp_path / "m", CPU, flip=False)
    embedder.backbone = watched = Watched(embedder.backbone)
    feature_1D = embedder([red()]).feature_ND
    assert watched.seen_3 == SEEN[DECLARED[family]]
    flat_B3HW = torch.tensor(SEEN[DECLARED[family]])[None, :, None, None].expand(1, 3, 112, 112)
    with torch.no_grad():
        wanted_1D = network(family)(flat_B3HW).numpy()
    np.testing.assert_allclose(feature_1D, wanted_1D, rtol=1e-4, atol=1e-4 * np.abs(wanted_1D).max())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["adaface", "magface", "cr_fiqa"])
def test_the_exported_program_of_an_import_is_shown_the_same(family: str, imported: dict[str, Path]):
    feature_1D = Embedder.load(imported[family], CPU, flip=False)([red()]).feature_ND
    image_13HW = torch.from_numpy(red()).permute(2, 0, 1)[None].contiguous()
    program = torch.export.load(imported[family] / "program.pt2").module()
    with torch.no_grad():
        embedding_1D, norm_1 = program(image_13HW)
    np.testing.assert_allclose(embedding_1D, feature_1D / np.linalg.norm(feature_1D), rtol=1e-4, atol=1e-5)
    assert float(norm_1) == pytest.approx(np.linalg.norm(feature_1D), rel=1e-4)


def test_an_import_is_a_folder_like_a_trained_one_and_says_where_it_comes_from(imported: dict[str, Path]):
    folder = imported["adaface"]
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "model.json", "program.pt2", "quality"}
    model = model_files.read_model(folder)
    assert model.source == model_files.Source(
        file="adaface.pth",
        sha256=artifacts.sha256(folder.parent / "adaface.pth"),
        family="adaface",
        published="adaface_x",
    )
    assert (model.num_classes, model.dataset, model.head) == (5, "unknown", {})
    assert model.fusion == "pre_norm_sum"


def test_crfiqas_own_layer_becomes_its_quality_method(imported: dict[str, Path]):
    folder = imported["cr_fiqa"]
    scores = scoring_embedder.scores_of(scoring_embedder.trained(folder / "quality"))
    features = Embedder.load(folder, CPU, flip=False)([red(), 255 - red()])
    with torch.no_grad():
        wanted_N = network("cr_fiqa").quality(torch.from_numpy(features.feature_ND)).numpy()
    np.testing.assert_allclose(scores["cr_fiqa"](features), wanted_N, rtol=1e-5)
    program = torch.export.load(folder / "quality" / "program.pt2").module()
    image_23HW = torch.from_numpy(np.stack([red(), 255 - red()])).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        np.testing.assert_allclose(program(image_23HW)[2], wanted_N, rtol=1e-4, atol=1e-4 * np.abs(wanted_N).max())


def test_a_model_without_such_a_layer_is_scored_by_its_norm(imported: dict[str, Path]):
    assert list(scoring_embedder.trained(imported["magface"] / "quality")) == ["feature_norm"]


def test_what_a_person_says_goes_before_the_family(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    said = Said("magface", "RGB", (-1.0, 1.0), dataset="WebFace4M", keep_head=True)
    torch.save(dict(network("magface").state_dict()), tmp_path / "stripped.pth")
    model = import_checkpoint.place(tmp_path / "stripped.pth", tmp_path / "m", said)
    assert (model.backbone["name"], model.color_order, model.value_range) == ("magface", "RGB", (-1.0, 1.0))
    assert (model.dataset, model.num_classes) == ("WebFace4M", None)
    import_checkpoint.place(checkpoint("adaface", tmp_path / "a.ckpt"), tmp_path / "a", Said(keep_head=True))
    assert model_files.read_weights(tmp_path / "a")["head"]["weight"].shape == (5, 16)


def test_cvlfaces_files_must_say_their_colour_order(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    torch.save({f"net.{key}": value for key, value in network("adaface").state_dict().items()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="color_space"):
        import_checkpoint.place(tmp_path / "c.pt", tmp_path / "c", Said())
    assert import_checkpoint.place(tmp_path / "c.pt", tmp_path / "c", Said(color_order="RGB")).color_order == "RGB"


def test_keys_that_two_families_have_are_asked_for_and_never_guessed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    state = network("magface").state_dict()
    for prefix in ("", "features.", "module."):
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "stripped.pth")
        with pytest.raises(ValueError, match="give --architecture insightface or --architecture magface"):
            import_checkpoint.place(tmp_path / "stripped.pth", tmp_path / "m", Said())
        assert not (tmp_path / "m").exists()
        said = import_checkpoint.place(tmp_path / "stripped.pth", tmp_path / "m", Said("magface"))
        assert (said.color_order, said.value_range) == ("BGR", (0.0, 1.0))
        shutil.rmtree(tmp_path / "m")
    stated = Said(color_order="BGR", value_range=(0.0, 1.0))
    assert import_checkpoint.place(tmp_path / "stripped.pth", tmp_path / "m", stated).color_order == "BGR"


@pytest.mark.parametrize("name", ["model", "model_state_dict", "state_dict_backbone", "backbone", "net"])
def test_weights_are_found_under_the_names_that_training_programs_use(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    torch.save({"epoch": 3, name: network("adaface").state_dict(), "optimizer": {"state": {}}}, tmp_path / "last.pt")
    assert import_checkpoint.place(tmp_path / "last.pt", tmp_path / "m", Said()).backbone["style"] == "adaface"


def test_files_that_are_no_backbone_are_named_for_what_they_are(tmp_path: Path):
    torch.save(torch.zeros(30, 16), tmp_path / "rank_0_softmax_weight.pt")
    with pytest.raises(ValueError, match=r"one tensor of shape \(30, 16\), as the class centres .* backbone's file"):
        import_checkpoint.place(tmp_path / "rank_0_softmax_weight.pt", tmp_path / "m", Said())
    (tmp_path / "w600k_r50.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(ValueError, match=r"is an ONNX file, .*: give the PyTorch file"):
        import_checkpoint.place(tmp_path / "w600k_r50.onnx", tmp_path / "m", Said())


def test_a_network_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path):
    tree = dict(network("insightface").state_dict())
    tree["layer1.0.se_block.fc1.weight"] = tree.pop("layer2.0.bn3.bias")
    torch.save(tree, tmp_path / "se.pth")
    with pytest.raises(ValueError) as raised:
        import_checkpoint.place(tmp_path / "se.pth", tmp_path / "m", Said())
    assert str(raised.value) == (
        "the keys are not those of the network insightface with 2, 1, 1, 1 blocks: "
        "missing: layer2.0.bn3.bias; unexpected: layer1.0.se_block.fc1.weight"
    )
    assert not (tmp_path / "m").exists()


def test_curricularfaces_network_is_not_adafaces(tmp_path: Path):
    path = checkpoint("curricularface", tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"the keys are not those of the network adaface"):
        import_checkpoint.place(path, tmp_path / "m", Said("adaface"))


def test_an_imported_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    import_checkpoint.place(checkpoint("cr_fiqa", tmp_path / "c.pth"), lookup.IMPORTED / "mine", Said())
    found = lookup.find("mine")
    assert (found.backbone, found.quality) == (Path("models/mine"), Path("models/mine/quality"))
