"""Cells, best values and agreement, against numbers worked by hand."""

from __future__ import annotations

import pytest

from stages.config.table import Scale, Table
from stages.core.metrics.missing import NOT_MEASURABLE, NOT_MEASURED
from stages.reporting import page, wording
from stages.reporting.comparison import Comparison, compare
from tests.stages.reporting.comparing import DEMO, X, Y, gathered, table, three


def test_values_are_in_the_columns_unit_and_rounded_as_shown():
    cell = three((0.123456, 0.2, 0.3), (0.12345, 0.2, 0.3)).lines[0]
    assert (cell.cells[0].measured, cell.cells[1].measured) == (12.35, 0.123)


def test_differences_worked_by_hand():
    cells = [line.cells[0] for line in three((0.015, 0.02, 0.029), (1, 1, 1)).lines]
    assert [cell.difference for cell in cells] == [pytest.approx(0.5), pytest.approx(0), pytest.approx(-0.1)]


def test_the_best_is_marked_by_the_columns_sense_and_ties_share_it():
    comparison = three((0.1, 0.3, 0.30000001), (0.5, 0.2, 0.4))
    assert [line.cells[0].best for line in comparison.lines] == [False, True, True]
    assert [line.cells[1].best for line in comparison.lines] == [False, True, False]


def test_nothing_is_best_among_equals_or_alone():
    assert not any(line.cells[0].best for line in three((0.1, 0.1, 0.1), (1, 2, 3)).lines)
    assert not any(line.cells[0].best for line in three((0.1, None, None), (1, 2, 3)).lines)


def test_agreement_worked_by_hand():
    # X: measured 1 3 2 against published 1 2 3: two of three pairs stand, tau (2 - 1) / 3.
    # Y: measured 2 2 1 against 3 2 1: pair (a, b) tied by us, two concordant: 2 / sqrt(3 * 2).
    # both: (4 - 1) / sqrt(6 * 5)
    comparison = three((0.1, 0.3, 0.2), (2, 2, 1))
    assert comparison.columns[0].tau == pytest.approx(1 / 3)
    assert comparison.columns[1].tau == pytest.approx(2 / 6**0.5)
    assert comparison.overall.tau == pytest.approx(3 / 30**0.5)
    assert wording.verdict(comparison).startswith("Kendall's τ +0.55: 4 of 5 pairs of rows, in 2 columns")


def test_agreement_counts_only_rows_with_both_values():
    shown = table(X, a={"X": 1.0}, b={}, c={"X": 3.0})
    runs = {key: [gathered(key, x_one=value)] for key, value in zip("abc", (0.1, 0.9, 0.2), strict=True)}
    comparison = compare("t", shown, DEMO, runs)
    assert (comparison.overall.rows, comparison.overall.tau) == (2, 1)
    assert "Of all possible orders of 2 rows, 50% agree at least as well" in wording.verdict(comparison)


def test_without_two_rows_there_is_nothing_to_compare():
    comparison = compare("t", table(X, a={"X": 1.0}, b={}), DEMO, {k: [gathered(k, x_one=0.1)] for k in "ab"})
    assert comparison.overall.tau is None
    assert wording.agreement(comparison.overall) == "not comparable"
    assert wording.verdict(comparison).startswith("Not comparable")


def test_a_metric_that_could_not_be_measured_says_so_with_the_reason():
    comparison = three((0.1, None, 0.2), (1, 2, 3))
    cell = comparison.lines[1].cells[0]
    assert (cell.measured, cell.missing, cell.reason) == (None, NOT_MEASURABLE, "too few pairs")
    assert "X (B): not measurable: too few pairs." in wording.caveats(comparison)


def test_a_metric_another_row_has_is_not_measured_here():
    shown = table(X, a={}, b={})
    comparison = compare("t", shown, DEMO, {"a": [gathered("a", x_one=0.1)], "b": [gathered("b", other=0.1)]})
    assert comparison.lines[1].cells[0].missing == NOT_MEASURED
    assert "X (B): not measured." in wording.caveats(comparison)


def test_a_reason_belongs_to_its_own_set():
    shown = table({"name": "C", "metric": "s.cplfw_tar_at_far_1e-04"}, a={}, b={})
    one = gathered("a", **{"cplfw_tar_at_far_1e-04": 0.5})
    other = gathered("b").model_copy(update={"unmeasured": {"s": {"lfw.tar_at_far.1e-04": "another set's"}}})
    assert compare("t", shown, DEMO, {"a": [one], "b": [other]}).lines[1].cells[0].missing == NOT_MEASURED


def test_a_column_no_run_can_fill_is_refused_with_the_metrics_there_are():
    runs = {"a": [gathered("a", x_one=0.1, z_one=0.2)]}
    with pytest.raises(LookupError, match=r"column X: no s\.x_two; s has x_one, z_one"):
        compare("t", table({"name": "X", "metric": "s.x_two"}, a={}), DEMO, runs)
    with pytest.raises(LookupError, match="column X: no suite 'r', there are s"):
        compare("t", table({"name": "X", "metric": "r.x"}, a={}), DEMO, runs)


def test_an_ablation_parameter_no_run_has_is_refused_with_those_there_are():
    shown = table(X, a={}).model_copy(update={"ablation": ("head.margn",)})
    with pytest.raises(
        LookupError, match=r"no run has the parameter head\.margn; there are head\.name, seed"
    ):
        compare("t", shown, DEMO, {"a": [gathered("a", x_one=0.1)]})


def test_published_only_rows_stand_in_the_table_and_are_named():
    rows = {
        "a": {"label": "A", "run": "a", "published": {"X": 1.0}},
        "b": {"label": "B", "published": {"X": 2.0}},
    }
    shown = Table.model_validate({"title": "T", "source": "S", "columns": [X], "rows": rows})
    comparison = compare("t", shown, DEMO, {"a": [gathered("a", x_one=0.1)]})
    assert comparison.lines[1].cells[0].published == 2.0
    assert comparison.lines[1].cells[0].missing == ""
    assert "Published only, no run of ours: B." in wording.caveats(comparison)


def test_one_seed_says_that_the_spread_is_unknown_and_the_demo_that_values_mean_nothing():
    said = " ".join(wording.caveats(three((0.1, 0.2, 0.3), (1, 2, 3))))
    assert "One seed (0): the spread over seeds is unknown" in said
    assert "absolute values, and differences from published ones, are not meaningful" in said


def test_at_the_documents_scale_values_are_not_disowned():
    comparison = compare("t", table(X, a={}), Scale(profile="paper"), {"a": [gathered("a", x_one=0.1)]})
    assert not any("not meaningful" in caveat for caveat in wording.caveats(comparison))


def over_seeds(shown: Table, **values: tuple[float | None, ...]) -> Comparison:
    """Rows measured in X by one run for each value."""
    runs = {
        key: [gathered(f"{key}_s{seed}", seed, x_one=value) for seed, value in enumerate(row)]
        for key, row in values.items()
    }
    return compare("t", shown, DEMO, runs)


ABC = table(X, a={"X": 1.0}, b={"X": 2.0}, c={"X": 3.0})


def test_a_row_of_several_seeds_has_their_mean_and_standard_deviation_and_each():
    comparison = over_seeds(ABC, a=(0.1, 0.2), b=(0.3, 0.3), c=(0.4,))
    cells = [line.cells[0] for line in comparison.lines]
    assert [(cell.measured, cell.std) for cell in cells] == [(15.0, 7.07), (30.0, 0.0), (40.0, None)]
    assert cells[0].by_seed == {0: 10.0, 1: 20.0}
    assert cells[0].difference == 14.0
    assert wording.measured(cells[0], 2) == "15.00 ± 7.07"
    assert [cell.best for cell in cells] == [False, False, True]
    assert "One seed only, which makes the interval too narrow: C." in " ".join(wording.caveats(comparison))


def test_a_metric_that_one_seed_lacks_is_missing_with_its_reason():
    cell = over_seeds(ABC, a=(0.1, None), b=(0.3, 0.3), c=(0.4, 0.4)).lines[0].cells[0]
    assert (cell.measured, cell.std, cell.missing, cell.reason) == (None, None, NOT_MEASURABLE, "too few pairs")


def test_the_agreement_of_several_seeds_worked_by_hand():
    # seed 0 orders a < b < c, seed 1 b < a < c, means 15 17.5 35; all of c stands above all others, a and b overlap
    comparison = over_seeds(ABC, a=(0.1, 0.2), b=(0.2, 0.15), c=(0.3, 0.4))
    overall = comparison.overall
    assert overall.tau == 1
    assert overall.seed_taus == [1, pytest.approx(1 / 3)]
    assert overall.interval is not None
    assert (overall.interval.low, overall.interval.high) == (pytest.approx(1 / 3), 1)
    assert overall.resolved is not None
    assert (overall.resolved.concordant, overall.resolved.discordant, overall.resolved.tied_right) == (2, 0, 1)
    said = wording.verdict(comparison)
    assert "Each seed alone gives τ +1.00, +0.33, mean +0.67. The seed bootstrap gives [+0.33, +1.00] in 90% of draws." in said
    assert "separate 2 of 3 published pairs, 2 of them in the published order; 1 are not separated" in said


def test_one_seed_says_nothing_of_an_interval():
    overall = three((0.1, 0.2, 0.3), (1, 2, 3)).overall
    assert (overall.interval, overall.seed_taus, overall.resolved) == (None, [], None)


def claims(*, y: float, better: tuple[str, ...] = ("c",), columns: tuple[str, ...] = ("X", "Y")) -> Comparison:
    """Two rows of two seeds, c above a in X in both seeds; in Y, where less is better, 2 against y."""
    claim = {"text": "C is best", "source": "D, table 1", "better": better, "worse": ["a"], "columns": columns}
    shown = Table.model_validate({**table(X, Y, a={}, c={}).model_dump(), "claims": [claim]})
    runs = {
        "a": [gathered("a", seed, x_one=0.1, y_one=2.0) for seed in (0, 1)],
        "c": [gathered("c", seed, x_one=0.2, y_one=y + seed) for seed in (0, 1)],
    }
    return compare("t", shown, DEMO, runs)


def test_a_claim_holds_in_a_seed_when_every_comparison_does_in_the_columns_sense():
    held = claims(y=0.5)
    assert (held.claims[0].verdict, wording.claim(held.claims[0])) == ("holds", "holds in 2 of 2 seeds")
    assert wording.verdict(held).endswith("Orders stated in words that hold in every seed: 1 of 1.")
    half = claims(y=1.5).claims[0]
    assert half.verdict == "fails"
    assert wording.claim(half) == "holds in 1 of 2 seeds; 1 of 2 comparisons of means hold, not Y: C 2.000, A 2.000"
    assert claims(y=2.0, columns=("X",)).claims[0].verdict == "holds"


def test_a_page_begins_with_what_is_claimed_and_what_was_found():
    shown = page.html(claims(y=0.5), [])
    first = '</h1>\n<p class="verdict">Claimed: C is best. Found: holds in 2 of 2 seeds.</p>'
    assert first in shown
    runs = {"a": [gathered("a", x_one=0.1, y_one=2.0)], "c": [gathered("c", x_one=0.2, y_one=1.0)]}
    one = compare("t", claims(y=0.5).table, DEMO, runs)
    assert "Found: holds in 1 of 1 seed; of one seed the spread is unknown." in page.html(one, [])


def test_a_claim_that_means_hold_and_a_seed_does_not_holds_on_average_alone():
    comparison = claims(y=1.2)
    assert comparison.claims[0].verdict == "on average"
    assert wording.claim(comparison.claims[0]) == "holds in 1 of 2 seeds, and for the means"
    assert wording.claims_held(comparison) == "0 of 1, 1 more on average"


def test_a_claim_about_what_is_not_measured_is_not_checked():
    shown = Table.model_validate(
        {
            "title": "T", "source": "S", "columns": [X], "rows": {"a": {"label": "A", "run": "a"}, "b": {"label": "B"}},
            "claims": [{"text": "A", "source": "S", "better": ["a"], "worse": ["b"]}],
        }
    )  # fmt: skip
    checked = compare("t", shown, DEMO, {"a": [gathered("a", x_one=0.1)]}).claims[0]
    assert wording.claim(checked) == "not checked, because not measured: B in X"


def test_a_column_takes_each_rows_own_quality_method():
    column = {"name": "X", "metric": "s.{quality}_auc"}
    rows = {key: {"label": key, "run": key, "quality": quality} for key, quality in (("a", "norm"), ("b", "joint"))}
    shown = Table.model_validate({"title": "T", "source": "S", "columns": [column], "rows": rows})
    runs = {"a": [gathered("a", norm_auc=0.1)], "b": [gathered("b", joint_auc=0.2, norm_auc=0.3)]}
    assert [line.cells[0].measured for line in compare("t", shown, DEMO, runs).lines] == [10.0, 20.0]
    del runs["a"][0].measured["s"]["norm_auc"]
    with pytest.raises(LookupError, match=r"column X: no s\.norm_auc; s has"):
        compare("t", shown, DEMO, {"a": runs["a"]})


def test_a_number_is_shown_as_it_is_and_the_page_says_which_columns_are_percent():
    speed = {"name": "Images/s", "metric": "s.speed", "unit": "number", "decimals": 1}
    runs = {"a": [gathered("a", x_one=0.5, y_one=0.25, speed=312.54)]}

    def said(*columns: dict[str, object]) -> str:
        return wording.units(compare("t", table(*columns, a={}), DEMO, runs))

    shown = compare("t", table(X, Y, speed, a={}), DEMO, runs).lines[0]
    assert [cell.measured for cell in shown.cells] == [50.0, 0.25, 312.5]
    assert said(X, Y, speed) == "Values are percent; fractions: Y; as named: Images/s."
    assert said(X) == "Values are percent."
    assert said(Y) == "Values are fractions."
    assert said(Y, speed) == "Values are fractions; as named: Images/s."
