"""The workspace of the papers' tables: generates its params.yaml from ablations/runs.yaml and one scale.

``ablations/runs.yaml`` says what each row trains, in the papers' words: data set ``ms1mv2``, net ``r100``.
``ablations/SCALE.yaml`` says what these are at one scale: a small synthetic set and a narrow network, or the real ones.
Both make the params.yaml of a side workspace under ``.facet/ablations``, with a run for each seed, where the same graph
runs as in the project. A run that several tables name is one run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pipeline.base import workspace
from pipeline.base.workspace import Workspace
from pipeline.workspaces import initial_weights, own_data, seeds, snapshot
from stages.core.errors import InputError, UnknownNameError
from stages.runtime import pin, yaml_text
from stages.runtime.merge import merge

RUNS = "ablations/runs.yaml"
WORDS = ("data", "net", "at", "recipe")
"""Keys of a run in ablations/runs.yaml that params.yaml does not have."""
SECTIONS = {"base", "profile", "data", "nets", "synthetic", "datasets", "all", "tables", "runs"}
FEW = 4
"""Up to this many tables are named individually."""


@dataclass(frozen=True)
class Ablations:
    """A request: which tables, at which scale, with which seeds."""

    scale: str
    seeds: Mapping[str, Sequence[int]]
    """Of each table, in the tables' order, beside the seed that a run has anyway."""

    @property
    def tables(self) -> list[str]:
        """The tables."""
        return list(self.seeds)

    @property
    def title(self) -> str:
        """The request in words."""
        named = ", ".join(self.tables) if len(self.tables) <= FEW else f"{len(self.tables)} tables"
        return f"{named} ({self.scale})"


@contextmanager
def opened(root: Path, asked: Ablations, tree: Mapping[str, Any]) -> Iterator[tuple[Workspace, bool]]:
    """Update the workspace and hold it for the duration of the block, as ``snapshot.opened`` does.

    Args:
        root: of the project.
        asked: which tables.
        tree: what ``params`` returns for them.
    """
    where = workspace.beside(root, "ablations", asked.scale)
    generated = {"params.yaml": tree, **snapshot.graph(root, tree)}
    with snapshot.opened(root, where.folder, lambda: generated) as alone:
        yield where, alone


def tables(root: Path, scale: str) -> list[str]:
    """Return the tables that a scale can run: those it lists, or all that name runs of ablations/runs.yaml."""
    listed = resolved(root, scale).get("tables")
    if listed:
        return list(listed)
    runs = _read(root, RUNS)
    found = []
    for path in sorted((root / "tables").glob("*.yaml")):
        named = _runs_of(root, path.stem)
        if named and all(run in runs for run in named.values()):
            found.append(path.stem)
    return found


def lineage(root: Path, scale: str) -> dict[str, dict[str, Any]]:
    """Return the settings of a scale and of those it builds on (``base``), the base first.

    Raises:
        LookupError: there is no such scale.
        ValueError: one has sections that nobody reads, or they build on one another in a circle.
    """
    found = {scale: _one(root, scale)}
    while base := found[scale].get("base"):
        if base in found:
            raise InputError(f"ablations/{scale}.yaml and its base {base} build on each other")
        scale = base
        found[scale] = _one(root, scale)
    return dict(reversed(found.items()))


def resolved(root: Path, scale: str) -> dict[str, Any]:
    """Return the settings in ablations/SCALE.yaml, merged over the scale it builds on.

    Raises:
        LookupError: there is no such scale.
        ValueError: it has sections that nobody reads.
    """
    return reduce(merge, lineage(root, scale).values())


def _one(root: Path, scale: str) -> dict[str, Any]:
    there = sorted(path.stem for path in (root / "ablations").glob("*.yaml") if path.stem != "runs")
    if scale not in there:
        raise UnknownNameError(f"no scale {scale!r} in ablations/: choose one of {', '.join(there) or 'none'}")
    tree = _read(root, f"ablations/{scale}.yaml")
    if odd := sorted(set(tree) - SECTIONS):
        raise InputError(f"ablations/{scale}.yaml: unknown {', '.join(odd)}; allowed: {', '.join(sorted(SECTIONS))}")
    return tree


def params(root: Path, asked: Ablations) -> dict[str, Any]:
    """Return the workspace's params.yaml.

    Raises:
        LookupError: a table, run, data set or net that is not there; the message names those there are.
    """
    project, scales = _read(root, "params.yaml"), lineage(root, asked.scale)
    at = reduce(merge, scales.values())
    # a scale may have runs of its own, for tables that are no paper's
    described = {**_read(root, RUNS), **at.get("runs", {})}
    project["profile"] = at.get("profile", asked.scale)
    rows: dict[str, dict[str, str]] = {}
    runs: dict[str, dict[str, Any]] = {}
    for table, more in asked.seeds.items():
        for row, name in _runs_of(root, table).items():
            plain = _run(name, described, at, list(scales), f"tables/{table}.yaml, row {row}")
            # the row's file names the run itself, so that its own seed is always the first one
            own = seeds.own(root, project, plain)
            for seed in dict.fromkeys([own, *more]):
                run = seeds.name(name, seed, own)
                rows[seeds.row(table, row, seed, own)] = {"table": table, "run": run}
                runs[run] = deepcopy(plain) | ({} if seed == own else {"seed": seed})
    where = f"a run of {RUNS} starts from it"
    trained = initial_weights.with_models(
        runs, lambda name: _run(name, described, at, list(scales), where) if name in described else None
    )
    runs = {name: dict(run) for name, run in trained.items()}
    datasets = _datasets(root, project, at, {run["dataset"] for run in runs.values()}, asked.scale)
    return {
        **project,
        "synthetic": {name: entry for name, entry in at.get("synthetic", {}).items() if name in datasets},
        "datasets": datasets,
        "recognition": {**project.get("recognition", {}), **_judges(runs)},
        "initial": initial_weights.section(runs, root / "models"),
        "runs": runs,
        "rows": rows,
        "tables": {table: {} for table in asked.tables},
    }


def _judges(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the runs whose networks judge the quality scores of others, as named by a run's suite `fiqa`."""
    named = {name for run in runs.values() for name in _within(run, "benchmarks", "fiqa", "recognition") or ()}
    return {name: {"folder": f"runs/{name}/backbone"} for name in sorted(named & set(runs))}


def _within(tree: Mapping[str, Any], *keys: str) -> Any:
    below: Any = tree
    for key in keys:
        below = (below or {}).get(key)
    return below


def _runs_of(root: Path, table: str) -> dict[str, str]:
    """Return the run of each row of a table that has one."""
    path = root / "tables" / f"{table}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(entry.stem for entry in path.parent.glob("*.yaml"))) or "none"
        raise UnknownNameError(f"no table {table!r}: there are {there}")
    rows = _read(root, f"tables/{table}.yaml").get("rows") or {}
    return {key: row["run"] for key, row in rows.items() if row.get("run") is not None}


def _run(
    name: str, described: Mapping[str, Any], at: Mapping[str, Any], scales: Sequence[str], where: str
) -> dict[str, Any]:
    """Return a run as params.yaml has it: the papers' words replaced and the scale's overrides applied.

    Args:
        name: of the run.
        described: what ablations/runs.yaml says.
        at: what the scale says.
        scales: it and those it builds on, the first one first.
        where: who names the run.
    """
    if name not in described:
        raise UnknownNameError(f"{where}: no run {name!r} in {RUNS}: there are {', '.join(sorted(described))}")
    said = described[name]
    own = {key: value for key, value in said.items() if key not in WORDS}
    own["dataset"] = _named(at, "data", said.get("data"), name, scales[-1])
    if "net" in said:
        own["backbone"] = merge(_named(at, "nets", said["net"], name, scales[-1]), said.get("backbone") or {})
    if "recipe" in said and "paper" in scales:
        own["recipe"] = said["recipe"]
    run = merge(at.get("all", {}), own)
    for scale in scales:
        run = merge(run, (said.get("at") or {}).get(scale) or {})
    return run


def _named(at: Mapping[str, Any], section: str, word: str | None, run: str, scale: str) -> Any:
    known = at.get(section, {})
    if word not in known:
        there = ", ".join(sorted(known)) or "none"
        place = f"`{section}` of ablations/{scale}.yaml"
        raise UnknownNameError(f"{RUNS}, {run}: no {word!r} under {place}: there are {there}")
    return known[word]


def _datasets(
    root: Path, project: Mapping[str, Any], at: Mapping[str, Any], wanted: set[str], scale: str
) -> dict[str, dict[str, Any]]:
    """Return the data sets that the runs need; entries of params.yaml override those of the scale."""
    pin.refuse_both(own_data.roots(project), project.get("synthetic") or {}, "params.yaml")
    described = {**at.get("datasets", {}), **(project.get("datasets") or {})}
    pin.refuse_both(own_data.roots({"datasets": described}), at.get("synthetic", {}), f"ablations/{scale}.yaml")
    known = {name: {} for name in at.get("synthetic", {})} | described
    missing = sorted(wanted - set(known))
    if missing:
        raise UnknownNameError(
            f"scale {scale} trains on {', '.join(missing)}: give folders under `datasets` in params.yaml, as in "
            f"`{missing[0]}: {{root: FOLDER}}`, a folder as it was downloaded"
        )
    with_sources = wanted | {source for name in wanted for source in (known[name] or {}).get("sources") or ()}
    found = snapshot.absolute_roots(root, {name: known[name] for name in sorted(with_sources & set(known))})
    for name, entry in found.items():
        if entry.get("root") and not Path(entry["root"]).is_dir():
            raise UnknownNameError(f"scale {scale}: data set {name} should be at {entry['root']}, which does not exist")
    return found


def parse_seeds(root: Path, scale: str, named: Sequence[str], said: Sequence[str]) -> Ablations:
    """Parse the seeds of a command line: ``0,1,2`` for every table, ``qgface_ablation=0..2`` for one.

    Raises:
        LookupError: a table that is not there.
        ValueError: seeds that cannot be read.
    """
    there = tables(root, scale)
    if odd := [name for name in named if name not in there]:
        raise UnknownNameError(
            f"scale {scale} has no table {', '.join(odd)}: its tables are {', '.join(there) or 'none'}"
        )
    chosen = list(named) or there
    everywhere: tuple[int, ...] = ()
    of_one: dict[str, tuple[int, ...]] = {}
    for text in said:
        table, equals, listed = text.rpartition("=")
        if not equals:
            everywhere = seeds.parse(listed)
        elif table not in chosen:
            raise UnknownNameError(f"--seeds {text}: table {table!r} is not among those requested: {', '.join(chosen)}")
        else:
            of_one[table] = seeds.parse(listed)
    return Ablations(scale, {table: of_one.get(table, everywhere) for table in chosen})


def _read(root: Path, name: str) -> dict[str, Any]:
    path = root / name
    if not path.is_file():
        raise UnknownNameError(f"{name} is missing")
    return yaml_text.read_mapping(path)
