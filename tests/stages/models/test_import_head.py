"""Heads of imported checkpoints: centres and statistics of AdaFace's file, insightface's shards, names of classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.models import lookup, model_files
from stages.runtime import artifacts, program
from stages.tools import import_model
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)  # slow, and tested beside
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    return tmp_path


def checkpoint(family: str, name: str) -> Path:
    torch.save(published_file(family, dict(fill(build(NARROW_CONFIGS[family])).state_dict())), name)
    return Path(name)


def facet_import(*arguments: str) -> int:
    return program.run(import_model.main, import_model.parser(), list(arguments))


def head(name: str) -> dict[str, Tensor]:
    return model_files.read_weights(lookup.IMPORTED / name)["head"]


def test_adafaces_lightning_file_keeps_its_centres_and_the_statistics_of_its_norms(capsys: pytest.CaptureFixture[str]):
    tree = published_file("adaface", dict(fill(build(NARROW_CONFIGS["adaface"])).state_dict()))
    tree["state_dict"] |= {"head.batch_mean": torch.tensor([21.5]), "head.batch_std": torch.tensor([3.25])}
    torch.save(tree, "a.ckpt")
    assert facet_import("a.ckpt", "a", "--keep-head") == 0
    assert "class centres of 5 classes kept" in capsys.readouterr().out
    kept = head("a")
    assert torch.equal(kept["weight"], tree["state_dict"]["head.kernel"].T)
    assert (kept["batch_mean"].item(), kept["batch_std"].item()) == (21.5, 3.25)
    assert kept["batch_mean"].shape == ()
    assert facet_import("a.ckpt", "b") == 0
    assert head("b") == {}


def test_insightfaces_shards_become_the_head_of_its_backbone(capsys: pytest.CaptureFixture[str]):
    checkpoint("insightface", "backbone.pth")
    centre_CD = torch.randn(7, 16, generator=torch.Generator().manual_seed(3))
    for rank, part in enumerate((centre_CD[:3], centre_CD[3:5], centre_CD[5:])):
        torch.save({"weight": part.clone()}, f"softmax_fc_gpu_{rank}.pt")
    shards = [f"softmax_fc_gpu_{rank}.pt" for rank in (2, 0, 1)]
    assert facet_import("backbone.pth", "glint", "--architecture", "insightface", "--head", *shards) == 0
    assert "class centres of 7 classes kept" in capsys.readouterr().out
    assert torch.equal(head("glint")["weight"], centre_CD)
    assert model_files.read_model(lookup.IMPORTED / "glint").num_classes == 7


def test_names_of_classes_stand_beside_the_weights(capsys: pytest.CaptureFixture[str]):
    checkpoint("adaface", "a.ckpt")
    Path("names.txt").write_text("ann\r\nbo\ncy\ncy\nJosé\n", encoding="utf-8")
    assert facet_import("a.ckpt", "a", "--keep-head", "--classes", "names.txt") == 0
    # two classes of one name are nobody's
    assert (lookup.IMPORTED / "a/classes.txt").read_text(encoding="utf-8") == "ann\nbo\n\n\nJosé\n"
    Path("names.txt").write_text("ann\nbo\n")
    assert facet_import("a.ckpt", "b", "--keep-head", "--classes", "names.txt") == 2
    assert "names.txt has 2 lines, wanted a name for each of 5 classes" in capsys.readouterr().err
    assert facet_import("a.ckpt", "b", "--classes", "names.txt") == 2
    assert "names.txt: names of classes are for class centres, of which none are kept" in capsys.readouterr().err
    assert not (lookup.IMPORTED / "b").exists()


def test_statistics_do_not_go_with_the_centres_of_another_file():
    checkpoint("adaface", "a.ckpt")
    torch.save(torch.zeros(3, 16), "rank_0_softmax_weight.pt")
    assert facet_import("a.ckpt", "a", "--head", "rank_0_softmax_weight.pt") == 0
    assert set(head("a")) == {"weight"}


def test_a_kept_head_changes_nothing_of_the_backbone():
    checkpoint("adaface", "a.ckpt")
    for name, more in (("with", ["--keep-head"]), ("without", [])):
        assert facet_import("a.ckpt", name, *more) == 0
    one, other = (model_files.read_weights(lookup.IMPORTED / name)["backbone"] for name in ("with", "without"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert artifacts.sha256(lookup.IMPORTED / "with/weights.pt") != artifacts.sha256(lookup.IMPORTED / "without/weights.pt")
