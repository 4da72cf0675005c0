"""QGFace's averages reproduce its own table."""

from __future__ import annotations

import pytest

from stages.protocols import averages

# IsidoreSong/QGFace README.md at 778aa5ef: SCface d1 d2 d3, TinyFace, IJB-B, HQ avg, All avg
ROWS = [
    (61.69, 97.23, 99.85, 63.98, 90.26, 95.62, 84.77),
    (66.77, 99.08, 100.0, 67.49, 74.07, 95.76, 83.86),
    (68.15, 98.46, 100.0, 67.03, 70.45, 95.73, 83.30),
    (70.92, 98.62, 99.69, 66.58, 90.59, 95.71, 87.02),
    (92.31, 99.54, 100.0, 69.85, 91.05, 95.43, 91.36),
]


@pytest.mark.parametrize("row", ROWS)
def test_all_avg_is_that_of_the_published_table(row):
    d1, d2, d3, tinyface, ijbb, hq_avg, all_avg = row
    measured = {
        "hq": dict.fromkeys(("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30"), hq_avg / 100),
        "lq": {"scface_d1": d1 / 100, "scface_d2": d2 / 100, "scface_d3": d3 / 100, "tinyface_rank1": tinyface / 100},
        "ijb": {"ijbb_tar_at_far_1e-04": ijbb / 100},
    }
    found, reasons = averages.averages(measured)
    assert round(100 * found["hq_avg"], 2) == hq_avg
    assert round(100 * found["all_avg"], 2) == pytest.approx(all_avg, abs=0.0101)
    assert not reasons


def test_sets_beside_the_five_do_not_change_the_average():
    hq = dict.fromkeys(("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30"), 0.9)
    assert averages.averages({"hq": {**hq, "cfp_ff": 0.1, "vgg2_fp": 0.2}})[0]["hq_avg"] == pytest.approx(0.9)


def test_what_is_missing_is_named():
    found, reasons = averages.averages({"hq": {"lfw": 0.9}})
    assert not found
    assert reasons["hq_avg"] == "needs hq.cfp_fp, hq.cplfw, hq.calfw, hq.agedb_30"
