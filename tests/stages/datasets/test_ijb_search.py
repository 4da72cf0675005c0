"""IJB 1:N lists: a row for each template, both galleries; what contradicts itself is refused with its line."""

from __future__ import annotations

import numpy as np
import pytest

from stages.datasets import ijb
from tests.stages import small_sets


@pytest.fixture(params=["IJBB", "IJBC"])
def meta(request, tmp_path):
    meta = small_sets.write_ijb(tmp_path, request.param)
    small_sets.write_search(meta)
    return meta


def test_each_template_is_listed_once_however_many_images_it_has(tmp_path, meta):
    found = ijb.load_search(tmp_path, meta.parent.name)
    assert found.gallery_subject_G.tolist() == [2, 4, 1, 3, 5]
    assert found.gallery_set_G.tolist() == [1, 1, 2, 2, 2]
    assert found.gallery_template_G.tolist() == [4, 8, 2, 6, 10]
    assert found.probe_subject_P.tolist() == [1, 2, 3, 4, 5, 6, 7]  # 6 and 7 have no mate, and stay
    assert found.probe_template_P.tolist() == [3, 5, 7, 9, 11, 13, 15]


def test_the_real_lists_are_read(faces):
    found = ijb.load_search(faces / "eval/ijb", "IJBB")
    chosen = ijb.load(faces / "eval/ijb", "IJBB")
    templates = np.concatenate([found.gallery_template_G, found.probe_template_P])
    assert set(templates.tolist()) <= set(chosen.template_N.tolist())
    assert np.unique(templates).size == templates.size == 694
    assert (found.gallery_set_G == 1).sum() + (found.gallery_set_G == 2).sum() == found.gallery_subject_G.size


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("90,1,img/1.jpg", r"line 6: subject 1 has the gallery templates 2 and 90"),
        ("4,9,img/1.jpg", r"line 6: template 4 is of subject 9, elsewhere of 2"),
        ("x,9,img/1.jpg", r"line 6: wanted TEMPLATE_ID,SUBJECT_ID"),
        ("4", r"line 6: wanted TEMPLATE_ID,SUBJECT_ID"),
    ],
)
def test_a_line_that_does_not_fit_is_refused(tmp_path, line, message):
    meta = small_sets.write_ijb(tmp_path)
    small_sets.write_search(meta)
    # gallery 2 is read after gallery 1, so that templates of both are known
    path = meta / "ijbb_1N_gallery_S2.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]) + line + "\n")
    with pytest.raises(ValueError, match=message):
        ijb.load_search(tmp_path, "IJBB")


@pytest.mark.parametrize("name", ["gallery_S1", "gallery_S2", "probe_mixed"])
def test_a_missing_or_empty_list_is_named(tmp_path, name):
    meta = small_sets.write_ijb(tmp_path)
    small_sets.write_search(meta)
    path = meta / f"ijbb_1N_{name}.csv"
    path.write_text("TEMPLATE_ID,SUBJECT_ID\n")
    with pytest.raises(ValueError, match=rf"{path.name} lists no templates"):
        ijb.load_search(tmp_path, "IJBB")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        ijb.load_search(tmp_path, "IJBB")


def test_a_set_without_such_lists_is_unknown(tmp_path):
    with pytest.raises(LookupError, match="there are IJBB, IJBC"):
        ijb.load_search(tmp_path, "IJBA")
