"""Scores of many pictures: a row for each face, nothing dropped in silence, nothing done twice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.core.metrics.features import Features
from stages.embedding import scoring_embedder
from stages.pictures import detect, score
from stages.pictures.score import Scoring
from stages.quality import sharpness
from stages.tools import score as tool
from tests.stages.small_sets import embed, face


def write(folder: Path, count: int) -> None:
    (folder / "deep").mkdir(parents=True)
    for n in range(count):
        (folder / "deep" / f"{n}.png").write_bytes(cv2.imencode(".png", face(n))[1].tobytes())
    (folder / "bad.jpg").write_bytes(b"bad")
    (folder / "notes.txt").write_text("no picture")


class Counting:
    """Embeds, and knows how many images it was asked for; stops after so many calls, as a kill would."""

    def __init__(self, calls: int = 1000) -> None:
        self.images, self.calls = 0, calls

    def __call__(self, images: Iterable[np.ndarray]) -> Features:
        images = list(images)
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        self.images += len(images)
        return embed(images)


def how(embedder: Counting, key: str = "model") -> Scoring:
    return Scoring(detect.as_aligned, embedder, {"twice": lambda f: 2 * f.feature_norm_N}, False, key)


def test_every_picture_has_a_row_with_scores_or_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "in", 3)
    rows = score.score_folder(tmp_path / "in", how(Counting()), tmp_path / "journal")
    assert [row["file"] for row in rows] == ["bad.jpg", "deep/0.png", "deep/1.png", "deep/2.png"]
    assert rows[0]["face"] == 0
    assert "not a readable picture" in rows[0]["problem"]
    features = embed([face(n) for n in range(3)])
    assert np.allclose([row["feature_norm"] for row in rows[1:]], features.feature_norm_N)
    assert np.allclose([row["twice"] for row in rows[1:]], 2 * features.feature_norm_N)
    assert all(row["problem"] is None and row["width"] == 112 for row in rows[1:])


def test_methods_that_look_at_the_faces_have_their_column(tmp_path: Path) -> None:
    write(tmp_path / "in", 3)
    scorers = scoring_embedder.untrained(["sharpness"])
    embedder = scoring_embedder.Seeing(Counting(), {"sharpness": sharpness.Scorer()}, {})
    looking = replace(how(Counting()), embed=embedder, scores=scoring_embedder.scores_of(scorers))
    rows = score.score_folder(tmp_path / "in", looking, tmp_path / "journal")
    expected = [sharpness.Scorer().look(face(n)) for n in range(3)]
    assert [row["sharpness"] for row in rows[1:]] == pytest.approx(expected, rel=1e-6)


def test_all_faces_of_a_picture_are_scored_or_its_largest(tmp_path: Path) -> None:
    write(tmp_path / "in", 1)
    twice = replace(how(Counting()), detect=lambda image: detect.as_aligned(image) * 2)
    rows = score.score_folder(tmp_path / "in", replace(twice, every_face=True), tmp_path / "every")
    assert [(row["file"], row["face"]) for row in rows] == [("bad.jpg", 0), ("deep/0.png", 1), ("deep/0.png", 2)]
    rows = score.score_folder(tmp_path / "in", twice, tmp_path / "largest")
    assert [(row["file"], row["face"]) for row in rows] == [("bad.jpg", 0), ("deep/0.png", 1)]


def test_a_picture_without_a_face_says_so(tmp_path: Path) -> None:
    write(tmp_path / "in", 1)
    rows = score.score_folder(tmp_path / "in", replace(how(Counting()), detect=lambda image: []), tmp_path / "j")
    assert rows[1]["problem"] == "no face found"


def test_stopped_it_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", 150)
    whole = score.score_folder(tmp_path / "in", how(Counting()), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        score.score_folder(tmp_path / "in", how(Counting(calls=2)), tmp_path / "journal")
    with (tmp_path / "journal").open("a") as stream:
        stream.write('{"key": "model", "stam')  # killed while it wrote
    capsys.readouterr()
    embedder = Counting()
    assert score.score_folder(tmp_path / "in", how(embedder), tmp_path / "journal") == whole
    assert embedder.images == 151 - 128
    assert "128 of 151 pictures were already scored" in capsys.readouterr().err


def test_a_line_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    write(tmp_path / "in", 3)
    (tmp_path / "journal").write_text('{"key": "model", "stam')
    whole = score.score_folder(tmp_path / "in", how(Counting()), tmp_path / "journal")
    embedder = Counting()
    assert score.score_folder(tmp_path / "in", how(embedder), tmp_path / "journal") == whole
    assert embedder.images == 0


def test_another_model_and_a_changed_picture_are_scored_anew(tmp_path: Path) -> None:
    write(tmp_path / "in", 3)
    score.score_folder(tmp_path / "in", how(Counting()), tmp_path / "journal")
    other = Counting()
    score.score_folder(tmp_path / "in", how(other, "another model"), tmp_path / "journal")
    assert other.images == 3
    (tmp_path / "in/deep/1.png").write_bytes(cv2.imencode(".png", face(9))[1].tobytes())
    changed = Counting()
    rows = score.score_folder(tmp_path / "in", how(changed), tmp_path / "journal")
    assert changed.images == 1
    assert np.isclose(rows[2]["feature_norm"], embed([face(9)]).feature_norm_N[0])


def test_what_is_passed_over_is_said_and_linked_folders_are_entered_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "disk", 2)
    mine = tmp_path / "in"
    mine.mkdir()
    (mine / "linked").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk/deep/back").symlink_to(mine, target_is_directory=True)
    (mine / ".hidden").mkdir()
    for name in ("._0.png", "a.HEIC", "b.heic", "README", ".hidden/c.png"):
        (mine / name).write_bytes(b"?")
    found = [path.relative_to(mine).as_posix() for path in score.pictures(mine)]
    assert found == ["linked/bad.jpg", "linked/deep/0.png", "linked/deep/1.png"]
    said = "passed over 5 files that are no pictures by their names: 2 .heic, 1 .txt, 1 hidden, 1 without an ending"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_name_that_is_not_utf_8_is_written_so_that_a_person_sees_it(tmp_path: Path, ending: str) -> None:
    (tmp_path / "in").mkdir()
    picture = cv2.imencode(".png", face(0))[1].tobytes()
    for name, content in ((b"gr\xfc\xdfe.png", picture), (b"\xff.jpg", b"bad"), ("grüße.png".encode(), picture)):
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(content)
    rows = score.score_folder(tmp_path / "in", how(Counting()), tmp_path / "journal")
    again = score.score_folder(tmp_path / "in", how(Counting(calls=0)), tmp_path / "journal")
    assert again == rows
    out = tmp_path / f"out{ending}"
    tool.write(out, rows, ["feature_norm"])
    table = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    assert sorted(table["file"]) == ["\\xff.jpg", "gr\\xfc\\xdfe.png", "grüße.png"]
    assert table["problem"].notna().tolist() == [name.endswith(".jpg") for name in table["file"]]
    tool.said_of(rows, out).encode()


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no pictures \(no file\): supported are .jpg"):
        score.score_folder(tmp_path, how(Counting()), tmp_path / "journal")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        score.pictures(tmp_path / "nowhere")
