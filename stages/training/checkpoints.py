"""Checkpoints of an unfinished training run: complete or absent, the last few kept, none left when it succeeds.

Under .facet/checkpoints/KEY, where the key is a digest of parameters, records and code, there is for each
``step-NNNNNNNNNN`` a folder of

    checkpoint.json         what was trained, by which versions, and the SHA-256 of each file beside it
    state.pt                what all hold alike: backbone and average, optimiser, loss scale, position, history
    rank-RRRRR-of-SSSSS.pt  what one process holds: its rows of the class centres and what belongs to them, its queues

Any number of processes may go on from it: each reads the rows it needs. The folder is filled aside and moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.runtime import artifacts, progress
from stages.training import checkpoint_files
from stages.training.checkpoint_files import first_line
from stages.training.distributed import Processes

STATE = "state.pt"
MANIFEST = "checkpoint.json"
KEPT = 2


@dataclass(frozen=True)
class Snapshot:
    """The state of a training run at one step, as one process holds it."""

    step: int
    shared: dict[str, Any]
    """State that is the same in all processes; the first process writes it."""
    rows: dict[str, Tensor]
    """Tensors of this process's classes, one row each."""
    begin: int
    """Number of the first row's class."""
    num_classes: int
    own: dict[str, Tensor] = field(default_factory=dict)
    """Other state that differs between processes; another number of processes resumes with the first one's."""
    best_step: int | None = None
    """The step of the best validation so far, whose checkpoint is kept as long as this one."""


class Checkpoints:
    """The last states of one training run, under ``.facet/checkpoints/KEY``, where no other run finds them."""

    def __init__(
        self,
        key: str,
        about: Mapping[str, Any] | None = None,
        processes: Processes | None = None,
        kept: int | None = None,
    ) -> None:
        self.folder = artifacts.STATE / "checkpoints" / key
        self.about = {"key": key, **(about or {})}
        self.processes = processes or Processes()
        self.kept = _number("FACET_CHECKPOINTS_KEPT", KEPT) if kept is None else kept

    def prepare(self) -> None:
        """Check at the start, and not after the first hour, that checkpoints can be written.

        Raises:
            OSError: it cannot, in one process at least.
        """
        error: OSError | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f"probe-{self.processes.rank}.partial"
            probe.write_bytes(b"0")
            probe.unlink()
        except OSError as caught:
            error = caught
        if self.processes.any(error is not None)[0]:
            raise OSError(
                f"{self.folder} cannot be written ({error or 'by another process'}), checkpoints go there: make room, "
                "make it writable, or set FACET_HOME to another folder"
            ) from error

    def save(self, snapshot: Snapshot) -> None:
        """Write a state to a temporary folder, move it, and remove superfluous ones.

        Raises:
            OSError: it cannot be written; the checkpoints before it are as they were.
        """
        error: OSError | None = None
        try:
            self._write(snapshot)
        except OSError as caught:
            error = caught
        # all processes go on, or none does: the others would wait for ever
        if self.processes.any(error is not None)[0]:
            self._give_up(snapshot, error)
        try:
            if self.processes.is_first:
                self._finish(snapshot)
        except OSError as caught:
            error = caught
        if self.processes.any(error is not None)[0]:
            self._give_up(snapshot, error)

    def last(self, rows: range | None = None, device: str | torch.device = "cpu") -> Snapshot | None:
        """Return the last complete state, or None.

        Args:
            rows: classes to read the rows of; None: all.
            device: where the tensors are put.

        Raises:
            ValueError: there are states, and none can be read; a training never starts over in silence.
        """
        steps = self.steps()
        if not self.processes.alike(int(hashlib.sha256(str(steps).encode()).hexdigest()[:15], 16)):
            raise InputError(
                f"the processes see different checkpoints under {self.folder}: it should be on a file system that all "
                "their machines share; set FACET_HOME to such a folder"
            )
        for step in reversed(steps):
            snapshot, problem = self._try_read(step, rows, device)
            # all resume from one step: who cannot read a checkpoint takes the others along to the one before
            if not self.processes.any(snapshot is None)[0]:
                return snapshot
            reason = f"checkpoint {self.path(step)} is damaged ({problem or 'another process cannot read it'})"
            if step == steps[0]:
                raise InputError(f"{reason}: delete {self.folder} to restart this training run")
            if self.processes.is_first:
                progress.say(f"{reason}: resuming from the previous one")
        return None

    def _try_read(self, step: int, rows: range | None, device: str | torch.device) -> tuple[Snapshot | None, str]:
        """Return a state, or None and why not; of its files this process checks its share."""
        try:
            return self.read(step, rows, device, share=True), ""
        except Exception as error:  # torch, zip and pickle raise many kinds for a damaged file
            return None, first_line(error)

    def read(
        self, step: int, rows: range | None = None, device: str | torch.device = "cpu", *, share: bool = False
    ) -> Snapshot:
        """Return one state, after checking that its files are as written.

        Args:
            step: of the state.
            rows: classes to read the rows of; None: all.
            device: where the tensors are put.
            share: check every N-th file only, because each of N processes checks others.

        Raises:
            ValueError: a file is missing or has changed.
        """
        folder = self.path(step)
        manifest = artifacts.read_json(folder / MANIFEST)
        first, every = (self.processes.rank, self.processes.size) if share else (0, 1)
        for name in sorted(manifest["files"])[first::every]:
            if artifacts.sha256(folder / name) != manifest["files"][name]:
                raise InputError(f"{name} differs from what was written")
        shared = torch.load(folder / STATE, map_location=device, weights_only=True)
        wanted = rows if rows is not None else range(manifest["num_classes"])
        parts = [torch.load(folder / name, map_location="cpu", mmap=True, weights_only=True)
                 for name in sorted(manifest["files"]) if name != STATE]  # fmt: skip
        mine = parts[self.processes.rank if len(parts) == self.processes.size else 0]
        return Snapshot(
            step, shared, _take(parts, wanted, device), wanted.start, manifest["num_classes"],
            {name: value.to(device).clone() for name, value in mine["own"].items()}, manifest["best_step"],
        )  # fmt: skip

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, ascending."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-" + "[0-9]" * 10))

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint after ``step`` steps."""
        return self.folder / f"step-{step:010d}"

    def clear(self) -> None:
        """Remove the states of a training run that has succeeded."""
        if not self.processes.is_first:
            return
        aside = self.folder.with_name(f"{self.folder.name}.partial")
        # what a kill leaves half removed must not be found: it would pass for damaged, and stop the next run
        if self.folder.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            self.folder.replace(aside)
        if aside.is_dir():
            shutil.rmtree(aside)

    def _aside(self, step: int) -> Path:
        return self.path(step).with_suffix(".partial")

    def _write(self, snapshot: Snapshot) -> None:
        aside = self._aside(snapshot.step)
        aside.mkdir(parents=True, exist_ok=True)
        name = f"rank-{self.processes.rank:05d}-of-{self.processes.size:05d}.pt"
        checkpoint_files.save({"begin": snapshot.begin, "rows": snapshot.rows, "own": snapshot.own}, aside / name)
        if self.processes.is_first:
            checkpoint_files.save(snapshot.shared, aside / STATE)

    def _finish(self, snapshot: Snapshot) -> None:
        """Write the manifest of all processes' files, move the folder into place, remove superfluous ones."""
        aside, size = self._aside(snapshot.step), self.processes.size
        names = [STATE, *(f"rank-{rank:05d}-of-{size:05d}.pt" for rank in range(size))]
        tree = {
            **self.about, "step": snapshot.step, "best_step": snapshot.best_step, "num_classes": snapshot.num_classes,
            "processes": size, "torch": torch.__version__,
            "files": {name: checkpoint_files.take_digest(aside / name) for name in names},
        }  # fmt: skip
        artifacts.write_json(aside / MANIFEST, tree)
        checkpoint_files.sync(aside / MANIFEST)
        final = self.path(snapshot.step)
        shutil.rmtree(final, ignore_errors=True)  # a damaged one that was passed over
        aside.replace(final)
        checkpoint_files.sync(self.folder)
        self._prune(snapshot.step)

    def _prune(self, step: int) -> None:
        """Keep the last few and the best step of each; delete the rest, and later ones, which are damaged."""
        steps = self.steps()
        kept = set([earlier for earlier in steps if earlier <= step][-self.kept :])
        kept |= {best for earlier in kept if (best := self._best_for(earlier)) is not None}
        for superfluous in set(steps) - kept:
            shutil.rmtree(self.path(superfluous))

    def _best_for(self, step: int) -> int | None:
        try:
            best: int | None = artifacts.read_json(self.path(step) / MANIFEST)["best_step"]
        except (OSError, ValueError, KeyError):
            return None  # damaged: it will not be gone on from
        return best

    def _give_up(self, snapshot: Snapshot, error: OSError | None) -> None:
        if self.processes.is_first:
            shutil.rmtree(self._aside(snapshot.step), ignore_errors=True)
        steps = self.steps()
        before = f"the one after step {steps[-1]} is in place" if steps else "there is none before it"
        raise OSError(
            f"checkpoint {self.path(snapshot.step)} cannot be written ({error or 'another process failed'}); {before}: "
            "make room or make the folder writable, then run again to resume"
        ) from error


def key_of(**parts: Any) -> str:
    """Return a digest that identifies a training run: parameters, data, and the code that is loaded now.

    Code counts, because weights that two versions made between them would be neither's.
    """
    text = json.dumps({"parts": parts, "code": code(), "torch": torch.__version__}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code() -> dict[str, str]:
    """Return the SHA-256 of every loaded source file of ours, by module."""
    return {
        name: artifacts.sha256(Path(module.__file__))
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] == "stages" and getattr(module, "__file__", None) and module.__file__
    }


def _take(parts: list[Any], wanted: range, device: str | torch.device) -> dict[str, Tensor]:
    """Return the ``wanted`` rows of each tensor, assembled from the parts that hold them."""
    taken: dict[str, list[Tensor]] = {name: [] for name in parts[0]["rows"]}
    for part in parts:
        for name, rows in part["rows"].items():
            begin = max(wanted.start - part["begin"], 0)
            end = max(wanted.stop - part["begin"], 0)
            taken[name].append(rows[begin:end].to(device))
    return {name: torch.cat(pieces) for name, pieces in taken.items()}


def _number(name: str, default: int) -> int:
    given = os.environ.get(name, str(default))
    if not given.isdigit() or int(given) < 1:
        raise InputError(f"{name} should be a whole number of at least 1, got {given!r}")
    return int(given)
