"""Reads params.yaml, resolves each run (defaults <- profile <- recipe <- its own fields) and validates it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stages.config import evaluation as benchmarks
from stages.config import initial as start
from stages.config import shown_columns, training
from stages.config import table as report
from stages.config.summary import Summary
from stages.config.tree import Dataset, RowOfTable, Tree
from stages.core.errors import InputError, UnknownNameError
from stages.core.metrics.missing import SETS
from stages.runtime import pin, plugins, yaml_text
from stages.runtime.artifacts import explain
from stages.runtime.merge import merge
from stages.synthesis import config as synthesis_config

M = TypeVar("M", bound=BaseModel)

PAIRS = tuple(name for name in SETS["fiqa"] if name not in SETS["ijb"])


@dataclass(frozen=True)
class Run:
    """One resolved run: a section for each stage."""

    train: training.Config
    quality: BaseModel
    evaluate: benchmarks.Config


@dataclass(frozen=True)
class Params:
    """All resolved and validated parameters."""

    profile: str
    synthetic: dict[str, synthesis_config.Config]
    datasets: dict[str, Dataset]
    runs: dict[str, Run]
    rows: dict[str, RowOfTable]
    tables: dict[str, report.Table]
    initial: dict[str, start.InitialFolder]

    def measured(self, table: str) -> dict[str, dict[str, str]]:
        """Return, for each measured row of a table, the names of its rows in params.yaml and their runs."""
        return _measured(table, self.rows)

    def summary(self, run: str) -> Summary:
        """Return which numbers of a run DVC shows."""
        return shown_columns.of_run(run, self.rows.items(), self.tables)

    def scale(self, table: str) -> report.Scale:
        """Return the profile, and what is said of the data sets of a table's runs."""
        runs = {run for files in self.measured(table).values() for run in files.values()}
        names = sorted({self.runs[run].evaluate.dataset for run in runs})
        return report.Scale(profile=self.profile, data={name: self.datasets[name].test_data() for name in names})


def load(root: Path = Path()) -> Params:
    """Read params.yaml, the profile it names and the tables it lists.

    Raises:
        FileNotFoundError: params.yaml, a profile or a table is missing.
        ValueError: something in them does not fit; the message names file, field, what was wanted and what came.
        LookupError: a head, backbone, data set, run or table that is not there.
    """
    written = _read_yaml(root / "params.yaml")
    tree = _check(Tree, written, "params.yaml")
    pin.roots_of(written)
    profile_path = root / "profiles" / f"{tree.profile}.yaml"
    profile = _read_yaml(profile_path)
    defaults_of_profile = profile.get("defaults") or {}
    if set(profile) - {"defaults"} or not isinstance(defaults_of_profile, dict):
        raise InputError(f"{profile_path}: wanted only `defaults`, a mapping, got {', '.join(map(str, profile))}")
    defaults = merge(tree.defaults, defaults_of_profile)
    for name, dataset in tree.datasets.items():
        if dataset.is_synthetic and name not in tree.synthetic:
            raise UnknownNameError(
                f"params.yaml, datasets.{name}: give its `root`, or describe it under `synthetic` "
                f"(there: {', '.join(sorted(tree.synthetic)) or 'none'})"
            )
    runs = {
        name: resolve_run(name, own, under(own, defaults, root / "profiles/recipes"), tree.datasets)
        for name, own in tree.runs.items()
    }
    start.check(tree.initial, {name: run.train.initial for name, run in runs.items()})
    tables = {name: _check(report.Table, _read_yaml(root / "tables" / f"{name}.yaml"), f"tables/{name}.yaml")
              for name in tree.tables}
    _check_rows(tree, tables)
    _check_seeds(tables, tree.rows, runs)
    return Params(
        tree.profile, dict(tree.synthetic), dict(tree.datasets), runs, dict(tree.rows), tables, dict(tree.initial)
    )


def under(own: Mapping[str, Any], defaults: Mapping[str, Any], recipes: Path) -> dict[str, Any]:
    """Return the base of a run: the defaults, with the sections of its ``recipe`` in their place.

    Raises:
        LookupError: there is no such recipe.
    """
    name = own.get("recipe")
    if name is None:
        return dict(defaults)
    there = sorted(path.stem for path in recipes.glob("*.yaml"))
    if name not in there:
        raise UnknownNameError(f"no recipe {name!r}: there are {', '.join(there)}")
    # whole sections: half of one published schedule and half of another would be nobody's
    return dict(defaults) | _read_yaml(recipes / f"{name}.yaml")


def resolve_run(name: str, own: Mapping[str, Any], defaults: Mapping[str, Any], datasets: Mapping[str, Dataset]) -> Run:
    """Return one run with all inherited values filled in, and every field validated."""
    where = f"params.yaml, runs.{name}"
    head = own.get("head")
    if not isinstance(head, Mapping) or "name" not in head or "dataset" not in own:
        raise InputError(f"{where}: a run must give its own `dataset` and `head: {{name: ...}}`, got {dict(own)}")
    if str(own["dataset"]) not in datasets:
        raise UnknownNameError(f"{where}: no data set {own['dataset']!r}: there are {', '.join(sorted(datasets))}")
    merged = merge(defaults, {key: value for key, value in own.items() if key != "recipe"})
    measured_on = _measured_on(merged.pop("benchmarks", None) or {}, own["dataset"], datasets, where)
    quality = merged.pop("quality", {"name": "feature_norm"})
    train = _check(training.Config, merged, where)
    for name_of_section in ("head", "backbone", "objective"):
        check_plugin(f"{name_of_section}s", getattr(train, name_of_section), where)
    if train.shares is not None and set(train.shares) != set(datasets[own["dataset"]].sources):
        sources = ", ".join(datasets[own["dataset"]].sources) or "none, it is a single one"
        raise InputError(
            f"{where}, shares: wanted one per source of {own['dataset']} ({sources}), got {', '.join(train.shares)}"
        )
    _check_validation(train, datasets, f"{where}, validation")
    evaluate = _check(benchmarks.Config, measured_on, where)
    if datasets[evaluate.dataset].is_synthetic:
        _check_synthetic_sets(evaluate.hq.sets, PAIRS, f"{where}, hq")
        _check_synthetic_sets(evaluate.fiqa.sets, SETS["fiqa"], f"{where}, fiqa")
    return Run(train, check_plugin("quality", quality, where), evaluate)


def _measured_on(
    written: Mapping[str, Any], trained_on: str, datasets: Mapping[str, Dataset], where: str
) -> dict[str, Any]:
    """Return the section `benchmarks` of a run, with what the data set that it is measured on says of itself."""
    if not isinstance(written, dict) or not isinstance(name := written.get("dataset", trained_on), str):
        raise InputError(f"{where}, benchmarks: wanted a mapping, with the name of a data set as `dataset`")
    if name not in datasets:
        there = ", ".join(sorted(datasets))
        raise UnknownNameError(f"{where}, benchmarks.dataset: no data set {name!r}: there are {there}")
    if name != trained_on and datasets[name].is_synthetic:
        # no stage of this run would wait until its test sets are rendered
        raise InputError(
            f"{where}, benchmarks.dataset: {name} is synthetic; a run is measured on the data set that it is trained "
            f"on, {trained_on}, or on a folder of yours"
        )
    if "dataset" in datasets[name].benchmarks:
        raise InputError(f"params.yaml, datasets.{name}.benchmarks: `dataset` is for runs; remove it")
    return merge(written, datasets[name].benchmarks) | {"dataset": name}


def _check_validation(train: training.Config, datasets: Mapping[str, Dataset], where: str) -> None:
    """Refuse test sets for validation that are not there, as far as that is known before they are read."""
    wanted = train.validation
    _check(benchmarks.Hq, {"sets": wanted.sets, "fusion": wanted.fusion}, where)
    name = wanted.dataset or train.dataset
    if name not in datasets:
        there = ", ".join(sorted(datasets))
        raise UnknownNameError(f"{where}.dataset: no data set {name!r}: there are {there}")
    if datasets[name].is_synthetic:
        if name != train.dataset:
            raise InputError(f"{where}.dataset: {name} is synthetic; wanted {train.dataset}, or a folder of yours")
        _check_synthetic_sets(wanted.sets, PAIRS, where)
        _check_synthetic_sets(wanted.suites.fiqa.sets, SETS["fiqa"], f"{where}, fiqa")


def _check_synthetic_sets(names: tuple[str, ...], there: tuple[str, ...], where: str) -> None:
    """Refuse a set that `synthesize` does not render; what a person's folder holds is seen when it is read."""
    unknown = [name for name in names if name not in there]
    if unknown:
        raise InputError(f"{where}: synthetic data has no set {', '.join(unknown)}: there are {', '.join(there)}")


def check_plugin(kind: str, section: object, where: str) -> BaseModel:
    """Return a plugin's section validated as that plugin's own config."""
    field = f"{where}, {kind.removesuffix('s')}"
    if not isinstance(section, Mapping):
        raise InputError(f"{field}: wanted a mapping with `name`, got {section!r}")
    if "name" not in section:
        raise InputError(f"{field}: `name` is missing; there are {', '.join(plugins.names(kind))}")
    config: type[BaseModel] = plugins.load(kind, str(section["name"])).Config
    return _check(config, section, field)


def _check_rows(tree: Tree, tables: Mapping[str, report.Table]) -> None:
    """Refuse rows on which params.yaml and the table files disagree."""
    for name, row in tree.rows.items():
        if row.run not in tree.runs:
            raise UnknownNameError(
                f"params.yaml, rows.{name}: no run {row.run!r}: there are {', '.join(sorted(tree.runs))}"
            )
        if row.table not in tables:
            raise UnknownNameError(
                f"params.yaml, rows.{name}: no table {row.table!r} under `tables`: "
                f"there are {', '.join(sorted(tables)) or 'none'}"
            )
        if name.split("-")[0] != row.table:
            raise InputError(f"params.yaml, rows.{name}: its name should begin with {row.table}-")
    for table_name, table in tables.items():
        measured = {key: row.run for key, row in table.rows.items() if row.run is not None}
        for key, run in measured.items():
            if run not in tree.runs:
                there = ", ".join(sorted(tree.runs))
                raise UnknownNameError(f"tables/{table_name}.yaml, rows.{key}: no run {run!r}: there are {there}")
        for column in table.columns:
            _check_suite(table_name, column)
        first = {key: names.get(f"{table_name}-{key}") for key, names in _measured(table_name, tree.rows).items()}
        if measured != first:
            raise InputError(
                f"tables/{table_name}.yaml names the rows {measured}, but `rows` in params.yaml has {first} for it: "
                f"add or remove `{table_name}-ROW: {{table: {table_name}, run: RUN}}` until they agree"
            )


def _measured(table: str, rows: Mapping[str, RowOfTable]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, row in sorted(rows.items(), key=lambda item: int("".join(item[0].split("-")[2:]) or 0)):
        if row.table == table:
            found.setdefault(name.split("-")[1], {})[name] = row.run
    return found


def _check_suite(table: str, column: report.Column) -> None:
    if column.suite not in report.SUITES:
        raise UnknownNameError(
            f"tables/{table}.yaml, column {column.name}: no suite {column.suite!r} in {column.metric!r}: "
            f"there are {', '.join(report.SUITES)}"
        )


def _check_seeds(tables: Mapping[str, report.Table], rows: Mapping[str, RowOfTable], runs: Mapping[str, Run]) -> None:
    """Refuse a row whose runs differ in more than their seed, or share one."""
    for table in tables:
        for measured in _measured(table, rows).values():
            (first, *others) = measured.items()
            for name, run in others:
                different = sorted(_differences(runs[first[1]], runs[run]))
                if different != ["train.seed"]:
                    found = ", ".join(different) or "nothing"
                    raise InputError(
                        f"params.yaml, rows.{name}: run {run} should differ from {first[1]} of {first[0]} "
                        f"in train.seed alone, they differ in {found}"
                    )
            seeds = [runs[run].train.seed for run in measured.values()]
            if len(set(seeds)) < len(seeds):
                raise InputError(f"params.yaml, rows {', '.join(measured)}: seeds should differ, they are {seeds}")


def _differences(left: Run, right: Run) -> set[str]:
    """Return the fields in which two runs differ, as dotted names."""
    flat = [dict(_leaves({"train": run.train.model_dump(mode="json"), "quality": run.quality.model_dump(mode="json"),
                          "benchmarks": run.evaluate.model_dump(mode="json")})) for run in (left, right)]
    missing = object()
    return {key for key in flat[0] | flat[1] if flat[0].get(key, missing) != flat[1].get(key, missing)}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    return yaml_text.read_mapping(path)


def _check(model: type[M], tree: Mapping[str, Any], where: str) -> M:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error, model)}") from error
