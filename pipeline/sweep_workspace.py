"""A sweep's workspace: the project as it is now with other runs, beside it, on the same cache.

DVC's templates read params.yaml, so runs that shall not stand there need another one. The workspace is a folder
under ``.facet/sweeps`` with a snapshot of the project's files, a params.yaml of the sweep's runs alone, and the
stage `spread` behind them. It shares DVC's cache with the project and with other sweeps: what any of them made is
restored, not run again. Two sweeps never meet in a file; the same sweep again finds its checkpoints.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline import environment, sweep
from pipeline.sweep import Variant

SPREAD = "spread"
DESCRIPTION = "sweep.yaml"
GENERATED = ("dvc.yaml", "params.yaml")
NOT_COPIED = ("results/", "docs/", "tests/", "benchmarks/", ".dvc/")
OF_TABLES = ("row", "tabulate", "track")
CODE = ("artifacts", "core/spread", "program", "report", "spread")


@dataclass(frozen=True)
class Sweep:
    """What is asked for, in words and in full."""

    title: str
    variants: Sequence[Variant]
    columns: Sequence[Mapping[str, Any]]

    @property
    def axes(self) -> list[str]:
        """Names of what varies: ``run``, if there are several, and the parameters."""
        several = len({variant.base for variant in self.variants}) > 1
        paths = dict.fromkeys(path for variant in self.variants for path in variant.settings)
        return [*(["run"] if several or not paths else []), *paths]

    @property
    def key(self) -> str:
        """A name for its workspace: the same sweep again goes on where it was."""
        text = json.dumps(self.description(), sort_keys=True)
        return f"{self.variants[0].base}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def description(self) -> dict[str, Any]:
        """Return what the stage `spread` reads."""
        return {
            "title": self.title,
            "axes": self.axes,
            "columns": [dict(column) for column in self.columns],
            "variants": [
                {
                    "label": label(variant),
                    "settings": {"run": variant.base, **variant.settings},
                    "runs": dict(variant.runs),
                }
                for variant in self.variants
            ],
        }


def label(variant: Variant) -> str:
    """Return a variant's name for people.

    >>> label(Variant("arcface", {"head.margin": 0.3}, {}))
    'arcface head.margin=0.3'
    """
    return " ".join([variant.base, *(f"{path}={value}" for path, value in variant.settings.items())])


def folder(root: Path, asked: Sweep) -> Path:
    """Return where the workspace of a sweep is."""
    return environment.state_folder(root).resolve() / "sweeps" / asked.key


@contextmanager
def opened(root: Path, asked: Sweep) -> Iterator[tuple[Path, bool]]:
    """Bring the workspace up to date and keep it so while the block runs.

    Yields:
        The folder, and whether it could be brought up to date: not while another process runs the same sweep, whose
        code must not change under it.
    """
    path = folder(root, asked)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        if alone:
            _refresh(root, path, asked)
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield path, alone


def _refresh(root: Path, path: Path, asked: Sweep) -> None:
    copied = _copy(root, path)
    tree = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    _write_yaml(path / "params.yaml", sweep_params(root, tree, asked.variants))
    _write_yaml(path / "dvc.yaml", _graph(root, asked))
    _write_yaml(path / DESCRIPTION, asked.description())
    _write(path / ".dvc/config", "")
    _write(path / ".dvc/config.local", _dvc_config(root))
    _write(path / ".files.json", json.dumps(copied))


def sweep_params(root: Path, tree: Mapping[str, Any], variants: Sequence[Variant]) -> dict[str, Any]:
    """Return params.yaml with the runs of a sweep in place of its own, and without tables."""
    runs = {
        name: sweep.parameters(tree["runs"][variant.base], variant.settings, seed)
        for variant in variants
        for name, seed in variant.runs.items()
    }
    datasets = {name: dict(entry) for name, entry in tree.get("datasets", {}).items()}
    for entry in datasets.values():
        if entry.get("root"):
            entry["root"] = str((root / entry["root"]).resolve())
    more = {"datasets": datasets} if datasets else {}
    return {**tree, **more, "runs": runs, "rows": {}, "tables": {}}


def _graph(root: Path, asked: Sweep) -> dict[str, Any]:
    """Return the root's dvc.yaml without what makes tables, with the stage that makes the sweep's."""
    graph: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    suites = sorted({str(column["metric"]).partition(".")[0] for column in asked.columns})
    runs = [run for variant in asked.variants for run in variant.runs]
    metrics = [f"results/{run}/{suite}.json" for run in runs for suite in suites]
    code = [f"stages/{name}.py" for name in CODE if (root / f"stages/{name}.py").is_file()]
    stages = {name: stage for name, stage in graph["stages"].items() if name not in OF_TABLES}
    stages[SPREAD] = {
        "cmd": f"python -m stages.spread {DESCRIPTION}",
        "deps": [DESCRIPTION, *metrics, *code],
        "outs": [f"results/{SPREAD}"],
        "meta": {"device": "cpu"},
    }
    return {**graph, "stages": stages}


def _copy(root: Path, path: Path) -> list[str]:
    """Copy what git knows or would, where it differs; remove what is gone. Return what was copied."""
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode:
        raise RuntimeError(f"a sweep copies what git knows, and git says: {answer.stderr.strip()}")
    wanted = [
        name
        for name in answer.stdout.split("\0")
        if name and name not in GENERATED and _is_wanted(name) and (root / name).is_file()
    ]
    for name in wanted:
        source, target = root / name, path / name
        if not _same(source, target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    listing = path / ".files.json"
    before = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else []
    for name in set(before) - set(wanted):
        (path / name).unlink(missing_ok=True)
    return wanted


def _is_wanted(name: str) -> bool:
    return not name.startswith(NOT_COPIED) and not name.endswith("dvc.lock")


def _same(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _dvc_config(root: Path) -> str:
    """Return DVC's settings: the project's cache, linked where that is possible, and git out of it."""
    cache = cache_folder(root)
    return (
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        f'[cache]\n    dir = {cache}\n    type = "reflink,hardlink,copy"\n'
    )


def cache_folder(root: Path) -> Path:
    """Return where the project's DVC keeps its cache: ``cache.dir`` of its configuration, else ``.dvc/cache``."""
    from configobj import ConfigObj  # type: ignore[import-untyped]

    found = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        path = root / ".dvc" / name
        section = ConfigObj(str(path)).get("cache", {}) if path.is_file() else {}
        if "dir" in section:
            found = path.parent / Path(section["dir"]).expanduser()
    return found.resolve()


def _write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    _write(path, yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True))


def _write(path: Path, text: str) -> None:
    """Write a file if it differs: a new time would make DVC hash it again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
