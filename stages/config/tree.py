"""params.yaml as it is written: data sets, runs, tables and their rows, before profiles and recipes are merged in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from stages.config import table as report
from stages.config.initial import InitialFolder
from stages.datasets import insightface_rec
from stages.synthesis import config as synthesis_config

# a dot or a dash would break `${runs.x}` in dvc.yaml
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
# TABLE-ROW, and for further seeds TABLE-ROW-1, TABLE-ROW-2
RowName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*-[a-z][a-z0-9_]*(-[0-9]+)?$")]


class Dataset(BaseModel, extra="forbid", frozen=True):
    """A data set: ``data/NAME/train`` and ``data/NAME/eval``."""

    root: str | None = Field(None, description="folder of yours, as downloaded; null: the synthetic set of this name")
    sources: tuple[Name, ...] = Field((), description="data sets with a root that are trained on as one; root is null")
    same: str | None = Field(
        None, description="CSV with a column per source and a row per person who is in several; null: nobody is"
    )
    unpack: insightface_rec.Config = insightface_rec.Config()
    benchmarks: dict[str, Any] = Field(default_factory=dict, description="override the profile's for runs on it")
    published: tuple[str, ...] = Field(
        (), description="those of its test sets that are the published ones of their names: lfw; they are compared"
    )
    stand_in: bool = Field(
        False, description="its test sets stand in for the published ones, as synthetic ones do: the order of rows is"
        " compared, values mean nothing"
    )

    def test_data(self) -> report.TestData:
        """Return which of its test sets are the published ones."""
        return report.TestData(synthetic=self.is_synthetic, stand_in=self.stand_in, published=self.published)

    @property
    def is_synthetic(self) -> bool:
        """Whether `synthesize` renders it: it is neither a folder nor merged of several."""
        return self.root is None and not self.sources


class RowOfTable(BaseModel, extra="forbid", frozen=True):
    """A row of a table and its run: tables/TABLE.yaml has its label and its published numbers."""

    table: Name
    run: Name


class Recognition(BaseModel, extra="forbid", frozen=True):
    """A network, besides the run's own, that judges quality scores."""

    folder: str = Field(description="runs/RUN/backbone or models/NAME")


class Tree(BaseModel, extra="forbid", frozen=True):
    """params.yaml as it is written."""

    profile: Name
    synthetic: dict[Name, synthesis_config.Config] = {}
    datasets: dict[Name, Dataset]
    defaults: dict[str, Any] = Field(default_factory=dict, description="of every run; the profile overrides them")
    runs: dict[Name, dict[str, Any]]
    initial: dict[Name, InitialFolder] = Field(
        default_factory=dict, description="by run, the folder of the model that it starts from (runs.RUN.initial)"
    )
    rows: dict[RowName, RowOfTable] = {}
    tables: dict[Name, dict[str, Any]] = {}
    recognition: dict[Name, Recognition] = Field(
        default_factory=dict, description="networks that also judge every run's quality scores; DVC tracks them"
    )
