"""Mutations of files: of any bytes, of text, and of formats whose checksums or framing bytes alone would never pass."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Mutate = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""Returns another file, given a source of chance, a file, and others of its kind."""

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 100, 127, 128, 255, 256, 1 << 15, 1 << 16, (1 << 24) - 1, 1 << 24, 1 << 29,
           (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
WORDS = (
    "", "0", "-1", "1", "2", "nan", "inf", "-inf", "1e400", "1e-400", "1.5", "0x10", "1_000", "007", "9" * 25, "9" * 5000,
    "٣", "²", "é", "caf\u0065\u0301", "\ufeff", "\x00", "\x1a", "\x85", "\u2028", '"', "'", ",", ";", "\t", " ", "\r", "\n",
    "..", "../../../../etc/passwd", "/dev/null", "a" * 300, "None", "null", "true", "no", "~", "#", "%", "{}", "[]", "\\",
    "001_frontal", "001_cam1_1", "2001-99-99", "0b_", "0o_", "0x_", "._x.jpg", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
)  # fmt: skip
EVIL = (b"ctests.fuzz.canary\nring\n(tR", b"cos\nsystem\n(S'exit 3'\ntR", b"cbuiltins\neval\n(S'1'\ntR", b"cnumpy\nload\n(S'x'\ntR",
        b"\x8c\x11tests.fuzz.canary\x8c\x04ring\x93)R", b"cnumpy.core.multiarray\n_reconstruct\n(tR",
        b"ctorch._utils\n_rebuild_tensor_v2\n(tR", b"ccollections\nOrderedDict\n(tR")  # fmt: skip
"""Instructions of pickles that call a name."""


def of_bytes(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Flip, replace, remove, repeat, insert or splice bytes; at a place that is even more often at a multiple of 4."""
    at = random.randrange(len(data) + 1)
    at -= at % 4 if random.random() < 0.4 else 0
    length = random.choice((1, 1, 2, 4, 8, random.randrange(1, 200)))
    kind = random.randrange(8)
    if kind == 0:
        return data[:at] + bytes([(data[at : at + 1] or b"\0")[0] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        size = random.choice((1, 2, 4, 8))
        number = (random.choice(NUMBERS) + random.randrange(-2, 3)) % (1 << 8 * size)
        return data[:at] + number.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]
    if kind == 2:
        return data[:at] + data[at + length :]
    if kind == 3:
        return data[: at + length] + data[at:]
    if kind == 4:
        return data[:at] + random.randbytes(length) + data[at + random.choice((0, length)) :]
    if kind == 5:
        other = random.choice(others)
        return data[:at] + other[random.randrange(len(other) + 1) :]
    if kind == 6:
        return data[:at] + struct.pack(random.choice("<>") + "f", random.choice((float("nan"), float("inf"), -1.0, 1e30, 0.5))) + data[at + 4 :]
    return data[:at] + bytes(length) + data[at + length :]


def of_text(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Replace, remove, repeat or move words and lines, or write the text in another encoding."""
    text = data.decode("utf-8", "surrogateescape")
    kind = random.randrange(6)
    if kind == 0:
        encoding = random.choice(("utf-16", "utf-16-le", "utf-8-sig", "cp1252", "utf-32"))
        text += random.choice(("", "é", "日"))
        return text.encode(encoding, "replace")
    lines = text.splitlines(keepends=True) or [""]
    row = random.randrange(len(lines))
    if kind == 1:
        lines[row : row + 1] = random.choice(([], [lines[row]] * 2, [lines[row].rstrip("\r\n")], ["\n", lines[row]]))
    elif kind == 2:
        other = random.randrange(len(lines))
        lines[row], lines[other] = lines[other], lines[row]
    else:
        lines[row] = _with_a_word(random, lines[row], random.choice(lines))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _with_a_word(random: Random, line: str, other: str) -> str:
    separators = [at for at, sign in enumerate(line) if sign in " \t,;:\n"]
    bounds = [-1, *separators, len(line)]
    field = random.randrange(len(bounds) - 1)
    begin, end = bounds[field] + 1, bounds[field + 1]
    word = random.choice((random.choice(WORDS), random.choice(other.replace(",", " ").split() or [""]), line[begin:end][:-1]))
    if random.random() < 0.2:
        end += 1  # with what separates it from the next
    return line[:begin] + word + line[end:]


def of_archive(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change one member of a ZIP archive, its pickle more often than others, and write the archive with right checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    pickles = [row for row, (name, _) in enumerate(members) if name.endswith(".pkl")]
    row = random.choice(pickles) if pickles and random.random() < 0.7 else random.randrange(len(members))
    name, content = members[row]
    kind = random.randrange(12)
    if kind == 0:
        del members[row]
    elif kind == 1:
        members.append((random.choice((name, "../out", "archive/data/7")), content))
    elif kind == 2:
        members[row] = (random.choice(("", "x", name.replace("archive", "other"), name + "/")), content)
    elif name.endswith(".pkl"):
        members[row] = (name, of_pickle(random, content, [content]))
    else:
        members[row] = (name, of_bytes(random, content, [content]))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def of_pickle(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Remove, repeat, move or add whole instructions of a pickle; calls of names among them."""
    try:
        begins = [position for _, _, position in pickletools.genops(data)]
    except Exception:  # damaged already
        return of_bytes(random, data, others)
    ends = [*begins[1:], len(data)]
    one, other = (random.randrange(len(begins)) for _ in "ab")
    piece = data[begins[other] : ends[other]]
    kind = random.randrange(7)
    if kind == 0:
        return data[: begins[one]] + data[ends[one] :]
    if kind == 1:
        return data[: begins[one]] + piece + data[begins[one] :]
    if kind == 2:
        return data[: begins[one]] + piece + data[ends[one] :]
    if kind == 3:
        return data[: begins[one]] + random.choice(EVIL) + data[random.choice((begins[one], ends[one])) :]
    if kind == 4:
        value = random.choice((None, -1, 1 << 70, "x" * 9, b"\0", (), [], {}, 0.5, float("nan"), True, ("a", 1), [[[]]], {"a": {}}))
        written = pickle.dumps(value, protocol=2)[2:-1]
        return data[: begins[one]] + written + data[ends[one] :]
    if kind == 5:
        return data[: begins[one]] + random.choice((b"(", b"0", b"2", b"\x94", b"j\xff\xff\xff\x7f", b"\x8a\xff", b"R", b"b", b".", b")", b"l")) + data[begins[one] :]
    return data[: begins[one]] + of_bytes(random, piece, [piece]) + data[ends[one] :]


def of_table(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change columns, types or cells of a Parquet table, and write it anew."""
    table = pq.read_table(io.BytesIO(data))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    name = random.choice(list(columns))
    kind = random.randrange(7)
    if kind == 0:
        del columns[name]
    elif kind == 1:
        columns[random.choice(("x", "", "key ", "set"))] = columns.pop(name)
    elif kind == 2:
        columns[name] = [random.choice((str, float, repr, lambda one: [one], lambda one: {"a": one}, bytes_of))(one) for one in columns[name]]
    elif kind == 3:
        columns = {key: values[:-1] for key, values in columns.items()}
    else:
        row = random.randrange(len(columns[name]) or 1)
        value = random.choice((None, -1, 0, 1 << 40, float("nan"), 0.5, "", "x\0y", "../x", "é" * 50, columns[name][0] if columns[name] else 0))
        columns[name] = [value if at == row else one for at, one in enumerate(columns[name])]
    made = io.BytesIO()
    try:
        arrays = {key: _column(values) for key, values in columns.items()}
        pq.write_table(pa.table(arrays), made, compression=random.choice(("snappy", "none", "zstd")))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return of_bytes(random, data, others)
    return made.getvalue()


def bytes_of(value: Any) -> bytes:
    """Return a value as bytes that are not UTF-8."""
    return str(value).encode() + b"\xff"


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(one) for one in values if one is not None}
    if len(kinds) > 1:
        values = [None if one is None else str(one) for one in values]
    return pa.array(values)


def of_tree(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a value, a key or the nesting of a JSON or YAML document; YAML takes JSON's notation."""
    from stages.runtime import yaml_text

    try:
        tree = yaml_text.parse(data)
        text = json.dumps(_changed(random, tree), default=str)
    except Exception:  # damaged already
        return of_text(random, data, others)
    return text.encode("utf-8", "replace")


def _changed(random: Random, tree: Any) -> Any:
    inner = tree if isinstance(tree, list) else list(tree) if isinstance(tree, dict) else []
    if not inner or random.random() < 0.15:
        return random.choice((None, True, -1, 0, 1 << 70, 0.5, 1e308, "", "x", "é", [], {}, [tree], {"x": tree}, [[]], {"name": "x"}, "9" * 30, "../x"))
    if isinstance(tree, dict):
        key = random.choice(inner)
        kind = random.randrange(8)
        if kind == 0:
            return {one: value for one, value in tree.items() if one != key}
        if kind == 1:
            return {**tree, random.choice(("x", "", "name", "root", "a b", "1", f"{key}-1")): tree[key]}
        return {**tree, key: _changed(random, tree[key])}
    row = random.randrange(len(inner))
    kind = random.randrange(6)
    if kind == 0:
        return [one for at, one in enumerate(inner) if at != row]
    if kind == 1:
        return [*inner, inner[row]]
    return [_changed(random, one) if at == row else one for at, one in enumerate(inner)]


def of_safetensors(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change the header of a safetensors file, and state its right length."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data):
        return of_bytes(random, data, others)
    header = random.choice((of_tree, of_tree, of_bytes))(random, data[8 : 8 + size], [data])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def cut(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the beginning of a file."""
    return data[: random.randrange(len(data) + 1)]
