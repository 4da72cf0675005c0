"""YAML as DVC reads it: version 1.2, where ``4e-1`` is a number and ``no`` is text.

PyYAML alone reads version 1.1: DVC and our programs would see two values in one file.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

# the C parser reads a lock file of a hundred stages ten times faster, where it was built
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEPT = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:null", "tag:yaml.org,2002:timestamp")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:[0-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_DIGITS = "-+0123456789"
_BASES = {"0b": 2, "0o": 8, "0x": 16}


class _Loader(_Base):  # type: ignore[misc]
    """Safe loader of YAML 1.2's core schema, with PyYAML's dates and merge keys."""


class _Dumper(yaml.SafeDumper):
    """Safe dumper whose texts are texts to readers of either version."""


def parse(text: str | bytes) -> Any:
    """Return what a YAML document contains: numbers, texts, lists and mappings, without executing anything.

    Raises:
        yaml.YAMLError: it is not YAML.

    >>> parse("{margin: 4e-1, run: no, size: 1_000, mode: 0o17, shared: true}")
    {'margin': 0.4, 'run': 'no', 'size': 1000, 'mode': 15, 'shared': True}
    """
    return yaml.load(text, Loader=_Loader)


def dump(tree: Any, width: int | None = None) -> str:
    """Return a tree as a YAML document in its own order, the same for readers of YAML 1.1 and 1.2.

    >>> print(dump({"name": "4e-1", "rate": 0.1}), end="")
    name: '4e-1'
    rate: 0.1
    """
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    value = node.value.replace("_", "")
    # not int(value, 0): `012` is 12
    return int(value, _BASES.get(value.lstrip("-+")[:2], 10))


_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, every in _Base.yaml_implicit_resolvers.items()
    if (kept := [(tag, pattern) for tag, pattern in every if tag in _KEPT])
}
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
for _tag, _pattern, _first in (("bool", _BOOL, "tTfF"), ("int", _INT, _DIGITS), ("float", _FLOAT, f".{_DIGITS}")):
    _whole = re.compile(f"^(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list(_first))
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list(_first))
