"""Published pretrained models, from models.yaml: their published scores, and where to get them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.core.errors import InputError, UnknownNameError
from stages.core.networks.checkpoint_keys import FamilyName
from stages.runtime import yaml_text
from stages.runtime.artifacts import explain

LIST = Path("models.yaml")
Suite = Literal["hq", "ijb", "lq"]


class SourceOfModels(BaseModel, extra="forbid", frozen=True):
    """A document that publishes models."""

    document: str
    family: FamilyName
    licence: str


class PublishedModel(BaseModel, extra="forbid", frozen=True):
    """One pretrained model."""

    source: str = Field(description="a name under `sources`")
    architecture: str
    method: str
    dataset: str = Field(description="data set it was trained on")
    family: FamilyName | None = Field(default=None, description="checkpoint family, if it is not its source's")
    file: str | None = Field(default=None, description="file name at the source, if it is known")
    obtain: str = Field(description="where to get the file, by hand")
    sha256: str | None = Field(description="SHA-256 of the file, if it is known", pattern=r"^[0-9a-f]{64}$")
    scores: dict[str, float] = Field(description="published, percent, by SUITE.METRIC")


class Published(BaseModel, extra="forbid", frozen=True):
    """models.yaml."""

    tolerance: dict[Suite, float] = Field(description="allowed difference for the same weights, in percentage points")
    sources: dict[str, SourceOfModels]
    models: dict[str, PublishedModel]

    @model_validator(mode="after")
    def _check_names(self) -> Published:
        for name, model in self.models.items():
            if model.source not in self.sources:
                raise InputError(f"{name}: no source {model.source!r}: there are {', '.join(self.sources)}")
            odd = [key for key in model.scores if key.partition(".")[0] not in self.tolerance]
            if odd:
                raise InputError(f"{name}: scores are named SUITE.METRIC of {', '.join(self.tolerance)}, got {odd}")
        return self

    def entry(self, name: str) -> PublishedModel:
        """Return the entry of the model ``name``.

        Raises:
            LookupError: there is none; the message lists those there are.
        """
        if name not in self.models:
            raise UnknownNameError(f"{LIST} has no {name!r}: there are {', '.join(self.models)}")
        return self.models[name]

    def family(self, name: str) -> FamilyName:
        """Return the checkpoint family of a model's file."""
        model = self.entry(name)
        return model.family or self.sources[model.source].family

    def depth(self, name: str) -> int | None:
        """Return the number of layers in a network's name, as 50 of IR-50; None if the name has none."""
        match = re.search(r"(?:IR|IResNet)-(\d+)", self.entry(name).architecture)
        return int(match[1]) if match else None

    def by_checksum(self, sha256: str) -> str | None:
        """Return the name of the model whose file has this checksum; None if there is none."""
        return next((name for name, model in self.models.items() if model.sha256 == sha256), None)


def load(path: Path = LIST) -> Published:
    """Return the list.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it does not fit, with every field named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is part of the repository; start facet in its folder")
    try:
        return Published.model_validate(yaml_text.read(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error
