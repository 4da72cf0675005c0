"""Finds a model by name: a run of the graph, an imported checkpoint, or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import UnknownNameError
from stages.runtime import artifacts

IMPORTED = Path("models")
"""Folder of imported checkpoints, each in the format of ``runs/RUN/backbone``."""


@dataclass(frozen=True)
class ModelHere:
    """The paths of a model's files."""

    name: str
    backbone: Path
    """Holds model.json and weights.pt."""
    quality: Path | None
    """Holds quality.json, if a quality method was trained for it."""
    results: Path
    """Holds SUITE/details.json of its evaluations."""


def find(name: str) -> ModelHere:
    """Return the model called ``name``: a run, a folder of ``models/``, or the path of a folder with a model.json.

    Raises:
        LookupError: there is none; the message lists those there are.
    """
    if (artifacts.backbone_folder(name) / "model.json").is_file():
        quality = artifacts.quality_folder(name)
        return ModelHere(
            name,
            artifacts.backbone_folder(name),
            quality if (quality / "quality.json").is_file() else None,
            artifacts.RESULTS / name,
        )
    for folder in (IMPORTED / name, Path(name)):
        if (folder / "model.json").is_file():
            quality = folder / "quality"
            method = quality if (quality / "quality.json").is_file() else None
            return ModelHere(folder.name, folder, method, folder / "results")
    known = ", ".join(names()) or "none yet; `dvc repro` trains those of params.yaml, `facet import` takes a checkpoint"
    raise UnknownNameError(f"no model {name!r}: there are {known}")


def names() -> list[str]:
    """Return the names of the trained and the imported models on this machine."""
    trained = sorted(path.parts[-3] for path in artifacts.RUNS.glob("*/backbone/model.json"))
    imported = sorted(path.parts[-2] for path in IMPORTED.glob("*/model.json"))
    return trained + [name for name in imported if name not in trained]
