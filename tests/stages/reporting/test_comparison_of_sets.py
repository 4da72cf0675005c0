"""Columns of test sets: which are there, which are the published ones, and error rates by group."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from stages.config import evaluation
from stages.config.table import Scale, Table
from stages.core.metrics.missing import NOT_MEASURED, SETS
from stages.reporting import latex, page, text, wording
from stages.reporting.comparison import Comparison, compare
from stages.reporting.side_by_side import beside
from tests.stages.reporting.comparing import DEMO, X, gathered, table, three


def test_a_column_that_no_run_was_asked_for_is_not_measured_and_a_name_that_is_none_is_refused():
    def compared(metric: str) -> Comparison:
        run = gathered("a", x_one=0.1).model_copy(
            update={"measured": {"hq": {"lfw": 0.9}}, "switches": {"hq": {"sets": ["lfw"]}}}
        )
        return compare("t", table({"name": "X", "metric": metric}, a={}), DEMO, {"a": [run]})

    assert compared("hq.cfp_fp").lines[0].cells[0].missing == NOT_MEASURED
    with pytest.raises(LookupError, match=r"column X: no hq\.cpf_fp; hq has lfw"):
        compared("hq.cpf_fp")


def test_a_set_of_ones_own_has_a_column_like_a_published_one():
    shown = table({"name": "X", "metric": "hq.African"}, {"name": "Y", "metric": "fiqa.lfw_mask_joint_edc"}, a={}, b={})
    runs = {
        key: [gathered(key).model_copy(update={
            "parameters": {"seed": 0, "dataset": "mine"}, "measured": {"hq": hq, "fiqa": {}},
            "unmeasured": {"fiqa": {"lfw.joint": "of lfw", "lfw_mask.joint": "of the mask"}},
            "switches": {"hq": {"sets": list(hq)}, "fiqa": {"sets": ["lfw", "lfw_mask"]}},
        })] for key, hq in (("a", {"African": 0.9}), ("b", {"lfw": 0.8}))
    }  # fmt: skip
    first, second = (line.cells for line in compare("t", shown, DEMO, runs).lines)
    assert first[0].measured == 90
    assert (second[0].missing, second[0].reason) == (NOT_MEASURED, "data set mine: hq.sets names only lfw")
    assert first[1].reason == "of the mask"
    with pytest.raises(LookupError, match=r"column X: no hq\.Africa; hq has African, lfw"):
        compare("t", table({"name": "X", "metric": "hq.Africa"}, a={}, b={}), DEMO, runs)


def test_columns_of_a_suite_without_sets_say_so_once_and_with_the_name_of_the_data_set():
    names = {"B": "ijb.ijbb_rank1", "C": "ijb.ijbc_tar_at_far_1e-04", "H": "hq.lfw", "G": "hq.cfp_fp"}
    shown = table(*({"name": name, "metric": metric} for name, metric in names.items()), a={"B": 90.0})
    run = gathered("a").model_copy(
        update={
            "parameters": {"seed": 0, "dataset": "mine"},
            "measured": {"hq": {"lfw": 0.9}, "ijb": {}},
            "switches": {"hq": {"sets": ["lfw"]}, "ijb": {"sets": []}},
        }
    )
    comparison = compare("t", shown, DEMO, {"a": [run]})
    cells = dict(zip(names, comparison.lines[0].cells, strict=True))
    assert (cells["B"].measured, cells["B"].difference, cells["B"].missing) == (None, None, NOT_MEASURED)
    said = wording.caveats(comparison)
    assert "B, C: not measured: no IJB set of mine is named (ijb.sets is empty)." in said
    assert "G: not measured: data set mine: hq.sets does not name cfp_fp." in said


def own(pairs: int, *, published: tuple[str, ...] = (), synthetic: bool = False) -> Comparison:
    """Two rows on an lfw.bin of so many pairs, a third on the published set; published 90, 91, 92."""
    columns = [{"name": "LFW", "metric": "hq.lfw"}]
    shown = table(*columns, a={"LFW": 90.0}, b={"LFW": 91.0}, c={"LFW": 92.0})
    claim = {"text": "A is above C", "source": "S", "better": ["a"], "worse": ["c"]}
    shown = Table.model_validate({**shown.model_dump(), "claims": [claim]})
    said = {"mine": {"published": published, "synthetic": synthetic}, "real": {"published": ["lfw"]}}
    runs = {
        key: [gathered(key).model_copy(update={
            "parameters": {"seed": 0, "dataset": dataset}, "measured": {"hq": {"lfw": value}},
            "counts": {"hq": {"lfw": {"pairs": pairs if dataset == "mine" else 6000}}},
        })] for key, dataset, value in (("a", "mine", 0.99), ("b", "mine", 0.98), ("c", "real", 0.97))
    }  # fmt: skip
    return compare("t", shown, Scale.model_validate({"profile": "paper", "data": said}), runs)


def test_a_set_that_is_not_the_published_one_is_not_compared_with_its_number_and_says_why():
    comparison = own(40, published=("lfw",))
    cells = [line.cells[0] for line in comparison.lines]
    assert [(cell.measured, cell.published) for cell in cells] == [(99, 90), (98, 91), (97, 92)]
    assert [cell.difference for cell in cells] == [None, None, 5]
    assert (comparison.overall.rows, comparison.overall.tau) == (1, None)
    reason = "lfw of data set mine has 40 pairs, LFW has 6,000"
    assert f"LFW (A, B): not compared with the published number: {reason}." in wording.caveats(comparison)
    assert wording.verdict(comparison).startswith("Not comparable: in no column were two rows measured on the published")
    assert "|  | difference | not compared |" in text.markdown(comparison)
    assert f"99.00,90.00,,{reason}" not in text.as_csv(comparison)
    assert f'A,a,99.00,90.00,,"{reason}"' in text.as_csv(comparison)
    assert text.as_tree(comparison)["rows"][0]["cells"]["LFW"]["apart"] == reason
    assert f'<small title="{reason}">not compared</small>' in page.html(comparison, [])
    assert reason in latex.latex(comparison)
    assert comparison.claims[0].verdict == "not checked"
    assert wording.claim(comparison.claims[0]) == f"not checked, because {reason}"
    assert wording.claims_held(comparison) == "0 of 0"


def test_a_set_of_the_published_size_is_compared_once_the_person_says_what_it_is():
    unsaid = own(6000)
    assert unsaid.lines[0].cells[0].difference is None
    assert "datasets.mine.published: [lfw] in params.yaml" in " ".join(wording.caveats(unsaid))
    for compared in (own(6000, published=("lfw",)), own(40, synthetic=True)):
        assert [line.cells[0].difference for line in compared.lines] == [9, 7, 5]
        assert compared.overall.tau == -1
        assert not wording.not_compared(compared)
        assert compared.claims[0].verdict == "holds"


def test_side_by_side_published_numbers_stand_beside_what_they_are_of_alone():
    other = dataclasses.replace(own(40, synthetic=True), scale=Scale(profile="demo"))
    pairings = {(one.left, one.right): one for one in beside(own(40), other).pairings}
    assert pairings["published", "paper"].tau is None
    assert pairings["published", "demo"].tau == -1
    assert pairings["paper", "demo"].tau == 1


def test_error_rates_by_group_stand_on_the_page_with_their_bands_and_what_these_are_of():
    band = {"value": 0.125, "low": 0.0625, "high": 0.25}
    rates = [
        {"group": "x < y", "genuine": 1600, "impostor": 0, "fnmr": band, "fmr": None},
        {"group": "all pairs", "genuine": 1600, "impostor": 30, "fnmr": band, "fmr": {"value": 0.01, "low": None, "high": None}},
    ]  # fmt: skip
    said = {"fmr": 0.01, "bands_resampled_over": "identities (folder names)", "pairs_in_no_group": 7, "rates": rates}
    run = gathered("a", x_one=0.1).model_copy(update={"groups": {"mine": said}})
    comparison = compare("t", table(X, a={}, b={}), DEMO, {"a": [run], "b": [gathered("b", x_one=0.2)]})
    shown = text.markdown(comparison)
    assert "Error rates by group: mine" in shown
    assert "| A | x < y | 12.50 | 6.25 to 25.00 | 1,600 |  |  | 0 |\n|  | all pairs | 12.50 | 6.25 to 25.00 | 1,600 | 1.00 |  | 30 |" in shown
    caption = (
        "at one threshold, the lowest at which the FMR over all pairs is at most 0.01. 95 % bands by resampling identities "
        "(folder names). 7 pairs are in no group"
    )
    assert caption in shown
    html = page.html(comparison, [])
    assert caption in html
    assert "<td>x &lt; y</td><td>12.50</td><td>6.25 to 25.00</td>" in html
    assert text.as_tree(comparison)["groups"] == {"mine": {"a": said}}
    assert "groups" not in text.as_tree(three((0.1, 0.2, 0.3), (1, 2, 3)))


def test_sets_are_called_as_in_the_switches_of_their_suites():
    for suite, names in SETS.items():
        options = {"pool": True} if suite == "fiqa" else {}  # IJB-S has a place there for its templates alone
        assert evaluation.SUITES[suite](sets=names, **options).sets == names
        known = literals(evaluation.SUITES[suite].model_fields["sets"].annotation)
        assert set(names) == known or suite in ("hq", "fiqa")  # these take any name


def literals(annotation: Any) -> set[str]:
    """Return all strings of the literals in an annotation."""
    arguments = get_args(annotation)
    return {part for part in arguments if isinstance(part, str)}.union(*(literals(part) for part in arguments))
