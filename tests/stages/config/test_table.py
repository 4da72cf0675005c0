"""A table as written is refused with the names there are, before anything runs."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from stages import row
from stages.config.table import SUITES, Table
from tests.fake_results import TABLE
from tests.support import ROOT


def test_every_table_of_the_repository_is_valid_and_rests_on_a_source():
    paths = sorted((ROOT / "tables").glob("*.yaml"))
    assert paths
    for path in paths:
        table = Table.model_validate(yaml.safe_load(path.read_text()))
        assert table.source


def test_a_published_value_without_a_column_is_refused_with_the_columns_there_are():
    rows = {"a": {"label": "A", "published": {"LWF": 99.0}}}
    with pytest.raises(
        ValidationError, match="row a has a published value for 'LWF', the columns are LFW, IJB-B"
    ):
        Table.model_validate({**TABLE, "rows": rows})


def test_two_columns_or_rows_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="columns should be unique, repeated: LFW"):
        Table.model_validate({**TABLE, "columns": [TABLE["columns"][0]] * 2, "rows": {"a": {"label": "A"}}})
    with pytest.raises(ValidationError, match="labels should be unique, repeated: A"):
        Table.model_validate({**TABLE, "rows": {"a": {"label": "A"}, "b": {"label": "A"}}})


def test_published_numbers_of_the_first_table_are_the_papers():
    """face-recognition.md, section 6.2: AdaFace README.md at c60eaa78, R100 on MS1MV2."""
    rows = yaml.safe_load((ROOT / "tables/heads.yaml").read_text())["rows"]
    assert rows["adaface"]["published"] == {
        "LFW": 99.82, "CFP-FP": 98.49, "CPLFW": 93.53, "CALFW": 96.08, "AgeDB": 98.05, "HQ AVG": 97.19,
        "IJB-B TAR at FAR 1e-4": 95.67, "TinyFace Rank-1": 68.21,
    }  # fmt: skip
    assert rows["arcface"]["published"] == {"IJB-B TAR at FAR 1e-4": 94.25}
    assert rows["cosface"]["published"] == {"IJB-B TAR at FAR 1e-4": 94.80}


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"better": ["adafaec"]}, "names the row 'adafaec'; there are arcface, cosface, adaface"),
        ({"columns": ["LWF"]}, "names the column 'LWF'; there are LFW, IJB-B"),
        ({"better": ["arcface"]}, "has arcface on both sides"),
    ],
)
def test_a_claim_about_what_is_not_in_the_table_is_refused_with_what_is(claim: dict[str, list[str]], words: str):
    whole = {"text": "AdaFace is best", "source": "S", "better": ["adaface"], "worse": ["arcface"], **claim}
    with pytest.raises(ValidationError, match=words):
        Table.model_validate({**TABLE, "claims": [whole]})


def test_suites_of_columns_are_those_that_rows_gather_and_their_averages():
    assert set(SUITES) == {"train", *row.SUITES, "averages"}


def test_a_column_that_asks_for_a_quality_method_refuses_a_measured_row_that_has_none():
    columns = [{"name": "LFW", "metric": "fiqa.lfw_{quality}_edc_auc_fmr1e-02"}]
    rows = {"a": {"label": "A", "run": "a", "quality": "cr_fiqa"}, "b": {"label": "B"}}
    assert Table.model_validate({**TABLE, "columns": columns, "rows": rows}).rows["b"].run is None
    rows["b"]["run"] = "b"
    with pytest.raises(ValidationError, match="row b needs a `quality`"):
        Table.model_validate({**TABLE, "columns": columns, "rows": rows})


def test_the_primary_column_is_one_of_the_table():
    with pytest.raises(ValidationError, match="primary is the column 'LWF'; there are LFW, IJB-B"):
        Table.model_validate({**TABLE, "primary": "LWF"})
