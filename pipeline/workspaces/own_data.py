"""People's own data sets, before DVC looks: what they hold is listed, and what would put them at risk is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.base import environment
from stages.core.errors import InputError

PROGRAM = Path("stages/runtime/pin.py")


def look(root: Path) -> None:
    """List the folders that params.yaml names under ``datasets``, so that DVC sees what changed in them.

    Raises:
        ValueError: a data set is both synthetic and a person's own, a folder is not there, or files stand in the way.
    """
    path = root / "params.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return  # DVC says what is wrong with it
    if not isinstance(tree, Mapping) or not roots(tree):
        return
    refuse_both(tree, "params.yaml")
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


def refuse_both(tree: Mapping[str, Any], where: str, synthetic: Mapping[str, Any] | None = None) -> None:
    """Refuse a data set that is drawn and a person's own at once.

    Args:
        tree: params.yaml, as it reads.
        where: the file that has the section ``synthetic``.
        synthetic: that section; that of ``tree`` if it is not given.

    Raises:
        ValueError: there is one; the message says what to remove.
    """
    drawn = (tree.get("synthetic") or {}) if synthetic is None else synthetic
    for name, folder in roots(tree).items():
        if name in drawn:
            raise InputError(
                f"{where}, {name}: it is under `synthetic` (drawn) and datasets.{name}.root is {folder} (a folder of "
                f"yours): remove one of the two, or give the folder a name of its own under `datasets`"
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
