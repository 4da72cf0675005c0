"""`facet import`: imports a published checkpoint as models/NAME, as if it had been trained here.

facet import adaface_ir50_ms1mv2.ckpt adaface_r50 --published adaface_ir50_ms1mv2
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from stages.core.errors import InputError
from stages.core.networks.checkpoint_keys import FAMILIES
from stages.models import import_checkpoint, lookup, zoo
from stages.models.import_checkpoint import Said
from stages.runtime import artifacts, program

EXAMPLES = """\
Recognised by its keys: AdaFace's (Lightning), MagFace's, CR-FIQA's, CurricularFace's. Insightface's keys are those of
MagFace's without their prefix: give --architecture, or --published. Colour order and value range are those of the
family's published models, unless you give others. No code in the file is ever run.

examples:
  facet import adaface_ir50_ms1mv2.ckpt adaface_r50 --published adaface_ir50_ms1mv2
  facet import backbone.pth mine --architecture insightface --dataset WebFace4M
  facet import stripped.pth magface_r50 --architecture magface
  facet import adaface_ir50_ms1mv2.ckpt adaface_r50 --keep-head
  facet import backbone.pth glint_r50 --architecture insightface --head rank_*_softmax_weight.pt"""


def main(arguments: argparse.Namespace) -> None:
    """Check the request, import, print what was imported."""
    folder = lookup.IMPORTED / _checked(arguments.name, replace=arguments.replace)
    said = complete(arguments)
    model = import_checkpoint.place(arguments.checkpoint, folder, said)
    assert model.source is not None
    blocks = import_checkpoint.blocks(model.backbone).replace(",", "")
    low, high = model.value_range
    print(f"{folder}: {model.source.family} network, blocks {blocks}, {model.feature_dim} dimensions")
    print(f"takes {model.color_order} in [{low:g}, {high:g}]; trained on {model.dataset}")
    if arguments.head or arguments.keep_head:
        print(f"class centres of {model.num_classes} classes kept" if model.num_classes else "no class centres in it")
    print(f"file {model.source.sha256}")
    if said.published is None:
        print("not compared with a published model: give --published ENTRY (see facet models) to verify it")


def complete(arguments: argparse.Namespace) -> Said:
    """Return the user's statements, completed from models.yaml if the file is one of its entries.

    Raises:
        LookupError: no such entry.
        ValueError: the file is another one than the entry's.
    """
    listed = zoo.load() if zoo.LIST.is_file() or arguments.published else None
    entry = arguments.published
    if listed is not None and arguments.checkpoint.is_file():
        sha256 = artifacts.sha256(arguments.checkpoint)
        entry = entry or listed.by_checksum(sha256)
        wanted = listed.entry(entry).sha256 if entry else None
        if wanted not in (None, sha256):
            raise InputError(f"{arguments.checkpoint} is not {entry}'s file: expected SHA-256 {wanted}, got {sha256}")
    known = listed.entry(entry) if listed is not None and entry else None
    return Said(
        family=arguments.architecture or (listed.family(entry) if listed is not None and entry else None),
        color_order=arguments.color_order,
        value_range=tuple(arguments.value_range) if arguments.value_range else None,
        dataset=arguments.dataset or (known.dataset if known else None),
        published=entry,
        depth=listed.depth(entry) if listed is not None and entry else None,
        keep_head=arguments.keep_head,
        head=tuple(arguments.head),
        classes=arguments.classes,
    )


def _checked(name: str, *, replace: bool) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(f"a name has lower-case letters, digits and _, as in params.yaml; got {name!r}")
    if (artifacts.backbone_folder(name) / "model.json").is_file():
        raise InputError(f"{name} is a run that was trained here: choose another name")
    if (lookup.IMPORTED / name).exists() and not replace:
        raise InputError(f"{lookup.IMPORTED / name} already exists: choose another name, or give --replace")
    return name


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet import",
        description="Import a published checkpoint as models/NAME, as if it had been trained here.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("checkpoint", type=Path, help="the downloaded file")
    options.add_argument("name", help="name of the imported model")
    options.add_argument("--architecture", choices=list(FAMILIES), help="network family, if the keys do not show it")
    options.add_argument("--published", metavar="ENTRY", help="entry of models.yaml that describes the file")
    options.add_argument("--color-order", choices=["BGR", "RGB"], help="channel order of the network's input")
    options.add_argument(
        "--value-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="network input values for pixels 0 and 255"
    )
    options.add_argument("--dataset", help="data set it was trained on")
    options.add_argument("--keep-head", action="store_true", help="also keep the class centres, if the file has them")
    options.add_argument(
        "--head", nargs="+", type=Path, default=[], metavar="FILE",
        help="files of the class centres, kept: one, or insightface's for each GPU, in any order",
    )  # fmt: skip
    options.add_argument("--classes", type=Path, metavar="FILE", help="names of the classes, a line each, in order")
    options.add_argument("--replace", action="store_true", help="replace an imported model of this name")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
