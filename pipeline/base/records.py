"""Records of ours in JSON files, read back as dataclasses: another version may have written them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def of(kind: type[T], tree: object) -> T | None:
    """Return a record of a dataclass; None if a field is missing, of another kind or refused.

    Fields that it does not know are left out: another version wrote them.
    """
    if not isinstance(tree, Mapping):
        return None
    wanted = get_type_hints(kind)
    given = {one.name: tree[one.name] for one in fields(kind) if one.name in tree}  # type: ignore[arg-type]
    if not all(_fits(value, wanted[name]) for name, value in given.items()):
        return None
    try:
        return kind(**given)
    except (TypeError, ValueError):  # a field is missing, or refused
        return None


def _fits(value: object, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(wanted, type) or isinstance(value, wanted)
