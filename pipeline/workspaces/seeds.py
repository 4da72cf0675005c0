"""Seeds of a training: how `--seeds` is written, which one a run has anyway, what a run is called with another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.runtime import yaml_text


def parse(text: str) -> tuple[int, ...]:
    """Return the seeds of ``--seeds`` in order: a list, a range with both its ends, or both.

    >>> parse("0..4"), parse("10..11,1,7")
    ((0, 1, 2, 3, 4), (1, 7, 10, 11))

    Raises:
        ValueError: it is neither, or names a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?\s*", part)
        if found is None:
            raise InputError(f"--seeds needs 0..4 or 0,1,2; got {text!r}")
        first = int(found[1])
        seeds += range(first, int(found[2] or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text!r} has {'no seed' if not seeds else 'a seed twice'}")
    return tuple(sorted(seeds))


def own(root: Path, project: Mapping[str, Any], run: Mapping[str, Any]) -> int:
    """Return the seed that a run is trained with as it stands.

    Args:
        root: of the project, with its profiles.
        project: params.yaml.
        run: its own parameters.
    """
    # in the order of stages/config/params.py: the run, its recipe, the profile, params.yaml
    layers = [run]
    if run.get("recipe") is not None:
        layers.append(_read(root / f"profiles/recipes/{run['recipe']}.yaml"))
    layers.append(_read(root / f"profiles/{project.get('profile')}.yaml").get("defaults") or {})
    layers.append(project.get("defaults") or {})
    # `resolve` refuses a run that has none anywhere
    return int(next((layer["seed"] for layer in layers if "seed" in layer), 0))


def name(run: str, seed: int, own_seed: int) -> str:
    """Return what a run is called with a seed: with its own, it is the run itself.

    >>> name("arcface", 0, 0), name("arcface", 2, 0)
    ('arcface', 'arcface_s2')
    """
    return run if seed == own_seed else f"{run}_s{seed}"


def row(table: str, key: str, seed: int, first: int) -> str:
    """Return the name in params.yaml of what measures a table's row with a seed: that of the first has the row's.

    >>> row("heads", "arcface", 0, 0), row("heads", "arcface", 2, 0)
    ('heads-arcface', 'heads-arcface-2')
    """
    return f"{table}-{key}" if seed == first else f"{table}-{key}-{seed}"


def _read(path: Path) -> dict[str, Any]:
    # what is missing or wrong in it is for `resolve` to report
    tree = yaml_text.read(path) if path.is_file() else {}
    return tree if isinstance(tree, dict) else {}
