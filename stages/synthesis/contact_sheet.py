"""Draws a contact sheet of the synthetic faces: identities by row, known quality falling from left to right.

python -m stages.synthesis.contact_sheet docs/contact-sheet.jpg --seed 1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images.alignment import SIZE
from stages.core.images.degrade import encode, side_of
from stages.core.metrics.processing import decode
from stages.runtime import artifacts, program
from stages.synthesis.plan import STREAMS, Picture, Sitting
from stages.synthesis.rendering import draw_sitting

QUALITIES = (1.0, 1.0, 1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2, 0.1)
HEADER = 22  # px above the faces: what the columns are
GAP = 2


def contact_sheet(seed: int, identities: int) -> NDArray[np.uint8]:
    """Return the sheet as BGR: each row shows one identity, with new conditions for every image."""
    width = len(QUALITIES) * (SIZE + GAP) - GAP
    sheet = np.full((HEADER + identities * (SIZE + GAP) - GAP, width, 3), 255, np.uint8)
    for column, quality in enumerate(QUALITIES):
        text = f"q {quality:g}, {side_of(quality):.0f} px"
        place = (column * (SIZE + GAP) + 4, 15)
        cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    pictures = tuple(Picture(slot, quality) for slot, quality in enumerate(QUALITIES))
    for row in range(identities):
        for one in draw_sitting(seed, Sitting(STREAMS["sheet"], row, pictures)):
            y, x = HEADER + row * (SIZE + GAP), one.slot * (SIZE + GAP)
            sheet[y : y + SIZE, x : x + SIZE] = decode(one.jpeg)
    return sheet


def main(arguments: argparse.Namespace) -> None:
    """Draw and write."""
    if arguments.identities < 1:
        raise InputError(f"wanted at least one identity, got {arguments.identities}")
    path = Path(arguments.path)
    if path.suffix not in (".jpg", ".png"):
        raise InputError(f"{path}: wanted a name ending in .jpg or .png")
    sheet = contact_sheet(arguments.seed, arguments.identities)
    packed = encode(sheet, 88) if path.suffix == ".jpg" else cv2.imencode(".png", sheet)[1].tobytes()
    with artifacts.write_file(path) as aside:
        aside.write_bytes(packed)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("path", help="output file, .jpg or .png")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--identities", type=int, default=8)
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
