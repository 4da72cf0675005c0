"""`facet models`: lists the pretrained models that the tables name, and the models on this machine.

facet models --method AdaFace
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from stages.core.errors import UnknownNameError
from stages.models import lookup, zoo
from stages.models.zoo import Published
from stages.runtime import artifacts, program

EXAMPLES = """\
Nothing is downloaded: get the file from the source that `facet models ENTRY` prints, then run
`facet import FILE NAME --published ENTRY`.

examples:
  facet models
  facet models --method adaface --dataset ms1mv2
  facet models adaface_ir50_ms1mv2"""
SHOWN = {
    "hq.lfw": "LFW", "hq.avg": "HQ avg", "ijb.ijbb_tar_at_far_1e-04": "IJB-B", "ijb.ijbc_tar_at_far_1e-04": "IJB-C",
    "lq.tinyface_rank1": "TinyFace",
}  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    """Print the list, or one entry."""
    listed = zoo.load()
    here = imported()
    if arguments.entry:
        print("\n".join(one(listed, arguments.entry, here)))
        return
    names = [
        name
        for name, model in listed.models.items()
        if (arguments.method or "").lower() in model.method.lower()
        and (arguments.dataset or "").lower() in model.dataset.lower()
    ]
    if not names:
        raise UnknownNameError("no model matches: `facet models` lists all")
    if arguments.json:
        tree = {name: listed.models[name].model_dump(mode="json") | {"here": here.get(name, [])} for name in names}
        print(json.dumps(tree, indent=2))
        return
    print(as_text(rows(listed, names, here), left=(0, 1, 2, 3 + len(SHOWN))))
    unlisted = [name for name in lookup.names() if name not in {one for many in here.values() for one in many}]
    print(f"\nother models here: {', '.join(unlisted) or 'none'}")


def imported() -> dict[str, list[str]]:
    """Return the names of the imported models by their entry of models.yaml."""
    found: dict[str, list[str]] = {}
    for path in sorted(lookup.IMPORTED.glob("*/model.json")):
        source = artifacts.read_json(path).get("source") or {}
        if source.get("published"):
            found.setdefault(source["published"], []).append(path.parent.name)
    return found


def rows(listed: Published, names: Sequence[str], here: dict[str, list[str]]) -> list[list[str]]:
    """Return the table, header first; scores in percent, as published."""
    made = [["entry", "architecture", "trained on", *SHOWN.values(), "here as"]]
    for name in names:
        model = listed.models[name]
        scores = [f"{model.scores[key]:.2f}" if key in model.scores else "-" for key in SHOWN]
        made.append([name, model.architecture, model.dataset, *scores, ", ".join(here.get(name, [])) or "-"])
    return made


def one(listed: Published, name: str, here: dict[str, list[str]]) -> list[str]:
    """Return everything about one model, one line per fact."""
    model = listed.entry(name)
    source = listed.sources[model.source]
    lines = {
        "model": f"{model.method}, {model.architecture}, trained on {model.dataset}",
        "published in": source.document,
        "licence": source.licence,
        "get it from": model.obtain,
        "file": model.file or "not named by its source",
        "sha256": model.sha256 or "not known yet: `facet import` prints it",
        "import": f"facet import {model.file or 'FILE'} NAME --published {name}",
        "here as": ", ".join(here.get(name, [])) or "not here",
    }
    lines |= {key: f"{value:.2f} %" for key, value in model.scores.items()}
    return [f"{key:<28}{value}" for key, value in lines.items()]


def as_text(table: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Return the table in columns; those of ``left`` left-aligned, numbers right-aligned."""
    sizes = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    lines = []
    for row in table:
        placed = [
            cell.ljust(size) if place in left else cell.rjust(size)
            for place, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet models",
        description="List the pretrained models that the tables name (scores in percent, as published).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("entry", nargs="?", help="print everything about this entry")
    options.add_argument("--method", help="only models whose method contains this text")
    options.add_argument("--dataset", help="only models whose training set contains this text")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
