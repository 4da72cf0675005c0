"""Known qualities of a synthetic test set: every image once, in order, or a reason why not."""

from __future__ import annotations

import pandas as pd
import pytest

from stages.datasets import truth


def table(**columns):
    return pd.DataFrame(
        {"set": ["lfw"] * 3 + ["cplfw"], "image": ["2", "0", "1", "0"], "identity": 0, "quality": [0.2, 0.0, 1.0, 0.5]}
        | columns
    )


def write(path, frame):
    frame.to_parquet(path)
    return path


def test_qualities_come_in_the_order_of_the_file(tmp_path):
    path = write(tmp_path / "truth.parquet", table())
    assert truth.load(path, "lfw", 3).tolist() == [0.0, 1.0, 0.2]


def test_a_set_the_table_does_not_have_gives_none(tmp_path):
    assert truth.load(write(tmp_path / "truth.parquet", table()), "calfw", 3) is None


@pytest.mark.parametrize("num_images", [2, 4])
def test_a_table_that_does_not_tell_each_image_once_is_refused(tmp_path, num_images):
    path = write(tmp_path / "truth.parquet", table())
    with pytest.raises(ValueError, match=f"images 0 to {num_images - 1} should be listed once each"):
        truth.load(path, "lfw", num_images)


def test_an_image_listed_twice_is_refused(tmp_path):
    path = write(tmp_path / "truth.parquet", table(set=["lfw"] * 4))
    with pytest.raises(ValueError, match=r"listed once each; see \['0'\]"):
        truth.load(path, "lfw", 3)


def test_a_quality_outside_its_range_is_refused(tmp_path):
    path = write(tmp_path / "truth.parquet", table(quality=[0.2, 0.0, 1.5, 0.5]))
    with pytest.raises(ValueError, match=r"qualities should lie in \[0, 1\]"):
        truth.load(path, "lfw", 3)


def test_a_table_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="should be a Parquet table with the columns set, image, quality"):
        truth.load(write(tmp_path / "a.parquet", pd.DataFrame({"set": ["lfw"]})), "lfw", 1)
    (tmp_path / "b.parquet").write_text("set,image\n")
    with pytest.raises(ValueError, match="should be a Parquet table"):
        truth.load(tmp_path / "b.parquet", "lfw", 1)
