"""Copies a data folder and spoils the low-quality images of its test sets, in ways that no augmentation of ours has.

    python benchmarks/studies/harder_faces.py ../shared/faces ../harder_faces [--sheet FILE.png]

TinyFace's probes, SCface's cameras 1 to 5, and the images of IJB-B's mixed probes are spoiled, each in one of four
ways: motion blur, occlusion, exposure, a chain of compressions. The name of an image decides its way and strength, so
every copy is the same. All else is copied as it is: training set, LFW, mates, distractors, galleries.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.images.degrade import encode
from stages.core.metrics.processing import decode

Image = NDArray[np.uint8]
PROBES = "eval/ijb/IJBB/meta/ijbb_1N_probe_mixed.csv"
HIDDEN = (
    (0.62, 1.0, 0.0, 1.0),  # mouth and chin
    (0.34, 0.54, 0.05, 0.95),  # eyes
    (0.0, 1.0, 0.0, 0.45),
    (0.0, 1.0, 0.55, 1.0),
)
"""What an occlusion covers: top, bottom, left, right, as fractions of height and width."""


def motion_blur(image_HW3: Image, rng: np.random.Generator) -> Image:
    """Return the image averaged along a line of 10 to 20 % of its width, in a random direction."""
    length = max(round(image_HW3.shape[1] * rng.uniform(0.10, 0.20)), 3) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(line, turn, (length, length))
    blurred: Image = cv2.filter2D(image_HW3, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return blurred


def occlusion(image_HW3: Image, rng: np.random.Generator) -> Image:
    """Return the image with one colour over mouth and chin, over the eyes, or over the left or right half."""
    height, width = image_HW3.shape[:2]
    top, bottom, left, right = HIDDEN[int(rng.integers(len(HIDDEN)))]
    rows = slice(round(top * height), round(bottom * height))
    hidden = image_HW3.copy()
    hidden[rows, round(left * width) : round(right * width)] = rng.integers(0, 256, 3)
    return hidden


def exposure(image_HW3: Image, rng: np.random.Generator) -> Image:
    """Return the image too dark (gamma 2.5 to 4, noise of deviation 6 to 10) or too bright (2 to 3 times, clipped)."""
    exposed_HW3: NDArray[np.floating[Any]]
    if rng.random() < 0.5:
        exposed_HW3 = 255 * (image_HW3 / 255) ** rng.uniform(2.5, 4)
        exposed_HW3 += rng.normal(0, rng.uniform(6, 10), image_HW3.shape)
    else:
        exposed_HW3 = image_HW3 * rng.uniform(2, 3)
    return np.clip(np.rint(exposed_HW3), 0, 255).astype(np.uint8)


def compressions(image_HW3: Image, rng: np.random.Generator) -> Image:
    """Return the image after three times: smaller by 35 to 60 %, JPEG of quality 8 to 20, enlarged."""
    height, width = image_HW3.shape[:2]
    for _ in range(3):
        share = rng.uniform(0.4, 0.65)
        side = (max(round(width * share), 8), max(round(height * share), 8))
        small = cv2.resize(image_HW3, side, interpolation=cv2.INTER_AREA)
        packed = encode(small, int(rng.integers(8, 21)))
        image_HW3 = cv2.resize(decode(packed), (width, height), interpolation=cv2.INTER_LINEAR)
    return image_HW3


WAYS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    way.__name__: way for way in (motion_blur, occlusion, exposure, compressions)
}


def generator(name: str) -> np.random.Generator:
    """Return the random numbers of an image, which its name alone decides."""
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def spoil(image_HW3: Image, name: str) -> tuple[Image, str]:
    """Return an image spoiled as its name says, and the name of the way."""
    rng = generator(name)
    way = list(WAYS)[int(rng.integers(len(WAYS)))]
    return WAYS[way](image_HW3, rng), way


def spoiled(folder: Path) -> Iterator[Path]:
    """Yield the files of a data folder that are spoiled, in a fixed order."""
    yield from sorted(folder.glob("eval/tinyface/aligned_pad_0.1_pad_high/Probe/*"))
    yield from sorted(path for path in folder.glob("eval/scface/aligned/*_cam[1-5]_*"))
    yield from (folder / "eval/ijb/IJBB/loose_crop" / name for name in sorted(mixed_probes(folder)))


def mixed_probes(folder: Path) -> set[str]:
    """Return the names of the images of IJB-B's mixed probes."""
    with (folder / PROBES).open(newline="") as stream:
        return {Path(row["FILENAME"]).name for row in csv.DictReader(stream)}


def main() -> None:
    """Copy, spoil and say how many images were spoiled in which way."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source", type=Path, help="data folder in the layout of ../shared/faces; it is only read")
    options.add_argument("target", type=Path, help="new folder")
    options.add_argument("--sheet", type=Path, help="PNG of two images before and after, for each way")
    arguments = options.parse_args()
    if arguments.target.exists():
        raise SystemExit(f"error: {arguments.target} is there already: name a new folder, or remove it")
    # made aside, so that a copy cut short is not taken for a whole one
    aside = arguments.target.with_name(f".partial-{arguments.target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(arguments.source, aside, copy_function=shutil.copyfile)
    counts: Counter[str] = Counter()
    rows: dict[str, list[Image]] = {way: [] for way in WAYS}
    for path in spoiled(aside):
        before_HW3 = decode(path.read_bytes())
        after_HW3, way = spoil(before_HW3, path.relative_to(aside).as_posix())
        path.write_bytes(encode(after_HW3, 95))
        counts[f"{path.relative_to(aside).parts[1]}: {way}"] += 1
        if len(rows[way]) < 12 and counts.total() % 97 < 4:
            rows[way] += [cv2.resize(image, (112, 112)) for image in (before_HW3, after_HW3)]
    aside.rename(arguments.target)
    print("\n".join(f"{name} {count}" for name, count in sorted(counts.items())))
    if arguments.sheet:
        columns = min(len(images) for images in rows.values())
        if not cv2.imwrite(str(arguments.sheet), np.vstack([np.hstack(images[:columns]) for images in rows.values()])):
            raise SystemExit(f"error: {arguments.sheet} could not be written")


if __name__ == "__main__":
    main()
