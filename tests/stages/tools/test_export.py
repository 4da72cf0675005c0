"""Models as files for other programs: the same numbers there, and what insightface expects of an ONNX file."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import nn

from stages.embedding.embedder import Embedder
from stages.models import export as portable
from stages.models import import_checkpoint, lookup, model_files
from stages.models.import_checkpoint import Said
from stages.runtime import artifacts, program
from stages.tools import export
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file

# one that reverses channels and has no method, one that does neither the one nor the other, and a ViT; the rest are tested below
FAMILIES = ["adaface", "cr_fiqa", "vit"]


def calm(network: nn.Module) -> nn.Module:
    """A trained network's batch norms follow their inputs; random ones are made to, or values would grow block by block."""
    network.train()
    for _ in range(3):
        network(torch.rand(8, 3, 112, 112, generator=torch.Generator().manual_seed(1)))
    return network.eval()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with imported models, one of each kind."""
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setattr(model_files, "save_program", lambda *given: None)
    for family in (*NARROW_CONFIGS,):
        torch.manual_seed(0)
        network = calm(fill(build(NARROW_CONFIGS[family])))
        torch.save(published_file(family, dict(network.state_dict())), folder / "c.pth")
        import_checkpoint.place(folder / "c.pth", folder / "models" / family, Said(family))
    patch.undo()
    return folder


def run(*words: str) -> int:
    return program.run(export.main, export.parser(), list(words))


def faces(num: int) -> np.ndarray:
    """Images as OpenCV reads them: uint8, blue first."""
    return np.random.default_rng(7).integers(0, 256, (num, 112, 112, 3), np.uint8)


def expected(family: str, home: Path, image_NHW3: np.ndarray) -> list[np.ndarray]:
    """What the model gives by the way of the evaluation: unit embedding, norm, the method's score."""
    backbone, model = model_files.read_backbone(home / "models" / family)
    features = Embedder(backbone, model.color_order, torch.device("cpu"), flip=False, value_range=model.value_range)(image_NHW3)
    norm_N = features.feature_norm_N
    made = [features.feature_ND / norm_N[:, None], norm_N]
    if family == "cr_fiqa":
        with torch.no_grad():
            made.append(backbone.quality(torch.from_numpy(features.feature_ND)).numpy())
    return made


def rgb(image_NHW3: np.ndarray) -> np.ndarray:
    """The input of an exported file: float32 (N, 3, 112, 112), RGB, 0 to 255."""
    return np.ascontiguousarray(image_NHW3[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))


@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_gives_the_same_to_1e_4_for_any_number_of_images(family: str, home: Path, monkeypatch):
    monkeypatch.chdir(home)
    assert run(family, "--format", "onnx", "--output", f"{family}.onnx") == 0
    session = onnxruntime.InferenceSession(f"{family}.onnx", providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    assert names == ["embedding", "feature_norm", "quality"][: 3 if family == "cr_fiqa" else 2]
    assert session.get_inputs()[0].shape[1:] == [3, 112, 112]
    for num in (1, 5):
        made = session.run(None, {"data": rgb(faces(num))})
        for name, got, wanted in zip(names, made, expected(family, home, faces(num)), strict=True):
            scale = 1.0 if name == "embedding" else np.abs(wanted).max()
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() / scale < 1e-4
    said = {item.key: json.loads(item.value) for item in onnx.load(f"{family}.onnx").metadata_props}
    model = model_files.read_model(home / "models" / family)
    assert said["facet.inside"] == {"color_order": model.color_order, "value_range": list(model.value_range)}
    assert said["facet.input"]["color_order"] == "RGB"
    assert said["facet.weights_sha256"] == model.weights_sha256
    assert list(said["facet.outputs"]) == names
    assert str(Path(export.__file__).parents[2]).encode() not in Path(f"{family}.onnx").read_bytes()


def as_insightface_does(path: str, image_NHW3: np.ndarray) -> np.ndarray:
    """The convention of insightface's model_zoo at 7fadd420, in our own words: how it finds what a file takes."""
    first = onnx.load(path).graph.node[:8]
    inside = any(node.name.startswith(("Sub", "_minus")) for node in first) and any(
        node.name.startswith(("Mul", "_mul")) for node in first
    )
    mean, deviation = (0.0, 1.0) if inside else (127.5, 127.5)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()  # it refuses any other number
    assert given.shape[2] == given.shape[3] == 112
    assert given.shape[2] % 16 == 0
    return session.run([made.name], {given.name: (rgb(image_NHW3) - mean) / deviation})[0]


@pytest.mark.parametrize("family", ["insightface", "magface"])
def test_insightface_opens_it_and_gets_the_models_own_feature(family: str, home: Path, monkeypatch):
    monkeypatch.chdir(home)
    assert run(family, "--format", "onnx", "--insightface", "--output", "one.onnx") == 0
    feature_ND = as_insightface_does("one.onnx", faces(3))
    embedding_ND, norm_N = expected(family, home, faces(3))
    np.testing.assert_allclose(np.linalg.norm(feature_ND, axis=1), norm_N, rtol=1e-4)
    np.testing.assert_allclose(feature_ND / norm_N[:, None], embedding_ND, atol=1e-4)


def test_no_path_of_the_machine_is_in_a_file(home: Path, monkeypatch):
    monkeypatch.chdir(home)
    here = str(Path(export.__file__).parents[2]).encode()
    for form, name in (("torchscript", "a.pt"), ("safetensors", "a.safetensors")):
        assert run("adaface", "--format", form, "--output", name) == 0
        assert here not in (home / name).read_bytes()


@pytest.mark.parametrize("family", ["magface", "cr_fiqa"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_gives_the_same_and_says_what_it_is(family: str, home: Path, monkeypatch):
    monkeypatch.chdir(home)
    assert run(family, "--format", "torchscript", "--output", "m.pt") == 0
    extra = {"facet.json": ""}
    loaded = torch.jit.load("m.pt", _extra_files=extra)
    with torch.no_grad():
        made = loaded(torch.from_numpy(rgb(faces(4))))
    wanted = expected(family, home, faces(4))
    assert len(made) == len(wanted) == len(json.loads(extra["facet.json"])["outputs"])
    for got, value in zip(made, wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_run_is_exported_with_its_own_quality_method(home: Path, monkeypatch, tmp_path: Path):
    shutil.copytree(home / "models/cr_fiqa", tmp_path / "runs/mine/backbone", ignore=shutil.ignore_patterns("quality"))
    shutil.copytree(home / "models/cr_fiqa/quality", tmp_path / "runs/mine/quality")
    monkeypatch.chdir(tmp_path)
    assert run("mine", "--format", "torchscript") == 0
    with torch.no_grad():
        made = torch.jit.load("mine.ts.pt")(torch.from_numpy(rgb(faces(2))))
    np.testing.assert_allclose(made[2].numpy(), expected("cr_fiqa", home, faces(2))[2], rtol=1e-4, atol=1e-4)


def test_safetensors_hold_the_weights_and_how_images_are_to_be_shown(home: Path, monkeypatch):
    monkeypatch.chdir(home)
    assert run("magface", "--format", "safetensors", "--output", "m.safetensors") == 0
    weights = model_files.read_weights(home / "models/magface")["backbone"]
    with safe_open("m.safetensors", "pt") as file:
        assert set(file.keys()) == set(weights)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in weights.items())
        said = file.metadata()
    assert (said["color_order"], json.loads(said["value_range"])) == ("BGR", [0.0, 1.0])


def test_safetensors_are_imported_again_and_damaged_ones_refused(home: Path, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    assert run("curricularface", "--format", "safetensors", "--output", "c.safetensors") == 0
    import_checkpoint.place(Path("c.safetensors"), Path("models/again_c"), Said())
    first, second = (model_files.read_weights(Path(f"models/{name}"))["backbone"] for name in ("curricularface", "again_c"))
    assert all(torch.equal(second[key], value) for key, value in first.items())
    Path("cut.safetensors").write_bytes(Path("c.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.safetensors is damaged"):
        import_checkpoint.place(Path("cut.safetensors"), Path("models/cut"), Said())


def test_weights_go_to_insightfaces_keys_and_come_back_as_another_import(home: Path, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    assert run("adaface", "--format", "state-dict", "--layout", "insightface", "--output", "b.pth") == 0
    import_checkpoint.place(Path("b.pth"), Path("models/again"), Said("insightface", "BGR"))
    assert model_files.read_model(Path("models/again")).source.family == "insightface"
    first, second = expected("adaface", home, faces(2)), expected("again", home, faces(2))
    np.testing.assert_allclose(second[0], first[0], atol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none", "--format", "onnx"], "no model 'none'"),
        (["adaface", "--format", "onnx", "--layout", "insightface"], "--layout is for weights"),
        (["adaface", "--format", "safetensors", "--insightface"], "--insightface is for ONNX files"),
        (["cr_fiqa", "--format", "state-dict", "--layout", "adaface"], "no exact conversion from cr_fiqa to adaface"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words: list[str], said: str, home: Path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_a_missing_package_is_one_sentence():
    with pytest.raises(ValueError, match=r"ONNX needs no_such_package: pip install 'facet\[export\]'"):
        portable.require("ONNX", "onnx", "no_such_package")


def test_a_file_that_gives_other_numbers_is_refused(home: Path, monkeypatch, tmp_path: Path):
    backbone, model = model_files.read_backbone(home / "models/adaface")
    made = portable.describe(backbone, model, None, feature_only=False)
    with torch.no_grad():
        embedding, norm = (value.numpy() for value in made.with_pixels()(portable.images()))
    portable.compare(tmp_path / "x", made, [embedding, norm])
    with pytest.raises(ValueError, match="x differs from the network it was made from: feature_norm by"):
        portable.compare(tmp_path / "x", made, [embedding, norm * np.float32(1.001)])
    with pytest.raises(ValueError, match="x has 1 outputs, wanted embedding, feature_norm"):
        portable.compare(tmp_path / "x", made, [embedding])


def test_a_quality_method_of_another_backbone_is_refused(home: Path, monkeypatch):
    monkeypatch.chdir(home)
    here = lookup.find("cr_fiqa")
    quality = here.quality / "quality.json"
    before = quality.read_text()
    artifacts.write_json(quality, json.loads(before) | {"backbone_sha256": "0" * 64})
    try:
        with pytest.raises(ValueError, match="trained on another backbone"):
            export.quality_of(here)
    finally:
        quality.write_text(before)


def test_the_command_says_how_it_is_used():
    assert isinstance(export.parser(), argparse.ArgumentParser)
    assert "facet export adaface --format onnx" in export.parser().format_help()
