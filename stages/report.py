"""A table: its columns, rows and published numbers, and how measured and published are set side by side."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Column(BaseModel, extra="forbid", frozen=True):
    """One column, in the source's words."""

    name: str
    metric: str = Field(pattern=r"^\w+\.\S+$", description="SUITE.KEY of results/RUN/SUITE.json")
    unit: str = Field("percent", pattern="^(percent|fraction)$")
    higher_is_better: bool = True


class Row(BaseModel, extra="forbid", frozen=True):
    """One row: a run, or published numbers alone."""

    label: str
    run: str | None = Field(None, description="the run that measures it; null: published only")
    published: dict[str, float | None] = Field(default_factory=dict, description="by column name, in the column's unit")


class Table(BaseModel, extra="forbid", frozen=True):
    """One table of the documents: one file under ``tables/``."""

    title: str
    source: str = Field(description="document, table and commit the published numbers were copied from")
    note: str = ""
    columns: tuple[Column, ...]
    rows: dict[str, Row]
    ablation: tuple[str, ...] = Field((), description="parameters that tell the rows apart: head.name, head.margin")
