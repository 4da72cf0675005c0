"""People's own data sets, before DVC looks: what they hold is listed, and what would put them at risk is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base import environment
from stages.core.errors import InputError
from stages.runtime import yaml_text

PROGRAM = Path("stages/runtime/set_pins.py")


def look(root: Path) -> None:
    """List the folders that params.yaml names under ``datasets``, so that DVC sees what changed in them.

    Raises:
        ValueError: a data set is both synthetic and a person's own, a folder is not there, or files stand in the way.
    """
    path = root / "params.yaml"
    try:
        tree = yaml_text.read(path)
    except (OSError, InputError):
        return  # DVC says what is wrong with it
    if not isinstance(tree, Mapping) or not (roots(tree) or _pins_are_lost(root)):
        return
    from stages.runtime import pin  # late: most projects have no folder of their own

    pin.refuse_both(roots(tree), tree.get("synthetic") or {}, "params.yaml")
    if (root / PROGRAM).is_file():
        _pin(root)


def roots(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders that are named under ``datasets``, by data set."""
    described = tree.get("datasets")
    entries = described.items() if isinstance(described, Mapping) else ()
    return {
        str(name): str(entry["root"])
        for name, entry in entries
        if isinstance(entry, Mapping) and entry.get("root") is not None
    }


def _pins_are_lost(root: Path) -> bool:
    """Return whether a resolved run lacks what DVC misses even where all data are synthetic.

    That is pins/RUN.yaml and initial/RUN.
    """
    runs = root / "resolved/runs"
    return any(
        not (root / "pins" / path.name).is_file() or not (root / "initial" / path.stem).is_dir()
        for path in runs.glob("*.yaml")
    )


def _pin(root: Path) -> None:
    """Run the program that lists; a large folder takes a minute the first time, so its progress is passed on."""
    command = [sys.executable, "-m", ".".join(PROGRAM.with_suffix("").parts)]
    last = ""
    with subprocess.Popen(
        command, cwd=root, env=environment.for_children(), stderr=subprocess.PIPE, text=True, errors="replace"
    ) as program:
        for line in program.stderr or ():
            last = line.strip() or last
            if not last.startswith("error: "):
                sys.stderr.write(line)
                sys.stderr.flush()
    if program.returncode:
        raise InputError(last.removeprefix("error: ") or f"{' '.join(command)} ended with {program.returncode}")
