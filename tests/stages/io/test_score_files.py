"""Files of quality scores, written as the authors' programs write them."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.formats import score_pickle
from stages.core.formats.image_names import match
from stages.io import score_files
from stages.io.score_files import ANY

OFIQ_HEADS = "Filename;UnifiedQualityScore;Sharpness;UnifiedQualityScore.scalar;Sharpness.scalar;"


def cr_fiqa(path: Path) -> None:
    path.write_text("quality_data/XQLFW/images/Ann_0001.jpg 2.25\nquality_data/XQLFW/images/Bo Ek_0001.jpg -0.5\n")


def ofiq(path: Path) -> None:
    # its rows have no semicolon at their end, its header has; an image that it could not read has two alone
    rows = ["/data/a.png;24.556244;44;65;99", "/data/b.png;0;44;-1;99", "/data/c.png;;"]
    path.write_text("\n".join([OFIQ_HEADS, *rows]) + "\n")


def dasec(path: Path) -> None:
    path.write_text(
        json.dumps(
            {
                "similarity_scores": {"type": "mated", "scores_by_pair_ids": {"a-b": 0.7}},
                score_files.DASEC: {"FaceQ": {"a": 60, "b": 40.5}, "Other": {"a": 1, "b": 2}},
            }
        )
    )


def test_lines_of_cr_fiqa_are_a_path_and_a_score(tmp_path: Path) -> None:
    cr_fiqa(tmp_path / "CRFIQAS_XQLFW.txt")
    read = score_files.read(tmp_path / "CRFIQAS_XQLFW.txt")
    assert (read.kind, read.num_changed) == ("text", 0)
    assert dict(read.of("xqlfw")) == {
        "quality_data/XQLFW/images/Ann_0001.jpg": 2.25, "quality_data/XQLFW/images/Bo Ek_0001.jpg": -0.5,
    }  # fmt: skip


def test_the_last_line_of_a_name_counts_and_the_change_is_counted(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("a.jpg 1\na.jpg 1\na.jpg 2\n")
    read = score_files.read(tmp_path / "s.txt")
    assert dict(read.of("any")) == {"a.jpg": 2.0}
    assert read.num_changed == 1


def test_ofiq_gives_the_unified_score_and_minus_one_is_no_score(tmp_path: Path) -> None:
    ofiq(tmp_path / "out.csv")
    read = score_files.read(tmp_path / "out.csv")
    assert (read.kind, read.column) == ("OFIQ", "UnifiedQualityScore.scalar")
    scores = read.of("lfw")
    assert scores["/data/a.png"] == 65
    assert math.isnan(scores["/data/b.png"])
    assert math.isnan(scores["/data/c.png"])
    # the raw value of a measure that failed is none either
    raw = score_files.read(tmp_path / "out.csv", "UnifiedQualityScore").of("lfw")
    assert raw["/data/a.png"] == 24.556244
    assert math.isnan(raw["/data/b.png"])
    with pytest.raises(LookupError, match=r"no score 'Pose': there are UnifiedQualityScore, Sharpness, Unified"):
        score_files.read(tmp_path / "out.csv", "Pose")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [np.float32, np.float64, float])
def test_pickles_of_ediffiqa_and_froq_are_read_in_every_protocol(tmp_path: Path, protocol: int, kind: type) -> None:
    scores = {"/data/lfw/a.jpg": kind(0.625), "/data/lfw/ü.jpg": kind(-3)}
    (tmp_path / "quality-scores.pkl").write_bytes(pickle.dumps(scores, protocol))
    read = score_files.read(tmp_path / "quality-scores.pkl")
    assert read.kind == "pickle"
    assert dict(read.of("lfw")) == {"/data/lfw/a.jpg": 0.625, "/data/lfw/ü.jpg": -3.0}


class Bad:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_names_a_function_runs_nothing(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"a": Bad(tmp_path / "ran")}, protocol)
    with pytest.raises(ValueError, match="has no place in a pickle of scores"):
        score_pickle.read(data)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pickle.dumps({"a": 0.5})[:-3], "not a pickle of scores, or damaged"),
        (pickle.dumps([0.5]), "has no place"),
        (pickle.dumps({"a": "b"}), "wanted text and a number"),
        (pickle.dumps({"a": True}), "wanted text and a number"),
        (pickle.dumps({"a": np.int64(3)}), "wanted scores of f2, f4, f8"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "it numbers a value 2147483647"),
        (b"", "not a pickle of scores"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        score_pickle.read(data)


def test_dasecs_json_has_a_score_for_each_algorithm(tmp_path: Path) -> None:
    dasec(tmp_path / "data.json")
    read = score_files.read(tmp_path / "data.json", "FaceQ")
    assert (read.kind, dict(read.of("lfw"))) == ("dasec JSON", {"a": 60.0, "b": 40.5})
    with pytest.raises(ValueError, match="has 2 columns of numbers: choose one of FaceQ, Other"):
        score_files.read(tmp_path / "data.json")


def test_tables_may_say_which_set_a_score_is_of(tmp_path: Path) -> None:
    frame = pd.DataFrame({"set": ["lfw", "cplfw"], "image": ["0", "0"], "row": [0, 0], "score": [0.1, 0.2]})
    frame.to_parquet(tmp_path / "s.parquet")
    frame.to_csv(tmp_path / "s.csv", index=False)
    for name in ("s.parquet", "s.csv"):
        read = score_files.read(tmp_path / name)
        assert dict(read.of("cplfw")) == {"0": 0.2}
        with pytest.raises(LookupError, match="no scores of set 'agedb_30': there are lfw, cplfw"):
            read.of("agedb_30")


def test_csv_with_and_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('file,quality,note\n"a,b.jpg",0.5,x\nc.jpg,,y\n')
    read = score_files.read(tmp_path / "a.csv")
    assert (read.column, read.of(ANY)["a,b.jpg"]) == ("quality", 0.5)
    assert math.isnan(read.of(ANY)["c.jpg"])
    (tmp_path / "b.csv").write_text("a.jpg,0.5\nb.jpg,1\n")
    assert dict(score_files.read(tmp_path / "b.csv").of(ANY)) == {"a.jpg": 0.5, "b.jpg": 1.0}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.jpg\n", "line 1: wanted an image and its score"),
        ("a.jpg good\n", "line 1: wanted a number as score, got 'good'"),
        ("\n", "is empty"),
        ("who,score\na,1\n", "no column of image names"),
        ("image,x,y\na,1,2\n", "2 columns of numbers: choose one of x, y"),
        ("image,score\na,1,2\n", "line 2: wanted 2 fields, got 3"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(ValueError, match=why):
        dict(score_files.read(tmp_path / "s.txt").of(ANY))


def test_names_agree_by_the_ends_of_their_paths() -> None:
    names = ["xqlfw/Ann/Ann_0001.jpg", "xqlfw/Bo/Bo_0001.jpg", "xqlfw/Cy/Cy_0001.jpg"]
    found = match({"/x/Ann_0001.png": 2.0, "C:\\y\\Bo_0001.jpg": math.nan, "Dee_0001.jpg": 1.0}, names)
    assert found.score_N.tolist() == [2.0, -math.inf, -math.inf]
    assert (found.missing, found.unknown) == (("xqlfw/Cy/Cy_0001.jpg",), ("Dee_0001.jpg",))
    assert found.not_assessed == ("xqlfw/Bo/Bo_0001.jpg",)


def test_as_many_parts_of_a_path_count_as_the_set_needs() -> None:
    found = match({"z/a/1.jpg": 1.0, "z/b/1.jpg": 2.0, "1.jpg": 3.0}, ["b/1.jpg", "a/1.jpg"])
    assert found.score_N.tolist() == [2.0, 1.0]
    assert found.unknown == ("1.jpg",)


def test_two_names_for_one_image_are_refused_unless_their_scores_agree() -> None:
    assert match({"x/a.jpg": 1.0, "y/a.jpg": 1.0}, ["a.jpg"]).score_N.tolist() == [1.0]
    with pytest.raises(ValueError, match=r"x/a.jpg and y/a.jpg both stand for image a.jpg"):
        match({"x/a.jpg": 1.0, "y/a.jpg": 2.0}, ["a.jpg"])
    with pytest.raises(ValueError, match="a score is infinite"):
        match({"a.jpg": -math.inf}, ["a.jpg"])
