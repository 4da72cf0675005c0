"""Data model of a table as written under ``tables/``, and of the row files that the stage ``row`` writes."""

from __future__ import annotations

import datetime
from typing import Any

from pydantic import BaseModel, Field, RootModel, model_validator

from stages.core.errors import InputError

Scalar = float | int | str | None
QUALITY = "{quality}"
# what a column's metric may begin with: stages that measure, and means over them
SUITES = ("train", "quality", "hq", "ijb", "lq", "fiqa", "averages")


class Column(BaseModel, extra="forbid", frozen=True):
    """One column, in the source's words."""

    name: str = Field(min_length=1)
    metric: str = Field(
        pattern=r"^\w+\.\S+$", description="SUITE.KEY of results/RUN/SUITE.json; {quality} is the row's `quality`"
    )
    unit: str = Field(
        "percent",
        pattern="^(percent|fraction|number)$",
        description="shown as: percent is the metric times 100; number: images per second, GiB",
    )
    higher_is_better: bool = True
    decimals: int = Field(2, ge=0, le=6, description="shown; what is compared is rounded first")

    @property
    def suite(self) -> str:
        """The suite that measures it."""
        return self.metric.partition(".")[0]

    def key(self, row: Row) -> str:
        """Return the key of this column in the suite's file, for a row.

        >>> column = Column(name="LFW", metric="fiqa.lfw_{quality}_edc_auc_fmr1e-02")
        >>> column.key(Row(label="CR-FIQA", quality="cr_fiqa"))
        'lfw_cr_fiqa_edc_auc_fmr1e-02'
        """
        return self.metric.partition(".")[2].replace(QUALITY, row.quality or "")


class Row(BaseModel, extra="forbid", frozen=True):
    """One row: a run, or published numbers alone."""

    label: str = Field(min_length=1)
    run: str | None = Field(None, description="the run that measures it; null: published only")
    quality: str | None = Field(None, description="quality method, if columns' metrics have {quality}")
    published: dict[str, float | None] = Field(
        default_factory=dict, description="by column name, in its unit; null if no paper gives it"
    )


class Claim(BaseModel, extra="forbid", frozen=True):
    """An order that a paper states: in every column each ``better`` row is above each ``worse`` one."""

    text: str = Field(min_length=1, description="the statement, in a sentence")
    source: str = Field(min_length=1, description="paper and section")
    better: tuple[str, ...] = Field(min_length=1, description="keys of rows; better in the column's direction")
    worse: tuple[str, ...] = Field(min_length=1, description="keys of rows")
    columns: tuple[str, ...] = Field((), description="names of columns; none: all of them")


class Finding(BaseModel, extra="forbid", frozen=True):
    """What a table shows, as somebody wrote it about results of one day."""

    text: str = Field(min_length=1, description="what it shows, in a paragraph")
    date: datetime.date = Field(description="of the results")
    digest: str = Field(pattern="^[0-9a-f]{16}$", description="of the measured cells: `digest` of table.json")


class Table(BaseModel, extra="forbid", frozen=True):
    """One table of the papers: one file under ``tables/``."""

    title: str = Field(min_length=1)
    source: str = Field(description="paper, table and commit from which the published numbers were copied")
    note: str = Field("", description="the table's question, in a paragraph")
    findings: dict[str, Finding] = Field(default_factory=dict, description="by scale: what its results showed")
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    ablation: tuple[str, ...] = Field(
        (), description="parameters that distinguish the rows: head.name, head.margin"
    )
    primary: str | None = Field(None, description="the column that decides which row is best; null: the first")
    claims: tuple[Claim, ...] = Field((), description="orders stated in words, with or without numbers")

    @model_validator(mode="after")
    def _check_names(self) -> Table:
        names = [column.name for column in self.columns]
        _refuse_twice("columns", names)
        _refuse_twice("rows' labels", [row.label for row in self.rows.values()])
        for key, row in self.rows.items():
            for name in row.published:
                if name not in names:
                    raise InputError(
                        f"row {key} has a published value for {name!r}, the columns are {', '.join(names)}"
                    )
            if row.run is not None and row.quality is None and any(QUALITY in c.metric for c in self.columns):
                raise InputError(f"row {key} needs a `quality`, because a column's metric has {QUALITY}")
        _refuse_unknown("primary is the column", (self.primary,) if self.primary else (), names)
        for claim in self.claims:
            _refuse_unknown(f"claim {claim.text!r} names the column", claim.columns, names)
            _refuse_unknown(f"claim {claim.text!r} names the row", (*claim.better, *claim.worse), list(self.rows))
            if both := set(claim.better) & set(claim.worse):
                raise InputError(f"claim {claim.text!r} has {', '.join(sorted(both))} on both sides")
        return self


class TestData(BaseModel, extra="forbid", frozen=True):
    """Which of a data set's test sets are the published ones."""

    synthetic: bool = Field(False, description="rendered: the order of rows is compared, and pages say so")
    stand_in: bool = Field(False, description="stands in for the published sets, as synthetic data does")
    published: tuple[str, ...] = Field((), description="names of its sets that are the published ones")


class Scale(BaseModel, extra="forbid", frozen=True):
    """The size and the data of a table's runs; `resolve` writes it beside the table."""

    profile: str = Field(description="of params.yaml: demo, paper")
    data: dict[str, TestData] = Field(default_factory=dict, description="by data set of its runs")


class Measured(RootModel[dict[str, dict[str, str]]]):
    """The files with a table's results: by row, the names TABLE-ROW[-N] and their runs, which differ in seed."""


class Gathered(BaseModel, extra="forbid", frozen=True):
    """results/tables/TABLE/rows/TABLE-ROW[-N].json: all results of one run for one row."""

    run: str
    weights_sha256: str = Field(description="of the backbone that every suite measured")
    parameters: dict[str, Any] = Field(description="section `train` of the run, flattened: head.margin")
    measured_on: str = Field("", description="data set of the test sets; empty: the one it was trained on")
    switches: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="by suite: versions of its protocols, and its options, flattened"
    )
    measured: dict[str, dict[str, Scalar]] = Field(description="by suite; rates are fractions")
    counts: dict[str, dict[str, dict[str, int]]] = Field(
        default_factory=dict, description="by suite and test set: pairs, templates and the like"
    )
    groups: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="by set of pairs with groups: error rates of each, and how they were read"
    )
    unmeasured: dict[str, dict[str, str]] = Field(description="by suite, place in its details: why")
    curves: dict[str, dict[str, list[dict[str, Scalar]]]] = Field(description="by suite and file")


def _refuse_twice(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{what} should be unique, repeated: {', '.join(twice)}")


def _refuse_unknown(what: str, names: tuple[str, ...], there: list[str]) -> None:
    unknown = [name for name in names if name not in there]
    if unknown:
        raise InputError(f"{what} {', '.join(map(repr, unknown))}; there are {', '.join(there)}")
