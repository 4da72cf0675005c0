"""The runs of a sweep: what `facet run --set runs.x.head.m=0.3,0.4 --seeds 0..4` trains. Pure.

A run's name follows from what it is, not from the sweep that asks for it: sweeps that share a setting share its
results, a run without settings and with its own seed is the project's run itself, and a row that is saved to
params.yaml finds them all made.
"""

from __future__ import annotations

import copy
import fnmatch
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.workspaces import seeds as seeds_of
from stages.core.errors import InputError, UnknownNameError
from stages.runtime import yaml_text

SYMBOLS = {"head.m": "head.margin", "head.s": "head.scale"}
"""Parameters by the symbols of the papers."""
MAX_NAME = 60
MAX_RUNS = 1000

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """One ``--set``: a parameter of some runs, and its values."""

    runs: str
    """Name or pattern of the runs: ``arcface``, ``*``."""
    path: str
    """Dotted, below the run: ``head.margin``."""
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Variant:
    """One combination of values of one run, trained with each seed."""

    base: str
    settings: Mapping[str, Any]
    runs: Mapping[str, int]
    """Seeds by the name of the training, in order."""
    trained: Mapping[str, Tree]
    """Parameters of each, as params.yaml has them."""

    @property
    def name(self) -> str:
        """What it is called without its seeds."""
        return name_of(self.base, self.settings)


def parse_setting(text: str) -> Setting:
    """Parse ``runs.NAME.PATH=VALUE,VALUE``; values are YAML, commas in brackets or quotes do not separate.

    >>> parse_setting("runs.arcface.head.margin=0.3,0.5")
    Setting(runs='arcface', path='head.margin', values=(0.3, 0.5))
    >>> parse_setting("runs.arcface.head.m=0.3").path
    'head.margin'
    >>> parse_setting("runs.*.schedule.milestones=[8, 14],[10, 16]").values
    ([8, 14], [10, 16])

    Raises:
        ValueError: it is not of that form, or says a value twice.
    """
    name, equals, said = text.partition("=")
    parts = name.strip().split(".", 2)
    if not equals or len(parts) < 3 or parts[0] != "runs" or not all(parts):
        raise InputError(f"--set needs runs.NAME.PATH=VALUE,VALUE as in runs.arcface.head.margin=0.3,0.5; got {text!r}")
    try:
        values = tuple(yaml_text.parse(part) for part in _split(said))
    except yaml.YAMLError as error:
        raise InputError(f"--set {text!r}: a value is not YAML: {error}") from error
    if any(value is None for value in values):
        raise InputError(f"--set {text!r}: a value is missing; write an empty value as [] or ''")
    if len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
        raise InputError(f"--set {text!r} repeats a value")
    return Setting(parts[1], SYMBOLS.get(parts[2], parts[2]), values)


def variants(
    runs: Mapping[str, Tree], settings: Sequence[Setting], seeds: Sequence[int], own_seed: Callable[[Tree], int]
) -> list[Variant]:
    """Return every combination of values for every run that a setting names.

    Args:
        runs: those that may be varied, with their own parameters.
        settings: what to vary; with none, each run is one variant.
        seeds: to train each with; none: each with its own.
        own_seed: returns the seed that a run is trained with as it stands.

    Raises:
        LookupError: a setting names no run.
        ValueError: there are more than ``MAX_RUNS`` trainings, or two of them have one name.
    """
    for setting in settings:
        if not fnmatch.filter(runs, setting.runs):
            raise UnknownNameError(f"--set runs.{setting.runs}: no such run: there are {', '.join(sorted(runs))}")
    named = [run for run in runs if any(fnmatch.fnmatchcase(run, setting.runs) for setting in settings)] or list(runs)
    chosen = [
        (base, values)
        for base in named
        for values in _combinations([one for one in settings if fnmatch.fnmatchcase(base, one.runs)])
    ]
    if len(chosen) * max(1, len(seeds)) > MAX_RUNS:
        raise InputError(f"this sweep has more than {MAX_RUNS} training runs: give fewer values or seeds")
    found = [_variant(base, runs[base], values, seeds, own_seed) for base, values in chosen]
    twice = [name for name, count in Counter(name for one in found for name in one.runs).items() if count > 1]
    if twice:
        raise InputError(f"two training runs would be called {twice[0]}: sweep over one of them at a time")
    return found


def _variant(
    base: str, tree: Tree, settings: Mapping[str, Any], seeds: Sequence[int], own_seed: Callable[[Tree], int]
) -> Variant:
    plain = parameters(tree, settings)
    own = own_seed(plain)
    names = {seeds_of.name(name_of(base, settings), seed, own): seed for seed in seeds or [own]}
    trained = {name: copy.deepcopy(plain) | ({} if seed == own else {"seed": seed}) for name, seed in names.items()}
    return Variant(base, settings, names, trained)


def _combinations(settings: Sequence[Setting]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(setting.values for setting in settings)):
        yield dict(zip((setting.path for setting in settings), values, strict=True))


def name_of(base: str, settings: Tree) -> str:
    """Return the name of a run with settings, the same in every sweep; what does not fit in it becomes a digest.

    >>> name_of("arcface", {"head.margin": 0.3})
    'arcface_head_margin_0p3'
    >>> name_of("arcface", {"head": {"name": "cosface"}})
    'arcface_head_4bde37'
    """
    name, exact = base, True
    for path, value in settings.items():
        text = str(value).replace(".", "p").replace("-", "m")
        # letters alone if it is text: "m5" is what -5 becomes
        allowed = r"[a-z_]{1,24}" if isinstance(value, str) else r"m?[0-9][a-z0-9]{0,15}"
        simple = isinstance(value, (int, float, str)) and re.fullmatch(allowed, text) is not None
        name += f"_{re.sub(r'[^a-z0-9]+', '_', path.lower())}" + (f"_{text}" if simple else "")
        exact = exact and simple
    if exact and len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(json.dumps([base, settings], sort_keys=True).encode()).hexdigest()[:6]
    return f"{name[: MAX_NAME - 7]}_{digest}"


def parameters(base: Tree, settings: Tree) -> dict[str, Any]:
    """Return a base run's own parameters, updated with those of a variant.

    >>> parameters({"head": {"name": "arcface", "margin": 0.5}}, {"head.margin": 0.3})
    {'head': {'name': 'arcface', 'margin': 0.3}}

    Raises:
        ValueError: a path goes through something that is no mapping.
    """
    tree = copy.deepcopy(dict(base))
    for path, value in settings.items():
        *above, last = path.split(".")
        below = tree
        for key in above:
            below = below.setdefault(key, {})
            if not isinstance(below, dict):
                raise InputError(f"--set {path}: {key} is not a section but {below!r}")
        below[last] = value
    return tree


def title(settings: Sequence[Setting], seeds: Sequence[int], bases: Sequence[str]) -> str:
    """Return a description of a sweep in words.

    >>> title([Setting("arcface", "head.margin", (0.3, 0.5))], [0, 1, 2], [])
    'arcface: head.margin = 0.3, 0.5; 3 seeds'
    """
    runs = list(dict.fromkeys(setting.runs for setting in settings)) or list(bases)
    said = [f"{one.path} = {', '.join(map(str, one.values))}" for one in settings]
    said += [f"{len(seeds)} seeds"] if len(seeds) > 1 else []
    return f"{', '.join(runs)}: " + "; ".join(said)


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        depth += (char in "[{") - (char in "]}") if not quote else 0
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return parts
