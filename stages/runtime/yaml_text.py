"""YAML as DVC reads it: version 1.2, where ``4e-1`` is a number and ``no`` is text.

PyYAML alone reads version 1.1: DVC and our programs would see two values in one file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from stages.core.errors import InputError

# the C parser reads a lock file of a hundred stages ten times faster, where it was built
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEPT = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:null", "tag:yaml.org,2002:timestamp")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:[0-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_DIGITS = "-+0123456789"
_LARGEST = 1_000_000
"""Values of a document with anchors, as often as they stand in it: ten lines of them can stand for billions."""
_BASES = {"0b": 2, "0o": 8, "0x": 16}


class _Loader(_Base):  # type: ignore[misc]
    """Safe loader of YAML 1.2's core schema, with PyYAML's dates and merge keys."""


class _Dumper(yaml.SafeDumper):
    """Safe dumper whose texts are texts to readers of either version."""


def parse(text: str | bytes) -> Any:
    """Return what a YAML document contains: numbers, texts, lists and mappings, without executing anything.

    Raises:
        yaml.YAMLError: it is not YAML, or expands to far more than its own size.

    >>> parse("{margin: 4e-1, run: no, size: 1_000, mode: 0o17, shared: true}")
    {'margin': 0.4, 'run': 'no', 'size': 1000, 'mode': 15, 'shared': True}
    """
    try:
        tree = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("its sections are nested too deeply") from None
    except ValueError as error:  # a number such as `0b_`, a day such as 2001-99-99, bytes that are not UTF-8
        raise yaml.YAMLError(str(error)) from error
    if "*" in text if isinstance(text, str) else b"*" in text:
        _refuse_expansion(tree)
    return tree


def read(path: Path) -> Any:
    """Return what a YAML file contains, as ``parse``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML in UTF-8.
    """
    data = path.read_bytes()
    try:
        return parse(data.decode("utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8 ({error}): save it as one") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the sections of a YAML file, none of an empty one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML in UTF-8, or no mapping.
    """
    tree = read(path)
    if not isinstance(tree, dict | None):
        raise InputError(f"{path} should hold a mapping, got {type(tree).__name__}")
    return tree or {}


def _refuse_expansion(tree: Any) -> None:
    """Refuse sections that contain themselves, or that stand for each other so often that none could walk them."""
    sizes: dict[int, int] = {}
    under_way = object()
    todo: list[tuple[Any, Any]] = [(tree, None)]
    while todo:
        node, mark = todo.pop()
        if not isinstance(node, dict | list):
            continue
        inner = list(node.values()) if isinstance(node, dict) else node
        if mark is under_way:
            sizes[id(node)] = 1 + sum(sizes[id(one)] if isinstance(one, dict | list) else 1 for one in inner)
            if sizes[id(node)] > _LARGEST:
                raise yaml.YAMLError(f"its anchors (&NAME, *NAME) expand to more than {_LARGEST} values")
        elif id(node) not in sizes:
            sizes[id(node)] = 0
            todo.append((node, under_way))
            todo.extend((one, None) for one in inner)
        elif not sizes[id(node)]:
            raise yaml.YAMLError("a section contains itself (&NAME, *NAME)")


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
