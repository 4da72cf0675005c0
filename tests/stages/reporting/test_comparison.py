"""Cells, best values and agreement, against numbers worked by hand."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from stages.config import evaluation
from stages.config.table import Gathered, Scale, Table
from stages.core.metrics.missing import NOT_MEASURABLE, NOT_MEASURED, SETS
from stages.reporting import latex, page, text, wording
from stages.reporting.comparison import Comparison, compare
from stages.reporting.side_by_side import beside

DEMO = Scale(profile="demo")


def gathered(run: str, seed: int = 0, **metrics: float | None) -> Gathered:
    """A run whose suite `s` measured these; None: it could not."""
    return Gathered(
        run=run,
        weights_sha256="0" * 64,
        parameters={"seed": seed, "head.name": run},
        measured={"s": {key: value for key, value in metrics.items() if value is not None}},
        unmeasured={"s": {key.replace("_", "."): "too few pairs" for key in metrics if metrics[key] is None}},
        curves={},
    )


def table(*columns: dict[str, Any], **published: dict[str, float | None]) -> Table:
    return Table.model_validate(
        {
            "title": "T",
            "source": "S",
            "columns": list(columns),
            "rows": {
                name: {"label": name.upper(), "run": name, "published": values}
                for name, values in published.items()
            },
        }
    )


X = {"name": "X", "metric": "s.x_one"}
Y = {"name": "Y", "metric": "s.y_one", "unit": "fraction", "decimals": 3, "higher_is_better": False}


def three(x: tuple[float | None, ...], y: tuple[float | None, ...]) -> Comparison:
    """Three rows, published 1 2 3 in X and 3 2 1 in Y."""
    shown = table(X, Y, a={"X": 1.0, "Y": 3.0}, b={"X": 2.0, "Y": 2.0}, c={"X": 3.0, "Y": 1.0})
    runs = {key: [gathered(key, x_one=x[i], y_one=y[i])] for i, key in enumerate("abc")}
    return compare("t", shown, DEMO, runs)


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
    assert "B, C: not measured: data set mine has no IJB set." in said
    assert "G: not measured: data set mine: hq.sets does not name cfp_fp." in said


def own(pairs: int, *, published: tuple[str, ...] = (), synthetic: bool = False) -> Comparison:
    """Two rows on an lfw.bin of so many pairs, a third on the published set; published 90, 91, 92."""
    columns = [{"name": "LFW", "metric": "hq.lfw"}]
    shown = table(*columns, a={"LFW": 90.0}, b={"LFW": 91.0}, c={"LFW": 92.0})
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


def test_a_set_of_the_published_size_is_compared_once_the_person_says_what_it_is():
    unsaid = own(6000)
    assert unsaid.lines[0].cells[0].difference is None
    assert "datasets.mine.published: [lfw] in params.yaml" in " ".join(wording.caveats(unsaid))
    for compared in (own(6000, published=("lfw",)), own(40, synthetic=True)):
        assert [line.cells[0].difference for line in compared.lines] == [9, 7, 5]
        assert compared.overall.tau == -1
        assert not wording.not_compared(compared)


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
        assert evaluation.SUITES[suite](sets=names).sets == names
        known = literals(evaluation.SUITES[suite].model_fields["sets"].annotation)
        assert set(names) == known or suite in ("hq", "fiqa")  # these take any name


def literals(annotation: Any) -> set[str]:
    """Return all strings of the literals in an annotation."""
    arguments = get_args(annotation)
    return {part for part in arguments if isinstance(part, str)}.union(*(literals(part) for part in arguments))
