"""`facet inspect`: every layout is told by its content, damage is named, and unknown input gets one clear error."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stages.backbones import iresnet
from stages.datasets import insightface_rec
from stages.inspection.catalogue import TRAIN
from stages.inspection.check import examine
from stages.models import model_files
from stages.runtime import artifacts, program
from stages.tools import inspect_data
from tests.stages import small_sets


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setenv("COLUMNS", "150")


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Three people with 2, 3 and 4 images."""
    people = [person for person, count in enumerate((2, 3, 4)) for _ in range(count)]
    insightface_rec.write(
        tmp_path / "train", ((small_sets.encoded(person, k), person) for k, person in enumerate(people)), 3
    )
    return tmp_path / "train"


def seen(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    assert run(path, "--json", *options) == 0
    return json.loads(capsys.readouterr().out)


def run(path: Path, *options: str) -> int:
    return program.run(inspect_data.main, inspect_data.parser(), [str(path), *options])


def test_a_training_set_says_record_0_identities_images_and_how_it_is_read(
    train: Path, capsys: pytest.CaptureFixture[str]
):
    for path in (train, train / "train.rec"):
        tree = seen(path, capsys)
        assert tree["facts"]["record 0"] == (
            "header, flag 2, label [10, 13]: images are keys 1 to 9, identities keys 10 to 12"
        )
        assert (tree["facts"]["identities"], tree["facts"]["images"]) == (3, 9)
        assert tree["facts"]["images of an identity"].startswith("2 to 4, median 3")
        assert tree["facts"]["image formats"] == "png (9)"
        assert tree["facts"]["image sizes, width x height"] == "112 x 112 (9)"
        assert "blue, green, red" in tree["facts"]["read as"]
        assert tree["problems"] == []


def test_a_record_file_of_another_name_without_index_is_known_by_its_first_bytes(
    train: Path, capsys: pytest.CaptureFixture[str]
):
    other = train.parent / "faces.dat"
    other.write_bytes((train / "train.rec").read_bytes())
    tree = seen(other, capsys)
    assert tree["facts"]["images"] == 9
    assert tree["facts"]["index"].startswith("none")


def test_damaged_records_are_named_and_the_others_still_seen(train: Path, capsys: pytest.CaptureFixture[str]):
    images = insightface_rec.TrainSet.open(train)
    data = bytearray((train / "train.rec").read_bytes())
    data[images.reader.offset(3)] ^= 1  # its magic word
    begin = images.reader.offset(5) + 8 + 24 + 8
    data[begin : begin + 64] = bytes(64)  # its image
    (train / "train.rec").write_bytes(data)
    tree = seen(train, capsys, "--all")
    assert any(text.startswith(f"record 3 at byte {images.reader.offset(3)}:") for text in tree["problems"])
    assert any(text.startswith("record 5:") and "are not an image" in text for text in tree["problems"])
    assert tree["facts"]["image formats"] == "png (7)"


def test_a_verification_set_says_pairs_and_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small_sets.write_bin(tmp_path / "a.bin")
    facts = seen(tmp_path / "a.bin", capsys)["facts"]
    assert (facts["pairs"], facts["images"]) == ("40: 20 genuine, 20 impostor", 80)
    assert facts["folds"] == "ten equal ones"


@pytest.mark.parametrize(
    ("write", "place", "kind"),
    [
        (small_sets.write_tinyface, "tinyface", "TinyFace"),
        (small_sets.write_scface, "scface", "SCface"),
        (small_sets.write_ijbs, "ijbs", "IJB-S"),
        (small_sets.write_pair_list, "adience", "Adience"),
        (small_sets.write_xqlfw, "xqlfw", "XQLFW"),
        (lambda folder: small_sets.write_search(small_sets.write_ijb(folder.parent, "IJBC")), "IJBC", "IJB-C"),
    ],
)
def test_protocol_folders_are_told_by_their_content(tmp_path: Path, capsys: pytest.CaptureFixture[str], write, place, kind):
    write(tmp_path / place)
    tree = seen(tmp_path / place, capsys)
    assert tree["kind"].startswith(f"{kind}:")
    assert "tried can be used" in tree["facts"]["aligned faces"]
    whole = seen(tmp_path, capsys)["facts"]
    assert whole[place].startswith(f"{kind}, ")


def test_a_picture_shows_up_to_64_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small_sets.write_bin(tmp_path / "a.bin")
    assert run(tmp_path / "a.bin", "--picture", str(tmp_path / "sheet.png")) == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (8 * 126, 8 * 114, 3)
    # pair 0 is genuine: its first image stands first
    assert np.array_equal(sheet[:112, :112], small_sets.face(0, 0))
    assert run(tmp_path / "a.bin", "--picture", str(tmp_path / "sheet.gif")) == 2


def test_a_folder_of_images_says_people_and_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    skin = np.full((112, 112, 3), (90, 120, 180), np.uint8)
    for person in ("Zoë", "名"):
        (tmp_path / person).mkdir()
        for k in range(3):
            (tmp_path / person / f"{k}.jpg").write_bytes(cv2.imencode(".png", skin[..., ::-1])[1].tobytes())
    tree = seen(tmp_path, capsys)
    assert tree["facts"]["identities (folders)"] == 2
    assert tree["facts"]["mean red, green, blue"].startswith("90, 120, 180: more blue than red: were the channels swapped?")


def test_a_folder_of_people_says_what_unpack_passes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for person in range(3):
        (tmp_path / "imgs" / f"{person}").mkdir(parents=True)
        for k in range(3):
            (tmp_path / "imgs" / f"{person}" / f"{k}.png").write_bytes(small_sets.encoded(person, k))
    (tmp_path / "imgs/0/._0.png").write_bytes(b"")
    small_sets.write_bin(tmp_path / "lfw.bin")
    tree = seen(tmp_path, capsys)
    assert tree["kind"] == "training set in a folder for each person"
    assert (tree["facts"]["identities (folders)"], tree["facts"]["images"]) == (3, 9)
    assert tree["facts"]["beside it"] == "lfw.bin: verification set (.bin)"
    assert tree["problems"] == ["passed over: 1 x hidden, such as '0/._0.png'"]


def test_names_that_are_not_utf_8_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for person in ("a", "b"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "1.png").write_bytes(small_sets.encoded(1, 1))
    (tmp_path / "b" / os.fsdecode(b"m\xfcller.jpg")).write_bytes(b"")
    assert run(tmp_path) == 0
    assert "b/m\\xfcller.jpg: 0 bytes are not an image" in " ".join(capsys.readouterr().out.split())
    assert seen(tmp_path, capsys)["problems"] == ["b/m\\xfcller.jpg: 0 bytes are not an image, or are truncated"]
    assert examine(tmp_path, TRAIN).odd[0].endswith("such as b/m\\xfcller.jpg: 0 bytes are not an image, or are truncated")


def test_a_flat_download_is_a_training_set_with_test_sets_beside_it(train: Path, capsys: pytest.CaptureFixture[str]):
    small_sets.write_bin(train / "lfw.bin")
    small_sets.write_scface(train / "scface")
    tree = seen(train, capsys)
    assert tree["facts"]["identities"] == 3
    assert tree["facts"]["beside it"].startswith("lfw.bin: verification set (.bin); scface: SCface, ")


def save_model(folder: Path, color_order: str = "RGB") -> None:
    config = iresnet.Config(
        name="iresnet", style="adaface", units=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem_stride=2, feature_dim=16, dropout=0
    )
    folder.mkdir(parents=True)
    model_files.save_weights(folder / "weights.pt", iresnet.build(config), torch.nn.Module())
    model = model_files.Model(
        backbone=config.model_dump(), head={"name": "arcface"}, color_order=color_order, value_range=(0, 1), image_size=112,
        feature_dim=16, num_classes=7, dataset="demo", weights_sha256=artifacts.sha256(folder / "weights.pt"),
    )  # fmt: skip
    artifacts.write_json(folder / "model.json", model.model_dump(mode="json"))


def test_a_model_says_colour_order_and_value_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_model(tmp_path / "run/backbone")
    for path in (tmp_path / "run/backbone", tmp_path / "run"):
        facts = seen(path, capsys)["facts"]
        assert (facts["colour order"], facts["value range"]) == ("RGB", "0 to 1")
        assert facts["trained on"] == "demo, 7 identities"


def test_a_published_checkpoint_says_its_family_and_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    backbone = iresnet.build(iresnet.Config(
        name="iresnet", style="adaface", units=(2, 2, 2, 2), widths=(64, 128, 256, 512), stem_stride=1,
        feature_dim=512, dropout=0.4,
    ))  # fmt: skip
    state = {f"model.{key}": value for key, value in backbone.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 25}, tmp_path / "adaface.ckpt")
    facts = seen(tmp_path / "adaface.ckpt", capsys)["facts"]
    assert facts["family"] == "adaface, keys begin with model."
    assert facts["colour order"].startswith("BGR")
    assert facts["value range"].startswith("-1 to 1")


def test_a_checkpoint_of_nobody_known_says_its_tensors_and_those_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save({"weight": torch.tensor([1.0, float("nan")])}, tmp_path / "a.pth")
    tree = seen(tmp_path / "a.pth", capsys)
    assert tree["facts"]["tensors"] == "1 with 2 numbers, float32"
    assert tree["problems"] == ["1 tensors hold NaN or infinity, such as weight"]


def test_an_onnx_model_says_inputs_and_that_it_does_not_tell_its_colours(
    shared: Path, capsys: pytest.CaptureFixture[str]
):
    facts = seen(shared / "models/foamliu_MobileFaceNet.onnx", capsys)["facts"]
    assert facts["input input0"] == "tensor(float) [1, 3, 112, 112]"
    assert facts["color order"].startswith("not given")


@pytest.mark.parametrize("content", [b"", b"hello: world", b"\x00" * 600, b"PK\x03\x04garbage", b"\x80\x02garbage"])
def test_what_is_not_known_gets_one_error_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
):
    (tmp_path / "thing").write_bytes(content)
    assert run(tmp_path / "thing") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_unknown_input_is_told_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("x")
    for path in (tmp_path / "empty", tmp_path / "text"):
        assert run(path) == 2
        said = capsys.readouterr().err
        assert "is not recognised. Recognised are files: .rec (RecordIO)" in said
        assert "TinyFace" in said
    assert run(tmp_path / "nowhere") == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_pickle_that_names_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "a.bin").write_bytes(pickle.dumps(([b"x"], [Bomb()])))
    assert run(tmp_path / "a.bin") == 2
    assert not (tmp_path / "ran").exists()


def test_mxnet_is_asked_for_by_its_own_interpreter(
    train: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("FACET_MXNET_PYTHON", raising=False)
    assert run(train, "--engine", "mxnet") == 2
    assert "needs FACET_MXNET_PYTHON" in capsys.readouterr().err
    monkeypatch.setenv("FACET_MXNET_PYTHON", str(train / "no-python"))
    assert run(train, "--engine", "mxnet") == 2
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.mxnet
@pytest.mark.skipif("FACET_MXNET_PYTHON" not in os.environ, reason="FACET_MXNET_PYTHON is not set: run `make test-mxnet`")
def test_mxnet_and_our_reader_see_the_same(train: Path, capsys: pytest.CaptureFixture[str]):
    facts = seen(train, capsys, "--engine", "mxnet")["facts"]
    assert facts["mxnet and our reader agree"] == "on 13 of 13 records tried"
