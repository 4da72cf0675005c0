"""Result of ``facet inspect`` on a file or folder: facts in order, damage, and images for a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images import decoding
from stages.core.images.alignment import SIZE
from stages.core.images.image_format import extension
from stages.core.metrics.features import Image
from stages.inspection.findings import SWAPPED

SAMPLE = 64  # images decoded for sizes, formats and colours, spread evenly
COLUMNS, ROWS = 8, 8  # of a contact sheet
CAPTION = 14  # px under each image
READ_AS = "decoded by OpenCV as blue, green, red; a network gets BGR or RGB as its model.json says"


@dataclass
class Sight:
    """One file or folder. ``tiles`` are captions with aligned or loose images, BGR."""

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    tiles: list[tuple[str, Image]] = field(default_factory=list)


def describe_images(encoded: Iterable[tuple[str, bytes]], sight: Sight) -> None:
    """Decode images; add their formats, sizes, bytes and colours; failures become problems."""
    formats: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    lengths, means = [], []
    for name, data in encoded:
        image = decoding.decode(data)
        if image is None:
            sight.problems.append(f"{name}: {len(data)} bytes are not an image, or are truncated")
            continue
        formats[extension(data)] += 1
        sizes[f"{image.shape[1]} x {image.shape[0]}"] += 1
        lengths.append(len(data))
        means.append(image.reshape(-1, 3).mean(axis=0))
    if lengths:
        sight.facts["image formats"] = _counted(formats)
        sight.facts["image sizes, width x height"] = _counted(sizes)
        sight.facts["bytes of an image"] = f"{min(lengths):,} to {max(lengths):,}, median {int(np.median(lengths)):,}"
        _describe_colours(np.array(means), sight)


def describe_pixels(images: Sequence[Image], sight: Sight) -> None:
    """Add the colours of decoded images."""
    if images:
        _describe_colours(np.array([image.reshape(-1, 3).mean(axis=0) for image in images]), sight)


def seem_swapped(images: Sequence[Image]) -> bool:
    """Return whether red and blue of BGR images seem swapped: the median face is blue, where skin is red.

    Fewer than eight images tell nothing.
    """
    return _seem_swapped(np.array([image.reshape(-1, 3).mean(axis=0) for image in images]).reshape(-1, 3))


def _seem_swapped(mean_N3: NDArray[np.float64]) -> bool:
    return len(mean_N3) >= 8 and float(np.median(mean_N3[:, 0] - mean_N3[:, 2])) > 5


def _describe_colours(mean_N3: NDArray[np.float64], sight: Sight) -> None:
    blue, green, red = np.median(mean_N3, axis=0)
    verdict = "typical of faces" if red > blue else "more blue than red: were the channels swapped?"
    if _seem_swapped(mean_N3):
        sight.problems.append(SWAPPED)
    sight.facts["mean red, green, blue"] = f"{red:.0f}, {green:.0f}, {blue:.0f}: {verdict}"
    sight.facts["read as"] = READ_AS


def describe_groups(label_N: NDArray[np.int64], sight: Sight) -> None:
    """Add how many images each identity has."""
    counts = np.bincount(label_N)[np.unique(label_N)]
    low, half, high = np.percentile(counts, (5, 50, 95)).astype(int)
    sight.facts["images of an identity"] = (
        f"{counts.min():,} to {counts.max():,}, median {half:,}; 5 % have up to {low:,}, 5 % from {high:,}"
    )


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counter.most_common(6))


def spread(items: Sequence[int] | NDArray[np.int64], limit: int = SAMPLE) -> list[int]:
    """Return up to ``limit`` items, evenly spread."""
    if len(items) <= limit:
        return [int(item) for item in items]
    return [int(items[int(k)]) for k in np.linspace(0, len(items) - 1, limit).round()]


def contact_sheet(tiles: Sequence[tuple[str, Image]]) -> Image:
    """Return the images in rows of eight, each with its caption under it; larger ones are scaled down.

    Raises:
        ValueError: there are none.
    """
    if not tiles:
        raise InputError("no image to draw")
    shown = tiles[: COLUMNS * ROWS]
    rows = -(-len(shown) // COLUMNS)
    sheet: Image = np.full((rows * (SIZE + CAPTION), COLUMNS * (SIZE + 2), 3), 255, np.uint8)
    for place, (caption, image) in enumerate(shown):
        y, x = place // COLUMNS * (SIZE + CAPTION), place % COLUMNS * (SIZE + 2)
        ratio = SIZE / max(image.shape[:2])
        height, width = (max(round(side * ratio), 1) for side in image.shape[:2])
        fitted = image if ratio == 1 else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        sheet[y : y + height, x : x + width] = fitted
        # the font has Latin letters only
        text = caption.encode("ascii", "replace").decode()
        cv2.putText(sheet, text, (x + 2, y + SIZE + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (40, 40, 40), 1, cv2.LINE_AA)
    return sheet
