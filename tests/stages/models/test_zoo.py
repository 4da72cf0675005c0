"""models.yaml: what it lists is complete, and what is wrong in it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stages.models import zoo
from tests.support import ROOT

LISTED = zoo.load(ROOT / "models.yaml")
FAMILIES = {"adaface", "insightface", "magface", "cr_fiqa", "curricularface", "mobilefacenet", "cvlface_vit"}


def test_the_adaface_readmes_table_is_there_with_every_published_accuracy():
    names = [name for name, model in LISTED.models.items() if model.source == "adaface"]
    assert len(names) == 10
    for name in names:
        scores = LISTED.entry(name).scores
        five = [scores[f"hq.{one}"] for one in ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")]
        # their averages are of unrounded numbers: R18 on CASIA is printed as 92.82, and its five come to 92.818
        assert scores["hq.avg"] == pytest.approx(sum(five) / 5, abs=0.011)
    assert LISTED.entry("adaface_ir101_webface12m").scores["ijb.ijbc_tar_at_far_1e-04"] == 97.66
    assert len([name for name, model in LISTED.models.items() if model.source == "cvlface"]) == 12
    assert LISTED.entry("cvlface_adaface_ir18_casia").scores["ijb.ijbb_tar_at_far_1e-04"] == 30.36
    assert LISTED.entry("adaface_ir50_ms1mv2").file == "adaface_ir50_ms1mv2.ckpt"


def test_every_entry_says_where_it_is_and_whose_layout_it_has():
    for name, model in LISTED.models.items():
        assert model.obtain.startswith("https://")
        assert LISTED.family(name) in FAMILIES
        assert all(0 < score <= 100 for score in model.scores.values())
    assert LISTED.family("insightface_mbf_ms1mv3") == "mobilefacenet"
    assert LISTED.family("cvlface_adaface_vit_base_webface4m") == "cvlface_vit"
    assert [LISTED.depth(name) for name in ("adaface_ir101_ms1mv2", "crfiqa_s", "insightface_mbf_ms1mv3")] == [101, 50, None]


def test_numbers_that_other_tables_quote_are_the_same_here():
    heads = yaml.safe_load((ROOT / "tables/heads.yaml").read_text())
    metric = {column["name"]: column["metric"] for column in heads["columns"]}
    scores = LISTED.entry("adaface_ir101_ms1mv2").scores
    quoted = {metric[name]: value for name, value in heads["rows"]["adaface"]["published"].items()}
    assert {key: scores[key] for key in quoted} == quoted


def test_a_checksum_finds_its_entry():
    model = LISTED.entry("crfiqa_l").model_copy(update={"sha256": "a" * 64})
    seen = LISTED.model_copy(update={"models": LISTED.models | {"crfiqa_l": model}})
    assert seen.by_checksum("a" * 64) == "crfiqa_l"
    assert seen.by_checksum("b" * 64) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "nowhere"}, "no source 'nowhere'"),
        ({"scores": {"speed.fast": 1.0}}, "scores are named SUITE.METRIC"),
        ({"sha256": "abc"}, "sha256"),
        ({"colour": "RGB"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_entry_is_named(change: dict[str, object], said: str, tmp_path: Path):
    tree = yaml.safe_load((ROOT / "models.yaml").read_text())
    tree["models"]["crfiqa_l"] |= change
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=said):
        zoo.load(tmp_path / "models.yaml")


def test_a_list_that_is_missing_or_no_yaml_is_one_sentence(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="part of the repository"):
        zoo.load(tmp_path / "models.yaml")
    (tmp_path / "models.yaml").write_text("models: [")
    with pytest.raises(ValueError, match=r"models\.yaml is not YAML: "):
        zoo.load(tmp_path / "models.yaml")
    with pytest.raises(LookupError, match="no 'adaface_r50': there are adaface_ir18_casia"):
        LISTED.entry("adaface_r50")
