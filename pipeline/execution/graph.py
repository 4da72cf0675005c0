"""The DVC graph as typed stages: dependencies, which stages are stale and why, and what a target means.

``read`` asks DVC once, in one process; everything else here is pure. DVC says what changed, not what
follows from it: ``Graph.stale`` adds what is downstream. That is an over-estimate, because an upstream
stage may write the same bytes again; `dvc repro --single-item` skips such a stage when its turn comes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pipeline.execution import dvc_patches, lock_damage
from pipeline.workspaces import own_data
from stages.core.errors import InputError, UnknownNameError
from stages.runtime import gpu_lock, yaml_text

RESOLVE = "resolve"
TABULATE = "tabulate"
TRAIN = "train_backbone"


@dataclass(frozen=True)
class Stage:
    """One stage of the graph, in its current state in the workspace."""

    address: str
    """DVC's name for it, from the root: ``graph/train_backbone/dvc.yaml:train_backbone@adaface``."""
    name: str
    """Its short name: ``train_backbone@adaface``."""
    upstream: tuple[str, ...]
    """Addresses of the stages whose outputs it reads."""
    reasons: tuple[str, ...]
    """Why DVC itself finds it stale; empty if it is up to date."""
    running: bool = False
    """Whether another process is working on it."""
    always: bool = False
    """Whether it has ``always_changed``; it then counts as stale only downstream of a stale stage."""
    needs_device: bool = True
    """False if dvc.yaml says ``meta: {device: cpu}``."""

    @property
    def kind(self) -> str:
        """The name without the key: ``train_backbone``."""
        return self.name.partition("@")[0]

    @property
    def key(self) -> str:
        """The part after the ``@``: ``adaface``; empty for a stage without a key."""
        return self.name.partition("@")[2]


@dataclass(frozen=True)
class Graph:
    """All stages by address, in an order in which they could run."""

    stages: Mapping[str, Stage]

    @cached_property
    def tables(self) -> list[str]:
        """Names of the tables that the graph makes."""
        return sorted(stage.key for stage in self.stages.values() if stage.kind == TABULATE and stage.key)

    @cached_property
    def runs(self) -> list[str]:
        """Names of the runs that the graph trains."""
        return sorted(stage.key for stage in self.stages.values() if stage.kind == TRAIN and stage.key)

    def closure(self, addresses: Iterable[str]) -> list[Stage]:
        """Return the stages at ``addresses`` and all they depend on, in an order in which they could run."""
        wanted: set[str] = set()
        todo = list(addresses)
        while todo:
            address = todo.pop()
            if address not in wanted:
                wanted.add(address)
                todo.extend(self.stages[address].upstream)
        return [stage for address, stage in self.stages.items() if address in wanted]

    def select(self, targets: Sequence[str]) -> list[Stage]:
        """Return the stages that ``targets`` mean and all they depend on; all stages if there is no target.

        A target is a stage's name or address, a name without its key (all stages of that kind), a table, or a
        run (all that is trained and measured of it).

        Raises:
            LookupError: a target is none of these; the message names similar ones.
        """
        if not targets:
            return list(self.stages.values())
        return self.closure(address for target in targets for address in self._meant_by(target))

    def _meant_by(self, target: str) -> list[str]:
        found = [stage.address for stage in self.stages.values() if target in (stage.name, stage.address)]
        found = found or [stage.address for stage in self.stages.values() if stage.kind == target]
        found = found or [s.address for s in self.stages.values() if s.kind == TABULATE and s.key == target]
        if not found and target in self.runs:
            found = [stage.address for stage in self.stages.values() if self.run_of(stage) == target]
        if not found:
            names = {name for stage in self.stages.values() for name in (stage.name, stage.kind)}
            names |= {*self.tables, *self.runs}
            near = difflib.get_close_matches(target, names, n=3) or sorted(
                {s.kind for s in self.stages.values()}
            )
            raise UnknownNameError(
                f"no stage, table or run {target!r}: did you mean {', '.join(near)}? `facet status` lists all"
            )
        return found

    def stale(self, stages: Iterable[Stage] | None = None) -> dict[str, tuple[str, ...]]:
        """Return the reasons for each stale stage among ``stages`` (default: all), by address, in order.

        A stage that asks to run always counts only when something it needs is stale, or it never ran.
        """
        found: dict[str, tuple[str, ...]] = {}
        for address, stage in self.stages.items():
            behind = [self.stages[above].name for above in stage.upstream if above in found]
            reasons = (*stage.reasons, *(f"needs {name}" for name in behind))
            if stage.running:
                reasons = ("is running now", *reasons)
            if reasons:
                found[address] = reasons
        if stages is None:
            return found
        asked = {stage.address for stage in stages}
        return {address: reasons for address, reasons in found.items() if address in asked}

    def tables_of(self, stage: Stage) -> list[str]:
        """Return the tables to which ``stage`` contributes."""
        return [table for table, addresses in self._by_table.items() if stage.address in addresses]

    def run_of(self, stage: Stage) -> str | None:
        """Return the run that ``stage`` belongs to, or None."""
        return stage.key if stage.key in self.runs else None

    @cached_property
    def _by_table(self) -> dict[str, set[str]]:
        return {
            stage.key: {above.address for above in self.closure([stage.address])}
            for stage in self.stages.values()
            if stage.kind == TABULATE and stage.key
        }


def num_gpus(root: Path, stage: Stage) -> int:
    """Return how many GPUs a stage needs at once: the number of processes that it will start for its run."""
    path = root / "resolved" / "runs" / f"{stage.key}.yaml"
    if stage.kind != TRAIN or not path.is_file():
        return 1
    section = yaml_text.read(path).get("train")
    return gpu_lock.processes(int(section.get("processes", 1)) if isinstance(section, Mapping) else 1)


def read(root: Path) -> Graph:
    """Read the graph and what is stale through DVC; ``root`` must be the working directory.

    Waits while another process holds DVC's lock (which none does while its stage runs).

    Raises:
        ValueError: dvc.yaml or params.yaml cannot be read (the message is DVC's), or a person's data would be at risk.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from dvc.stage import PipelineStage

    if Path.cwd() != root:
        raise InputError(f"the working directory should be {root}, got {Path.cwd()}: DVC names stages relative to it")
    own_data.look(root)
    try:
        repo = Repo(str(root), _wait_for_lock=True)
        with lock_repo(repo):
            edges = repo.index.graph
            found = [stage for stage in edges if isinstance(stage, PipelineStage)]
            above = {
                stage: [s for s in edges.successors(stage) if isinstance(s, PipelineStage)] for stage in found
            }
            writing = dvc_patches.paths_being_written(Path(repo.tmp_dir))
            order = TopologicalSorter({stage: above[stage] for stage in _by_address(found)}).static_order()
            names = _short_names(found)
            stages = [_typed(stage, names[stage.addressing], above[stage], writing) for stage in order]
        repo.close()
    except DvcException as error:
        raise InputError(lock_damage.sentence(root) or _message(error)) from error
    return Graph({stage.address: stage for stage in stages})


def _typed(stage: Any, name: str, above: Sequence[Any], writing: Mapping[str, int]) -> Stage:
    from dvc.lock import LockError

    running = any(out.fs_path in writing for out in stage.outs)
    try:
        changes = [] if stage.frozen else stage.status(check_updates=False).get(stage.addressing, [])
    except LockError:
        # DVC lets nobody look at what is just being written
        changes = [] if running else ["one of its inputs is being written"]
    always = bool(stage.always_changed or stage.is_callback)
    reasons = [
        reason for change in changes for reason in _reasons(change) if not (always and reason == ALWAYS)
    ]
    return Stage(
        address=stage.addressing,
        name=name,
        upstream=tuple(sorted(other.addressing for other in above)),
        reasons=tuple(reasons),
        running=running,
        always=always,
        needs_device=(stage.meta or {}).get("device") != "cpu",
    )


ALWAYS = "always changed"


def _reasons(change: str | Mapping[str, Any]) -> list[str]:
    """Turn DVC's status of one stage into sentences: ``params.yaml modified``."""
    if isinstance(change, str):
        return [change]
    sentences = []
    for entries in change.values():
        for path, state in entries.items():
            if isinstance(state, Mapping):
                sentences += [f"{path}:{key} {what}" for key, what in state.items()]
            else:
                sentences.append(f"{path} {state}")
    return sentences


def _by_address(stages: Iterable[Any]) -> list[Any]:
    return sorted(stages, key=lambda stage: str(stage.addressing))


def _short_names(stages: Sequence[Any]) -> dict[str, str]:
    """Map addresses to stage names; if two files use the same name, it is prefixed with the folder."""
    counts: dict[str, int] = {}
    for stage in stages:
        counts[stage.name] = counts.get(stage.name, 0) + 1
    return {
        stage.addressing: stage.name
        if counts[stage.name] == 1
        else f"{Path(stage.path_in_repo).parent.as_posix().replace('/', '.')}.{stage.name}"
        for stage in stages
    }


def _message(error: BaseException) -> str:
    """Return DVC's message on one line, including the reason that it hides behind `from`."""
    parts = [" ".join(str(error).split())]
    if error.__cause__ is not None:
        parts.append(" ".join(str(error.__cause__).split()))
    return ": ".join(part for part in parts if part)
