"""Published counts, and when a value is one of the published set."""

from __future__ import annotations

import pytest

from stages.core.metrics.published_sets import COUNTS, why_apart
from stages.inspection.catalogue import KNOWN

FIVE = ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")
REAL = {"hq": {name: dict(COUNTS[name]) for name in FIVE}, "lq": {"scface": {"gallery": 130}, "tinyface": {"probes": 3728}},
        "ijb": {"IJBB": {"templates": 12115}}, "fiqa": {"lfw": {"pairs": 6000}}}
SAID = {"synthetic": False, "stand_in": False, "published": [*FIVE, "IJBB", "tinyface", "scface"]}


def test_counts_are_those_that_doctor_compares():
    for name, counts in COUNTS.items():
        assert counts.items() <= KNOWN[name].counts.items(), name


@pytest.mark.parametrize("place", [
    "hq.lfw", "hq.avg", "averages.hq_avg", "averages.all_avg", "ijb.ijbb_tar_at_far_1e-04", "lq.scface_d1", "lq.tinyface_rank1",
    "fiqa.lfw_joint_edc_auc_fmr1e-02", "train.loss", "quality.loss",
])  # fmt: skip
def test_the_real_sets_are_compared_once_the_person_says_that_they_are_real(place: str):
    suite, _, key = place.partition(".")
    assert why_apart(suite, key, "mine", SAID, REAL) == ""
    said = why_apart(suite, key, "mine", {**SAID, "published": []}, REAL)
    assert ("nobody says that" in said) == (suite not in ("train", "quality"))
    assert why_apart(suite, key, "mine", None, REAL) == said
    assert why_apart(suite, key, "mine", {**SAID, "published": [], "stand_in": True}, {}) == ""
    assert why_apart(suite, key, "mine", {"synthetic": True}, {}) == ""


def test_other_counts_are_another_set_whatever_the_person_says():
    other = {**REAL, "hq": {**REAL["hq"], "calfw": {"pairs": 6000, "genuine": 2000}}}
    assert why_apart("hq", "lfw", "mine", SAID, other) == ""
    for suite, key in (("hq", "calfw"), ("hq", "avg"), ("averages", "hq_avg"), ("averages", "all_avg")):
        assert why_apart(suite, key, "mine", SAID, other) == "calfw of data set mine has 2,000 genuine, CALFW has 3,000"


def test_crlfw_is_made_of_lfw_and_a_set_of_ones_own_is_published_if_the_person_says_so():
    counts = {"lq": {"crlfw": {"pairs": 40}}, "hq": {"lfw": {"pairs": 6000}, "lfw_mask": {"pairs": 40}}}
    assert why_apart("lq", "crlfw_8", "mine", SAID, counts) == "crlfw of data set mine has 40 pairs, LFW has 6,000"
    assert why_apart("lq", "crlfw_8", "mine", SAID, {"lq": {"crlfw": {"pairs": 6000}}}) == ""
    assert "lfw_mask of data set mine is lfw_mask" in why_apart("hq", "lfw_mask", "mine", SAID, counts)
    assert why_apart("hq", "lfw_mask", "mine", {**SAID, "published": ["lfw_mask"]}, counts) == ""
