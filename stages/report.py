"""A table as it is written under ``tables/``, and a row of it as the stage ``row`` gathers it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, model_validator

Scalar = float | int | str | None


class Column(BaseModel, extra="forbid", frozen=True):
    """One column, in the source's words."""

    name: str = Field(min_length=1)
    metric: str = Field(pattern=r"^\w+\.\S+$", description="SUITE.KEY of results/RUN/SUITE.json")
    unit: str = Field(
        "percent", pattern="^(percent|fraction)$", description="shown as: percent is the metric times 100"
    )
    higher_is_better: bool = True
    decimals: int = Field(2, ge=0, le=6, description="shown; what is compared is rounded first")


class Row(BaseModel, extra="forbid", frozen=True):
    """One row: a run, or published numbers alone."""

    label: str = Field(min_length=1)
    run: str | None = Field(None, description="the run that measures it; null: published only")
    published: dict[str, float | None] = Field(
        default_factory=dict, description="by column name, in its unit; null where no document has it"
    )


class Table(BaseModel, extra="forbid", frozen=True):
    """One table of the documents: one file under ``tables/``."""

    title: str = Field(min_length=1)
    source: str = Field(description="document, table and commit the published numbers were copied from")
    note: str = ""
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    ablation: tuple[str, ...] = Field(
        (), description="parameters that tell the rows apart: head.name, head.margin"
    )

    @model_validator(mode="after")
    def _check_names(self) -> Table:
        names = [column.name for column in self.columns]
        _refuse_twice("columns", names)
        _refuse_twice("rows' labels", [row.label for row in self.rows.values()])
        for key, row in self.rows.items():
            for name in row.published:
                if name not in names:
                    raise ValueError(
                        f"row {key} has a published value for {name!r}, the columns are {', '.join(names)}"
                    )
        return self


class Scale(BaseModel, extra="forbid", frozen=True):
    """How large the runs of a table were; `resolve` writes it beside the table."""

    profile: str = Field(description="of params.yaml: demo, paper")


class Gathered(BaseModel, extra="forbid", frozen=True):
    """results/tables/TABLE/rows/TABLE-ROW.json: all that one run says about one row."""

    run: str
    weights_sha256: str = Field(description="of the backbone that every suite measured")
    parameters: dict[str, Any] = Field(description="section `train` of the run, flattened: head.margin")
    measured: dict[str, dict[str, Scalar]] = Field(description="by suite; rates are fractions")
    unmeasured: dict[str, dict[str, str]] = Field(description="by suite, place in its details: why")
    curves: dict[str, dict[str, list[dict[str, Scalar]]]] = Field(description="by suite and file")


def _refuse_twice(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} should differ, there are two of {', '.join(twice)}")
