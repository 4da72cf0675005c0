"""`facet add`: looks at a folder as it was downloaded, and adds it to params.yaml as a data set.

facet add ms1mv2 /data/faces_emore
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from stages.config import params
from stages.core.errors import InputError
from stages.core.metrics.missing import SETS
from stages.inspection import sets
from stages.inspection.catalogue import KNOWN, TRAIN
from stages.inspection.check import examine, own_sets
from stages.runtime import merged, pin, places, program, yaml_edit, yaml_text
from stages.runtime.yaml_edit import YamlEdit
from stages.tools import _writing, doctor
from stages.tools.doctor import Line

EXAMPLES = """\
The folder is read where it is; nothing is written there. It may be flat (train.rec beside lfw.bin), have train/ and
eval/, or hold a folder of aligned images for each person. What it holds is shown in a table, then what would change in
params.yaml; comments there stay.

examples:
  facet add ms1mv2 /data/faces_emore           ask before writing
  facet add crowd ~/faces/imgs --yes           write at once
  facet add both --sources ms1mv2,crowd        one label space of two data sets"""


def main(arguments: argparse.Namespace) -> None:
    """Look, show, and write.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: nothing in it can be read, the name is taken or does not fit, or nobody can be asked.
    """
    name: str = arguments.name
    chosen = params.load()
    if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        raise InputError(f"a data set's name has lower-case letters, digits and _, such as ms1mv2; got {name!r}")
    if name in chosen.datasets or name in chosen.synthetic:
        raise InputError(f"params.yaml already has a data set {name!r}: take another name, or edit it there")
    if (arguments.folder is None) == (arguments.sources is None):
        raise InputError("give a folder, or --sources with the names of data sets to merge")
    entry, has_training = _merged(arguments, chosen) if arguments.sources else _of_folder(arguments, chosen)
    edit = YamlEdit(_writing.PARAMS)
    edit.section("datasets")[name] = yaml_edit.block(entry)
    texts = {_writing.PARAMS: edit.text()}
    _writing.check(texts)
    if _writing.offer(texts, yes=arguments.yes):
        print(f"Next: {_next(name, chosen) if has_training else _without_training(name, arguments.folder)}")


def _of_folder(arguments: argparse.Namespace, chosen: params.Params) -> tuple[dict[str, Any], bool]:
    """Return the entry for a folder, and whether it has a training set; show what it holds."""
    folder = Path(arguments.folder).expanduser()
    if not folder.is_dir():
        wanted = f"{folder} is a file: give its folder, {folder.parent}" if folder.exists() else f"no folder {folder}"
        raise FileNotFoundError(wanted)
    _refuse_part(folder)
    pin.refuse_in_the_way(arguments.name, folder)
    lines = list(look(folder))
    if not lines:
        raise InputError(
            f"{folder} holds nothing that facet reads: no record file, no folder of images for each person, no "
            f"NAME.bin, no test set in its official layout; `facet doctor --folder {folder} --all` shows what could be"
        )
    doctor.show_table(f"{folder}", lines, Console(highlight=False))
    usable = {line.known.name for line in lines if not line.found.unusable}
    said = [one.strip() for one in (arguments.published or "").split(",") if one.strip()]
    alike = [one for one in published_by_counts(lines) if one not in said]
    if alike:
        print(
            f"By their counts {', '.join(alike)} may be the published sets. Compared with published numbers they are\n"
            f"only if you say so: --published {','.join([*said, *alike])}"
        )
    entry: dict[str, Any] = {"root": str(folder)} | ({"published": said} if said else {})
    entry |= {"benchmarks": yaml_edit.block(benchmarks(lines, _defaults(chosen)))}
    return entry, "train" in usable


def _refuse_part(folder: Path) -> None:
    """Refuse the folder of a test set, or of IJB-B and IJB-C: a data set is the folder that holds it."""
    inner = [one for one in sorted(folder.iterdir()) if one.is_dir()] if folder.name == "ijb" else []
    for part in (folder, *inner):
        found = sets.recognise(part)
        if found is None or found[0].name not in KNOWN:
            continue
        place = Path(found[0].place.removeprefix("eval/"))
        is_there = part.parts[-len(place.parts) :] == place.parts
        above = part.parents[len(place.parts) - 1]
        advice = f"give {above}" if is_there else f"put it, or a link to it, at {place} in a folder, and give that"
        raise InputError(f"{part} is {found[0].title}, a test set of a data set: {advice}")


def look(folder: Path) -> list[Line]:
    """Return what is found in a folder: the training set, then each test set."""
    found = ((known, examine(folder, known, one_to_n=False)) for known in (TRAIN, *KNOWN.values(), *own_sets(folder)))
    here = [(known, one) for known, one in found if not known.only and not one.missing]
    return [Line(str(folder), known, (), one, synthetic=False) for known, one in here]


def published_by_counts(lines: Sequence[Line]) -> list[str]:
    """Return the test sets that have all counts of the published set of their name."""
    return [
        line.known.name
        for line in lines
        if line.known is not TRAIN and line.known.counts and set(line.known.counts) <= set(line.found.counts)
        if not line.differs and not line.found.unusable
    ]


def benchmarks(lines: Sequence[Line], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the section `benchmarks` for the test sets that can be used, in the order of the profile's.

    Args:
        lines: what was found.
        defaults: the profile's section `benchmarks`.
    """
    there = [line.known.name for line in lines if line.known is not TRAIN and not line.found.unusable]
    pairs = [name for name in there if name in SETS["hq"] or name not in KNOWN]
    wanted = {suite: list((defaults.get(suite) or {}).get("sets", ())) for suite in SETS}
    derived = [name for name in ("crlfw",) if name in wanted["lq"] and "lfw" in there]
    found = {
        "hq": [*_in_order(pairs, wanted["hq"])],
        "ijb": [name for name in there if name in SETS["ijb"]],
        "lq": [*(name for name in there if name in SETS["lq"]), *derived],
        "fiqa": [name for name in wanted["fiqa"] if name in there] or pairs[:1],
    }
    quality = [name for name in ("adience", "xqlfw") if name in there and name not in found["fiqa"]]
    tree: dict[str, Any] = {suite: {"sets": names} for suite, names in found.items()}
    tree["fiqa"]["sets"] += quality
    without = [line for line in lines if line.known.name in found["ijb"] and "1:N gallery" not in line.found.counts]
    if without and "1:N" in (defaults.get("ijb") or {}).get("protocols", ()):
        tree["ijb"]["protocols"] = ["1:1"]
    return tree


def _in_order(names: Sequence[str], order: Sequence[str]) -> list[str]:
    return [*(name for name in order if name in names), *(name for name in names if name not in order)]


def _defaults(chosen: params.Params) -> dict[str, Any]:
    tree = yaml_text.read(Path("profiles", f"{chosen.profile}.yaml"))
    section: dict[str, Any] = (tree.get("defaults") or {}).get("benchmarks") or {}
    return section


def _merged(arguments: argparse.Namespace, chosen: params.Params) -> tuple[dict[str, Any], bool]:
    """Return the entry for a merge of data sets, which takes the test sets of the first."""
    sources = [one.strip() for one in arguments.sources.split(",")]
    entry: dict[str, Any] = {"sources": sources} | ({"same": arguments.same} if arguments.same else {})
    described = {name: dataset.model_dump(mode="json") for name, dataset in chosen.datasets.items()}
    together = merged.described({"datasets": {**described, arguments.name: entry}})[arguments.name]
    for source, root in together.sources.items():
        if not places.find(root, "train").is_filled():
            raise InputError(
                f"{source} ({root}) has no training set to merge. For its test sets beside people of another folder "
                f"make one folder with two links, train and eval, and add that"
            )
    measured = chosen.datasets[sources[0]].benchmarks
    return entry | ({"benchmarks": yaml_edit.block(measured)} if measured else {}), True


def _without_training(name: str, folder: str) -> str:
    measure = f"a run that is trained on another set is measured on it with `benchmarks: {{dataset: {name}}}`"
    return f"facet verify MODEL --folder {folder} (it has no training set; {measure})"


def _next(name: str, chosen: params.Params) -> str:
    like = next(iter(chosen.runs), "RUN")
    return f"facet add-run {name}_{like} --like {like} --set dataset={name} --table {name}"


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet add", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("name", metavar="NAME", help="what runs call it: `dataset: NAME`")
    options.add_argument("folder", nargs="?", metavar="FOLDER", help="a folder of yours")
    options.add_argument("--published", metavar="A,B", help="test sets that are the published ones of their names")
    options.add_argument("--sources", metavar="A,B", help="merge these data sets, which have folders, instead")
    options.add_argument("--same", metavar="FILE.csv", help="with --sources: which identities are one person")
    options.add_argument("--yes", action="store_true", help="write without asking")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
