"""Finds the functions of facet that write files, by walking its source.

Calls that open, make, move, link, cut or remove something count, and calls of libraries that write a file. A call inside
`with files.replacing(...)`, `artifacts.write_file(...)` or `artifacts.write_folder(...)` that writes below the path which
that gave counts as theirs: it is aside, and they move it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ALWAYS = {
    "write_text", "write_bytes", "rename", "mkdir", "makedirs", "unlink", "touch", "symlink_to", "symlink", "hardlink_to",
    "rmtree", "rmdir", "copyfile", "copytree", "copy2", "move", "fsync", "truncate", "savez", "savez_compressed",
    "to_parquet", "write_table", "to_csv", "imwrite", "savefig", "mkdtemp", "mkstemp", "TemporaryDirectory",
    "NamedTemporaryFile", "VideoWriter", "savemat", "save_file", "ftruncate", "tofile", "open_memmap", "mkfifo", "link",
}  # fmt: skip
"""Whatever they are called on."""
OF = {
    "save": {"torch", "onnx", "jit", "export", "np"}, "dump": {"json", "pickle"}, "remove": {"os"}, "chmod": {"os"},
    "copy": {"shutil"}, "link": {"os"}, "to_json": {"frame"},
}  # fmt: skip
"""Only on a module of one of these names."""
ASIDE = {"replacing", "write_file", "write_folder"}


def writers(root: Path) -> Iterator[str]:
    """Yield ``module.function`` of each function that writes, except what it writes aside for others to move."""
    for top in ("stages", "pipeline"):
        for path in sorted((root / top).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            yield from sorted(set(of_module(module, ast.parse(path.read_text(encoding="utf-8")))))


def of_module(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the functions of one module that write, once for each call."""

    def walk(node: ast.AST, name: str, asides: frozenset[str]) -> Iterator[str]:
        if isinstance(node, ast.With):
            asides |= {name for item in node.items for name in _given(item)}
        if isinstance(node, ast.Call) and _writes(node) and not _names(node) & asides:
            yield name
        for child in ast.iter_child_nodes(node):
            inner = isinstance(child, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
            # an inner function writes for the one around it
            deeper = f"{name}.{child.name}" if inner and not _is_function(node) else name  # type: ignore[attr-defined]
            yield from walk(child, deeper, asides)

    yield from walk(tree, module, frozenset())


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _given(item: ast.withitem) -> Iterator[str]:
    """Yield the name that a writer aside gives its path."""
    call = item.context_expr
    if isinstance(call, ast.Call) and _called(call) in ASIDE and isinstance(item.optional_vars, ast.Name):
        yield item.optional_vars.id


def _names(call: ast.Call) -> set[str]:
    """Return the names in what a call is made on and in its arguments."""
    return {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _writes(call: ast.Call) -> bool:
    name = _called(call)
    if name == "open":
        return _opens_to_write(call)
    if name in ALWAYS:
        return True
    on = call.func.value if isinstance(call.func, ast.Attribute) else None
    last = on.attr if isinstance(on, ast.Attribute) else on.id if isinstance(on, ast.Name) else ""
    if name == "replace":  # of a path: one argument; of a text or a dataclass: two, or names
        return len(call.args) == 1 and not call.keywords and last not in ("", "dataclasses") and isinstance(call.func, ast.Attribute)
    return last in OF.get(name, ())


def _opens_to_write(call: ast.Call) -> bool:
    said = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [one.value for one in said if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    flags = {node.attr for one in said for node in ast.walk(one) if isinstance(node, ast.Attribute)}
    return any(len(mode) <= 4 and set(mode) & set("wax+") for mode in modes) or bool(flags & {"O_CREAT", "O_WRONLY", "O_RDWR"})
