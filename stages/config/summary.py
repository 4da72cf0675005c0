"""Section `summary` of a run: which of its numbers DVC shows."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Summary(BaseModel, extra="forbid", frozen=True):
    """The numbers of a run that `dvc metrics show` prints."""

    columns: tuple[str, ...] = Field(description="SUITE.KEY, as in the tables' columns: hq.lfw")
