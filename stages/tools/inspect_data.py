"""`facet inspect`: shows the contents of a data or model file or folder, with a contact sheet and its colour order.

facet inspect data/demo/train/train.rec --picture sheet.png
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
from rich.console import Console
from rich.table import Table

from stages.core.errors import InputError
from stages.core.formats.file_names import readable
from stages.core.images.image_format import extension
from stages.core.recordio.framing import MAGIC_BYTES
from stages.datasets import people
from stages.datasets.people import is_image
from stages.inspection import networks, sets, training_sets
from stages.inspection import records as see_records
from stages.inspection.facts import Sight, contact_sheet
from stages.io.packed_images import is_packed
from stages.runtime import artifacts, places, program

EXAMPLES = """\
A file or folder is recognised by its content, not its name. Recognised are:
  files    .rec (RecordIO), verification .bin, PyTorch checkpoints, ONNX, TinyFace .mat lists, images
  folders  training set, model (model.json), quality method, IJB-B, IJB-C, IJB-S, TinyFace, SCface, Adience, XQLFW,
           images (one folder for each identity, or all in one), a data set (flat, or with train/ and eval/)

examples:
  facet inspect data/demo/train
  facet inspect data/demo/eval/lfw.bin --picture pairs.png
  facet inspect adaface_ir50_ms1mv2.ckpt
  facet inspect train.rec --engine mxnet       also read it with mxnet (FACET_MXNET_PYTHON)"""
_DEPTH = 3  # folders below that are searched for images


def main(arguments: argparse.Namespace) -> None:
    """Inspect, print and draw."""
    path = Path(arguments.path)
    if arguments.picture and Path(arguments.picture).suffix not in (".png", ".jpg"):
        raise InputError(f"{arguments.picture}: wanted a name ending in .png or .jpg")
    sight = see(path, everything=arguments.all)
    sight.problems = [readable(problem) for problem in sight.problems]
    if arguments.engine == "mxnet":
        see_records.beside_mxnet(_record_file(path), sight)
    if arguments.picture:
        _draw(sight, Path(arguments.picture))
    if arguments.json:
        tree = {"path": str(path), "kind": sight.kind, "facts": sight.facts, "problems": sight.problems}
        print(json.dumps(tree, indent=2, ensure_ascii=False))
    else:
        show(path, sight, Console(highlight=False))


def see(path: Path, *, everything: bool = False) -> Sight:
    """Inspect a file or folder, recognised by its content.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of no kind that is known; those are listed.
    """
    if path.is_dir():
        return _see_folder(path, everything)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(MAGIC_BYTES):
        return see_records.see(path, everything=everything)
    if extension(head) != "img":
        return sets.see_image(path)
    if head.startswith(b"MATLAB 5.0") or head[126:128] in (b"IM", b"MI"):
        return sets.see_list(path)
    if path.suffix == ".onnx":
        return networks.see_onnx(path)
    return _see_pickled(path, head, everything)


def _see_pickled(path: Path, head: bytes, everything: bool) -> Sight:
    """Checkpoints and verification sets are both pickles, the newer checkpoints in a ZIP archive."""
    if head.startswith(b"PK"):
        return networks.see_checkpoint(path)
    complaints = []
    looks: tuple[tuple[str, Callable[[], Sight]], ...] = (
        ("verification set", lambda: sets.see_bin(path, everything=everything)),
        ("checkpoint", lambda: networks.see_checkpoint(path)),
    )
    for what, look in looks:
        try:
            return look()
        except (ValueError, pickle.UnpicklingError) as error:
            complaints.append(f"as a {what}: {error}")
    if head[:1] in (b"\x80", b"("):
        raise InputError(f"{path} is a pickle, but cannot be read {'; '.join(complaints)}")
    raise _unknown(path)


def _see_folder(path: Path, everything: bool) -> Sight:
    sight = _see_whole_folder(path, everything)
    # a flat download: the training files are shown, and what lies beside them is named
    beside = _parts(path) if places.training_names(path) and not (path / "train").is_dir() else []
    if others := [f"{part.relative_to(path).as_posix()}: {kind}" for part, kind in beside if part != path]:
        sight.facts["beside it"] = "; ".join(others)
    return sight


def _see_whole_folder(path: Path, everything: bool) -> Sight:
    if not is_packed(path) and (records := places.record_file(path)):
        return see_records.see(records, everything=everything)
    if (path / "model.json").is_file():
        return networks.see_model(path)
    if (path / "backbone" / "model.json").is_file():
        return networks.see_model(path / "backbone")
    if (path / "quality.json").is_file():
        return networks.see_quality(path)
    if (protocol := sets.recognise(path)) is not None:
        return sets.see_protocol(path, *protocol)
    if (people_folder := places.people_folder(path)) is not None:
        return training_sets.see_people(people.load(people_folder), everything=everything)
    if parts := _parts(path):
        sight = Sight("data set with several parts")
        sight.facts = {part.relative_to(path).as_posix(): kind for part, kind in parts}
        root = path.parent if path.name == "eval" else path
        sight.facts["next"] = f"facet inspect {parts[0][0]}; facet doctor --folder {root}"
        return sight
    files = sorted(
        one for depth in range(_DEPTH) for one in path.glob("*/" * depth + "*") if is_image(one.name)
    )
    if files:
        return sets.see_images(path, files, everything=everything)
    raise _unknown(path)


def _records(path: Path, pattern: str) -> list[Path]:
    """Return the record files of training sets; those of packed test sets have a table beside them."""
    return [one for one in sorted(path.glob(pattern)) if not one.with_suffix(".parquet").is_file()]


def _parts(path: Path) -> list[tuple[Path, str]]:
    """Return the parts of a data set's folder, by place."""
    place = places.find(path, "eval")
    found = [(one.parent, "training set (.rec)") for one in _records(path, "*/*.rec")]
    found += [(one, "verification set (.bin)") for one in sorted((*path.glob("*.bin"), *path.glob("eval/*.bin")))]
    # of a folder of people there may be a hundred thousand
    direct = [one for one in path.iterdir() if not place.is_shared or place.holds(one.name)]
    for folder in sorted({*direct, *path.glob("eval/*"), *path.glob("ijb/*"), *path.glob("eval/ijb/*")}):
        try:
            protocol = sets.recognise(folder) if folder.is_dir() else None
        except (OSError, ValueError) as error:
            found.append((folder, f"cannot be used: {error}"))
            continue
        if protocol is not None:
            found.append((folder, f"{protocol[0].title}, {len(protocol[1].names):,} images"))
    return found


def _unknown(path: Path) -> ValueError:
    known = " ".join(" ".join(EXAMPLES.splitlines()[1:5]).split())
    known = known.removeprefix("files ").replace(" folders ", "; and folders: ")
    return InputError(f"{path} is not recognised. Recognised are files: {known}")


def _record_file(path: Path) -> Path:
    found = [path] if path.is_file() else sorted(path.glob("*.rec"))
    if not found:
        raise InputError(f"--engine mxnet reads .rec files, and {path} has none")
    return found[0]


def _draw(sight: Sight, path: Path) -> None:
    sheet = contact_sheet(sight.tiles)
    with artifacts.write_file(path) as aside:
        aside.write_bytes(cv2.imencode(path.suffix, sheet)[1].tobytes())


def show(path: Path, sight: Sight, console: Console) -> None:
    """Print facts, then damage and oddities."""
    table = Table(title=f"{path}: {sight.kind}", title_justify="left", show_header=False)
    table.add_column(overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for what, value in sight.facts.items():
        table.add_row(what, (f"{value:,}" if isinstance(value, int) else str(value)).replace("[", r"\["))
    console.print(table)
    for problem in sight.problems[:20]:
        console.print(f"odd: {problem}", style="yellow", markup=False)
    if len(sight.problems) > 20:
        console.print(f"and {len(sight.problems) - 20:,} more (--json lists all)", style="yellow")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet inspect", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("path", metavar="FILE_OR_FOLDER")
    options.add_argument("--picture", metavar="OUT.png", help="draw a contact sheet: up to 64 images with captions")
    options.add_argument("--all", action="store_true", help="check and decode every record or image, not a sample")
    options.add_argument("--engine", choices=("facet", "mxnet"), default="facet", help="mxnet: also read .rec with it")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
