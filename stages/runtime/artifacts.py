"""Paths of all artifacts and how they are written: to a temporary path, then moved, so none is ever half written.

All paths are relative to the repository's root, which is the working directory of every stage.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from stages.core.errors import InputError
from stages.runtime import files, yaml_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

C = TypeVar("C", bound=BaseModel)

DATA = Path("data")
RUNS = Path("runs")
INITIAL = Path("initial")
RESULTS = Path("results")
RESOLVED = Path("resolved")
STATE = Path(os.environ.get("FACET_HOME", ".facet"))
UNPACKED = "unpacked"
"""Beside the data sets under ``data/``."""


def unpacked_folder(dataset: str) -> Path:
    """Folder with ``manifest.parquet``, ``card.json`` and, on request, ``images/IDENTITY/KEY.jpg``."""
    return DATA / UNPACKED / dataset


def backbone_folder(run: str) -> Path:
    """Folder with ``weights.pt``, ``model.json`` and ``program.pt2`` of a trained backbone."""
    return RUNS / run / "backbone"


def initial_folder(run: str) -> Path:
    """Folder with the weights that a run starts from (``stages.initial``), or a file that says it has none."""
    return INITIAL / run


def quality_folder(run: str) -> Path:
    """Folder with ``quality.json`` and, if the method has weights, ``weights.pt``."""
    return RUNS / run / "quality"


def metrics_file(run: str, name: str) -> Path:
    """Metrics of one stage of a run: ``train``, ``quality`` or a suite; flat JSON, rates as fractions."""
    return RESULTS / run / f"{name}.json"


def details_folder(run: str, name: str) -> Path:
    """Folder beside a metrics file: ``details.json`` (options, folds, counts) and curves as CSV."""
    return RESULTS / run / name


def row_file(table: str, row: str) -> Path:
    """Results of one row of a table; ``row`` is its full name, TABLE-ROW."""
    return RESULTS / "tables" / table / "rows" / f"{row}.json"


def report_folder(table: str) -> Path:
    """Folder with ``table.md``, ``table.csv``, ``table.json``, ``table.html`` and its plots."""
    return RESULTS / "tables" / table / "report"


def read_section(path: Path, section: str, config: type[C]) -> C:
    """Return one section of a resolved parameter file as a validated ``config``.

    Raises:
        FileNotFoundError: the file is not there: the stage ``resolve`` writes it.
        ValueError: the section is missing or does not fit, with every field named.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: it is written by the stage `resolve` from params.yaml; run `dvc repro`"
        )
    tree = yaml_text.read_mapping(path)
    if section not in tree:
        there = ", ".join(map(str, tree))
        raise InputError(f"{path} has no section {section!r}, only {there}: run `dvc repro resolve`")
    try:
        return config.model_validate(tree[section])
    except ValidationError as error:
        raise InputError(f"{path}, section {section}: {explain(error)}") from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return a pydantic error as one line: field, expected, got; of an unknown field of ``model``, those there are."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {_wanted(item, model)} (got {item['input']!r})"
        for item in error.errors()
    )


def _wanted(item: ErrorDetails, model: type[BaseModel] | None) -> str:
    if item["type"] != "extra_forbidden" or model is None:
        return item["msg"]
    *above, name = (str(part) for part in item["loc"])
    within: type[BaseModel] | None = model
    for part in above:
        within = _section(within, part) if within else None
    if within is None:
        return item["msg"]
    fields = list(within.model_fields)
    sections = {field: one for field in fields if (one := _section(within, field))}
    deeper = {f"{field}.{inner}": inner for field, one in sections.items() for inner in one.model_fields}
    near = difflib.get_close_matches(name, [*fields, *deeper.values()], n=1, cutoff=0.7)
    meant = [path for path, inner in ({field: field for field in fields} | deeper).items() if near and inner == near[0]]
    guess = f"did you mean {' or '.join(meant)}? " if meant else ""
    return f"no such field; {guess}there are {', '.join(fields)}"


def _section(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """Return the model of a field that is a section of its own, None for any other."""
    found = model.model_fields.get(field)
    options = [] if found is None else [found.annotation, *get_args(found.annotation)]
    return next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; move it to ``path`` on success, else leave ``path`` unchanged."""
    aside = path.with_name(path.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    files.replace_folder(aside, path)


@contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; move it to ``path`` on success."""
    with files.replacing(path) as aside:
        yield aside


def write_json(path: Path, tree: Mapping[str, Any], *, ascii_only: bool = False) -> None:
    """Write JSON that gives readable diffs: indented, keys in the order given, no NaN."""
    with write_file(path) as aside:
        aside.write_text(
            json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=ascii_only) + "\n", encoding="utf-8"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON in UTF-8, or no object.
    """
    try:
        tree = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path} should hold a JSON object, not {type(tree).__name__}")
    return tree


def write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    """Write YAML with keys in the order given."""
    with write_file(path) as aside:
        aside.write_text(yaml_text.dump(dict(tree)), encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterator[Sequence[Any]] | Sequence[Sequence[Any]]) -> None:
    """Write a CSV file with a header line."""
    with write_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
